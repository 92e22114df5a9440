"""uvicorn's HTTP/1.1 with bounds on what a client may send, and with connections that the application can take over.

Theory of operation. A connection reads requests one after another, and answers them in their order:

    HEAD --on_headers_complete--> BODY --on_message_complete--> HEAD
      `--_refuse--> REFUSED <--_refuse--'

    HEAD     received bytes count towards `MAX_HEAD`; the head has `HEAD_TIMEOUT` to become whole
    BODY     it is the body of the request whose head was read last, also when that has its answer already
    REFUSED  what came is no request: nothing is read any more. Earlier requests are answered, then the connection ends

The parser calls back for what it finds while `data_received` feeds it. A request whose turn has come while it is being
parsed waits in ``_whole`` until the parser returns, for most small bodies come with their heads or right after: then
it is offered to the application's `Direct` as a whole, and what that does not take goes the way of every ASGI request,
with a task of its own. Requests that come before earlier ones have their answers wait in uvicorn's ``pipeline``.

A publisher's head that was accepted before is known to `hub.web.repeats`: its request goes to the application past the
parser (`_take_known`), and so do those that come before it is answered. `hub.server.answers` says when their answers
are written, and in which order. The two ways never mix: bytes that the one can't take while the other has answers to
give are held, and read once it has given them.

A stream's connection is taken over once its head is out: `take_over` gives the transport to another protocol, and
nothing of this one is left. Two things must not break: an answer is never written in the middle or in the place of
another (`_refuse`), and bytes of a body are never read as a request (`_ignore_upgrade`).
``tests/hub/server/test_http1.py`` has what RFC 9112 wants, ``tests/e2e/test_fuzz.py`` what nobody wants. What we lean
on in uvicorn beyond its interface is listed in ``tests/hub/server/test_uvicorn.py``.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from math import inf
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from hub.fanout.wire import CONNECTION, Direct, RawHeaders, chunk
from hub.server import head
from hub.server.answers import Owed, Turn
from hub.server.head import MAX_HEAD, HeadBounds
from hub.web.repeats import Head, KnownRequest, Repeats, Usual, head_of

MAX_PIPELINED = 16
"""Requests that may wait behind a running one; hardly any client sends one, and uvicorn itself takes any number."""
MAX_OWED = 256
"""Publications of one connection that may be under way: as many as a transport commits at once."""
MAX_HELD = 64 * 1024
"""Bytes that may wait for them; then nothing more is read from the connection."""
SMALL_BODY = 16 * 1024
"""Bytes of a body up to which it is waited for, so that the request can be taken as a whole."""
BODY_WAIT = 1.0
"""Seconds that this takes at most; then the application waits for the rest."""


_CLOSE = (b"connection", b"close")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::\d{0,5})?")
"""``uri-host [ ":" port ]`` (RFC 9110 section 7.2), never empty: every hub has a name."""
_OF_ANOTHER_VERSION = ("Invalid HTTP version", "Pause on PRI/Upgrade", "Expected HTTP/2 Connection Preface")
"""llhttp's own words for that; every other fault of a message is a 400."""


class Rejection(Exception):
    """A request that never reaches the application: it ends the connection with ``status`` and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    @classmethod
    def of(cls, error: httptools.HttpParserError, data: bytes) -> "Rejection":
        """What the parser's error about ``data`` means: a callback's own rejection, or the parser's own judgement."""
        if isinstance(error.__context__, Rejection):
            return error.__context__
        if isinstance(error, httptools.HttpParserInvalidMethodError) and data.lstrip()[:1].isalpha():
            return cls(HTTPStatus.NOT_IMPLEMENTED, "this server knows no such method; names are in capitals")
        reason = str(error)
        if reason in _OF_ANOTHER_VERSION:
            return _other_version()
        return cls(HTTPStatus.BAD_REQUEST, f"not a request of HTTP/1.1: {reason}")


class UntilClose(RequestResponseCycle):
    """An HTTP/1.0 request's cycle: a body of unknown length is not chunked, and ends with the connection.

    RFC 9112 section 6.1: an HTTP/1.0 client must not be sent a Transfer-Encoding.
    """

    _unbounded = False

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            names = [name.lower() for name, _ in message.get("headers", ())]
            self._unbounded = b"content-length" not in names and self.scope["method"] != "HEAD"
            if self._unbounded:
                self.chunked_encoding = False
        elif self._unbounded and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class State(Enum):
    """What the next bytes of a connection are; the page at the top of this file says who moves it."""

    HEAD = "of a request's head"
    BODY = "of a request's body"
    REFUSED = "ignored"


