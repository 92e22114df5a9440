"""Where the process stands: opening its store, serving, or draining; and what is still under way."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

from hub.problems import Problem

HELD = 1000
"""Requests that wait for the store in standby; each costs a connection and a task."""
HOLD = 60.0
"""Seconds that one waits at most. `EventSource` gives up for good on an error, so long is better than short."""

COME_BACK = 3
"""Seconds over which publishers that were refused together come back."""


class Lifecycle:
    """Shared by all endpoints. ``draining`` is set once the end has begun."""

    def __init__(self) -> None:
        self.storing = asyncio.Event()
        """Set once the store is ours, though it may be away: from now on publishers are told, and do not wait."""
        self.opened = asyncio.Event()
        """Set once the dispatcher stands at the end of the log: from now on subscribers are served."""
        self.draining = False
        self._held = 0
        self.publishing = 0
        """Appends under way, which `published` waits for."""
        self._quiet = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self.opened.is_set() and not self.draining

    @contextmanager
    def place(self) -> Iterator[bool]:
        """One of the `HELD` places for a request that comes before the store is open; False: all are taken."""
        free = self._held < HELD
        self._held += free
        try:
            yield free
        finally:
            self._held -= free

    async def wait_until_open(self, gone: asyncio.Future[None] | None) -> bool:
        """Hold a request until it can be served; False: this process cannot serve it, or its client has left."""
        with self.place() as free:
            if free:
                await self._wait(self.opened, gone, HOLD)
        return self.serving

    async def wait_until_storing(self, gone: asyncio.Future[None] | None, seconds: float) -> None:
        """Returns once the store is ours or the end has begun, the client has left, or the time is over."""
        await self._wait(self.storing, gone, seconds)

    async def _wait(self, event: asyncio.Event, gone: asyncio.Future[None] | None, seconds: float) -> None:
        opened = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({opened, gone or opened}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()

    def drain(self) -> None:
        """From now on nothing new is accepted; whoever is held is let go."""
        self.draining = True
        self.storing.set()
        self.opened.set()

    def published_one(self) -> None:
        """An append that was counted in `publishing` is over."""
        self.publishing -= 1
        if not self.publishing:
            self._quiet.set()

    async def published(self) -> None:
        """Wait until no append is under way."""
        while self.publishing:
            self._quiet.clear()
            await self._quiet.wait()


def unavailable(detail: str) -> Problem:
    """503 that says when to come back, on a connection that ends: the next one may reach another process."""
    after = random.randint(1, COME_BACK)  # noqa: S311
    return Problem(503, detail, {"Retry-After": str(after), "Connection": "close"})
