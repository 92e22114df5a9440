"""A proxy between a client and its server, which does what networks do."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self


class Server(Protocol):
    """What listens on a Unix socket."""

    @property
    def socket(self) -> Path: ...


class Proxy:
    """A TCP port before a server's socket. ``losing``: the next reply is dropped, and its connection.

    ``silent``: nothing passes any more, on connections that stay open. ``rewrite``: what becomes of replies. ``asked``:
    what clients have sent, as it came in.
    """

    def __init__(self, server: Server, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        self._server, self._rewrite = server, rewrite
        self.losing = self.silent = False
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
    def port(self) -> int:
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

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
            if not self.silent:
                back.write(data)
            await back.drain()

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(1 << 16):
            if self.losing:
                self.losing = False
                return
            if not self.silent:
                writer.write(self._rewrite(data))
            await writer.drain()
