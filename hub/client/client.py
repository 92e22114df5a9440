"""A client of any Mercure hub, on the standard library: publish once, subscribe for as long as one likes."""

import json
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlencode, urlsplit

from hub.client.sse_parser import Event, Parser

CONNECT_TIMEOUT = 10.0
"""Seconds until a hub that does not answer counts as gone."""
SILENCE = 120.0
"""Seconds without a byte until a stream counts as lost; hubs send a comment every 40 s or so."""

_RETRY = 1.0
_LONGEST_WAIT = 30.0
_LONGEST_ASKED = 600.0
_LARGEST_ANSWER = 64 * 1024
_FORM = "application/x-www-form-urlencoded"


class Refused(Exception):
    """The hub answered, and the answer is no; asking again would not help. The text is the hub's own sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Unreachable(Exception):
    """No answer, or one that may be better in a while. ``retry_after``: seconds, if the hub said so."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def wait_before(failures: int, retry: float | None, asked: float, chance: float) -> float:
    """Seconds to wait before the next connection.

    ``failures``: connections in a row that brought no event; ``retry``: the stream's wish (1 s without one), ``asked``:
    a Retry-After, both at least kept to; ``chance``: 0 to 1, so that clients that were lost together come back apart.
    """
    least = min(max(_RETRY if retry is None else retry, asked), _LONGEST_ASKED)
    if not failures:
        return least * (1 + chance / 4)
    grown = min(max(least, _RETRY / 2) * 2.0 ** min(failures - 1, 16), max(_LONGEST_WAIT, least))
    return grown * (1 + chance / 2)


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
    form = [("topic", topic) for topic in topics]
    form += [(name, value) for name, value in (("id", id), ("type", type)) if value is not None]
    form += [("retry", str(retry))] if retry is not None else []
    form += [("private", "on")] if private else []
    headers = {**_bearer(token), "Content-Type": _FORM}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    with _answer("POST", url, headers, timeout, urlencode([*form, ("data", data)])) as response:
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
    query = [("topic", each) for each in topics]
    query += [("match", each) for each in matches] + [("match_urlpattern", each) for each in patterns]
    address = f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"
    cursor = Cursor(last_event_id, report)
    while True:
        asked, reason = 0.0, "the stream ended"
        try:
            yield from _stream(address, token, cursor)
        except Unreachable as error:
            asked, reason = error.retry_after, str(error)
        wait = wait_before(cursor.failures, cursor.retry, asked, random.random())  # noqa: S311 - no secret
        cursor.failures += 1
        report(f"{reason}; back in {wait:.1f} s")
        sleep(wait)


class Cursor:
    """Where a subscriber stands between its connections.

    ``retry``: seconds to wait, as the stream wishes; ``failures``: connections in a row without an event.
    """

    def __init__(self, last_event_id: str | None, report: Callable[[str], None]) -> None:
        self.last_event_id = last_event_id
        self.retry: float | None = None
        self.failures = 0
        self._report = report

    def starts_at(self, told: str | None) -> None:
        """Take the hub's word for where the stream begins; another place than asked for is a loss."""
        if told is None:
            return
        if self.last_event_id not in (None, told):
            asked = f"{self.last_event_id!r} is not in history"
            self._report(f"updates may be lost: {asked}, the stream starts at {told!r}")
        self.last_event_id = told

    def follow(self, parser: Parser) -> None:
        """Stand where the parser stands."""
        self.last_event_id = parser.last_event_id or self.last_event_id
        self.retry = self.retry if parser.retry is None else parser.retry


def _stream(url: str, token: str | None, cursor: Cursor) -> Iterator[Event]:
    """One connection's events, until it ends in whatever way."""
    headers: dict[str, str] = {**_bearer(token), "Accept": "text/event-stream", "Cache-Control": "no-store"}
    if cursor.last_event_id is not None:
        headers["Last-Event-ID"] = cursor.last_event_id
    with _answer("GET", url, headers, SILENCE) as response:
        if response.headers.get_content_type() != "text/event-stream":
            raise Refused(response.status, f"{url.partition('?')[0]} does not answer with a stream of events")
        cursor.starts_at(_last_event_id_of(response))
        yield from _events(response, cursor)


def _events(response: HTTPResponse, cursor: Cursor) -> Iterator[Event]:
    parser = Parser(cursor.last_event_id or "")
    while chunk := _read(response):
        for event in parser.feed(chunk):
            cursor.follow(parser)  # before it is handed out: its receiver does not want it again
            cursor.failures = 0
            yield event
        cursor.follow(parser)


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(65536)
    except (OSError, HTTPException) as error:
        raise Unreachable(f"the stream broke off ({_reason(error)})") from error


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
            detail = f"{response.status}: {_detail(response)}"
            if response.status >= 500:
                raise Unreachable(detail, _seconds(response.headers.get("Retry-After", "")))
            raise Refused(response.status, detail)
        yield response


def _ask(
    connection: HTTPConnection, method: str, url: str, headers: Mapping[str, str], body: str | None
) -> HTTPResponse:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, {name: value.encode() for name, value in headers.items()})
        return connection.getresponse()
    except (OSError, HTTPException) as error:
        raise Unreachable(f"{parts.scheme}://{parts.netloc} does not answer ({_reason(error)})") from error


def _bearer(token: str | None) -> dict[str, str]:
    if not token:
        return {}
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the token contains characters that no token has")
    return {"Authorization": f"Bearer {token}"}


def _detail(response: HTTPResponse) -> str:
    """The sentence of problem details (RFC 9457) or of the hub's health, or else the answer's first line."""
    text = _content(response)
    try:
        found = json.loads(text)
        return str(found["detail"] if "detail" in found else found["error"])
    except (ValueError, TypeError, LookupError):
        return next(iter(text.strip().splitlines()), "") or response.reason


def _content(response: HTTPResponse) -> str:
    try:
        return response.read(_LARGEST_ANSWER).decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        raise Unreachable(f"the answer broke off ({_reason(error)})") from error


def _seconds(retry_after: str) -> float:
    return float(retry_after) if re.fullmatch(r"\d{1,6}", retry_after) else 0.0


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
