"""What the kernel tells of a process and of the machine."""

import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

HUB_CORE, LOAD_CORE = 0, 1
LIBRARIES = ("uvicorn", "uvloop", "httptools", "starlette", "sse-starlette", "lmdb", "redis", "pyjwt", "urlpattern")
PAGE = os.sysconf("SC_PAGE_SIZE")
_SCHEDULER_CLOCK = 2
"""CPUCLOCK_SCHED: what all threads of a process have run, the ended ones too (clock_getcpuclockid(3))."""


def cores() -> int:
    return len(os.sched_getaffinity(0))


def pinned(core: int) -> list[str]:
    """The beginning of a command that runs on one core."""
    return ["taskset", "--cpu-list", str(core)] if cores() > 1 else []


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """What a process and its descendants have run, in user space and in the kernel."""
    return sum(time.clock_gettime(~each << 3 | _SCHEDULER_CLOCK) for each in tree(pid))


def resident(pid: int) -> int:
    """Bytes of physical memory of a process and its descendants."""
    return (
        sum(int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text())[0]) for each in tree(pid))
        * 1024
    )


def socket_memory(sockstat: str | None = None) -> int:
    """Bytes that TCP buffers take in the whole machine, both ends of a loopback connection (proc(5), sockstat)."""
    text = sockstat if sockstat is not None else Path("/proc/net/sockstat").read_text()
    return int(re.findall(r"^TCP:.* mem (\d+)", text, re.MULTILINE)[0]) * PAGE


def raise_file_limit(needed: int) -> None:
    """Of this process and what it starts. OSError: the system does not allow so many."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        raise OSError(f"{needed:,} open files are needed and {hard:,} allowed: raise the limit with ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def commit() -> str:
    """Which tree was measured; empty outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()


def description() -> dict[str, str]:
    """Date, machine and versions."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "cpu": f"{cpu_model()}, {cores()} cores, the hub on one of them",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
