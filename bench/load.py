"""The client in C, driven from here: subscribers that count events, pools of clients that send requests."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.machine import LOAD_CORE, cpu_seconds, pinned

SOURCES = Path(__file__).parent
BUILD = SOURCES.parent / ".bench"
WINDOW = 200
"""Connections that may wait for their response head at a time."""
DEADLINE = 60.0
STAMP = "@" + "0" * 16
"""Stands in a request's data where the time goes: an event is recognized by it, and its latency is known from it."""


class NoCompiler(Exception):
    """There is no C compiler."""


@cache
def compiled(name: str) -> Path:
    """The program from ``name.c``, compiled when its source is newer. `NoCompiler`."""
    source, program = SOURCES / f"{name}.c", BUILD / name
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("the load generator is a C program: install a compiler, such as Debian's package gcc")
    BUILD.mkdir(exist_ok=True)
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)
    return program


class Latency(NamedTuple):
    """Of so many requests or events; milliseconds."""

    number: int
    p50: float
    p99: float
    max: float


class Load:
    """One load process, against one server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._process = subprocess.Popen(
            [*pinned(LOAD_CORE), compiled("load"), address[0], str(address[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.subscribers = 0

    def _do(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the load generator ended at: {command}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def _file(self, name: str, content: bytes) -> Path:
        path = Path(self._folder.name, name)
        path.write_bytes(content)
        return path

    def cpu(self) -> float:
        return cpu_seconds(self._process.pid)

    def pool(self, name: str, clients: int, requests: bytes) -> None:
        """So many clients; ``requests`` go out one after the other, by whoever is free, and again from the first."""
        self._do(f"pool {name} {clients} {self._file(name, requests)}")

    def open(self, count: int, heads: Sequence[bytes], events: int = 0, window: int = WINDOW) -> float:
        """So many subscribers; the seconds until each had its response head. ``events``: see `complete`."""
        answer = self._do(f"open {count} {window} {events} {self._file('heads', b''.join(heads))}")
        self.subscribers += count
        if not answer["reached"]:
            raise RuntimeError(f"{count} subscribers were not all answered")
        return float(answer["seconds"])

    def start(self, pool: str, rate: float, count: int) -> None:
        """``rate`` 0: as fast as it goes."""
        self._do(f"start {pool} {rate} {count}")

    def answered(self, pool: str, seconds: float = DEADLINE) -> bool:
        return bool(self._do(f"answered {pool} {seconds}")["reached"])

    def events(self, count: int, seconds: float = DEADLINE) -> bool:
        """Wait for so many events since the last report."""
        return bool(self._do(f"events {count} {seconds}")["reached"])

    def complete(self, seconds: float = DEADLINE) -> float:
        """Wait until each subscriber has its events; the seconds since they began to connect."""
        answer = self._do(f"complete {seconds}")
        if not answer["reached"]:
            raise RuntimeError(f"not every subscriber had its events after {seconds} seconds")
        return float(answer["seconds"])

    def report(self) -> dict[str, Any]:
        """What was counted since the last one. `Latency` under each pool's name, ``latency`` and ``connecting``."""
        found = self._do("report")
        return {name: Latency(**value) if isinstance(value, dict) else value for name, value in found.items()}

    def disconnect(self) -> None:
        self._do("close")
        self.subscribers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()
