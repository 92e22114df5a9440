"""``memory://?size=N&max_bytes=N``: a ring of the newest updates in this process; gone when it ends."""

import asyncio
import os
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from transports.contract import (
    EARLIEST,
    Answer,
    Dated,
    Entry,
    History,
    HistoryTrimmed,
    IdempotencyConflict,
    InvalidTransport,
    Page,
    Position,
    Receipt,
    TopicIndex,
    Transport,
    TransportClosed,
    Update,
    tuple_of,
)
from transports.grouping import settle
from transports.presence import LocalPresence
from transports.urls import count, parameters, size_in_bytes, split

PAGE = 1000
LARGEST_DEFAULT = 256 << 20
SHARE = 10
"""The part of the memory that there is which history may take by default, and `LARGEST_DEFAULT` at most."""
ENTRY = 600
"""Bytes of an entry beside its texts: objects, and its places in the ring and in the tables of ids and keys."""

GONE = 64
"""Positions of a topic from which on those that are gone are taken out, once they are an eighth of it."""

CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's limit stands (cgroups(7), version 2 and 1)."""


def default_max_bytes() -> int:
    """A tenth of the memory of the container or the machine, whichever is less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in map(Path, CGROUPS):
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # no such file, or "max"
    return min(LARGEST_DEFAULT, min(limits) // SHARE)


class MemoryTransport(Transport):
    """``size``: how many updates history keeps (10,000).

    ``max_bytes``: how much memory they take: a tenth of what there is, at most 256 MiB.
    """

    shared = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            parts = split(url)
            if parts.netloc or parts.path:
                raise ValueError("memory:// takes no host and no path")
            said = parameters(parts.query, frozenset({"size", "max_bytes"}))
            self._size = count(said.get("size", "10000"))
            self._max_bytes = size_in_bytes(said["max_bytes"]) if "max_bytes" in said else default_max_bytes()
        except ValueError as error:
            raise InvalidTransport(url, str(error)) from None
        self._ring: list[Entry | None] = []
        self._sizes = array("Q")
        """Of the entries, in the same places."""
        self._times = array("d")
        """When they came, in Unix seconds, in the same places."""
        self._first: Position = 1
        """The oldest position that history still has; after the last one when it has none."""
        self._bytes = 0
        self._last: tuple[Position, str] = (0, EARLIEST)
        self._ids: dict[str, Position] = {}
        """Where each id stands first."""
        self._again: dict[str, list[Position]] = {}
        """Where else, for the few that came more than once."""
        self._keys: dict[str, Entry] = {}
        self._topics: dict[str, list[Position]] = {}
        """Where each topic's entries stand; before `_first` some may be that are gone."""
        self._asleep: list[asyncio.Future[None]] = []
        """Tails that stand at the end."""
        self._open = False
        self.presence = LocalPresence(self._must_be_open)
        self._index = MemoryIndex(self)

    @property
    def index(self) -> TopicIndex:
        return self._index

    async def open(self) -> None:
        self._open = True

    async def append(self, update: Update) -> Receipt:
        return self._append(update)

    def submit(self, update: Update, answer: Answer) -> None:
        answer(self._append(update))

    def _append(self, update: Update) -> Receipt:
        self._must_be_open()
        event_id, key = update.id, update.idempotency_key
        if key and (first := self._keys.get(key)) is not None:
            if first.update.fingerprint != update.fingerprint:
                raise IdempotencyConflict
            return Receipt(first.position, first.update.id, repeated=True)
        position = self._last[0] + 1
        entry, slot, size = tuple_of(Entry, (position, update)), self._slot(position), _size(update)
        if slot == len(self._ring):
            self._ring.append(entry)
            self._sizes.append(size)
            self._times.append(time.time())
        else:
            if self._ring[slot] is not None:
                self._forget_oldest(slot)
            self._ring[slot], self._sizes[slot], self._times[slot] = entry, size, time.time()
        self._last = (position, event_id)
        if self._ids.setdefault(event_id, position) != position:
            self._again.setdefault(event_id, []).append(position)
        if key:
            self._keys[key] = entry
        self._note_topics(update.topics, position)
        self._bytes += size
        while self._bytes > self._max_bytes and self._first < position:
            self._forget_oldest(self._slot(self._first))
        if self._asleep:
            self._wake()
        return tuple_of(Receipt, (position, event_id, False))

    def _note_topics(self, topics: Sequence[str], position: Position) -> None:
        for topic in topics:
            if (standing := self._topics.get(topic)) is None:
                self._topics[topic] = [position]
            else:
                standing.append(position)
                if len(standing) > GONE and standing[len(standing) // 8] < self._first:
                    del standing[: bisect_left(standing, self._first)]

    def _forget_oldest(self, slot: int) -> None:
        """``slot``: where it stands."""
        entry, self._ring[slot] = self._ring[slot], None
        assert entry is not None  # noqa: S101 - what is between the first and the last position is there
        self._first += 1
        self._bytes -= self._sizes[slot]
        update = entry.update
        event_id = update.id
        if update.idempotency_key:
            del self._keys[update.idempotency_key]
        if again := self._again.get(event_id):
            self._ids[event_id] = again.pop(0)
            if not again:
                del self._again[event_id]
        else:
            del self._ids[event_id]
        for topic in update.topics:
            standing = self._topics.get(topic)
            if standing is not None and standing[-1] < self._first:
                del self._topics[topic]

    def _slot(self, position: Position) -> int:
        return (position - 1) % self._size

    def _wake(self) -> None:
        for tail in self._asleep:
            settle(tail, None)
        self._asleep.clear()

    async def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        self._must_be_open()
        while self._open:
            batch = self._after(after, PAGE, from_start=False)
            if batch:
                after = batch[-1].position
                yield batch
            else:
                self._asleep.append(asyncio.get_running_loop().create_future())
                await self._asleep[-1]

    def positions_of(self, topic: str, after: Position, limit: int) -> Sequence[Position]:
        """The first of a topic's after a position, or the newest for a ``limit`` below 0. Raises `TransportClosed`."""
        self._must_be_open()
        standing = self._topics.get(topic, [])
        begin = bisect_right(standing, max(after, self._first - 1))
        return standing[max(begin, len(standing) + limit) :] if limit < 0 else standing[begin : begin + limit]

    def topics(self) -> Iterator[str]:
        """All that history has."""
        self._must_be_open()
        return iter(self._topics)

    def entry(self, position: Position) -> Entry:
        """That which stands there, within history."""
        found = self._ring[self._slot(position)]
        assert found is not None  # noqa: S101 - what is between the first and the last position is there
        return found

    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        self._must_be_open()
        return self._after(after, limit)

    def _after(self, after: Position, limit: int, *, from_start: bool = True) -> Sequence[Entry]:
        """``from_start``: 0 asks for whatever is left; else it is a position like any."""
        last, first = self._last[0], self._first
        if after < first - 1 and not (after == 0 and from_start):
            raise HistoryTrimmed
        start = max(after + 1, first)
        count = max(0, min(limit, last + 1 - start))
        at = self._slot(start)
        # Between the first and the last each place is taken.
        found: Sequence[Entry] = self._ring[at : at + count]  # type: ignore[assignment]
        return found if len(found) == count else [*found, *self._ring[: count - len(found)]]  # type: ignore[list-item]

    async def position_of(self, event_id: str) -> Position | None:
        self._must_be_open()
        return self._ids.get(event_id)

    async def last(self) -> tuple[Position, str]:
        self._must_be_open()
        return self._last

    async def dated(self, after: Position, limit: int) -> Sequence[Dated]:
        return [Dated(entry, self._times[self._slot(entry.position)]) for entry in await self.read(after, limit)]

    async def history(self) -> History:
        self._must_be_open()
        slot = self._slot(self._first)
        oldest = self._ring[slot] if self._last[0] else None
        if oldest is None:
            return History(0, 0, None, None, self._last[1])
        entries = self._last[0] - self._first + 1
        return History(entries, self._bytes, self._times[slot], oldest.update.id, self._last[1])

    async def check(self) -> None:
        self._must_be_open()

    async def close(self) -> None:
        self._open = False
        self._wake()

    def _must_be_open(self) -> None:
        if not self._open:
            raise TransportClosed


class MemoryIndex(TopicIndex):
    """By a dictionary of the topics."""

    def __init__(self, log: MemoryTransport) -> None:
        self._log = log

    async def page_of(self, topics: Sequence[str], after: Position, limit: int, size: int) -> Page:
        await self._log.read(after, 0)  # is it still within history?
        found = {each for topic in topics for each in self._log.positions_of(topic, after, limit)}
        positions = sorted(found)[:limit]
        last, _ = await self._log.last()
        reached = positions[-1] if len(positions) == limit else max(after, last)
        return Page.of([self._log.entry(position) for position in positions], size, reached)

    async def topics(self, beginning: str, limit: int) -> Sequence[str]:
        return [*islice((topic for topic in self._log.topics() if topic.startswith(beginning)), limit)]

    async def newest_of(self, topics: Sequence[str], depth: int) -> Mapping[str, Sequence[Entry]]:
        found = {}
        for topic in topics:
            if standing := self._log.positions_of(topic, 0, -depth):
                found[topic] = [self._log.entry(position) for position in reversed(standing)]
        return found


def _size(update: Update) -> int:
    """About the bytes that an update takes."""
    data = update.data
    size = ENTRY + len(update.id) + (len(data) if data.isascii() else 4 * len(data))
    for topic in update.topics:
        size += len(topic)
    return size
