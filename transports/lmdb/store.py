"""The log in one LMDB environment: what is written where, and how it gets room. Synchronous, for one thread."""

from __future__ import annotations  # lmdb's types exist for the type checker only

import logging
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from math import inf
from pathlib import Path

import lmdb

from transports.contract import (
    EARLIEST,
    Dated,
    Entry,
    History,
    HistoryTrimmed,
    IdempotencyConflict,
    Page,
    Position,
    Receipt,
    TransportError,
    TransportFull,
    TransportReplaced,
    TransportUnavailable,
    tuple_of,
)
from transports.episode import Episode
from transports.lmdb.environment import Environment, Locked, Options, unlocked
from transports.lmdb.index import TopicTable
from transports.lmdb.presence import PresenceTables
from transports.lmdb.rows import milliseconds_of, page_of, rest_of, update_of
from transports.lmdb.tables import (
    FILL,
    INDEXED,
    PAGE_BYTES,
    digest,
    identity,
    newest,
    number,
    rows_from,
    topic_key,
    trim,
    used,
)
from transports.lmdb.thread import Record

IDENTITY = 0.5
"""Seconds after which a commit looks whether the file still is the one that was opened."""
ROOM_TRIES = 3
LARGEST = 1 / 16
"""The share of the store's capacity that one update may have: of the map, or of a volume that is smaller.

Pages that a commit frees are given out again two commits later: three commits, and what they copy, must fit into what
`FILL` leaves free. A map that is once really full can't even be trimmed.
"""
LOOK = 1 / 512
"""The share of the capacity that may be written before it is looked how full it is: far less than `FILL` leaves."""
SMALL = 128
"""Bytes of an update from which on it may push out more than two others."""
GROUP = 1 / 32
"""The share of the capacity above which updates do not go into one commit."""

logger = logging.getLogger(__name__)


