"""What a request asks to publish: its form as an `Update`, its idempotency key (Mercure, "Publication"). Pure."""

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from hub.matching.matchers import MAX_TOPIC, Matching, invalid_character
from hub.problems import Problem
from hub.web.forms import decoded, pairs
from transports import EARLIEST, Update

MAX_TOPICS = 1000
URNS = 64
"""Random ids that are made at once."""
REPEATED, LONGEST = 1024, 512
"""Forms without their data and id that are judged once, and the bytes of the longest such."""
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
_GROUPS = re.compile("(.{8})(.{4})(.{4})(.{4})(.{12})")
_URN = "urn:uuid:%s-%s-%s-%s-%s"

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


def update_from_body(body: bytes, matching: Matching) -> Update:
    """What `update_from` makes of a body's `parse_form`; `Problem` 400 or 413.

    A publisher sends the same form again and again with other data, or another id: what is beside them is judged once.
    """
    beside, data = _cut(body, b"data=")
    beside, event_id = _cut(beside, b"id=") if beside.find(b"id=") >= 0 else (beside, b"")
    if data is None or event_id is None or len(beside) > LONGEST or (same := _judged(beside, matching)) is None:
        return update_from(parse_form(body), matching)
    try:
        name, text = _id(decoded(event_id)) if event_id else _random_urn(), decoded(data)
    except UnicodeDecodeError:
        raise Problem(400, _NOT_UTF8) from None
    return Update(name, same.topics, text, same.private, same.type, same.retry)


def _cut(form: bytes, field: bytes) -> tuple[bytes, bytes | None]:
    """A form without a field, and the value of that; None: it is not there, or not as plainly as ``name=``."""
    before, found, rest = form.partition(field)
    if not found or (before and not before.endswith(b"&")):
        return form, None
    value, _, after = rest.partition(b"&")
    return before + after, value


@lru_cache(REPEATED)
def _judged(beside: bytes, matching: Matching) -> Update | None:
    """The update of a form whose data and id were cut out; None: it says more of them, once more or spelled otherwise.

    Only what raises nothing is kept: an exception that is raised again holds on to all that it passed before.
    """
    form = parse_form(beside)
    return None if "data" in form or "id" in form else update_from(form, matching)


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
    """``uuid.uuid4().urn`` at a fifteenth of its time: many are made at once, without a step of Python for each."""
    if not _urns:
        bits = int.from_bytes(os.urandom(16 * URNS)) & _RANDOM | _GIVEN
        _urns.extend(map(_URN.__mod__, _GROUPS.findall(f"{bits:0{32 * URNS}x}")))
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
