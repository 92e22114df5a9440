"""Who may use a directory: locks of the kernel (flock), which end with their process and work across containers."""

import asyncio
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL = 0.05
"""Seconds between two tries: a newcomer in standby takes over within this time."""


class HeldLock:
    """A directory's life-long lock, from `hold` until `release`."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, *, shared: bool) -> bool:
        """Try once. The holder writes its host and pid into the file, so that a loser can name it."""
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        name = f"{socket.gethostname()} {os.getpid()}\n".encode()
        os.pwrite(self._file, name, 0)
        os.ftruncate(self._file, len(name))
        return True

    def holder(self) -> str:
        """The host and pid of the process that took it last."""
        host, _, pid = os.pread(self._file, 300, 0).decode(errors="replace").strip().partition(" ")
        return f"host {host}, pid {pid}" if pid.isdigit() else "another process"

    def release(self) -> None:
        """Let go; closing the only descriptor is what unlocks."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def hold(path: Path, *, shared: bool, timeout: float) -> HeldLock:
    """Take the lock in that file, tried for ``timeout`` seconds. TimeoutError names the holder; OSError."""
    lock = HeldLock(path)
    try:
        deadline = time.monotonic() + timeout
        while not lock.take(shared=shared):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(lock.holder())
            await asyncio.sleep(min(POLL, left))
    except BaseException:
        lock.release()
        raise
    return lock


class Turnstile:
    """A lock for one transaction at a time: readers share it, a writer is alone.

    Every process passes a gate first. A writer that waits for the readers inside stands in the gate, so no new
    reader gets past it, and one process that commits without a break can't shut another one out.
    """

    def __init__(self, directory: Path) -> None:
        self._gate, self._inside = Path(directory, "lock.gate"), Path(directory, "lock.transaction")
        self._files: list[int] = []
        try:
            for path in (self._gate, self._inside):
                self._files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError:
            self.close()
            raise

    @contextmanager
    def transaction(self, write: bool) -> Iterator[None]:
        """Held for the body. Blocks the thread for as long as another process takes."""
        gate, inside = self._files
        kind = fcntl.LOCK_EX if write else fcntl.LOCK_SH
        fcntl.flock(gate, kind)
        try:
            fcntl.flock(inside, kind)
        finally:
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(inside, fcntl.LOCK_UN)

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())
