"""What a request asks to publish: its form as an `Update`, its idempotency key (Mercure, "Publication"). Pure."""

import json
import os
import re
from collections.abc import Callable, Sequence
from hashlib import sha256

from hub.matching.matchers import MAX_TOPIC, Matching, invalid_character
from hub.problems import Problem
from hub.web.forms import decoded, pairs
from transports import EARLIEST, Update, tuple_of

MAX_TOPICS = 1000
URNS = 128
"""Random ids that are made at once."""
REPEATED, LONGEST = 64, 512
"""Forms of a publisher that are judged once, and the bytes of the longest such, without its data and id."""
MAX_KEY = 255
"""Characters in an idempotency key."""

Form = dict[str, list[str]]

_urns: list[str] = []
"""Random ids that nobody has yet."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_urns.clear)  # two processes must not give the same

_RANDOM = int(URNS * "ffffffffffff0fff3fffffffffffffff", 16)
_GIVEN = int(URNS * "00000000000040008000000000000000", 16)
"""RFC 9562 section 5.4: all but the version and the variant is random."""
_URN = b"urn:uuid:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx "
_DIGITS = [at for at, character in enumerate(_URN) if character == ord("x")]
"""Where they stand in it."""

_NOT_UTF8 = "the form is not valid UTF-8"
_FIELDS = frozenset(("topic", "data", "private", "id", "type", "retry"))
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


def parse_form(body: bytes) -> Form:
    """The fields of an ``application/x-www-form-urlencoded`` body, by name; `Problem` 400 or 413."""
    form: Form = {}
    try:
        for name, value in pairs(body, MAX_TOPICS + 100):
            if name in form:
                form[name].append(value)
            else:
                form[name] = [value]
    except UnicodeDecodeError:
        raise Problem(400, _NOT_UTF8) from None
    except OverflowError:
        raise Problem(413, f"the form has too many fields; {MAX_TOPICS} topics are the most") from None
    return form


def form_of(
    topic: str | Sequence[str],
    data: object,
    *,
    private: bool,
    id: str | None,
    type: str | None,
    retry: int | None,
) -> Form:
    """The form of a program that publishes by a call. ``data``: text, or anything that JSON can say."""
    form: Form = {
        "topic": [topic] if isinstance(topic, str) else [*topic],
        "data": [data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)],
    }
    fields = {
        "id": id,
        "type": type,
        "retry": None if retry is None else str(retry),
        "private": "on" if private else None,
    }
    return form | {name: [value] for name, value in fields.items() if value is not None}


class KnownForms:
    """Forms of one publisher, which sends the same again with other data or another id: each is judged once.

    ``allow``: raises if the publisher may not publish to these topics.
    """

    __slots__ = ("_allow", "_known", "_matching")

    def __init__(self, matching: Matching, allow: Callable[[Sequence[str]], None]) -> None:
        self._matching, self._allow = matching, allow
        self._known: dict[bytes, tuple[tuple[str, ...], bool, str | None, int | None]] = {}
        """Topics, private, type and retry, by what a form says beside its data and id."""

    def update_of(self, body: bytes) -> Update:
        """What `update_from` makes of a body's `parse_form`. Raises `Problem` 400 or 413, or what ``allow`` does."""
        beside, data = _cut(body, b"&data=")
        event_id: bytes | None = b""
        if beside.find(b"id=") >= 0:
            beside, event_id = _cut(beside, b"&id=")
        known = self._known.get(beside)
        if known is None or data is None:
            return self._judged(body, beside)
        try:
            text, name = decoded(data), decoded(event_id) if event_id else ""
        except UnicodeDecodeError:
            raise Problem(400, _NOT_UTF8) from None
        topics, private, event_type, retry = known
        name = _id(name) if name else _random_urn()
        return tuple_of(Update, (name, topics, text, private, event_type, retry, None, None))

    def _judged(self, body: bytes, beside: bytes) -> Update:
        update = update_from(parse_form(body), self._matching)
        self._allow(update.topics)
        if len(beside) <= LONGEST and not {"data", "id"}.intersection(parse_form(beside)):
            if len(self._known) >= REPEATED:
                self._known.clear()
            self._known[beside] = (update.topics, update.private, update.type, update.retry)
        return update


