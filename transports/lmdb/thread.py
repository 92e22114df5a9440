"""The one thread that works on a store: appends that wait together become one commit, reads come in between.

Theory of operation. LMDB is opened without its own locks, so that one thread does everything with it. Coroutines
queue jobs; all of one turn of the event loop are handed over at once, because the thread would otherwise begin a
commit with the first of them alone. The thread takes what there is, commits a group of appends (`grouping.GROUP`) in
one transaction with one fsync, answers up to `READS` calls, and begins again. While it commits, the next group
gathers: 64 publishers that wait together cost one fsync, and one that is alone waits for nobody.

What holds: results are delivered in the event loop, in the order of their jobs; a job whose future is done already
(cancelled, expired) is dropped unless the thread has begun with it; an append that raised may be in the log only if
its caller was told so late (`PATIENCE`), never after a refusal. A thread that stands still, since another process
stopped with the lock, or a network disk is dead, is noticed by a timer in the loop: everybody who waits gets a
`TransportUnavailable`, and new jobs are refused at once until the thread delivers again. ``tests/transports/lmdb``
freezes and kills processes inside a transaction.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from transports.contract import Entry, Receipt, TransportClosed, TransportError, TransportUnavailable, Update, tuple_of
from transports.grouping import Told, next_group, settle

READS = 64
"""Reads between two commits, so that neither starves the other."""

PATIENCE = 5.0
"""Seconds until a caller is told that the store does not answer: many times a slow disk's fsync, and less than a
client waits for its answer. A process that is stopped while it holds a lock, or a dead network disk, takes for ever."""

SWITCH = 5e-5
"""Seconds after which the loop's thread gives up the GIL. Each LMDB call releases the GIL; behind a
busy loop it came back only after Python's 5 ms, measured: 500 puts a second instead of 100,000."""


class Hurry:
    """The interpreter's switch interval is `SWITCH` while there is a thread of ours, and then what it was before."""

    threads = 0
    before = 0.0

    @classmethod
    def begin(cls) -> None:
        if not cls.threads:
            cls.before = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH, cls.before))
        cls.threads += 1

    @classmethod
    def end(cls) -> None:
        cls.threads -= 1
        if not cls.threads:
            sys.setswitchinterval(cls.before)


class Record(NamedTuple):
    """An update and what stores it, made once, by the event loop: its row, and the keys of its id and its own key.

    ``key``: empty for an update without an idempotency key.
    """

    update: Update
    text: bytes
    id: bytes
    key: bytes


class Appends(Protocol):
    """What the thread asks of a store by itself."""

    def append(self, records: Sequence[Record]) -> list[Receipt | TransportError]: ...


class Append(NamedTuple):
    """A record that somebody waits for to be in the log. ``deadline``: on the loop's clock."""

    future: asyncio.Future[Receipt] | Told[Receipt]
    deadline: float
    task: Record

    @property
    def size(self) -> int:
        """Bytes of its row."""
        return len(self.task.text)


class Call(NamedTuple):
    """Any other call that a coroutine waits for."""

    future: asyncio.Future[Any]
    deadline: float
    task: Callable[[], Any]


Job = Append | Call


S = TypeVar("S", bound=Appends)
T = TypeVar("T")


