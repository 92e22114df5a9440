"""A client of any Mercure hub, on the standard library: publish once, subscribe for as long as one likes."""

import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlencode, urlsplit

from hub.client.protocol import Cursor, Refused, Unreachable, address_of, bearer, form_of, judge, reason_of, target_of
from hub.client.sse_parser import Event, Parser

CONNECT_TIMEOUT = 10.0
"""Seconds until a hub that does not answer counts as gone."""
SILENCE = 120.0
"""Seconds without a byte until a stream counts as lost; hubs send a comment every 40 s or so."""

_LARGEST_ANSWER = 64 * 1024
_FORM = "application/x-www-form-urlencoded"


def publish(
    url: str,
    topics: Sequence[str],
    data: str = "",
    *,
    private: bool = False,
    id: str | None = None,
    type: str | None = None,
    retry: int | None = None,
    token: str | None = None,
    idempotency_key: str | None = None,
    timeout: float = CONNECT_TIMEOUT,
) -> str:
    """Publish one update; its id once it is durable. ``retry``: milliseconds, for the subscribers.

    Raises `Refused`, `Unreachable` (with an ``idempotency_key`` it is safe to try again), ValueError: not a URL.
    """
    form = form_of(topics, data, private=private, id=id, type=type, retry=retry)
    headers = {**bearer(token), "Content-Type": _FORM}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    with _answer("POST", url, headers, timeout, urlencode(form)) as response:
        return _content(response).strip()


def fetch(url: str, timeout: float = CONNECT_TIMEOUT, *, verify: bool = True) -> str:
    """The text at ``url``. Raises `Refused`, `Unreachable` (a 5xx too), ValueError: not a URL.

    ``verify``: whether its certificate must be one that this machine trusts.
    """
    with _answer("GET", url, {}, timeout, verify=verify) as response:
        return _content(response)


def stream(url: str, timeout: float = CONNECT_TIMEOUT) -> Iterator[bytes]:
    """The bytes at ``url``, in parts. Raises `Refused`, `Unreachable`: also where they break off."""
    with _answer("GET", url, {}, timeout) as response:
        while part := _read(response):
            yield part


def subscribe(
    url: str,
    *,
    topics: Sequence[str] = (),
    matches: Sequence[str] = (),
    patterns: Sequence[str] = (),
    token: str | None = None,
    last_event_id: str | None = None,
    report: Callable[[str], None] = lambda _sentence: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """The events of a stream that is reconnected with its cursor whenever it ends; never ends by itself.

    ``topics``: exact or URI Templates (0.x); ``matches``: exact; ``patterns``: URL patterns (1.0). ``report`` is told
    what a person should know: a loss that history does not cover, a wait and why. Raises `Refused`, ValueError.
    """
    address = address_of(url, topics, matches, patterns)
    cursor = Cursor(last_event_id)
    while True:
        asked, reason = 0.0, "the stream ended"
        try:
            yield from _stream(address, token, cursor, report)
        except Unreachable as error:
            asked, reason = error.retry_after, str(error)
        wait = cursor.pause(asked)
        report(f"{reason}; back in {wait:.1f} s")
        sleep(wait)


def _stream(url: str, token: str | None, cursor: Cursor, report: Callable[[str], None]) -> Iterator[Event]:
    """One connection's events, until it ends in whatever way."""
    headers: dict[str, str] = {**bearer(token), "Accept": "text/event-stream", "Cache-Control": "no-cache"}
    if cursor.last_event_id is not None:
        headers["Last-Event-ID"] = cursor.last_event_id
    with _answer("GET", url, headers, SILENCE) as response:
        if response.headers.get_content_type() != "text/event-stream":
            raise Refused(response.status, f"{url.partition('?')[0]} does not answer with a stream of events")
        if gap := cursor.starts_at(_last_event_id_of(response)):
            report(f"updates may be lost: {gap.asked!r} is not in history, the stream starts at {gap.told!r}")
        yield from _events(response, cursor)


def _events(response: HTTPResponse, cursor: Cursor) -> Iterator[Event]:
    parser = Parser(cursor.last_event_id or "")
    while chunk := _read(response):
        yield from cursor.take(parser, chunk)


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(65536)
    except (OSError, HTTPException) as error:
        raise Unreachable(f"the stream broke off ({reason_of(error)})") from error


def _last_event_id_of(response: HTTPResponse) -> str | None:
    """An id may hold any characters, and arrives as UTF-8; http.client reads headers as Latin-1."""
    told = response.headers.get("Mercure-Last-Event-ID") or response.headers.get("Last-Event-ID")
    return None if told is None else told.encode("latin-1", "replace").decode("utf-8", "replace")


def _connection(url: str, timeout: float, *, verify: bool = True) -> HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[!-~]+", url):
        raise ValueError(f"{url!r} is not the URL of a hub, such as http://127.0.0.1:3000/.well-known/mercure")
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)


@contextmanager
def _answer(
    method: str,
    url: str,
    headers: Mapping[str, str],
    timeout: float,
    body: str | None = None,
    *,
    verify: bool = True,
) -> Iterator[HTTPResponse]:
    """The answer, if it is a 2xx. Raises `Refused`, or `Unreachable` for a 5xx and no answer at all."""
    connecting = closing(_connection(url, timeout, verify=verify))
    with connecting as connection, _ask(connection, method, url, headers, body) as response:
        if response.status >= 300:
            judge(response.status, dict(response.headers.items()), _content(response), response.reason)
        yield response


def _ask(
    connection: HTTPConnection, method: str, url: str, headers: Mapping[str, str], body: str | None
) -> HTTPResponse:
    parts = urlsplit(url)
    try:
        connection.request(method, target_of(url), body, {name: value.encode() for name, value in headers.items()})
        return connection.getresponse()
    except (OSError, HTTPException) as error:
        raise Unreachable(f"{parts.scheme}://{parts.netloc} does not answer ({reason_of(error)})") from error


def _content(response: HTTPResponse) -> str:
    try:
        return response.read(_LARGEST_ANSWER).decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        raise Unreachable(f"the answer broke off ({reason_of(error)})") from error
