"""Where the process stands: opening its store, serving, or draining; and what is still under way."""

import asyncio

from hub.errors import Problem

HELD = 1000
"""Requests that wait for the store in standby; each costs a connection and a task."""
HOLD = 60.0
"""Seconds that one waits at most. `EventSource` gives up for good on an error, so long is better than short."""


class Lifecycle:
    """Shared by all endpoints. ``opened`` is set once the store is, ``draining`` once the end has begun."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.draining = False
        self._held = 0
        self.publishing = 0
        """Appends under way, which `published` waits for."""
        self._quiet = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self.opened.is_set() and not self.draining

    async def wait_until_open(self, gone: asyncio.Future[None] | None) -> bool:
        """Hold a request until the store is open; False: this process cannot serve it, or its client has left."""
        if self.opened.is_set() or self.draining or self._held >= HELD:
            return self.serving
        self._held += 1
        opened = asyncio.ensure_future(self.opened.wait())
        try:
            await asyncio.wait({opened, gone or opened}, timeout=HOLD, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._held -= 1
            opened.cancel()
        return self.serving

    def drain(self) -> None:
        """From now on nothing new is accepted; whoever is held is let go."""
        self.draining = True
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
    return Problem(503, detail, {"Retry-After": "1", "Connection": "close"})
