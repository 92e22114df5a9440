"""``GET`` and ``QUERY`` on the hub: matchers -> grant -> cursor -> stream (Mercure, "Subscription", "Reconnection")."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from sse_starlette.event import ServerSentEvent
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.auth.authorization import Authorizer
from hub.auth.grants import Grants
from hub.client.sse_parser import Event, Parser
from hub.fanout.inprocess import InProcess
from hub.fanout.newest import newest_updates
from hub.fanout.stream import HEARTBEAT, Stream, Streams
from hub.fanout.wire import Offer, RawHeaders, Wire, gone, taken_over, wire_for
from hub.generations import NAMES, Generation, Protocol, generations_in, matcher_types
from hub.lifecycle import Lifecycle, unavailable
from hub.matching.matchers import MAX_TOPIC, InvalidMatcher, Matcher, Matching, invalid_character
from hub.observe.counts import Ended
from hub.observe.traces import Traces
from hub.presence.active import ActiveSubscriptions
from hub.problems import Problem
from hub.web.cors import Cors
from hub.web.forms import check_form, pairs, read_body
from hub.web.limits import Limits
from transports import EARLIEST, Position, TransportClosed, TransportUnavailable

JITTER = 0.1
"""Part of `write_timeout` by which connections differ, so that those that came together do not leave together."""
MAX_PARAMETERS = 1100
"""Parameters of one request."""

STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0",
    "X-Accel-Buffering": "no",  # nginx would collect the events otherwise
}


def parse_pairs(text: bytes, where: str) -> list[tuple[str, str]]:
    """The pairs of a query or of a form, which ``where`` names; `Problem` 400 if they are too many or not UTF-8."""
    try:
        return pairs(text, MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise Problem(400, f"the {where} is not valid UTF-8") from None
    except OverflowError:
        raise Problem(400, f"the {where} has more than {MAX_PARAMETERS} parameters") from None


def matchers_in(pairs: Sequence[tuple[str, str]], generations: tuple[Generation, ...]) -> tuple[Matcher, ...]:
    """What the request wants to hear of; `Problem` 400: none, or a name in the reserved ``match`` namespace."""
    types = matcher_types(generations)
    found: dict[Matcher, None] = {}
    for name, value in pairs:
        if name in types:
            found[Matcher(types[name], value)] = None
        elif name.lower().startswith("match"):
            raise Problem(400, f"unknown matcher; there are {', '.join(NAMES[Generation.V1].matchers)}")
    if not found:
        raise Problem(400, f"nothing to subscribe to; name a topic with one of {', '.join(types)}")
    return tuple(found)


def last_event_id(
    header: str | None, pairs: Sequence[tuple[str, str]], generations: Sequence[Generation]
) -> str | None:
    """Where the client stands. The header wins: a browser resends the first query beside a fresh header.

    Of several parameters the first counts: the query component's before the body's.
    """
    names = [name for generation in generations for name in NAMES[generation].cursors]
    if header is not None:
        # Browsers send the id as UTF-8, which a header's text shows as Latin-1 (WHATWG HTML, "Last-Event-ID").
        return header.encode("latin-1").decode(errors="replace") or None
    return next((value for name, value in pairs if name in names), None) or None


AT_ONCE, SOON, LATER = 500, 1000, 10_000
"""Milliseconds until a subscriber that can't be served shall come back: to the other one of a pair, one that has come
too early, and one too many."""
FIRST_OF_A_PAIR = b"retry: %d\n" % AT_ONCE
"""What a stream begins with where another hub is there at once: browsers wait 3 to 5 s by themselves.

