"""A kept connection on which requests do not wait for each other's answers (RFC 9112, section 9.3.2).

Theory of operation. Each request is written as soon as it is sent, those of one turn of the event loop in one write;
answers arrive in request order, so a deque of futures is all the bookkeeping there is: the next whole answer belongs
to its head. A caller that was cancelled leaves its future in the deque, where its answer finds it done.

A connection that ends, in whatever way, ends every request that still waits on it with `NoAnswer`, as one that may
have been acted on: which is why only a POST with an ``Idempotency-Key``, to a hub that knows them, may come this way.
The next request opens a new connection. What `publish` costs here is a tenth of what it costs over httpx, in CPU.
"""

import asyncio
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httptools
import httpx

from hub.client.protocol import Answer, NoAnswer, Outcome, Request, reason_of, target_of

LARGEST_ANSWER: Final = 64 * 1024
"""Bytes of a body; a hub answers with an id or a sentence."""


def goes_direct(url: str) -> bool:
    """Whether nothing but a plain connection is needed: no proxy of the environment, no password in the URL."""
    parts = urlsplit(url)
    proxies, host = getproxies(), parts.hostname or ""
    proxied = (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(host)
    return parts.scheme in ("http", "https") and host.isascii() and parts.username is None and not proxied


class Pipeline:
    """Requests to the origin of ``url``. ``timeout``: seconds, to connect and for each answer."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        self._netloc, self._host = parts.netloc, parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._encrypted = parts.scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._timeout = timeout
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def send(self, request: Request) -> Outcome:
        """What came of it. No `await` stands between the look at the connection and the request's place on it."""
        connection = self._connection
        if connection is None or connection.has_ended:
            async with self._connecting:
                connection = self._connection
                if connection is None or connection.has_ended:
                    try:
                        connection = self._connection = await self._connect()
                    except (OSError, TimeoutError) as error:
                        return NoAnswer(f"the hub does not answer ({reason_of(error)})", sent=False)
        body = request.body or b""
        lines = [f"{request.method} {target_of(request.url)} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        return await connection.ask(head.encode() + body, self._timeout)

    async def close(self) -> None:
        """End the connection, and wait until its socket is closed."""
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> "_Connection":
        if self._encrypted and self._tls is None:
            self._tls = httpx.create_ssl_context()  # reads a file of certificates: once
            self._tls.set_alpn_protocols(["http/1.1"])
        async with asyncio.timeout(self._timeout):
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return connection


class _Connection(asyncio.Protocol):
    """The protocol of one socket, and the callbacks of its parser."""

    def __init__(self) -> None:
        self.has_ended = False
        self._loop = asyncio.get_running_loop()
        self._lost = self._loop.create_future()
        self._waiting: deque[asyncio.Future[Outcome]] = deque()
        self._unsent: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    async def ask(self, request: bytes, timeout: float) -> Outcome:
        """Its answer. After ``timeout`` the connection is given up, for every answer on it would come later still."""
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiting.append(answer)
        self._unsent.append(request)
        if len(self._unsent) == 1:
            self._loop.call_soon(self._write)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            self._end(f"no answer within {timeout:g} s")
            return NoAnswer(f"the hub does not answer (within {timeout:g} s)", sent=True)

    async def close(self) -> None:
        self._end("the client was closed")
        await self._lost

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._has_head and not self._framed:  # its end is the end of the connection (RFC 9112, section 6.3)
            self.on_message_complete()
        self._end(str(exc) if exc else "the connection was closed")
        self._lost.set_result(None)

    def on_message_begin(self) -> None:
        self._reason, self._headers, self._body = b"", list[tuple[bytes, bytes]](), bytearray()
        self._has_head = self._framed = False

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._framed = self._framed or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > LARGEST_ANSWER:
            self._end(f"an answer of more than {LARGEST_ANSWER} bytes")

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or not self._waiting:  # 103 Early Hints, or an answer that nobody asked for
            return
        text, reason = self._body.decode("utf-8", "replace"), self._reason.decode("latin-1")
        answer = self._waiting.popleft()
        if not answer.done():
            answer.set_result(Answer(status, httpx.Headers(self._headers), text, reason))
        if not self._parser.should_keep_alive():
            self._end("the hub closed the connection")

    def _write(self) -> None:
        if not self.has_ended:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _end(self, why: str) -> None:
        """No more requests; those without an answer get none."""
        if self.has_ended:
            return
        self.has_ended = True
        self._transport.abort()
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(NoAnswer(f"the hub does not answer ({why})", sent=True))
        self._waiting.clear()