_REFUSED = State.REFUSED
"""For what is asked for each segment: Python 3.11 takes a step of Python to find a member of an `Enum`."""


class _Request(NamedTuple):
    """A request whose turn has come: uvicorn's view of it, and who answers it through ASGI."""

    cycle: RequestResponseCycle
    app: ASGIApp


class HubProtocol(HttpToolsProtocol):
    """One connection, and an `hub.fanout.wire.Offer` while a request runs on it."""

    _state = State.HEAD
    _idle = False
    """Whether nothing was asked since the last answer: the time that runs is that of a kept connection."""
    _parsing = False
    """Whether the parser is at work: what it finds is acted on after it."""
    _whole: _Request | None = None
    """A request whose turn has come while its body may still be missing."""
    _body_timer: asyncio.TimerHandle | None = None
    """Runs while that is waited for."""
    _running: RequestResponseCycle | None = None
    _closed: asyncio.Future[None] | None = None
    _rejection: Rejection | None = None
    """What is answered to what was no request, once those before it have their answers."""
    _between = True
    """Whether the parser has read whole requests only."""
    _fresh: Head | None = None
    """The head that the parser will begin with."""
    _candidate: Head | None = None
    """The head of the request that it has read last, if it can be known from now on."""
    _usual: Usual | None = None
    """The known head that it has sent last."""
    _held = b""
    """Requests that are read once those before them have their answers, or more of the first has come."""
    _has_taken = False
    """Whether any was taken past the parser: then the beginning of a head is probably that of another."""
    _turn: Turn
    """From the first request on that may be taken past the parser."""
    _answering = False
    """Whether its answers are written at the end of this turn."""
    _ends = False
    """Whether the connection ends once it owes nothing."""
    _head: tuple[object, RawHeaders, int, bytes] = (None, [], 0, b"")
    """What the last answer's head was made of, the length of its body, and the head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn's own asks the kernel for both addresses, 12 % of what a connection costs, and hardly anybody reads
        # them: `_name_both_ends` does.
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._owed: deque[Owed] = deque()
        self._repeats: Repeats | None = getattr(self.config.app, "repeats", None)
        self._is_crowded: Callable[[], bool] | None = getattr(self.config.app, "is_crowded", None)
        self._bounds = HeadBounds(self.loop, transport.close, self._owed)
        self._bounds.close_in(head.HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.stop()
        self._stop_waiting()
        self._owed.clear()
        self._held = b""
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
        self._between = False
        self._candidate, self._fresh = self._fresh, None
        self._bounds.fields = 0
        self._hosts: list[bytes] = []
        if self._idle:
            self._idle = False
            self._bounds.close_in(head.HEAD_TIMEOUT)
        extensions: dict[str, Any] = {CONNECTION: self}
        self.scope["extensions"] = extensions

    def on_header(self, name: bytes, value: bytes) -> None:
        # The trailers of a chunked body come here too. An error in a callback is a 400 and the end of the connection.
        self._bounds.fields += len(name) + len(value)
        if self._bounds.fields > MAX_HEAD:
            raise _head_too_large()
        name = name.lower()
        if name == b"host":
            self._hosts.append(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if version != "1.1" or len(self._hosts) != 1 or method == b"CONNECT" or not _is_host(self._hosts[0]):
            self._check_head(version, method)
        if self.parser.should_upgrade():
            return  # `_ignore_upgrade` has the head read again, without the field that makes it so
        self._bounds.close_in(inf)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Rejection(HTTPStatus.BAD_REQUEST, f"more than {MAX_PIPELINED} pipelined requests")
        self._state = State.BODY
        scope: Any = self.scope
        scope["method"], scope["http_version"] = method.decode("ascii"), version
        self._read_target(scope)
        waiting, self.cycle = self.cycle, self._cycle_of(version)
        if waiting is None or waiting.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            # Reading goes on, unlike in uvicorn: a client that leaves a stream would not be noticed. `MAX_PIPELINED`
            # bounds what may wait.
            self.pipeline.appendleft((self.cycle, self.app))

    def _check_head(self, version: str, method: bytes) -> None:
        """Raises `Rejection` (RFC 9112 sections 2.3, 3.2 and 6.1)."""
        if version == "0.9":
            raise Rejection(HTTPStatus.BAD_REQUEST, "the request line names no version, such as HTTP/1.1")
        if version not in ("1.1", "1.0"):
            raise _other_version()
        if method == b"CONNECT":
            raise Rejection(HTTPStatus.NOT_IMPLEMENTED, "this server is no proxy: it knows no CONNECT")
        if len(self._hosts) != 1 and (self._hosts or version == "1.1"):
            raise Rejection(HTTPStatus.BAD_REQUEST, "the request needs one Host field, with the name of the hub")
        if self._hosts and not _is_host(self._hosts[0]):
            raise Rejection(HTTPStatus.BAD_REQUEST, "the Host field is no host and port, such as hub.example.com:443")
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            raise Rejection(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding; send a Content-Length")

    def _read_target(self, scope: Any) -> None:
        """The request target in its four forms (RFC 9112 section 3.2); errors are a 400."""
        target = httptools.parse_url(self.url)
        raw_path: bytes = target.path or b"/"
        if raw_path == b"*" and scope["method"] != "OPTIONS":
            raise Rejection(HTTPStatus.BAD_REQUEST, "the request target * is for OPTIONS alone")
        if target.host is not None:
            # The authority of an absolute target is the host that was asked, whatever Host says (section 3.2.2).
            authority = target.host if target.port is None else b"%b:%d" % (target.host, target.port)
            self.headers[:] = [(name, authority if name == b"host" else value) for name, value in self.headers]
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = target.query or b""

    def _cycle_of(self, version: str) -> RequestResponseCycle:
        kind = RequestResponseCycle if version == "1.1" else UntilClose
        return kind(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        # Not before: a body that still arrives after an early answer is not the head of another request.
        self._state, self._bounds.received, self._between = State.HEAD, 0, True
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._state is _REFUSED:
            return
        if self._held:
            self._stop_waiting()
            self._held, data = b"", self._held + data
        if self._between and self._whole is None:
            if (self.cycle is None or self.cycle.response_complete) and not self.pipeline:
                data = self._take_known(data)
            elif self._candidate is not None:
                self._hold(data)
                return
        if data:
            self._parse(data)
            if not self._between:
                self._parse_held()  # it read on: what was taken for the next request belongs to this one

    def _take_known(self, data: bytes) -> bytes:
        """Take the requests whose heads are known past the parser; what is left for the parser."""
        if not (self._has_taken or self.flow.write_paused or data.startswith(b"POST")):  # a subscription, mostly
            return data
        if not self._has_taken:
            self._turn = Turn.of(self.loop)
        if not self._turn.expected:
            self._turn.expect()  # before what a publication sets off: a push to thousands does not hold its answer up
        data, found, partial = self._taken_from(data)
        if not data:
            return data
        if partial:  # the rest follows soon, or it goes the long way
            self._hold(data)
            self._idle = True  # for the parser, which has not seen its head
            self._bounds.close_in(head.HEAD_TIMEOUT)
            self._body_timer = self.loop.call_later(BODY_WAIT, self._parse_held)
        elif self._owed or self.flow.write_paused:  # the latter: its client reads no answers
            self._hold(data)
        if self._held:
            return b""
        self._fresh = found
        if found is not None and len(data) > found.end + found.length:
            # The parser would take what follows for pipelined requests, of which it takes few.
            self._hold(data[found.end + found.length :])
            return data[: found.end + found.length]
        return data

    def _taken_from(self, data: bytes) -> tuple[bytes, Head | None, bool]:
        """What is left, its head if that is whole, and whether it is the beginning of a request that may be taken."""
        repeats = None if self._is_crowded is not None and self._is_crowded() else self._repeats
        while data and len(self._owed) < MAX_OWED and not self.flow.write_paused:
            found, usual, known = None, self._usual, None
            if usual is not None and repeats is not None and usual.epoch == repeats.epoch:
                known = usual.request_in(data)
            if known is None:
                found = head_of(data)
                known = self._known_request(repeats, data, found) if repeats is not None and found is not None else None
            if known is None:
                # The parser would take all that comes behind the beginning of a head for pipelined requests.
                return data, found, self._has_taken and len(data) < MAX_HEAD and b"\r\n\r\n" not in data
            again, key, begin, end = known
            if len(data) < end:
                return data, found or head_of(data), end - begin <= SMALL_BODY
            owed = Owed(self)
            self._owed.append(owed)
            if not again(data[begin:end], key, owed):
                self._owed.pop()
                return data, found or head_of(data), False
            self._has_taken, data = True, data[end:]
        return data, None, False

    def _known_request(self, repeats: Repeats, data: bytes, found: Head) -> KnownRequest | None:
        """If the head that ``data`` begins with is known."""
        again = repeats.get(self.scheme, found)
        if again is None:
            return None
        self._usual = repeats.usual(data, found, again)
        return again, found.idempotency_key, found.end, found.end + found.length

    def _hold(self, data: bytes) -> None:
        self._held = data
        if len(data) > MAX_HELD:
            self.flow.pause_reading()

    def _parse_held(self) -> None:
        """On the long way, after all; once those before have their answers."""
        if self._held and self._owed:
            self._body_timer = self.loop.call_later(BODY_WAIT, self._parse_held)
            return
        data, self._held = self._held, b""
        if data and not self.transport.is_closing():
            self._stop_waiting()
            self.flow.resume_reading()
            self._parse(data)

    def _read_held(self) -> None:
        if self._held and not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(b"")

    def answer_soon(self) -> None:
        """An answer that is owed is there: it is written in this turn, if those before it are there too."""
        if not self._answering:
            self._answering = True
            self._turn.add(self)

    def write_owed(self) -> None:
        """Write the answers that are there and whose turn has come."""
        self._answering = False
        if self.transport.is_closing():
            return
        owed, ends = self._owed, False
        parts: list[bytes] = []
        while owed and (answer := owed[0].answer) is not None:
            owed.popleft()
            headers, body, status = answer
            ends = status != 200 and _CLOSE in headers
            if self._ends and not owed and not ends:
                headers, ends = [*headers, _CLOSE], True
            parts.append(self._head_of(headers, len(body), status) + body)
            if ends:
                # What has no answer then, its client repeats, if it knows how.
                owed.clear()
                self._held = b""
        if not parts:
            return
        self.transport.write(b"".join(parts))
        if ends:
            self.transport.close()
            return
        if not owed:
            self._idle = True
            self._bounds.close_in(self.timeout_keep_alive)
            if self._held and self._body_timer is None:
                self.loop.call_soon(self._read_held)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held and self._body_timer is None:
            self.loop.call_soon(self._read_held)

    def shutdown(self) -> None:
        """Called by the server at its end."""
        if self._owed:
            self._ends = True
        else:
            super().shutdown()

    def _parse(self, data: bytes) -> None:
        if self._state is State.HEAD:
            if self._bounds.received > MAX_HEAD:
                self._refuse(_head_too_large())
                return
            self._bounds.received += len(data)
        rejection: Rejection | None = None
        self._parsing = True
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._ignore_upgrade(data, upgrade.args[0])
        except httptools.HttpParserError as error:
            rejection = Rejection.of(error, data)
        self._parsing = False
        if self._whole is not None:
            cycle = self._whole.cycle
            # Most clients send a small body right after the head, but not with it.
            if not cycle.more_body or cycle.waiting_for_100_continue or len(cycle.body) > SMALL_BODY:
                self._start_whole()
            elif self._body_timer is None:
                self._body_timer = self.loop.call_later(BODY_WAIT, self._start_whole)
        if rejection is not None:
            self._refuse(rejection)

    def _ignore_upgrade(self, data: bytes, end: int) -> None:
        """Serve the request whose head ends there in spite of its ``Upgrade`` (RFC 9110 section 7.8: a server may).

        The parser takes what follows such a head for another protocol, so that the request would lose its body and the
        body would be read as the next request. Nothing turns that off. So a head that asks for an upgrade is read
        again by a new parser, without the field; what comes after it follows as it was sent.
        """
        while True:
            version = self.parser.get_http_version().encode()
            fields = b"".join([b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"])
            again = b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, fields)
            data = again + data[end:]
            # Like uvicorn's own, which accepts bytes after a request with ``Connection: close``.
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                end = upgrade.args[0]  # of the head of another request, behind that one
            else:
                return

    def _refuse(self, rejection: Rejection) -> None:
        """Answer what is no request, and end the connection; earlier requests on it are answered before.

        An answer in the middle of another, or in the place of another, would be worse than none.
        """
        self._state = State.REFUSED
        current: RequestResponseCycle | None = self.cycle
        if current is None or current.response_complete:
            self.transport.write(_text_response(rejection))
            self.transport.close()
        elif current.more_body:  # it is this request's body that is malformed
            current.disconnected = True
            current.message_event.set()
            if not (current.response_started or self.pipeline):
                self.transport.write(_text_response(rejection))
            self.transport.close()
        elif current.response_started:
            self.transport.close()
        else:
            self._rejection = rejection
            self.flow.resume_reading()  # else nobody notices when the client leaves before that

    def on_response_complete(self) -> None:
        if self._rejection is not None and not self.pipeline and not self.transport.is_closing():
            self.transport.write(_text_response(self._rejection))
            self.transport.close()
        if self._held:
            self.loop.call_soon(self._read_held)
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.flow.resume_reading()
        self._idle = True
        self._bounds.close_in(self.timeout_keep_alive)

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
        if b"x-forwarded-proto" in dict(scope["headers"]):
            self._name_both_ends(scope)
            # What a trusted proxy says of the request, as uvicorn's middleware writes it into the scope of a hub behind
            # it: a coroutine that waits for nothing ends at its first step.
            with suppress(StopIteration):
                ProxyHeadersMiddleware(_nothing, self.config.forwarded_allow_ips)(scope, _nothing, _nothing).send(None)
        taken, head = direct(scope, bytes(cycle.body), self), self._candidate
        if self._repeats is not None and not isinstance(taken, bool) and head and head.length == len(cycle.body):
            self._repeats.remember(self.scheme, head, taken)
        return bool(taken)

    def reply(self, headers: RawHeaders, body: bytes, status: int = 200) -> None:
        """Answer the running request, head and body in one write."""
        cycle, self._running = self._running, None
        if cycle is None or self.transport.is_closing():
            return
        ends = _CLOSE in headers
        if not cycle.keep_alive and not ends:
            headers, ends = [*headers, _CLOSE], True
        self.transport.write(self._head_of(headers, len(body), status) + body)
        cycle.response_started = cycle.response_complete = True
        if ends:
            self.transport.close()
        self.on_response_complete()

    def _head_of(self, headers: RawHeaders, length: int, status: int) -> bytes:
        """A response's head, as uvicorn would write it; that of a 200 is made once a second for each length."""
        usual = self.server_state.default_headers
        last_usual, last_headers, last_length, text = self._head
        if status != 200 or last_length != length or last_usual is not usual or last_headers is not headers:
            text = _head(status, *usual, (b"content-length", b"%d" % length), *headers)
            if status == 200:
                self._head = (usual, headers, length, text)
        return text

    def begin(self, headers: RawHeaders, first: bytes) -> None:
        """Send the head of a chunked response and its first bytes; `take_over` may follow."""
        cycle = self.cycle
        self.transport.write(_stream_head((*cycle.default_headers, *headers)) + chunk(first))
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
        self._bounds.stop()
        self.connections.discard(self)
        self.flow.resume_reading()
        self.transport.set_protocol(protocol)
        transport = self.transport
        # What is left of the request refers to itself: without this, memory is only freed by the collector.
        self.scope = self.headers = self.parser = self.cycle = self._running = None  # type: ignore[assignment]
        return transport


@lru_cache(1024)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _other_version() -> Rejection:
    return Rejection(
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "this server speaks HTTP/1.1 and HTTP/1.0; a proxy in front of it may speak HTTP/2",
    )


def _head_too_large() -> Rejection:
    return Rejection(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request head is larger than {MAX_HEAD} bytes")


def _text_response(rejection: Rejection) -> bytes:
    body = f"{rejection.sentence}\n".encode()
    length = (b"content-length", b"%d" % len(body))
    return _head(rejection.status, (b"content-type", b"text/plain; charset=utf-8"), length, _CLOSE) + body


def _head(status: int, *headers: tuple[bytes, bytes]) -> bytes:
    return b"%b%b\r\n" % (STATUS_LINE[status], b"".join([b"%b: %b\r\n" % header for header in headers]))


@lru_cache(64)
def _stream_head(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Made once a second for all who begin to listen."""
    return _head(200, *headers, (b"transfer-encoding", b"chunked"))


async def _nothing(*_: object) -> Any: ...
