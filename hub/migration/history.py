"""The history of a Go hub's Bolt file: its updates, in their order, under their ids."""

import json
from collections.abc import Iterator
from pathlib import Path

from hub.migration.bolt import opened
from transports import Update

BUCKET = "updates"
"""The Go hub's name for it, where ``bucket_name`` says no other."""
_SEQUENCE = 8
"""Bytes of a key before the update's id."""


def updates_in(path: Path, bucket: str = BUCKET) -> Iterator[Update | None]:
    """Each entry's update; None for one that is none. Raises `hub.migration.bolt.InvalidBolt`."""
    with opened(path) as file:
        for key, value in file.pairs(bucket):
            yield update_of(key, value)


def update_of(key: bytes, value: bytes) -> Update | None:
    """The update in a pair of the bucket; None: it is none.

    The key is a sequence number of 8 bytes and the id; the value is JSON with the names of the Go hub's fields.
    """
    try:
        said = json.loads(value)
        topics = said["Topics"]
        identifier = said.get("ID") or key[_SEQUENCE:].decode()
        update = Update(
            id=identifier,
            topics=tuple(topics),
            data=said.get("Data", ""),
            private=said.get("Private", False),
            type=said.get("Type") or None,
            retry=said.get("Retry") or None,
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    texts = (update.id, update.data, *update.topics, update.type or "")
    fits = all(isinstance(each, str) for each in texts) and isinstance(update.private, bool)
    return update if fits and update.id and update.topics and isinstance(update.retry or 0, int) else None
