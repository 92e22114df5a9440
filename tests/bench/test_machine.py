"""What the kernel tells is read as it means it."""

import os
import subprocess
import sys
from pathlib import Path

from bench import machine

SOCKSTAT = "sockets: used 210\nTCP: inuse 7 orphan 0 tw 4 alloc 9 mem 12\nUDP: inuse 1 mem 3\n"


def test_cpu_seconds_are_those_of_a_process_and_its_children() -> None:
    """A child that computes for a while counts as its parent does."""
    work = "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass\n"
    parent = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {work!r} + 'print(1, flush=True); input()'])"
    )
    command = [sys.executable, "-c", parent + "\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.2 <= machine.cpu_seconds(process.pid) < 20
        process.communicate(b"\n\n")


def test_cpu_seconds_of_this_process_agree_with_its_own_clock() -> None:
    """The clock that is read from outside is the one that the process reads."""
    look = "before = time.process_time(); seen = cpu_seconds(os.getpid()); after = time.process_time()"
    code = f"import os, time\nfrom bench.machine import cpu_seconds\n{look}\nassert before <= seen <= after"
    subprocess.run([sys.executable, "-c", code], cwd=Path(machine.__file__).parents[1], check=True)


def test_resident_memory_is_in_bytes() -> None:
    """An interpreter takes some megabytes."""
    assert 2**20 < machine.resident(os.getpid()) < 2**34


def test_socket_memory_is_the_pages_of_tcp() -> None:
    """The last number of the line that begins with TCP, in pages."""
    assert machine.socket_memory(SOCKSTAT) == 12 * machine.PAGE
