"""uvicorn's HTTP/1.1 with bounds on what a client may send, and with connections that the application can take over."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.wire import CONNECTION

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body: httptools itself takes megabytes. A query with 1,000 topics fits."""
MAX_PIPELINED = 16
"""Requests that may wait behind a running one; hardly any client sends one, and uvicorn itself takes any number."""
HEAD_TIMEOUT = 10.0
"""Seconds that a client may take to send them: httptools itself waits for ever."""


class HubProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with bounds on the request head, and with connections that the application can take over."""

    _head = 0
    _in_head = True
    _fields = 0
    _head_timer: asyncio.TimerHandle | None = None
    _closed: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        super().connection_lost(exc)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def closed(self) -> asyncio.Future[None]:
        """Done once the connection is over."""
        self._closed = self._closed or self.loop.create_future()
        return self._closed

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._fields = 0
        if self._head_timer is None:
            self._expect_head()
        extensions: dict[str, Any] = {CONNECTION: self}
        self.scope["extensions"] = extensions

    def on_header(self, name: bytes, value: bytes) -> None:
        # The trailers of a chunked body come here too. An error in a callback is a 400 and the end of the connection.
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD:
            raise ValueError(f"header fields of more than {MAX_HEAD} bytes")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_complete()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError(f"more than {MAX_PIPELINED} pipelined requests")
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # Not before: a body that still arrives after an early answer is not the head of another request.
        self._in_head, self._head = True, 0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._head > MAX_HEAD:
                self._refuse()
                return
            self._head += len(data)
        super().data_received(data)
        if self._between_requests() and not self.transport.is_closing():
            self._expect_head()

    def _between_requests(self) -> bool:
        """Is nothing under way, and nothing timed? uvicorn's keep-alive timer stops at whatever byte comes."""
        timed = self._head_timer is not None or self.timeout_keep_alive_task is not None
        return not timed and (self.cycle is None or self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _head_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self) -> None:
        body = f"the request head is larger than {MAX_HEAD} bytes\n".encode()
        head = (
            f"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def abort(self) -> None:
        """End the connection now, whatever waits."""
        self.transport.abort()

    def take_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        """Give the connection of the running request to another protocol; None where that can't be.

        The response head is out and the body is chunked. uvicorn's request cycle counts as complete, so that the
        application may return; the server no longer knows the connection, its drain and its limits are the taker's.
        """
        chunked = self.cycle.chunked_encoding and self.cycle.scope["http_version"] == "1.1"
        if self.pipeline or self.transport.is_closing() or not chunked:
            return None
        self.cycle.response_complete = True
        self.cycle.on_response = lambda: None
        self._unset_keepalive_if_required()
        self._head_complete()
        self.connections.discard(self)
        self.flow.resume_reading()
        self.transport.set_protocol(protocol)
        transport = self.transport
        # What is left of the request refers to itself: without this, memory is only freed by the collector.
        self.scope = self.headers = self.parser = self.cycle = None  # type: ignore[assignment]
        return transport
