"""The history of a Go hub's Bolt file, into any transport: in its order, under its ids, and each update once."""

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hub.migration.bolt import InvalidBolt, opened
from transports import Transport, Update

BUCKET = "updates"
"""The Go hub's name for it, where ``bucket_name`` says no other."""
TOGETHER = 500
"""Updates that wait for the store at the same time: it commits them in one go."""
_SEQUENCE = 8
"""Bytes of a key before the update's id."""


class Imported(NamedTuple):
    """How many updates are there now, how many of them were there before, and how many entries are none."""

    appended: int
    known: int
    skipped: int


async def import_bolt(
    path: Path, transport: Transport, *, bucket: str = BUCKET, report: Callable[[int], None] = lambda _count: None
) -> Imported:
    """Append what the file holds to an open transport; ``report`` hears how many entries were read so far.

    An update whose id the history has already is left out, so that an import which was interrupted is simply repeated.
    Raises `hub.migration.bolt.InvalidBolt` and `transports.TransportError`.
    """
    appended = known = skipped = 0
    with opened(path) as file:
        entries = iter(file.pairs(bucket))
        while batch := list(islice(entries, TOGETHER)):
            updates = [update_of(key, value) for key, value in batch]
            wanted = [each for each in updates if each is not None]
            there = await asyncio.gather(*(transport.position_of(each.id) for each in wanted))
            missing = [each for each, position in zip(wanted, there, strict=True) if position is None]
            # Once each: an id may stand twice in a file, as a publisher may have used it twice.
            appending = [transport.submit(each) for each in {each.id: each for each in missing}.values()]
            await asyncio.gather(*appending)
            appended += len(appending)
            known += len(wanted) - len(appending)
            skipped += len(updates) - len(wanted)
            report(appended + known + skipped)
    return Imported(appended, known, skipped)


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


def updates_in(path: Path, bucket: str = BUCKET) -> Iterator[Update]:
    """Those that the file holds, in their order. Raises `InvalidBolt`."""
    with opened(path) as file:
        for key, value in file.pairs(bucket):
            if (update := update_of(key, value)) is not None:
                yield update


__all__ = ["BUCKET", "Imported", "InvalidBolt", "import_bolt", "update_of", "updates_in"]
