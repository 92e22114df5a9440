"""``memory://?size=N``: a ring of the newest updates in this process; gone when it ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence

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
from transports.presence import LocalPresence
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
        self._ring: list[Entry] = []
        self._last: tuple[Position, str] = (0, EARLIEST)
        self._ids: dict[str, list[Position]] = {}
        self._keys: dict[str, Entry] = {}
        self._appended = asyncio.Event()
        self._open = False
        self.presence = LocalPresence(self._must_be_open)

    async def open(self) -> None:
        self._open = True

    async def append(self, update: Update) -> Receipt:
        return self._append(update)

    def submit(self, update: Update) -> asyncio.Future[Receipt]:
        receipt = self._append(update)
        done = asyncio.get_running_loop().create_future()
        done.set_result(receipt)
        return done

    def _append(self, update: Update) -> Receipt:
        self._must_be_open()
        if (first := self._keys.get(update.idempotency_key or "")) is not None:
            if first.update.fingerprint != update.fingerprint:
                raise IdempotencyConflict
            return Receipt(first.position, first.update.id, repeated=True)
        entry = Entry(self._last[0] + 1, update)
        self._put(entry)
        self._wake()
        return Receipt(entry.position, update.id)

    def _put(self, entry: Entry) -> None:
        if len(self._ring) < self._size:
            self._ring.append(entry)
        else:
            slot = self._slot(entry.position)
            self._forget(self._ring[slot])
            self._ring[slot] = entry
        self._last = (entry.position, entry.update.id)
        self._ids.setdefault(entry.update.id, []).append(entry.position)
        if entry.update.idempotency_key:
            self._keys[entry.update.idempotency_key] = entry

    def _forget(self, entry: Entry) -> None:
        if entry.update.idempotency_key:
            del self._keys[entry.update.idempotency_key]
        positions = self._ids[entry.update.id]
        del positions[0]
        if not positions:
            del self._ids[entry.update.id]

    def _slot(self, position: Position) -> int:
        return (position - 1) % self._size

    def _wake(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()

    async def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        self._must_be_open()
        from_start = True
        while self._open:
            appended = self._appended
            batch = self._after(after, PAGE, from_start=from_start)
            from_start = False
            if batch:
                after = batch[-1].position
                yield batch
            else:
                await appended.wait()

    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        self._must_be_open()
        return self._after(after, limit)

    def _after(self, after: Position, limit: int, *, from_start: bool = True) -> Sequence[Entry]:
        """``from_start``: 0 asks for whatever is left; else it is a position like any."""
        last = self._last[0]
        first = last - len(self._ring) + 1
        if after < first - 1 and not (after == 0 and from_start):
            raise HistoryTrimmed
        start = max(after + 1, first)
        return [self._ring[self._slot(at)] for at in range(start, min(start + limit, last + 1))]

    async def position_of(self, event_id: str) -> Position | None:
        self._must_be_open()
        positions = self._ids.get(event_id)
        return positions[0] if positions else None

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
