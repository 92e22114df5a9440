"""What every client of a hub decides, without asking anybody: requests, answers, cursors, waits. Pure."""

import json
import random
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from hub.client.sse_parser import Event, Parser

METADATA = "/.well-known/oauth-protected-resource"
"""Before the hub's own path: where a hub of 1.0 says what it is (RFC 9728)."""
IDEMPOTENCY_KEY = "Idempotency-Key"
KEYS_ARE_KNOWN = "mercure_idempotency_keys"
"""The metadata's member that says that a repeated request with its ``Idempotency-Key`` is stored once."""

_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))')
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)')
"""RFC 8288 section 3."""
_RETRY = 1.0
_LONGEST_WAIT = 30.0
_LONGEST_ASKED = 600.0


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


def form_of(
    topics: Sequence[str],
    data: str,
    *,
    private: bool = False,
    id: str | None = None,
    type: str | None = None,
    retry: int | None = None,
) -> list[tuple[str, str]]:
    """The fields of a publication, the data last."""
    form = [("topic", topic) for topic in topics]
    form += [(name, value) for name, value in (("id", id), ("type", type)) if value is not None]
    form += [("retry", str(retry))] if retry is not None else []
    form += [("private", "on")] if private else []
    return [*form, ("data", data)]


def address_of(url: str, topics: Sequence[str], matches: Sequence[str], patterns: Sequence[str]) -> str:
    """The URL of a subscription: ``topics`` of 0.x, exact ``matches`` and URL ``patterns`` of 1.0."""
    query = [("topic", each) for each in topics]
    query += [("match", each) for each in matches] + [("match_urlpattern", each) for each in patterns]
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"


def bearer(token: str | None) -> dict[str, str]:
    """The header that has the token. ValueError: it is none."""
    if not token:
        return {}
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the token contains characters that no token has")
    return {"Authorization": f"Bearer {token}"}


def judge(status: int, headers: Mapping[str, str], text: str, reason: str) -> None:
    """Raises `Refused`, or `Unreachable` for a 5xx; a 2xx is well."""
    if status < 300:
        return
    try:
        found = json.loads(text)
        detail = str(found["detail"] if "detail" in found else found["error"])  # RFC 9457, or the hub's health
    except (ValueError, TypeError, LookupError):
        detail = next(iter(text.strip().splitlines()), "") or reason
    if status >= 500:
        raise Unreachable(f"{status}: {detail}", retry_after_of(headers))
    raise Refused(status, f"{status}: {detail}")


def target_of(url: str) -> str:
    """What the request line has of the URL (RFC 9112, section 3.2.1)."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def reason_of(error: Exception) -> str:
    """Why there is no answer, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def retry_after_of(headers: Mapping[str, str]) -> float:
    """Seconds; 0 where it is not said, or as a date."""
    said = headers.get("Retry-After") or ""
    return float(said) if re.fullmatch(r"\d{1,6}", said) else 0.0


class Gap(NamedTuple):
    """The hub no longer has what comes after ``asked``; the stream goes on after ``told``. Updates may be lost."""

    asked: str
    told: str


