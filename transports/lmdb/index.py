"""The index of topics as one transaction sees it. What keeps it is in `tables` and `store`, where rows come and go."""

from __future__ import annotations  # lmdb's types exist for the type checker only

from collections.abc import Iterator, Sequence
from itertools import islice

import lmdb

from transports.contract import Entry, Position
from transports.lmdb.rows import update_of, visibility_of
from transports.lmdb.tables import TOPIC_KEY, Tables, number, topic_key


class TopicTable:
    """Of a store that has one. A damaged row is a ValueError, KeyError, TypeError or `struct.error`."""

    def __init__(self, txn: lmdb.Transaction[bytes], tables: Tables) -> None:
        assert tables.topics is not None  # noqa: S101 - asked where there is an index alone
        self._txn, self._topics, self._updates = txn, tables.topics, tables.updates

    def rows_of(
        self, topics: Sequence[str], after: Position, limit: int, size: int
    ) -> tuple[list[Position], list[bytes]]:
        """Where entries of these topics stand, and of the first of them the rows, until they have ``size`` bytes.

        Other topics may begin with the same `TOPIC_KEY` bytes; their entries are among them.
        """
        found: set[Position] = set()
        for topic in topics:
            cursor = self._txn.cursor(self._topics)
            if cursor.set_range_dup(topic_key(topic), number(after + 1)):
                found.update(int.from_bytes(each) for each in islice(cursor.iternext_dup(), limit))
        positions, rows = sorted(found)[:limit], list[bytes]()
        for position in positions:
            rows.append(self._row(number(position)))
            size -= len(rows[-1])
            if size <= 0:
                break
        return positions, rows

    def topics(self, beginning: str, limit: int) -> list[str]:
        """At most so many that begin so."""
        found: dict[str, None] = {}
        cursor, key = self._txn.cursor(self._topics), topic_key(beginning)
        more = cursor.set_range(key)
        while more and cursor.key().startswith(key) and len(found) < limit:
            if len(cursor.key()) < TOPIC_KEY:
                found[cursor.key().decode(errors="surrogatepass")] = None
            else:  # the rows have the whole of it, and maybe of others
                for at in cursor.iternext_dup():
                    found |= dict.fromkeys(visibility_of(self._row(at)).topics)
            more = cursor.next_nodup()
        return [topic for topic in found if topic.startswith(beginning)][:limit]

    def newest(self, topic: str) -> Iterator[Entry]:
        """Its entries, the newest first."""
        cursor = self._txn.cursor(self._topics)
        more = cursor.set_key(topic_key(topic)) and cursor.last_dup()
        while more:
            update = update_of(self._row(cursor.value()))
            if topic in update.topics:
                yield Entry(int.from_bytes(cursor.value()), update)
            more = cursor.prev_dup()

    def _row(self, at: bytes) -> bytes:
        return self._txn.get(at, b"", db=self._updates)
