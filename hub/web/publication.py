"""What a request asks to publish: its form as an `Update`, its idempotency key (Mercure, "Publication"). Pure."""

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from hub.matching.matchers import MAX_TOPIC, Matching, invalid_character
from hub.problems import Problem
from hub.web.forms import pairs
from transports import EARLIEST, Update

MAX_TOPICS = 1000
URNS = 64
"""Random ids that are made at once."""
CHECKED = 1_024
"""Topics that are not looked at again: publishers have few."""
MAX_KEY = 255
"""Characters in an idempotency key."""

Form = dict[str, list[str]]

_urns: list[str] = []
"""Random ids that nobody has yet."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_urns.clear)  # two processes must not give the same

_VARIANT = dict(zip("0123456789abcdef", 4 * "89ab", strict=True))
"""RFC 9562 section 4.1: two bits of a random digit are given."""

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
        raise Problem(400, "the form is not valid UTF-8") from None
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
    return Update(_id(form), topics, data, private, event_type, _retry(form))


def _topics(topics: Sequence[str], matching: Matching) -> tuple[str, ...]:
    if not topics:
        raise Problem(400, "the field 'topic' is missing")
    if len(topics) > MAX_TOPICS:
        raise Problem(413, f"{len(topics)} topics; {MAX_TOPICS} are the most")
    if len(topics) == 1:
        return checked_topic(topics[0], matching)
    for topic in topics:
        checked_topic(topic, matching)
    return tuple(dict.fromkeys(topics))


@lru_cache(CHECKED)
def checked_topic(topic: str, matching: Matching) -> tuple[str]:
    """The topics of an update that has no other. `Problem` 400 or 413: nothing can be published to it.

    Only what raises nothing is kept: an exception that is raised again holds on to all that it passed before.
    """
    _check_text("topic", topic)
    if topic == "*":
        raise Problem(400, "the topic '*' is reserved: it is the wildcard of matchers")
    if matching.is_reserved(topic):
        raise Problem(400, "a topic addresses the hub's own namespace, which only the hub publishes to")
    return (topic,)


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


def _id(form: Form) -> str:
    text = _line(form, "id")
    if text is None:
        return _random_urn()
    if text.startswith("#") or text == EARLIEST:
        raise Problem(400, f"an id must not start with '#' and must not be '{EARLIEST}'")
    return text


def _random_urn() -> str:
    """``uuid.uuid4().urn`` (RFC 9562 section 5.4) at a fifth of its time: the kernel is asked for many at once."""
    if not _urns:
        digits = os.urandom(16 * URNS).hex()
        for text in (digits[at : at + 32] for at in range(0, len(digits), 32)):
            variant = _VARIANT[text[16]]
            _urns.append(f"urn:uuid:{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}")
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