class Cursor:
    """Where a subscriber stands between its connections.

    ``retry``: seconds to wait, as the stream wishes; ``failures``: connections in a row without an event.
    """

    def __init__(self, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        self.retry: float | None = None
        self.failures = 0

    def starts_at(self, told: str | None) -> Gap | None:
        """Take the hub's word for where the stream begins; another place than asked for is a loss."""
        if told is None:
            return None
        asked, self.last_event_id = self.last_event_id, told
        return None if asked in (None, told) else Gap(asked, told)

    def follow(self, parser: Parser) -> None:
        """Stand where the parser stands; an empty id takes an earlier one back (WHATWG HTML, section 9.2.6)."""
        self.last_event_id = parser.last_event_id or None
        self.retry = self.retry if parser.retry is None else parser.retry

    def take(self, parser: Parser, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` completes, each handed out once the cursor stands after it."""
        for event in parser.feed(chunk):
            self.follow(parser)  # before it is handed out: its receiver does not want it again
            self.failures = 0
            yield event
        self.follow(parser)

    def pause(self, asked: float) -> float:
        """Seconds until the next connection, after one more that has ended. ``asked``: a Retry-After."""
        wait = wait_before(self.failures, self.retry, asked, random.random())  # noqa: S311 - no secret
        self.failures += 1
        return wait


class Request(NamedTuple):
    """What is to be sent. ``body``: a form; None for a GET."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


class Answer(NamedTuple):
    """What came back; ``headers`` are found in any case."""

    status: int
    headers: Mapping[str, str]
    text: str
    reason: str = ""


class NoAnswer(NamedTuple):
    """None came. ``sent``: whether the hub may have acted on the request."""

    why: str
    sent: bool


Outcome = Answer | NoAnswer
Steps = Generator[Request | float, Outcome, str]
"""Asks for a request to be sent, and gets what came of it; or for so many seconds to be waited. Returns the id."""


class Idempotency:
    """Whether a hub stores a request that is repeated under one key once; asked once, and kept.

    Without that a request whose answer was lost can't be repeated: it may have been stored.
    """

    def __init__(self) -> None:
        self.known: bool | None = None

    def find_out(self, url: str) -> Steps:
        """Raises `Unreachable`. Returns nothing of interest."""
        parts = urlsplit(url)
        outcome = yield Request("GET", f"{parts.scheme}://{parts.netloc}{METADATA}{parts.path}", {})
        if isinstance(outcome, NoAnswer):
            raise Unreachable(outcome.why)
        try:
            self.known = outcome.status == 200 and json.loads(outcome.text).get(KEYS_ARE_KNOWN) is True
        except (ValueError, AttributeError):
            self.known = False
        return ""


def publishing(
    url: str,
    form: Sequence[tuple[str, str]],
    credentials: Callable[[], Mapping[str, str]],
    idempotency: Idempotency,
    key: str,
    patience: float,
    clock: Callable[[], float],
) -> Steps:
    """Publish, and try again while that is safe, for ``patience`` seconds. Raises `Refused`, `Unreachable`.

    Safe is what was not sent, what a 429 has refused, and, with a ``key`` that the hub knows, everything. Each attempt
    asks for its ``credentials``: a token may end in between.
    """
    end, failures = clock() + patience, 0
    body, fixed = urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    while True:
        try:
            if idempotency.known is None:
                yield from idempotency.find_out(url)
            keyed = {IDEMPOTENCY_KEY: f'"{key}"'} if idempotency.known else {}
            outcome = yield Request("POST", url, {**credentials(), **fixed, **keyed}, body)
            asked, reason, safe = _after(outcome, bool(idempotency.known))
            if isinstance(outcome, Answer) and reason is None:
                return outcome.text.strip()
        except Unreachable as error:
            asked, reason, safe = error.retry_after, str(error), True
        wait = max(asked, min(_LONGEST_WAIT, 0.05 * 2**failures) * (1 + random.random()))  # noqa: S311 - no secret
        failures += 1
        if not safe or clock() + wait > end:
            raise Unreachable(reason or "", asked)
        yield wait


def _after(outcome: Outcome, keyed: bool) -> tuple[float, str | None, bool]:
    """Seconds that were asked for, what went wrong (None: nothing), and whether it is safe to try again."""
    if isinstance(outcome, NoAnswer):
        return 0.0, outcome.why, keyed or not outcome.sent
    if outcome.status == 429:
        return retry_after_of(outcome.headers), f"429: {outcome.text.strip()[:200]}", True
    try:
        judge(outcome.status, outcome.headers, outcome.text, outcome.reason)
    except Unreachable as error:
        return error.retry_after, str(error), keyed
    return 0.0, None, True


def hub_in(links: str) -> tuple[str, str | None] | None:
    """The hub that a ``Link`` header names, and the last event id that the document holds (Mercure, "Discovery")."""
    for url, parameters in _LINK.findall(links):
        found = {name: quoted or plain for name, quoted, plain in _PARAMETER.findall(parameters)}
        if "mercure" in found.get("rel", "").split():
            return url, found.get("last-event-id")
    return None