def _cut(form: bytes, field: bytes) -> tuple[bytes, bytes | None]:
    """A form without a field, and its value; None: it has none that is spelled so. ``field``: as in ``&name=``."""
    before, found, rest = form.partition(field)
    if not found:
        if not form.startswith(field[1:]):
            return form, None
        before, rest = b"", form[len(field) - 1 :]
    value, ampersand, after = rest.partition(b"&")
    return before + ampersand + after, value


def update_from(form: Form, matching: Matching) -> Update:
    """The update that a form describes; `Problem` 400 or 413 says which field is wrong. Unknown fields are ignored."""
    if not _FIELDS.issuperset(form) and any(name.startswith("topic[") for name in form):
        # What PHP's http_build_query makes of an array; as an unknown field it would be lost without a word.
        raise Problem(400, "the form has topic[…]: repeat the field 'topic' without brackets, as in topic=a&topic=b")
    topics = _topics(form.get("topic", ()), matching)
    data = form["data"][0] if "data" in form else ""
    private = "private" in form
    if len(form) <= 2 + private and "data" in form:  # nothing else that counts, as nearly always
        return Update(_random_urn(), topics, data, private)
    event_type = _line(form, "type")
    if event_type == "mercure":
        raise Problem(400, "the type 'mercure' is reserved for the hub's own events")
    event_id = _id(form["id"][0]) if "id" in form else _random_urn()
    return Update(event_id, topics, data, private, event_type, _retry(form))


def _topics(topics: Sequence[str], matching: Matching) -> tuple[str, ...]:
    if not topics:
        raise Problem(400, "the field 'topic' is missing")
    if len(topics) > MAX_TOPICS:
        raise Problem(413, f"{len(topics)} topics; {MAX_TOPICS} are the most")
    for topic in topics:
        _check_text("topic", topic)
        if topic == "*":
            raise Problem(400, "the topic '*' is reserved: it is the wildcard of matchers")
        if matching.is_reserved(topic):
            raise Problem(400, "a topic addresses the hub's own namespace, which only the hub publishes to")
    return tuple(dict.fromkeys(topics))


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TOPIC:
        raise Problem(413, f"the field '{name}' is longer than {MAX_TOPIC} characters")
    if invalid_character(text):
        raise Problem(400, f"the field '{name}' holds a control or an invisible format character")


def _line(form: Form, name: str) -> str | None:
    """A field that becomes one line of the stream: a line break in it would inject others."""
    text = form.get(name, [""])[0]
    _check_text(name, text)
    return text or None


def _id(text: str) -> str:
    _check_text("id", text)
    if text.startswith("#") or text == EARLIEST:
        raise Problem(400, f"an id must not start with '#' and must not be '{EARLIEST}'")
    return text or _random_urn()


def _random_urn() -> str:
    """``uuid.uuid4().urn`` at a small part of its time: many are made at once, without a step of Python for each."""
    if not _urns:
        bits = int.from_bytes(os.urandom(16 * URNS)) & _RANDOM | _GIVEN
        digits = f"{bits:0{32 * URNS}x}".encode()
        text = bytearray(URNS * _URN)
        for number, at in enumerate(_DIGITS):
            text[at :: len(_URN)] = digits[number::32]  # the same digit of each
        _urns.extend(text.decode().split())
    return _urns.pop()


def _retry(form: Form) -> int | None:
    text = _line(form, "retry")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise Problem(400, "the field 'retry' is a number of milliseconds, digits only, 10 at most")
    return int(text)


def fingerprint(body: bytes) -> str:
    """What tells a request's body from another that has the same idempotency key."""
    return sha256(body).hexdigest()[:32]


def idempotency_key(values: Sequence[str]) -> str | None:
    """The ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a quoted string, or bare as many send it."""
    if not values:
        return None
    text = values[0].strip()
    if quoted := _STRING.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    elif '"' in text:
        raise Problem(400, 'the header Idempotency-Key is not a string such as "8e03978e-40d5-43dd-bc93-6894a57f9324"')
    if len(values) > 1 or not text or len(text) > MAX_KEY or not text.isascii() or invalid_character(text):
        raise Problem(400, f"the header Idempotency-Key takes one key of 1 to {MAX_KEY} ASCII characters")
    return text
