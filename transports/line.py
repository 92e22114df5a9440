"""A connection to a store: what waits together goes out together, and nobody waits longer than it has patience.

Theory of operation. `Line.put` queues a job; one task takes a group of those that wait (`grouping.next_group`), hands
it to `Line._do` and settles each job with its reply; meanwhile the next group gathers. A group that fails takes those
that wait with it, so that a server which stands still costs each caller one ``patience`` and not one for each group
before it, and the connection is dropped; the next group connects anew. What a store may have done is never asked for
twice: the caller learns that it is unknown.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic

from transports.contract import TransportClosed, TransportError
from transports.grouping import GROUP, J, next_group, settle


class Line(ABC, Generic[J]):
    """Replies come in the order of the jobs, within ``patience`` seconds; ``most``: jobs in one group."""

    def __init__(self, patience: float, most: int = GROUP) -> None:
        self._patience, self._most = patience, most
        self._waiting: deque[J] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, job: J) -> None:
        """Queue a job; its future is set to its reply, or what it raised. Raises `TransportClosed`."""
        if self._closed:
            raise TransportClosed
        self._waiting.append(job)
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while group := next_group(self._waiting, self._most):
                await self._serve(group)
        finally:
            self._running = None

    async def _serve(self, group: list[J]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                replies = await self._do(group)
        except BaseException as error:
            await self._drop()
            failed = [*group, *self._waiting]
            # Before they are told: whoever is told may put the next one at once.
            self._waiting.clear()
            for job in failed:
                settle(job.future, TransportClosed() if self._closed else self._translated(error))
            if not isinstance(error, (*self._outside, OSError, asyncio.CancelledError)):
                raise
            return
        for job, reply in zip(group, replies, strict=True):
            settle(job.future, reply)

    _outside: tuple[type[Exception], ...]
    """What its driver raises, beside OSError, when the fault is the server's or the network's."""

    @abstractmethod
    async def _do(self, group: list[J]) -> Sequence[Any]:
        """One reply for each job; an exception stands for a job that failed. What is raised fails all of them."""

    @abstractmethod
    async def _drop(self) -> None:
        """Let go of the connection, whatever state it is in."""

    @abstractmethod
    def _translated(self, error: BaseException) -> TransportError:
        """What callers get for what `_do` raised."""

    def _late(self, error: BaseException) -> str:
        """What there is to say of it."""
        if isinstance(error, TimeoutError):
            return f"it has not answered for {self._patience:g} s"
        return str(error) or type(error).__name__

    async def finish(self) -> None:
        """Refuse new jobs, finish those that were asked for, close the connection."""
        self._closed = True
        if self._running is not None:
            await asyncio.wait([self._running])
        await self._drop()

    async def abort(self) -> None:
        """Close the connection; callers that wait get `TransportClosed`."""
        self._closed = True
        for job in self._waiting:
            settle(job.future, TransportClosed())
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._drop()