class Store:
    """The log in an environment: each call is one transaction, or a few."""

    def __init__(self, directory: Path, options: Options, locked: Locked = unlocked) -> None:
        self._shared = locked is not unlocked
        self._environment = Environment(directory, options, locked)
        self._unlooked = inf
        """Bytes that were written since it was last looked how full the store is."""
        self._room = options.map_size
        """The capacity as it was then."""
        self._look_at = 0.0
        """Monotonic seconds at which a commit looks for the file again."""
        self._full = Episode(logger)
        self._too_large = 0
        """Bytes of the smallest update that found no room; an end of it is only what is as large."""
        self._replaced = Episode(logger)

    def open(self) -> None:
        """Raises `BadStore`, and OSError for files that can't be used."""
        self._environment.open()

    def close(self) -> None:
        self._environment.close()

    def append(self, records: Sequence[Record]) -> list[Receipt | TransportError]:
        """Add all in one commit, durable on return. One result for each: what fails, fails alone."""
        if time.monotonic() >= self._look_at:
            self._must_be_ours()
        size = sum(len(record.text) for record in records)
        if len(records) == 1 and size > LARGEST * self._room and size > LARGEST * self._look_for_room():
            return [TransportFull(f"the update is larger than a 16th of the store's {self._room} bytes")]
        if len(records) > 1 and size > GROUP * self._room:
            return self._append_halves(records)
        try:
            results = self._commit(records)
        except (lmdb.Error, OSError) as error:
            if len(records) == 1:
                return [self._append_at_the_limit(records[0], error)]
            return self._append_halves(records)
        if self._full.reason and size >= self._too_large:
            self._has_room()
        return results

    def capacity(self) -> int:
        """Bytes that the file may come to."""
        return self._environment.capacity()

    def _look_for_room(self) -> int:
        """The capacity as it is now; a volume gets fuller and emptier without us."""
        self._room = self._environment.capacity()
        return self._room

    def _must_be_ours(self) -> None:
        """Raises `TransportReplaced`: what is written to a file that has lost its name is read by nobody."""
        if identity(self._environment.directory) != self._environment.identity:
            self._replaced.begin(f"{self._environment.directory}: data.mdb was removed or replaced; restart the hub")
            raise TransportReplaced(self._replaced.reason)
        self._replaced.end(f"{self._environment.directory}: data.mdb is back")
        self._look_at = time.monotonic() + IDENTITY

    def _append_halves(self, records: Sequence[Record]) -> list[Receipt | TransportError]:
        half = len(records) // 2
        return self.append(records[:half]) + self.append(records[half:])

    def _append_at_the_limit(self, record: Record, error: Exception) -> Receipt | TransportError:
        for attempt in range(1, ROOM_TRIES + 1):
            if not self._environment.has_no_room(error):
                break
            try:
                self._make_room(2 * attempt * len(record.text))
                return self._commit([record], spare=0)[0]
            except (lmdb.Error, OSError) as again:
                error = again
        fault = self._environment.fault(error)
        if isinstance(fault, TransportFull):
            self._too_large = min(self._too_large or len(record.text), len(record.text))
            self._full.begin(f"the store is full, publishers are refused: {fault}")
        return fault

    def _commit(self, records: Sequence[Record], spare: int = 64) -> list[Receipt | TransportError]:
        with self._environment.transaction(write=True) as txn:
            results = self._put(txn, records)
            if spare:
                self._trim_after(txn, len(records), sum(len(record.text) for record in records), spare)
        return results

    def _trim_after(self, txn: lmdb.Transaction[bytes], count: int, size: int, spare: int) -> None:
        """Trim as much as this commit added. Where nothing but the capacity bounds history, look at it now and then.

        Each LMDB call may wait for the GIL. While there is something to trim, each commit trims some.
        """
        self._unlooked += size
        bounded = self._environment.options.size is not None or self._environment.options.ttl is not None
        if bounded or self._unlooked > LOOK * self._room:
            # Many small ones have to go for a large one.
            removed = self._trim(txn, 2 * count + spare + size // SMALL)
            self._unlooked = inf if removed else 0

    def _put(self, txn: lmdb.Transaction[bytes], records: Sequence[Record]) -> list[Receipt | TransportError]:
        if self._shared:
            self._environment.look_for_index(txn)
        position = newest(txn, self._environment.tables)
        results: list[Receipt | TransportError] = []
        updates, ids, keys, topics = [], [], dict[bytes, Entry](), list[tuple[bytes, bytes]]()
        for update, row, name, key in records:
            first = key and (keys.get(key) or self._first_with(txn, key))
            if first:
                same = first.update.fingerprint == update.fingerprint
                repetition = Receipt(first.position, first.update.id, repeated=True)
                results.append(repetition if same else IdempotencyConflict())
                continue
            position += 1
            at = number(position)
            updates.append((at, row))
            ids.append((name, at))
            if key:
                keys[key] = Entry(position, update)
            topics += [(topic_key(topic), at) for topic in update.topics]
            results.append(tuple_of(Receipt, (position, update.id, False)))
        # One call for each table: each LMDB call may wait for the GIL.
        _put_all(txn, self._environment.tables.updates, updates, append=True)
        _put_all(txn, self._environment.tables.ids, ids)
        _put_all(txn, self._environment.tables.keys, [(key, number(entry.position)) for key, entry in keys.items()])
        if self._environment.tables.topics is not None:
            _put_all(txn, self._environment.tables.topics, topics)
        return results

    def _first_with(self, txn: lmdb.Transaction[bytes], key: bytes) -> Entry | None:
        at = txn.get(key, db=self._environment.tables.keys)
        row = txn.get(at, db=self._environment.tables.updates) if at else None
        return self._entry(int.from_bytes(at), row) if at and row else None

    def _trim(self, txn: lmdb.Transaction[bytes], limit: int, room: int = 0) -> int:
        ttl = self._environment.options.ttl
        before = None if ttl is None else (time.time() - ttl) * 1000
        left = FILL * self._look_for_room() - room
        return trim(txn, self._environment.tables, limit, size=self._environment.options.size, before=before, room=left)

    def _make_room(self, room: int) -> None:
        """Trim in small commits: in a full map a larger one has no pages left to copy what it changes.

        LMDB gives freed pages out again two commits later, so two empty rounds follow the last that trimmed.
        """
        rows, idle = 64, 0
        for at in range(64):
            try:
                with self._environment.transaction(write=True) as txn:
                    txn.put(b"room", number(at), db=self._environment.tables.meta)
                    idle = 0 if self._trim(txn, rows, room) else idle + 1
            except (lmdb.Error, OSError) as error:
                if rows == 1 or not self._environment.has_no_room(error):
                    return
                rows //= 4
            if idle == 2:
                return

    def read(self, after: Position, limit: int, *, from_start: bool = True) -> list[Entry]:
        """`Transport.read`. ``from_start``: 0 asks for whatever is left; else it is a position like any."""
        first, rows = self._rows(after, limit, PAGE_BYTES, from_start=from_start)
        return [self._entry(position, row) for position, row in enumerate(rows, first)]

    def dated(self, after: Position, limit: int) -> list[Dated]:
        """`Transport.dated`."""
        first, rows = self._rows(after, limit, PAGE_BYTES, from_start=True)
        times = (milliseconds_of(row) / 1000 for row in rows)
        entries = (self._entry(position, row) for position, row in enumerate(rows, first))
        return [Dated(entry, time) for entry, time in zip(entries, times, strict=True)]

    def page(self, after: Position, limit: int, size: int) -> Page:
        """`Transport.page`."""
        first, rows = self._rows(after, limit, size, from_start=True)
        with self._damage(f"an entry from {first} on"):
            return page_of(rows, range(first, first + len(rows)))

    def _rows(self, after: Position, limit: int, size: int, *, from_start: bool) -> tuple[Position, list[bytes]]:
        """Positions have no holes, so that the first one says them all."""
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            cursor = txn.cursor(self._environment.tables.updates)
            if not cursor.last() or after >= int.from_bytes(cursor.key()):
                return after, []
            cursor.first()
            if after < int.from_bytes(cursor.key()) - 1 and not (after == 0 and from_start):
                raise HistoryTrimmed
            cursor.set_range(number(after + 1))
            return int.from_bytes(cursor.key()), rows_from(cursor, limit, size)

    def position_of(self, event_id: str) -> Position | None:
        """`Transport.position_of`."""
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            at = txn.get(digest(event_id), db=self._environment.tables.ids)
        return None if at is None else int.from_bytes(at)

    def last(self) -> tuple[Position, str]:
        """`Transport.last`."""
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            cursor = txn.cursor(self._environment.tables.updates)
            at, row = cursor.item() if cursor.last() else (b"", b"")
        return self._last(int.from_bytes(at), row) if at else (0, EARLIEST)

    def history(self) -> History:
        """`Transport.history`."""
        newest_id = self.last()[1]
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            tables = self._environment.tables
            cursor = txn.cursor(tables.updates)
            row = cursor.value() if cursor.first() else b""
            entries, size = txn.stat(tables.updates)["entries"], used(txn, tables)
        if not row:
            return History(0, size, None, None, newest_id)
        with self._damage("the oldest entry"):
            return History(entries, size, milliseconds_of(row) / 1000, rest_of(row)["id"], newest_id)

    def _last(self, position: Position, row: bytes) -> tuple[Position, str]:
        with self._damage(f"entry {position}"):
            return position, rest_of(row)["id"]

    @property
    def indexed(self) -> bool:
        """Is there an index of topics, with all that are in history?"""
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            self._environment.look_for_index(txn)
            return txn.get(INDEXED, db=self._environment.tables.meta) is not None

    def page_of(self, topics: Sequence[str], after: Position, limit: int, size: int) -> Page:
        """`TopicIndex.page_of`."""
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            last = self._must_have(txn, after)
            positions, rows = TopicTable(txn, self._environment.tables).rows_of(topics, after, limit, size)
        reached = max(after, last) if len(rows) < limit and len(rows) == len(positions) else positions[len(rows) - 1]
        with self._damage(f"an entry after {after}"):
            return page_of(rows, positions[: len(rows)], reached)

    def _must_have(self, txn: lmdb.Transaction[bytes], after: Position) -> Position:
        """The newest position. Raises `HistoryTrimmed` where something after ``after`` is gone."""
        cursor = txn.cursor(self._environment.tables.updates)
        if not cursor.first():
            return 0
        if 0 < after < int.from_bytes(cursor.key()) - 1:
            raise HistoryTrimmed
        return newest(txn, self._environment.tables)

    def topics(self, beginning: str, limit: int) -> list[str]:
        """`TopicIndex.topics`."""
        with self._environment.faults(), self._environment.transaction(write=False) as txn, self._damage("an entry"):
            return TopicTable(txn, self._environment.tables).topics(beginning, limit)

    def newest_of(self, topics: Sequence[str], depth: int) -> Mapping[str, Sequence[Entry]]:
        """`TopicIndex.newest_of`."""
        with self._environment.faults(), self._environment.transaction(write=False) as txn, self._damage("an entry"):
            table = TopicTable(txn, self._environment.tables)
            found = {topic: [*islice(table.newest(topic), depth)] for topic in topics}
        return {topic: entries for topic, entries in found.items() if entries}

    def check(self) -> None:
        """`Transport.check`; trims too, so that ``ttl`` holds in a log that is not appended to."""
        self._must_be_ours()
        if self._full.reason:
            self._try_for_room()
        now = number(time.time_ns())
        with self._environment.faults(), self._environment.transaction(write=True) as txn:
            txn.put(b"checked", now, db=self._environment.tables.meta)
            self._trim(txn, 64)
        with self._environment.faults(), self._environment.transaction(write=False) as txn:
            found = txn.get(b"checked", b"", db=self._environment.tables.meta)
        if len(found) != len(now):
            raise TransportUnavailable(f"{self._environment.directory}: what was written can't be read")

    def _try_for_room(self) -> None:
        """Write as much as was refused, and take it out again. Raises `TransportFull` while it does not fit."""
        try:
            self._make_room(2 * self._too_large)
            with self._environment.transaction(write=True) as txn:
                txn.put(b"room", bytes(self._too_large), db=self._environment.tables.meta)
            with self._environment.transaction(write=True) as txn:
                txn.delete(b"room", db=self._environment.tables.meta)
        except (lmdb.Error, OSError) as error:
            raise self._environment.fault(error) from error
        self._has_room()

    def _has_room(self) -> None:
        self._too_large = 0
        self._full.end(f"{self._environment.directory}: the store has room again")

    @contextmanager
    def presence(self, *, write: bool) -> Iterator[PresenceTables]:
        """The tables of active subscriptions in one transaction; for as long as it is entered."""
        with self._environment.faults(), self._environment.transaction(write=write) as txn:
            yield PresenceTables(txn, self._environment.tables, self._room)

    def _entry(self, position: Position, row: bytes) -> Entry:
        with self._damage(f"entry {position}"):
            return Entry(position, update_of(row))

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise TransportUnavailable(f"{self._environment.directory}: {what} is damaged") from error


def _put_all(
    txn: lmdb.Transaction[bytes], table: lmdb._Database, rows: list[tuple[bytes, bytes]], append: bool = False
) -> None:
    if rows:
        txn.cursor(table).putmulti(rows, append=append)
