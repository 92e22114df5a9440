"""``memory://?size=N``: a ring of the newest updates in this process; gone when it ends."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice

from transports.base import (
    EARLIEST,
    Entry,
    HistoryTrimmed,
    IdempotencyConflict,
    InvalidTransport,
    Position,
    Receipt,
    Transport,
    TransportClosed,
    Update,
)
from transports.urls import count, parameters, split

PAGE = 1000


class MemoryTransport(Transport):
    """``size``: how many updates history keeps (10,000)."""

    shared = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            parts = split(url)
            if parts.netloc or parts.path:
                raise ValueError("memory:// takes no host and no path")
            self._size = count(parameters(parts.query, frozenset({"size"})).get("size", "10000"))
        except ValueError as error:
            raise InvalidTransport(url, str(error)) from None
        self._entries: deque[Entry] = deque()
        self._last: tuple[Position, str] = (0, EARLIEST)
        self._ids: dict[str, Position] = {}
        self._keys: dict[str, Entry] = {}
        self._appended = asyncio.Event()
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def append(self, update: Update) -> Receipt:
        self._must_be_open()
        if (first := self._keys.get(update.idempotency_key or "")) is not None:
            if first.update.fingerprint != update.fingerprint:
                raise IdempotencyConflict
            return Receipt(first.position, first.update.id, repeated=True)
        entry = Entry(self._last[0] + 1, update)
        self._entries.append(entry)
        self._last = (entry.position, update.id)
        self._ids.setdefault(update.id, entry.position)
        if update.idempotency_key:
            self._keys[update.idempotency_key] = entry
        if len(self._entries) > self._size:
            self._forget(self._entries.popleft())
        self._wake()
        return Receipt(entry.position, update.id)

    def _forget(self, entry: Entry) -> None:
        if entry.update.idempotency_key:
            del self._keys[entry.update.idempotency_key]
        if self._ids[entry.update.id] == entry.position:
            del self._ids[entry.update.id]
            # A reused id now means the earliest of those that are left; a scan, but only for such ids.
            again = next((e.position for e in self._entries if e.update.id == entry.update.id), None)
            if again is not None:
                self._ids[entry.update.id] = again

    def _wake(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()

    async def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        self._must_be_open()
        while self._open:
            appended = self._appended
            if batch := self._after(after, PAGE):
                after = batch[-1].position
                yield batch
            else:
                await appended.wait()

    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        self._must_be_open()
        return self._after(after, limit)

    def _after(self, after: Position, limit: int) -> Sequence[Entry]:
        if not self._entries or after >= self._last[0]:
            return ()
        skipped = after + 1 - self._entries[0].position
        if skipped < 0 and after > 0:
            raise HistoryTrimmed
        skipped = max(skipped, 0)
        return tuple(islice(self._entries, skipped, skipped + limit))

    async def position_of(self, event_id: str) -> Position | None:
        self._must_be_open()
        return self._ids.get(event_id)

    async def last(self) -> tuple[Position, str]:
        self._must_be_open()
        return self._last

    async def check(self) -> None:
        self._must_be_open()

    async def close(self) -> None:
        self._open = False
        self._wake()

    def _must_be_open(self) -> None:
        if not self._open:
            raise TransportClosed
