"""How the processes that share a directory wake each other: an empty datagram after each commit."""

import asyncio
import os
import secrets
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_LONGEST = 107
"""Bytes that fit into an AF_UNIX address (sun_path, with its final zero byte)."""


def address(directory: str, descriptor: int, name: str) -> str:
    """A socket's in that directory, which is open as ``descriptor``: by way of it where the path is too long."""
    path = f"{directory}/{name}"
    return path if len(os.fsencode(path)) <= _LONGEST else f"/proc/self/fd/{descriptor}/{name}"


class Peers:
    """A datagram socket of our own under ``directory``, and pings to everybody else's.

    ``pinged`` is called in the running loop after a peer has committed.

    Only a hint: where sockets can't be bound (some file systems) or a ping is lost, the other side's poll finds out.
    """

    def __init__(self, directory: Path, pinged: Callable[[], None]) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._path = str(directory)
        self._name = secrets.token_hex(8)
        self._pinged = pinged
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        with suppress(OSError):
            self._socket.bind(self._address(self._name))
            self._loop.add_reader(self._socket.fileno(), self._read)

    def ping(self) -> None:
        """Wake every peer; dead ones are forgotten. From any thread."""
        with suppress(OSError):
            for name in os.listdir(self._directory):
                if name != self._name:
                    self._ping(name)

    def _ping(self, name: str) -> None:
        try:
            self._socket.sendto(b"", self._address(name))
        except ConnectionRefusedError:
            # A dead peer's socket is removed; whatever else somebody keeps here refuses connections too, and stays.
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=self._directory)
        except OSError:
            pass  # full: it has pings enough; gone: it has just left; not ours to write to: it polls

    def _read(self) -> None:
        with suppress(OSError):
            while True:
                self._socket.recv(1)
                self._pinged()

    def _address(self, name: str) -> str:
        return address(self._path, self._directory, name)

    def close(self) -> None:
        """Leave; a `ping` under way in another thread comes to nothing."""
        self._loop.remove_reader(self._socket.fileno())
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._directory)
        self._socket.close()
        directory, self._directory = self._directory, -1
        os.close(directory)
