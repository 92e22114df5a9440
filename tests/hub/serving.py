"""A hub on a real socket in the test's own event loop, and clients for it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.config.settings import Settings
from hub.fanout.stream import Phase
from hub.generations import PATH
from hub.server.http1 import HubProtocol
from hub.server.server import HubServer
from hub.server.sockets import bind
from hub.web.hub import Hub

KEY = "!ChangeThisMercureHubJWTSecretKey!"
TOPIC = "https://example.com/books/1"
DEADLINE = 10.0
"""Seconds after which a test stops waiting; nothing here takes a tenth of it."""
WIRES = {"taken-over": HubProtocol, "asgi": HttpToolsProtocol}
"""Both ways in which bytes reach a subscriber: plain uvicorn offers no connections."""


def token(publish: list[str] | None = None, subscribe: list[str] | None = None, **claims: Any) -> str:
    """A 0.x token for these selectors."""
    mercure = {name: value for name, value in (("publish", publish), ("subscribe", subscribe)) if value is not None}
    return jwt.encode({"mercure": mercure, **claims}, KEY, "HS256")


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


PUBLISHER = bearer(token(publish=["*"]))


@dataclass
class Subscription:
    """An open stream: `next` is the next event, within the deadline."""

    response: httpx.Response
    _events: AsyncIterator[ServerSentEvent]

    async def next(self) -> ServerSentEvent:
        async with asyncio.timeout(DEADLINE):
            return await anext(self._events)

    async def take(self, count: int) -> list[ServerSentEvent]:
        return [await self.next() for _ in range(count)]

    async def ended(self) -> None:
        """Wait until the hub has ended the stream properly; fails on another event."""
        async with asyncio.timeout(DEADLINE):
            rest = [event async for event in self._events]
        assert rest == []


class Served:
    """A running hub and a client for it."""

    def __init__(self, hub: Hub, server: HubServer, address: tuple[str, int], client: httpx.AsyncClient) -> None:
        self.hub = hub
        self.server = server
        self.address = address
        self.url = f"http://{address[0]}:{address[1]}{PATH}"
        self.client = client
        self._writers: list[asyncio.StreamWriter] = []

    async def post(self, data: Any = None, **kwargs: Any) -> httpx.Response:
        kwargs.setdefault("headers", PUBLISHER)
        return await self.client.post(self.url, data=data, **kwargs)

    async def publish(self, data: str = "", topic: str | list[str] = TOPIC, **fields: str) -> str:
        response = await self.post({"topic": topic, "data": data, **fields})
        assert response.status_code == 200, response.text
        return response.text

    @asynccontextmanager
    async def subscribe(
        self, headers: dict[str, str] | None = None, /, **query: str | list[str]
    ) -> AsyncIterator[Subscription]:
        query = query or {"topic": TOPIC}
        async with aconnect_sse(self.client, "GET", self.url, params=query, headers=headers or {}) as source:
            yield Subscription(source.response, _events(source))

    async def raw(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address)
        self._writers.append(writer)
        writer.write(request)
        return reader, writer

    async def stalled(self, header: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw subscription with small buffers that reads nothing before it is told to `go_on`."""
        reader, writer = await self.narrow()
        writer.write(_request(header))
        return reader, writer

    async def narrow(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection with small buffers that reads nothing yet."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, self.address)
        reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        self._writers.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        """Close every raw connection."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def stream(
        self, header: str = "", query: str = f"topic={TOPIC}"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw subscription, cheaper than `subscribe`. ``header`` ends with CRLF."""
        return await self.raw(_request(header, query))

    async def live(self, count: int) -> None:
        """Wait until so many streams are open and live."""
        await until(lambda: sum(stream.phase is Phase.LIVE for stream in self.hub.streams.open) == count)


def _request(header: str, query: str = f"topic={TOPIC}") -> bytes:
    return f"GET {PATH}?{query} HTTP/1.1\r\nHost: hub\r\n{header}\r\n".encode()


async def received(reader: asyncio.StreamReader, count: int) -> list[str]:
    """The ids of the next events of a raw connection, however they are chunked."""
    ids: list[str] = []
    rest = b""
    async with asyncio.timeout(60):
        while len(ids) < count:
            part = await reader.read(2**18)
            assert part, f"the stream ended after {len(ids)} events"
            *lines, rest = (rest + part).split(b"\n")
            ids += [line[4:].decode() for line in lines if line.startswith(b"id: ")]
            # Of a long line that is not yet whole only the beginning matters: is it an id?
            rest = rest[:100] if rest[:4] not in b"id: " else rest
    return ids


async def _events(source: EventSource) -> AsyncIterator[ServerSentEvent]:
    async for event in source.aiter_sse():
        yield event


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(wire: type[asyncio.Protocol] = HubProtocol, **changes: Any) -> AsyncIterator[Served]:
    """A hub with anonymous subscribers on ``memory://``, changed as told."""
    defaults = {
        "publisher_jwt_key": KEY,
        "subscriber_jwt_key": KEY,
        "transport_url": "memory://",
        "anonymous": True,
        "drain": 0.5,
    }
    hub = Hub(Settings(**{**defaults, **changes}))
    (listener,) = bind(("127.0.0.1", 0))
    listening = asyncio.Event()
    server = HubServer(hub, listening.set, wire)
    opening = asyncio.ensure_future(hub.open())
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.wait({opening}, timeout=0.2)
        started = asyncio.ensure_future(listening.wait())
        await asyncio.wait({started, serving}, return_when=asyncio.FIRST_COMPLETED)
        assert not serving.done(), serving.exception()
        # There is no TLS here, and reading the system's certificates takes 20 ms, a thousand times.
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=DEADLINE, limits=limits, verify=False) as client:
            served = Served(hub, server, listener.getsockname(), client)
            try:
                yield served
            finally:
                await served.hang_up()
    finally:
        server.stopping.set()
        await serving
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await hub.close()
        listener.close()


def problem(response: httpx.Response) -> dict[str, Any]:
    """The problem details of an error; fails when it has none."""
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(response.text)
    assert found["status"] == response.status_code
    return found
