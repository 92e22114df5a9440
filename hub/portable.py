"""A history as lines of JSON: out of any transport, and into any.

One object a line: ``position``, ``id``, ``topics``, ``data``, ``private``, and where there are any ``type``, ``retry``
(milliseconds), ``time`` (Unix seconds), ``idempotency_key`` and ``fingerprint``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from transports import Dated, Entry, Position, Transport, Update

TOGETHER = 500
"""Entries that are read, or wait for the store, at the same time."""


class InvalidLine(ValueError):
    """A line is no update; the sentence says which line, and never what it holds."""


class NothingAfter(ValueError):
    """There is no event with the id to go on after."""


class Imported(NamedTuple):
    """How many updates are there now, how many of them were there before, and how many entries are none."""

    appended: int
    known: int
    skipped: int


def line_of(dated: Dated) -> bytes:
    """One entry, with its line feed."""
    fields = {name: value for name, value in dated.entry.update._asdict().items() if value is not None}
    stamped = {"position": dated.entry.position, **fields, **({} if dated.time is None else {"time": dated.time})}
    return json.dumps(stamped, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass") + b"\n"


def dated_from(line: bytes, number: int) -> Dated:
    """The reverse of `line_of`. Raises `InvalidLine`."""
    try:
        said: dict[str, Any] = json.loads(line)
        update = Update.from_json(line)
        fields = (update.id, update.data, *update.topics)
        if not all(isinstance(each, str) for each in fields) or not update.id or not update.topics:
            raise TypeError
        return Dated(Entry(int(said.get("position", 0)), update), said.get("time"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidLine(f"line {number} is no update: an object with at least id and topics") from None


async def exported(transport: Transport, after: str | None = None) -> AsyncIterator[bytes]:
    """The history as it is now, in order, in parts of many lines; what comes meanwhile is not in it.

    ``after``: an event id to go on after. Raises `NothingAfter`, `transports.HistoryTrimmed`: what it would have to
    skip is gone, and `transports.TransportError`.
    """
    end = (await transport.last())[0]
    cursor: Position = 0
    if after is not None:
        found = await transport.position_of(after)
        if found is None:
            raise NothingAfter(f"the history has no event {after!r} any more: begin anew")
        cursor = found
    while cursor < end:
        page = [each for each in await transport.dated(cursor, TOGETHER) if each.entry.position <= end]
        if not page:
            return
        cursor = page[-1].entry.position
        yield b"".join(map(line_of, page))


async def import_updates(
    updates: Iterable[Update | None], transport: Transport, report: Callable[[int], None] = lambda _count: None
) -> Imported:
    """Append these to an open transport, in their order; ``report`` hears how many were read so far. None is no update.

    An update whose id the history has already is left out, so that an import which was interrupted is simply repeated.
    Raises `transports.TransportError`.
    """
    appended = known = skipped = 0
    each = iter(updates)
    while batch := list(islice(each, TOGETHER)):
        wanted = [update for update in batch if update is not None]
        there = await asyncio.gather(*(transport.position_of(update.id) for update in wanted))
        missing = [update for update, position in zip(wanted, there, strict=True) if position is None]
        # Once each: an id may stand twice in a history, as a publisher may have used it twice.
        appending = [transport.append(update) for update in {update.id: update for update in missing}.values()]
        await asyncio.gather(*appending)
        appended += len(appending)
        known += len(wanted) - len(appending)
        skipped += len(batch) - len(wanted)
        report(appended + known + skipped)
    return Imported(appended, known, skipped)


def updates_in(lines: Iterable[bytes]) -> Iterator[Update]:
    """The updates that these lines hold; an empty line is none. Raises `InvalidLine`."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield dated_from(line, number).entry.update
