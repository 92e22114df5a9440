"""The documents that tell of subscriptions, in either generation of the protocol (Mercure, "Active Subscriptions")."""

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

from hub.generations import PATH, Generation
from hub.matching.matchers import Matcher
from transports import Update

ROOT = f"{PATH}/subscriptions"
CONTEXT = "https://mercure.rocks/"
EVENT_TYPE = "mercure"
"""The reserved type of the hub's own events in 1.0; 0.x has none."""


class Subscription(NamedTuple):
    """One matcher of one subscriber. ``payload``: what its token attaches, as JSON has it; None: nothing."""

    matcher: Matcher
    subscriber: str
    payload: Any = None

    @property
    def id(self) -> str:
        """The path of its resource, which is the topic of its events."""
        return path(self.matcher, self.subscriber)

    def document(self, *, active: bool = True) -> bytes:
        """Compact JSON in UTF-8."""
        kind, match = self.matcher
        if kind == "topic":
            fields = {"@context": CONTEXT, "id": self.id, "type": "Subscription", "topic": match}
        else:
            fields = {"id": self.id, "type": "subscription", "match_type": kind, "match": match}
        payload = {} if self.payload is None else {"payload": self.payload}
        return to_json({**fields, "subscriber": self.subscriber, "active": active, **payload})


def path(matcher: Matcher, *subscriber: str) -> str:
    """``{match_type}/{match}/{subscriber}`` or, in 0.x, ``{topic}/{subscriber}``, expanded (RFC 6570 section 3.2.2)."""
    parts = (matcher.pattern, *subscriber) if matcher.type == "topic" else (*matcher, *subscriber)
    return "/".join((ROOT, *(quote(part, safe="") for part in parts)))


def event(id: str, document: bytes, *, active: bool) -> Update:
    """The private update that announces a subscription's begin or end; repeated, it is stored once."""
    fields = json.loads(document)
    state = "begun" if active else "ended"
    return Update(
        id=uuid4().urn,
        topics=(id,),
        data=to_json({**fields, "active": active}).decode(),
        private=True,
        type=None if "topic" in fields else EVENT_TYPE,
        # A publisher's key holds no control character, so that nobody can take this one before us.
        idempotency_key=f"{state}\n{sha256(id.encode()).hexdigest()}",
    )


def collection(path: str, documents: Iterable[bytes], last_event_id: str, generation: Generation) -> bytes:
    """The list that a URL shows. 1.0 tells the last event id in a header, 0.x in the document."""
    if generation is Generation.V1:
        head = to_json({"id": path, "type": "subscriptions"})
    else:
        head = to_json({"@context": CONTEXT, "id": path, "type": "Subscriptions", "lastEventID": last_event_id})
    # The documents are JSON already; a large collection is not worth decoding.
    return b'%b,"subscriptions":[%b]}' % (head[:-1], b",".join(documents))


def single(document: bytes, last_event_id: str, generation: Generation) -> bytes:
    """One subscription's document as its own URL shows it."""
    return document if generation is Generation.V1 else to_json({**json.loads(document), "lastEventID": last_event_id})


def to_json(document: dict[str, Any]) -> bytes:
    """Half a surrogate pair, which JSON's escapes can hold and UTF-8 can't, becomes a question mark."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
