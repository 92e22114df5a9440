"""Active subscriptions in LMDB, beside the log: for all processes of a host, and for the next one of a file."""

from __future__ import annotations  # lmdb's types exist for the type checker only

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import lmdb

from transports.contract import TransportFull
from transports.lmdb.tables import Tables, digest, size_of
from transports.presence import DEAD, Presence

SHARE = 1 / 8
"""Of the store: history has to make room for what is there, and subscribers come without being asked."""

T = TypeVar("T")


class PresenceTables:
    """The tables of nodes and of their subscriptions, within one transaction."""

    def __init__(self, txn: lmdb.Transaction[bytes], tables: Tables, capacity: int) -> None:
        self._txn, self._nodes, self._presence = txn, tables.nodes, tables.presence
        self._room = capacity * SHARE

    def enter(self, node: str, subscriptions: Mapping[str, bytes]) -> bool:
        """Raises `TransportFull`: what is there leaves the log no more room."""
        if size_of(self._txn, self._presence) > self._room:
            raise TransportFull("active subscriptions take an eighth of the store; raise map_size")
        count = self._txn.get(node.encode(), db=self._nodes)
        if count is None:
            self._set(node, 0)
        elif int(count) == DEAD:
            return False
        for id, document in subscriptions.items():
            self._txn.put(_key(node, id), b"%b\0%b" % (id.encode(), document), db=self._presence)
        return True

    def leave(self, node: str, ids: Sequence[str]) -> None:
        for id in ids:
            self._txn.delete(_key(node, id), db=self._presence)

    def beat(self, node: str) -> Mapping[str, int]:
        counts = self.counts()
        if counts.get(node, DEAD) != DEAD:
            counts[node] += 1
            self._set(node, counts[node])
        return counts

    def expire(self, node: str, count: int) -> bool:
        if self.counts().get(node) != count:
            return False
        self._set(node, DEAD)
        return True

    def forget(self, node: str) -> None:
        self._txn.delete(node.encode(), db=self._nodes)
        for key, _ in list(self._rows(node)):
            self._txn.delete(key, db=self._presence)

    def of(self, node: str) -> Mapping[str, bytes]:
        return dict(_subscription(row) for _, row in self._rows(node))

    def all(self) -> Mapping[str, bytes]:
        return dict(_subscription(row) for _, row in self._txn.cursor(self._presence))

    def counts(self) -> dict[str, int]:
        return {node.decode(): int(count) for node, count in self._txn.cursor(self._nodes)}

    def _set(self, node: str, count: int) -> None:
        self._txn.put(node.encode(), b"%d" % count, db=self._nodes)

    def _rows(self, node: str) -> Iterator[tuple[bytes, bytes]]:
        cursor, beginning = self._txn.cursor(self._presence), _beginning(node)
        if cursor.set_range(beginning):
            for key, row in cursor:
                if not key.startswith(beginning):
                    return
                yield key, row


def _beginning(node: str) -> bytes:
    return node.encode() + b"\0"


def _key(node: str, id: str) -> bytes:
    return _beginning(node) + digest(id)


def _subscription(row: bytes) -> tuple[str, bytes]:
    id, _, document = row.partition(b"\0")
    return id.decode(), document


class InPresence(Protocol):
    """Runs work on the tables in the store's thread, in one transaction, durable on return if it writes."""

    async def __call__(self, work: Callable[[PresenceTables], T], write: bool) -> T: ...


class LMDBPresence(Presence):
    """`PresenceTables`, from the event loop."""

    def __init__(self, run: InPresence) -> None:
        self._run = run

    async def enter(self, node: str, subscriptions: Mapping[str, bytes]) -> bool:
        return await self._run(lambda tables: tables.enter(node, subscriptions), write=True)

    async def leave(self, node: str, ids: Sequence[str]) -> None:
        await self._run(lambda tables: tables.leave(node, ids), write=True)

    async def beat(self, node: str) -> Mapping[str, int]:
        return await self._run(lambda tables: tables.beat(node), write=True)

    async def expire(self, node: str, count: int) -> bool:
        return await self._run(lambda tables: tables.expire(node, count), write=True)

    async def of(self, node: str) -> Mapping[str, bytes]:
        return await self._run(lambda tables: tables.of(node), write=False)

    async def forget(self, node: str) -> None:
        await self._run(lambda tables: tables.forget(node), write=True)

    async def all(self) -> Mapping[str, bytes]:
        return await self._run(lambda tables: tables.all(), write=False)
