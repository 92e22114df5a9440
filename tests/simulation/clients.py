"""Those outside: publishers that repeat what was not answered, subscribers that come back with their cursor."""

from collections.abc import AsyncGenerator, Callable
from enum import Enum
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import httptools
import jwt

from hub.client.sse_parser import Event, Parser
from tests.simulation import network
from tests.simulation.ledger import Connection, Ended, Publication
from tests.simulation.scenario import TOPICS, Listening

KEYS = ("!ChangeThisMercureHubJWTSecretKey!", "!AnotherMercureHubJWTSecretKeyOfIt!")
PATH = "/.well-known/mercure"
PATIENCE = 12.0
"""Seconds that a publisher waits for an answer."""


class Way(Enum):
    """How a client writes the head of a request: like all its others, without spaces, or with an id of its own."""

    ALIKE = 1
    TERSE = 2
    NAMED = 3


def topic(number: int) -> str:
    return f"https://example.com/books/{number}"


@lru_cache(10_000)
def token(key: int, claims: tuple[tuple[str, Any], ...], expires: int | None = None) -> str:
    mercure = {name: list(value) for name, value in claims}
    limit = {} if expires is None else {"exp": expires}
    return jwt.encode({"mercure": mercure, **limit}, KEYS[key], "HS256")


class Response:
    """Reads responses of HTTP/1.1, one after another."""

    def __init__(self) -> None:
        self.status = 0
        self._fields: dict[str, str] = {}
        self.body = b""
        self.ended: list[tuple[int, bytes]] = []
        """Those that are whole: status and body."""
        self.head: dict[str, str] | None = None
        """The fields of the last one's head, once it is there."""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises ValueError for what is no HTTP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ValueError(f"no HTTP: {error}") from error

    async def read(self, connection: network.Connection) -> None:
        """One more portion. Raises ConnectionResetError, also at the end, and ValueError."""
        data = await connection.read()
        if not data:
            raise ConnectionResetError
        self.feed(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status, self.head, self._fields = self._parser.get_status_code(), self._fields, {}

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended.append((self.status, self.body))
        self.body = b""


async def fetched(connection: network.Connection, target: str, bearer: str) -> tuple[int, bytes]:
    """GET. Raises ConnectionError."""
    connection.write(
        f"GET {target} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n\r\n".encode()
    )
    response = Response()
    while not response.ended:
        await response.read(connection)
    return response.ended[0]


def form_of(publication: Publication, text: str) -> bytes:
    pairs = [("topic", topic(each)) for each in publication.topics] + [("data", text), ("id", publication.id)]
    return urlencode(pairs + ([("private", "on")] if publication.private else [])).encode()


def request_of(publication: Publication, text: str, key: int, way: Way) -> bytes:
    """The whole request."""
    body = form_of(publication, text)
    fields = [
        f"POST {PATH} HTTP/1.1",
        "Host: hub",
        f"Authorization: Bearer {token(key, (('publish', ('*',)),))}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length:{'' if way is Way.TERSE else ' '}{len(body)}",
    ]
    if publication.key is not None:
        fields.append(f"Idempotency-Key: {publication.key}")
    if way is Way.NAMED:
        fields.append(f"X-Request-Id: {publication.id}")
    return ("\r\n".join(fields) + "\r\n\r\n").encode() + body


def target_of(who: Listening, cursor: str | None) -> str:
    matchers = [topic(number) for number in sorted(who.selects)]
    if who.template:
        matchers = ["https://example.com/books/{number}"]
    query = [("topic", each) for each in matchers]
    return f"{PATH}?{urlencode(query, quote_via=quote)}"


def request_stream(who: Listening, cursor: str | None, bearer: str) -> bytes:
    last = "" if cursor is None else f"Last-Event-ID: {cursor}\r\n"
    return (
        f"GET {target_of(who, cursor)} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {bearer}\r\n{last}\r\n".encode()
    )


def grants(who: Listening) -> tuple[tuple[str, Any], ...]:
    may = ("*",) if len(who.may) == TOPICS else tuple(topic(number) for number in sorted(who.may))
    return (("subscribe", may),)


async def stream(
    connection: network.Connection, made: Connection, parser: Parser, now: Callable[[], float]
) -> AsyncGenerator[list[Event], None]:
    """Read a stream into its `Connection`; yields what each portion completes. Raises ConnectionError, ValueError."""
    response = Response()
    while not response.ended:
        await response.read(connection)
        if response.head is not None:
            if response.status != 200:
                raise ValueError(f"a stream was answered with {response.status}")
            if not made.begun:
                made.told = response.head.get("last-event-id")
                made.begun = now()
        body = response.ended[0][1] if response.ended else response.body
        response.body = b""
        events = list(parser.feed(body))
        made.events += [(event.id, now()) for event in events]
        yield events
    made.ended, made.over = Ended.PROPERLY, now()
