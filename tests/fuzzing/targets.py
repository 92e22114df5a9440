"""One function for each reader: it takes any bytes, and raises if the reader breaks its word."""

import gzip
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl

import httptools
from starlette.requests import HTTPConnection

from hub.auth.authorization import Authorizer
from hub.auth.sources import rings_of
from hub.client.sse_parser import Parser
from hub.config.caddyfile import parse
from hub.config.settings import Settings
from hub.matching.matchers import InvalidMatcher, Matcher, Matching
from hub.migration.bolt import BoltFile, InvalidBolt
from hub.problems import Problem
from hub.web.forms import pairs
from hub.web.publication import KnownForms, parse_form, update_from
from hub.web.repeats import head_of, is_plain
from transports import Update
from transports.lmdb.rows import page_of, rest_of, row_of, update_of, visibility_of
from transports.strangers import NO_UPDATE, update_of_a_stranger

TOPICS = ("https://example.com/books/1", "books/1", "https://example.com/", "*", "é")
MOST = 1100


class _Seen:
    """What llhttp makes of bytes."""

    def __init__(self) -> None:
        self.messages, self.body = 0, b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


def heads(data: bytes) -> None:
    """A head that may be remembered is one request of that length to the parser too: what follows is no part of it."""
    head = head_of(data)
    if head is None or not is_plain(head) or len(data) < head.end + head.length:
        return
    seen = _Seen()
    try:
        httptools.HttpRequestParser(seen).feed_data(data[: head.end + head.length])
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return  # it is remembered only once the parser has taken it
    assert seen.messages == 1, "the parser sees no request, or several"
    assert seen.body == data[head.end : head.end + head.length], "the parser sees another body"


def forms(data: bytes) -> None:
    """A form means what urllib makes of it, or is refused with a sentence; so is an update that it can't be."""
    try:
        read = pairs(data, MOST)
    except (UnicodeDecodeError, OverflowError):
        return
    if data.isascii():
        assert read == parse_qsl(data.decode(), keep_blank_values=True, errors="strict")
    with suppress(Problem):
        update = update_from(parse_form(data), _MATCHING)
        assert Update.from_json(update.to_json()) == update
        assert update.to_event().endswith(b"\n\n")
        again = _FORMS.update_of(data)
        assert again == update or (again.id.startswith("urn:uuid:") and again._replace(id=update.id) == update)


def tokens(data: bytes) -> None:
    """A token is believed or refused with a reason; nothing but a signature of ours is believed."""
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "scheme": "https"}
    scope["headers"] = [(b"host", b"hub"), (b"authorization", b"Bearer " + data)]
    with suppress(Problem):
        _AUTHORIZER.publisher(HTTPConnection(scope))
        raise AssertionError("a token was believed that nobody signed")


def templates(data: bytes) -> None:
    """A URI Template is refused, or tells of each topic whether it matches."""
    _matches(Matcher("topic", data.decode(errors="replace")))


def patterns(data: bytes) -> None:
    """A URL Pattern is refused, or tells of each topic whether it matches."""
    _matches(Matcher("urlpattern", data.decode(errors="replace")))


def _matches(matcher: Matcher) -> None:
    with suppress(InvalidMatcher):
        _MATCHING.check((matcher,))
        beginning = _MATCHING.beginning(matcher)
        for topic in TOPICS:
            if _MATCHING.matches(matcher, topic) and matcher.type == "topic":
                assert topic.startswith(beginning), "the index would not find it"


def streams(data: bytes) -> None:
    """Events are the same however the bytes are cut."""
    whole = list(Parser().feed(data))
    parser = Parser()
    assert [event for byte in data for event in parser.feed(bytes([byte]))] == whole


def rows(data: bytes) -> None:
    """A row of LMDB is read, or damaged in one of the ways that are said; what was written is read again."""
    for read in (update_of, visibility_of, rest_of, lambda row: page_of([row], [1])):
        with suppress(ValueError, KeyError, TypeError, struct.error, RecursionError):
            read(data)
    text = data.decode(errors="replace")
    update = Update(text[:20] or "id", (text,), text, bool(data), None, len(data), text[:5] or None)
    assert update_of(row_of(update, 1)) == update


def strangers(data: bytes) -> None:
    """What others have put into Redis or PostgreSQL is an update that can go out, or none."""
    with suppress(*NO_UPDATE):
        update = update_of_a_stranger(data)
        event = update.to_event()
        assert event.count(b"\nid:") == 0, "an id was injected"
        json.loads(update.to_json())


def bolts(data: bytes) -> None:
    """A Bolt file is read to its end, or said to be damaged."""
    with suppress(InvalidBolt):
        for _ in islice(BoltFile(Path("updates.db"), data).pairs("updates"), 10_000):
            pass


def directives(data: bytes) -> None:
    """A Caddyfile is read, or refused with a line's number."""
    with suppress(ValueError):
        parse(data.decode(errors="replace"), lambda name: name, lambda name: "")


def beginnings(name: str) -> list[bytes]:
    """What is known of a target: what lies in its corpus, and a Bolt file that another test has."""
    known = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] if (CORPUS / name).is_dir() else []
    return [*known, gzip.decompress(BOLT.read_bytes())] if name == "bolts" else known


CORPUS = Path(__file__).with_name("corpus")
BOLT = Path(__file__).parents[1] / "hub" / "migration" / "small.db.gz"
LONGEST = 1 << 18
"""Bytes of one input: as many as that Bolt file has."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (heads, forms, tokens, templates, patterns, streams, rows, strangers, bolts, directives)
}

_MATCHING = Matching("https://example.com/.well-known/mercure")
_FORMS = KnownForms(_MATCHING, lambda _topics: None)
_KEY = "a key that nobody who writes bytes here knows"
_RINGS = rings_of(Settings(publisher_jwt_key=_KEY, subscriber_jwt_key=_KEY))
_AUTHORIZER = Authorizer(matching=_MATCHING, publisher=_RINGS.publisher, subscriber=_RINGS.subscriber, anonymous=False)
