"""uvicorn's HTTP/1.1 with bounds on what a client may send, and with connections that the application can take over."""

import asyncio
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from hub.wire import CONNECTION, Direct, RawHeaders, chunk

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body: httptools itself takes megabytes. A query with 1,000 topics fits."""
MAX_PIPELINED = 16
"""Requests that may wait behind a running one; hardly any client sends one, and uvicorn itself takes any number."""
HEAD_TIMEOUT = 10.0
"""Seconds that a client may take to send them: httptools itself waits for ever."""
SMALL_BODY = 16 * 1024
"""Bytes of a body up to which it is waited for, so that the request can be taken as a whole."""
BODY_WAIT = 1.0
"""Seconds that this takes at most; then the application waits for the rest."""


class _Request(NamedTuple):
    """A request whose turn has come: uvicorn's view of it, and who answers it through ASGI."""

    cycle: RequestResponseCycle
    app: ASGIApp


class HubProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with bounds on the request head, and with connections that the application can take over.

    A request that has arrived as a whole is offered to the application's `Direct` first. What that does not take goes
    the way of every ASGI request, with a task of its own.
    """

    _head = 0
    _in_head = True
    _fields = 0
    _timer: asyncio.TimerHandle | None = None
    _deadline = inf
    _idle = False
    _closed: asyncio.Future[None] | None = None
    _parsing = False
    _whole: _Request | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn's own asks the kernel for both addresses, 12 % of what a connection costs, and hardly anybody reads
        # them: `_name_both_ends` does.
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._close_in(HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_waiting()
        if self._running is not None:
            # uvicorn tells the newest request alone, which may be one that waits behind this.
            self._running.disconnected = not self._running.response_complete
            self._running.message_event.set()
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
        if self._idle:
            self._idle = False
            self._close_in(HEAD_TIMEOUT)
        extensions: dict[str, Any] = {CONNECTION: self}
        self.scope["extensions"] = extensions

    def on_header(self, name: bytes, value: bytes) -> None:
        # The trailers of a chunked body come here too. An error in a callback is a 400 and the end of the connection.
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD:
            raise ValueError(f"header fields of more than {MAX_HEAD} bytes")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._close_in(inf)
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
        self._parsing = True
        super().data_received(data)
        self._parsing = False
        if self._whole is not None:
            self._start_or_wait(self._whole.cycle)

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle = True
        self._close_in(self.timeout_keep_alive)

    def _close_in(self, seconds: float) -> None:
        """Close the connection then, unless `_close_in` is called again.

        A timer for each request's head, and another for the time after its answer, would cost more than to parse it:
        one runs, and looks at the deadline when it fires.
        """
        self._deadline = self.loop.time() + seconds
        if self._timer is None and seconds < inf:
            self._timer = self.loop.call_later(seconds, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        left = self._deadline - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._close_in(left)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        body = f"the request head is larger than {MAX_HEAD} bytes\n".encode()
        head = (
            f"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        """The request's head is there and its turn has come; whether its body is there too, the parser will see."""
        if self._parsing:
            self._whole = _Request(cycle, app)
            return
        self._running = cycle
        if not self._answered_directly(cycle):
            self._name_both_ends(cycle.scope)
            super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _name_both_ends(self, scope: Any) -> None:
        scope["server"], scope["client"] = get_local_addr(self.transport), get_remote_addr(self.transport)

    def _start_or_wait(self, cycle: RequestResponseCycle) -> None:
        """Most clients send a small body right after the head, but not with it."""
        if not cycle.more_body or cycle.waiting_for_100_continue or len(cycle.body) > SMALL_BODY:
            self._start_whole()
        elif self._body_timer is None:
            self._body_timer = self.loop.call_later(BODY_WAIT, self._start_whole)

    def _start_whole(self) -> None:
        self._stop_waiting()
        request, self._whole = self._whole, None
        if request is not None and not self.transport.is_closing():
            self._start_asgi_task(*request)

    def _stop_waiting(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _answered_directly(self, cycle: RequestResponseCycle) -> bool:
        direct: Direct | None = getattr(self.config.app, "direct", None)
        if direct is None or cycle.more_body or not cycle.keep_alive or self.pipeline or cycle is not self.cycle:
            return False
        scope: Any = cycle.scope
        # Not `self.headers`: the next request's may be coming in already.
        if any(name == b"x-forwarded-proto" for name, _ in scope["headers"]):
            self._name_both_ends(scope)
            _forwarded(scope, self.config.forwarded_allow_ips)
        return direct(scope, bytes(cycle.body), self)

    def reply(self, headers: RawHeaders, body: bytes) -> None:
        """Answer the running request with 200, head and body in one write."""
        cycle, self._running = self._running, None
        if cycle is None or self.transport.is_closing():
            return
        length = (b"content-length", b"%d" % len(body))
        end = () if cycle.keep_alive else ((b"connection", b"close"),)
        self.transport.write(_head(*cycle.default_headers, *headers, length, *end) + body)
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def respond(self, app: ASGIApp) -> None:
        """Let ``app`` answer the running request through ASGI."""
        if self._running is not None:
            super()._start_asgi_task(self._running, app)  # type: ignore[arg-type]

    def begin(self, headers: RawHeaders, first: bytes) -> None:
        """Send the head of a chunked response and its first bytes; `take_over` may follow."""
        cycle = self.cycle
        chunked = (b"transfer-encoding", b"chunked")
        self.transport.write(_head(*cycle.default_headers, *headers, chunked) + chunk(first))
        cycle.response_started = cycle.chunked_encoding = True

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
        self._stop_timer()
        self.connections.discard(self)
        self.flow.resume_reading()
        self.transport.set_protocol(protocol)
        transport = self.transport
        # What is left of the request refers to itself: without this, memory is only freed by the collector.
        self.scope = self.headers = self.parser = self.cycle = self._running = None  # type: ignore[assignment]
        return transport


def _head(*headers: tuple[bytes, bytes]) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % header for header in headers])


def _forwarded(scope: Any, trusted: Any) -> None:
    """What a trusted proxy says of the request, as uvicorn's middleware writes it into the scope of a hub behind it."""
    with suppress(StopIteration):  # a coroutine that waits for nothing ends at its first step
        ProxyHeadersMiddleware(_nothing, trusted)(scope, _nothing, _nothing).send(None)


async def _nothing(*_: object) -> Any: ...