No empty line follows, which several clients would take for an event.
"""


_ALL = Grants(subscribe=(Matcher("topic", "*"),))
"""What the program may receive that the hub is a part of."""


class HistoryLost(Exception):
    """The log no longer has what comes after that event: some updates will never be seen."""


class Query(NamedTuple):
    """What a request asks for, and may get. ``last_event_id``: None for what is new from now on.

    ``newest``: first the newest update of each topic, where the subscriber stands nowhere yet.
    """

    matchers: tuple[Matcher, ...]
    grants: Grants
    last_event_id: str | None
    newest: bool = False


class Beginning(NamedTuple):
    """Where a stream begins: what it sends first, the cursor after which it goes on, and the response headers."""

    cursor: Position
    headers: RawHeaders
    opening: bytes = b""


class Admission(NamedTuple):
    """A stream that may begin. ``client``: who it is, for its limit."""

    query: Query
    beginning: Beginning
    client: str


@dataclass(frozen=True)
class Subscribe:
    """The endpoint. ``write_timeout``: seconds that a connection lasts at most, 0 for no limit.

    ``active``: who announces subscriptions, if anybody.
    """

    streams: Streams
    lifecycle: Lifecycle
    authorizer: Authorizer
    matching: Matching
    cors: Cors
    max_body: int
    write_timeout: float
    protocol: Protocol
    limits: Limits
    traces: Traces
    active: ActiveSubscriptions | None = None
    strict: bool = False
    """Whether `last` is left out, which the specification does not have."""

    def direct(self, scope: Scope, offer: Offer) -> bool:
        """`hub.fanout.wire.Direct`: begin a stream that asks for nothing of the past."""
        if not self.lifecycle.serving or self.limits.max_subscriptions:
            return False
        try:
            query = self._query_of(HTTPConnection(scope), b"")
        except Problem:
            return False  # it is told why through ASGI
        if query.last_event_id is not None or query.newest:
            return False
        offer.begin(_RAW_STREAM_HEADERS + self.cors.headers(scope), self._first)
        if (wire := taken_over(offer)) is not None:
            self._start(wire, query, None, "")
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, carry = Request(scope, receive), None
        with self.traces.span("mercure.subscribe", request.headers) as note:
            admission = await self._admit(request)
            if isinstance(admission, Response):
                await admission(scope, receive, send)
                return
            query, beginning, client = admission
            note("http.response.status_code", 200)
            note("mercure.matchers", len(query.matchers))
            await send({"type": "http.response.start", "status": 200, "headers": beginning.headers})
            if request.method == "HEAD":
                await send({"type": "http.response.body"})
                return
            # Some proxies pass the head on only once the body has begun.
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            wire, carry = wire_for(scope, receive, send)
            self._start(wire, query, beginning, client)
        if carry is not None:
            await carry()

    async def _admit(self, request: Request) -> Admission | Response:
        """What the stream begins with, or an answer that has the client come back later. Raises `Problem`."""
        body = await self._body(request)
        if not self.lifecycle.serving:
            # Of a pair, the other one serves: its subscribers are not held here.
            pair = self.streams.log.transport.one_of_a_pair
            if pair or not await self.lifecycle.wait_until_serving(gone(request.scope)):
                return self._come_back(request, body, AT_ONCE if pair else SOON)
        query = self._query_of(request, body)
        client = query.grants.subject or (request.client.host if request.client else "-")
        if self.limits.crowded(len(self.streams.open)) or self.limits.has_enough(client):
            return self._come_back(request, body, LATER)
        try:
            beginning = await self._beginning(query)
        except (TransportUnavailable, TransportClosed):
            return self._come_back(request, body)
        over = query.grants.expires is not None and query.grants.expires <= time.time()
        # Either may have come while the log was asked; those that were open may have been let go of already.
        if self.lifecycle.draining or over:
            return self._come_back(request, body)
        return Admission(query, beginning, client)

    @property
    def _first(self) -> bytes:
        return FIRST_OF_A_PAIR if self.streams.log.transport.one_of_a_pair else HEARTBEAT

    async def _body(self, request: Request) -> bytes:
        """The form of a QUERY (RFC 10008), whose parameters may be too many for a URL; `Problem` 400, 408, 413, 415."""
        if request.method != "QUERY":
            return b""
        check_form(request.scope["headers"], "match=https%3A%2F%2Fexample.com%2Fbooks%2F1")
        return await read_body(request, self.max_body)

    def _query_of(self, request: HTTPConnection, body: bytes) -> Query:
        """Raises `Problem`."""
        parameters, generations = _parameters(request, body), generations_in(self.protocol)
        matchers = matchers_in(parameters, generations)
        grants = self.authorizer.subscriber(request)
        try:
            self.matching.check(matchers)
        except InvalidMatcher as error:
            raise Problem(400, str(error)) from None
        asked = last_event_id(request.headers.get("Last-Event-ID"), parameters, generations)
        return Query(matchers, grants, asked, not self.strict and ("last", "1") in parameters)

    async def _beginning(self, query: Query) -> Beginning:
        """Where the stream starts, and the response headers that say so.

        Without an id it is where the dispatcher stands before the client has seen the head: what is published after
        that is new to it.
        """
        log, asked = self.streams.log, query.last_event_id
        if asked is None:
            cursor, headers = log.position, _RAW_STREAM_HEADERS
        else:
            position = await log.transport.position_of(asked) if _may_exist(asked) else None
            headers = self._raw_headers_after(EARLIEST if position is None else asked)
            if position is not None or asked == EARLIEST or not query.newest:
                return Beginning(position or 0, headers)
        if not query.newest:
            return Beginning(cursor, headers)
        opening, cursor = await newest_updates(log.transport, self.matching, query.matchers, query.grants.subscribe)
        return Beginning(cursor, headers, opening)

    def _raw_headers_after(self, told: str) -> RawHeaders:
        """The head of a stream that goes on after that event (Mercure, "Reconnection")."""
        names = [NAMES[generation].told_in for generation in generations_in(self.protocol)]
        return _raw(STREAM_HEADERS | dict.fromkeys(names, told))

    def _come_back(self, request: Request, body: bytes, pause: int = SOON) -> Response:
        """A stream that ends at once: `EventSource` reconnects after ``pause`` ms, but gives up for good on an error.

        Nothing was sent and nothing is lost, so that the client stands where it said it stands.
        """
        header = request.headers.get("Last-Event-ID")
        asked = last_event_id(header, _parameters(request, body), generations_in(self.protocol))
        response = Response(ServerSentEvent(retry=pause, sep="\n").encode(), headers={"Connection": "close"})
        told = asked if asked is None or _may_exist(asked) else EARLIEST
        response.raw_headers += _RAW_STREAM_HEADERS if told is None else self._raw_headers_after(told)
        return response

    async def within(self, matchers: tuple[Matcher, ...], last_event_id: str | None) -> AsyncIterator[Event]:
        """A subscription of this process itself, which may receive everything. See `hub.Hub.subscribe`."""
        if not (self.lifecycle.serving or await self.lifecycle.wait_until_serving(None)):
            raise unavailable("this hub is not open now; try again")
        try:
            self.matching.check(matchers)
        except InvalidMatcher as error:
            raise Problem(400, str(error)) from None
        parser = Parser(last_event_id or "")
        while not self.lifecycle.draining:
            asked = parser.last_event_id or None
            try:
                beginning = await self._beginning(query := Query(matchers, _ALL, asked))
            except (TransportUnavailable, TransportClosed):
                raise unavailable("the store of this hub does not answer; try again") from None
            if asked not in (None, EARLIEST) and beginning.cursor == 0:
                raise HistoryLost(asked)
            wire = InProcess()
            self._start(wire, query, beginning, "")
            async with aclosing(wire.events(parser)) as events:
                async for event in events:
                    yield event

    def _start(self, wire: Wire, query: Query, beginning: Beginning | None, client: str) -> None:
        """``beginning``: None for what the audience gets from now on. ``client``: who it is, for its limit."""
        audience = self.streams.audiences.enter(query.matchers, query.grants.subscribe)
        cursor = self.streams.log.passed(audience) if beginning is None else beginning.cursor
        stream = Stream(self.streams, wire, audience, cursor, self._deadline(query.grants.expires))
        stream.verified = query.grants.verified
        self.limits.subscribed(stream, client)
        if self.active is not None:
            self.active.begin(stream, query.matchers, query.grants)
        stream.start(b"" if beginning is None else beginning.opening)
        # Keys may have changed while the request was under way.
        if self.lifecycle.draining or not self.authorizer.holds(query.grants.verified):
            stream.finish(Ended.DRAIN if self.lifecycle.draining else Ended.KEYS)

    def _deadline(self, expires: float | None) -> float:
        """When the connection ends, in event loop time: with its token, or after `write_timeout` less some jitter."""
        now = asyncio.get_running_loop().time()
        lasts = self.write_timeout * (1 - JITTER * random.random()) if self.write_timeout else inf  # noqa: S311
        return now + min(lasts, inf if expires is None else expires - time.time())


def _parameters(request: HTTPConnection, body: bytes) -> list[tuple[str, str]]:
    """The union of query component and body, in that order (Mercure, "Subscription"). Raises `Problem`."""
    query = parse_pairs(request.scope["query_string"], "query")
    return query + parse_pairs(body, "form") if body else query


def _may_exist(event_id: str) -> bool:
    """Whether an event may have that id; ``earliest`` and what no header could tell back are none's."""
    return event_id != EARLIEST and len(event_id) <= MAX_TOPIC and not invalid_character(event_id)


def _raw(headers: Mapping[str, str]) -> RawHeaders:
    """As ASGI has them. Event ids go out as UTF-8, as browsers send them back."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_RAW_STREAM_HEADERS = _raw(STREAM_HEADERS)
