"""``lmdb:///directory?lock=shared&size=N…``: a log on disk, for one process or for all of one host."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from math import inf
from typing import Any, TypeVar

from transports.contract import (
    Answer,
    Dated,
    Entry,
    History,
    InvalidTransport,
    Page,
    Position,
    Receipt,
    TopicIndex,
    Transport,
    TransportClosed,
    TransportUnavailable,
    Update,
    tuple_of,
)
from transports.grouping import Told
from transports.lmdb.directory import Parameters, in_use, make, network_file_system, unusable
from transports.lmdb.locks import Turnstile, hold
from transports.lmdb.presence import LMDBPresence, PresenceTables
from transports.lmdb.relay import Relay, relay
from transports.lmdb.rows import row_of
from transports.lmdb.store import Store
from transports.lmdb.tables import BadStore, digest
from transports.lmdb.thread import CommitThread, Record
from transports.lmdb.wakeup import Peers

PAGE = 1000
POLL = 1.0
"""Seconds after which a tail looks for itself, should a peer's wake-up not have come."""

RECENT = 512
RECENT_BYTES = 8 << 20
"""How much of its own appends a process keeps at hand."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LMDBTransport(Transport):
    """``lock``: ``exclusive`` (one process, the default) or ``shared`` (many on one host).

    ``lock_timeout``: how long `open` waits for the lock (1s). ``size`` and ``ttl``: what history keeps (all that fits).
    ``map_size``: bytes that the file may take (1GiB); above three quarters of it the oldest updates go.
    ``network_fs=yes``: also where the directory lies on a network file system, with a shared lock.
    ``index=topics``: find the entries of a topic without reading all others; once made, it stays.
    ``sync=off``: an append returns before the disk has it, so that a power cut may lose it.

    While it is open, the interpreter switches threads more often (`transports.lmdb.thread.SWITCH`).
    """

    shared = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            self._parameters = Parameters.of(url)
        except ValueError as error:
            raise InvalidTransport(url, str(error)) from None
        self.shared = self._parameters.shared
        self.one_of_a_pair = not self.shared and self._parameters.lock_timeout == inf
        self._worker: CommitThread[Store] | None = None
        self._peers: Peers | None = None
        self._relay: Relay | None = None
        self._appended = asyncio.Event()
        self._recent = Recent()
        self._heard = 0
        """How often a peer has said that it appended."""
        self._index: TopicIndex | None = None
        self.presence = LMDBPresence(self._in_presence)

    async def open(self) -> None:
        if self._worker is not None:
            return
        held = await self._hold()
        store = held.enter_context(closing(self._store(held)))
        worker = CommitThread(store, self._add, self._ping_peers, held.close)
        try:
            await worker.call(store.open)
            await self._listen(worker)
        except BaseException as error:
            await worker.stop()
            if isinstance(error, BadStore | TransportUnavailable):
                raise InvalidTransport(self.url, str(error)) from error
            if isinstance(error, OSError):
                raise InvalidTransport(self.url, unusable(self._parameters.directory, error)) from error
            raise
        self._worker = worker
        self._index = LMDBIndex(self._call) if await worker.call(lambda: store.indexed) else None

    async def _hold(self) -> ExitStack:
        """Wait for the lock, with nothing else open. The thread releases it, as its last act."""
        said, held = self._parameters, ExitStack()
        try:
            make(said.directory)
            self._judge_file_system(said)
            lock = await hold(said.directory / "lock", shared=said.shared, timeout=said.lock_timeout)
            held.callback(lock.release)
        except TimeoutError as error:
            raise InvalidTransport(self.url.partition("?")[0], in_use(error)) from None
        except OSError as error:
            raise InvalidTransport(self.url, unusable(said.directory, error)) from error
        return held

    def _judge_file_system(self, said: Parameters) -> None:
        """Raises `InvalidTransport` where several processes of one map would not be kept apart."""
        kind = network_file_system(said.directory)
        if not kind:
            return
        where = f"{said.directory} is on {kind}, where neither a memory map nor a lock can be relied on"
        cure = "put it on a local volume, or use a redis:// URL"
        if said.shared and not said.network_fs:
            raise InvalidTransport(self.url, f"{where}: {cure}; network_fs=yes opens it all the same")
        logger.warning(
            "%s is on %s, where neither a memory map nor a lock can be relied on: %s", said.directory, kind, cure
        )

    def _store(self, held: ExitStack) -> Store:
        if not self.shared:
            return Store(self._parameters.directory, self._parameters.options)
        try:
            turnstile = held.enter_context(closing(Turnstile(self._parameters.directory)))
        except OSError as error:
            held.close()
            raise InvalidTransport(self.url, unusable(self._parameters.directory, error)) from error
        return Store(self._parameters.directory, self._parameters.options, turnstile.transaction)

    async def _listen(self, worker: CommitThread[Store]) -> None:
        self._recent = Recent()
        if self.shared:
            self._peers = Peers(self._parameters.directory / "peers", self._hear)
        else:
            self._relay = await Relay.listen(self._parameters.directory, partial(_submit, worker))

    @property
    def index(self) -> TopicIndex | None:
        return self._index

    async def append(self, update: Update) -> Receipt:
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._working().append(record_of(update), receipt)
        return await receipt

    def submit(self, update: Update, answer: Answer) -> None:
        _submit(self._working(), update, answer)

    async def forward_to_holder(self, update: Update) -> Receipt | None:
        """`transports.contract.ForwardsInStandby`."""
        return await relay(self._parameters.directory, update)

    async def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        worker, store = self._working(), self._working().store
        begun, looked = False, -1
        while self._worker is worker:
            appended, heard = self._appended, self._heard
            batch = self._recent.after(after, PAGE) if begun else ()
            # Where this process appended last and no other has said that it did, there is no more to read.
            if not batch and not (looked == heard and self._recent.ends_at(after)):
                try:
                    batch = await worker.call(partial(store.read, after, PAGE, from_start=False))
                except TransportClosed:
                    return
                begun, looked = True, heard
            if batch:
                after = batch[-1].position
                yield batch
                continue
            try:
                async with asyncio.timeout(POLL if self.shared else None):
                    await appended.wait()
            except TimeoutError:
                looked = -1

    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        page: Sequence[Entry] = await self._call(lambda store: store.read(after, limit))
        return page

    async def page(self, after: Position, limit: int, size: int) -> Page:
        return await self._call(lambda store: store.page(after, limit, size))

    async def position_of(self, event_id: str) -> Position | None:
        return await self._call(lambda store: store.position_of(event_id))

    async def last(self) -> tuple[Position, str]:
        return await self._call(lambda store: store.last())

    async def dated(self, after: Position, limit: int) -> Sequence[Dated]:
        return await self._call(lambda store: store.dated(after, limit))

    async def history(self) -> History:
        return await self._call(lambda store: store.history())

    async def remarks(self) -> Sequence[str]:
        room, wanted = await self._call(lambda store: store.capacity()), self._parameters.options.map_size
        if room >= wanted:
            return ()
        return [f"the volume has room for {room >> 20} MiB, less than the map_size of {wanted >> 20} MiB"]

    async def check(self) -> None:
        await self._call(lambda store: store.check())

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self._wake()
        try:
            if self._relay is not None:
                await self._relay.close()
        finally:
            self._relay = None
            await self._stop(worker)

    async def _stop(self, worker: CommitThread[Store]) -> None:
        try:
            await worker.stop()
        finally:
            if self._peers is not None:
                self._peers.close()
                self._peers = None

    async def _call(self, question: Callable[[Store], T]) -> T:
        worker = self._working()
        return await worker.call(partial(question, worker.store))

    async def _in_presence(self, work: Callable[[PresenceTables], T], write: bool) -> T:
        def transact(store: Store) -> T:
            with store.presence(write=write) as tables:
                return work(tables)

        return await self._call(transact)

    def _working(self) -> CommitThread[Store]:
        if self._worker is None:
            raise TransportClosed
        return self._worker

    def _add(self, entries: Sequence[Entry]) -> None:
        self._recent.add(entries)
        self._wake()

    def _ping_peers(self) -> None:
        """After a commit, in the thread that made it."""
        if self._peers is not None:
            self._peers.ping()

    def _hear(self) -> None:
        self._heard += 1
        self._wake()

    def _wake(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()


def _submit(worker: CommitThread[Store], update: Update, answer: Answer) -> None:
    worker.append(record_of(update), Told(answer))


def record_of(update: Update) -> Record:
    """What the thread needs to store it now."""
    key = digest(update.idempotency_key) if update.idempotency_key else b""
    return tuple_of(Record, (update, row_of(update, int(time.time() * 1000)), digest(update.id), key))


class LMDBIndex(TopicIndex):
    """``call``: asks the store, in its thread."""

    def __init__(self, call: Callable[[Callable[[Store], Any]], Awaitable[Any]]) -> None:
        self._call = call

    async def page_of(self, topics: Sequence[str], after: Position, limit: int, size: int) -> Page:
        page: Page = await self._call(lambda store: store.page_of(topics, after, limit, size))
        return page

    async def topics(self, beginning: str, limit: int) -> Sequence[str]:
        found: Sequence[str] = await self._call(lambda store: store.topics(beginning, limit))
        return found

    async def newest_of(self, topics: Sequence[str], depth: int) -> Mapping[str, Sequence[Entry]]:
        newest: Mapping[str, Sequence[Entry]] = await self._call(lambda store: store.newest_of(topics, depth))
        return newest


class Recent:
    """The newest of this process's own entries, an unbroken run: a tail that keeps up need not read them back."""

    def __init__(self) -> None:
        self._run: deque[Entry] = deque()
        self._size = 0

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self._run and entry.position != self._run[-1].position + 1:  # another process came in between
                self._run.clear()
                self._size = 0
            self._run.append(entry)
            self._size += _size(entry.update)
        while len(self._run) > RECENT or self._size > RECENT_BYTES:
            self._size -= _size(self._run.popleft().update)

    def after(self, position: Position, limit: int) -> Sequence[Entry]:
        """At most ``limit`` entries that follow; empty if the one after ``position`` is not here."""
        if not self._run or not self._run[0].position <= position + 1 <= self._run[-1].position:
            return ()
        start = position + 1 - self._run[0].position
        return list(islice(self._run, start, start + limit))

    def ends_at(self, position: Position) -> bool:
        """Is it the newest of them?"""
        return bool(self._run) and self._run[-1].position == position


def _size(update: Update) -> int:
    return len(update.data) + len(update.id) + sum(map(len, update.topics))