class CommitThread(Generic[S]):
    """``committed``: told in the loop what was appended. ``pushed``: called in the thread after a commit.

    ``ended``: called last in the thread, whatever happened. Every coroutine that waits here is answered within
    `PATIENCE`; cancelling it drops its job, unless the thread has begun with it.
    """

    def __init__(
        self,
        store: S,
        committed: Callable[[Sequence[Entry]], None],
        pushed: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self.store, self._committed, self._pushed, self._ended = store, committed, pushed, ended
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._coming: list[Job] = []
        self._appends: deque[Append] = deque()
        self._calls: deque[Call] = deque()
        self._stopping = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._waiting: deque[Job] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._stalled = False
        Hurry.begin()
        self._thread = Thread(target=self._run, name="transport", daemon=True)
        self._thread.start()

    def append(self, record: Record, receipt: asyncio.Future[Receipt] | Told[Receipt]) -> None:
        """Queue it; ``receipt`` may get a `TransportError`. Raises `TransportUnavailable` while all is stuck."""
        self._queue_up(tuple_of(Append, (receipt, self._loop.time() + PATIENCE, record)))

    def call(self, task: Callable[[], T]) -> asyncio.Future[T]:
        """Queue it. The future may raise `TransportError`; this raises `TransportUnavailable` while all is stuck."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue_up(Call(future, self._loop.time() + PATIENCE, task))
        return future

    def _queue_up(self, job: Job) -> None:
        if self._stalled:
            raise _stalled()
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()
        self._waiting.append(job)
        if self._watch is None:
            self._watch = self._loop.call_at(job.deadline, self._expire)
        if not self._coming:
            self._loop.call_soon(self._hand_over)
        self._coming.append(job)

    def _hand_over(self) -> None:
        """All jobs of one turn of the loop at once: the thread would begin a commit with the first of them alone."""
        jobs, self._coming = self._coming, []
        self._queue.put(jobs)

    def _expire(self) -> None:
        now = self._loop.time()
        while self._waiting and (self._waiting[0].future.done() or self._waiting[0].deadline <= now):
            future = self._waiting.popleft().future
            if not future.done():
                self._stalled = True
                future.set_exception(_stalled())
        self._watch = self._loop.call_at(self._waiting[0].deadline, self._expire) if self._waiting else None

    async def stop(self) -> None:
        """Finish what is queued, then end the thread. After `PATIENCE` it is left alone, and ends when it can."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.wait([self._stopped], timeout=PATIENCE)
        if self._stopped.done():
            self._thread.join()
        if self._watch is not None:
            self._watch.cancel()
        Hurry.end()
        for job in self._waiting:
            if not job.future.done():
                job.future.set_exception(TransportClosed())

    def _run(self) -> None:
        try:
            while self._take():
                self._append(next_group(self._appends))
                self._call([self._calls.popleft() for _ in range(min(READS, len(self._calls)))])
                if self._stalled:
                    # All that was taken may have expired meanwhile, and then nothing is delivered that would say so.
                    self._tell(setattr, self, "_stalled", False)
        finally:
            self._ended()
            self._tell(self._stopped.set_result, None)

    def _take(self) -> bool:
        """Sort what has come in; waits if there is nothing to do. False: told to stop, and all is done."""
        idle = not self._appends and not self._calls
        if idle and self._stopping:
            return False
        with suppress(Empty):
            while True:
                self._sort(self._queue.get(block=idle))
                idle = False
        return True

    def _sort(self, jobs: list[Job] | None) -> None:
        if jobs is None:
            self._stopping = True
        for job in jobs or ():
            if isinstance(job, Append):
                self._appends.append(job)
            else:
                self._calls.append(job)

    def _append(self, group: Sequence[Append]) -> None:
        if not group:
            return
        records = [job.task for job in group]
        try:
            results: Sequence[Receipt | Exception] = self.store.append(records)
        except Exception as error:
            results = [error] * len(records)
        entries = [
            tuple_of(Entry, (result.position, record.update))
            for record, result in zip(records, results, strict=True)
            if isinstance(result, Receipt) and not result.repeated
        ]
        self._tell(self._deliver, [job.future for job in group], results, entries)
        if entries:
            self._pushed()

    def _call(self, jobs: Sequence[Call]) -> None:
        wanted = [job for job in jobs if not job.future.done()]
        results = [_result(job.task) for job in wanted]
        if wanted:
            self._tell(self._deliver, [job.future for job in wanted], results, [])

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _deliver(
        self, futures: Sequence[asyncio.Future[Any] | Told[Receipt]], results: Sequence[Any], entries: Sequence[Entry]
    ) -> None:
        # A process that was stopped may find that they are late before it finds that they are here.
        self._stalled = False
        for future, result in zip(futures, results, strict=True):
            settle(future, result)
        if entries:
            self._committed(entries)


def _result(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def _stalled() -> TransportUnavailable:
    return TransportUnavailable(f"the store has not answered for {PATIENCE:g} s; is another process stopped?")
