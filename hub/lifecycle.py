"""Where the process stands, who moves it on, and what is still under way.

    OPENING   the store is being opened, which may wait for another hub's lock (standby): requests are held
    STORING   the store is ours, though it may be away: publishers are answered, subscribers still held
    SERVING   the dispatcher stands at the end of the log: everybody is served
    DRAINING  the end has begun: nothing new is accepted, and held requests are answered

`hub.web.hub.Hub.open` moves it from OPENING to SERVING, and `Hub.drain` or a part that failed to DRAINING, from any
other state. Nothing moves it back. ``tests/hub/test_lifecycle.py`` tries every move.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from hub.problems import Problem

HELD = 1000
"""Requests that wait for the store in standby; each costs a connection and a task."""
HOLD = 60.0
"""Seconds that one waits at most. `EventSource` gives up for good on an error, so long is better than short."""

COME_BACK = 3
"""Seconds over which publishers that were refused together come back."""


class State(Enum):
    """In the order in which a process goes through them."""

    OPENING = 1
    STORING = 2
    SERVING = 3
    DRAINING = 4


MOVES = {
    State.OPENING: {State.STORING, State.DRAINING},
    State.STORING: {State.SERVING, State.DRAINING},
    State.SERVING: {State.DRAINING},
    State.DRAINING: set[State](),
}
"""From where to where."""


class Lifecycle:
    """Shared by all endpoints."""

    def __init__(self) -> None:
        self.state = State.OPENING
        self.serving = False
        """Whether ``state`` is SERVING: no property, for it is asked for each publication."""
        self._reached = {state: asyncio.Event() for state in State}
        """Set for each state that was reached or left behind."""
        self._held = 0
        self.publishing = 0
        """Appends under way, which `published` waits for."""
        self._quiet: asyncio.Event | None = None
        """From the first `published` on that had to wait."""

    @property
    def holds_store(self) -> bool:
        """Whether the store was opened, though the end may have begun since."""
        return self.state is not State.OPENING

    @property
    def draining(self) -> bool:
        return self.state is State.DRAINING

    def move(self, state: State) -> None:
        """Move on; a move that `MOVES` does not have is a mistake of ours."""
        assert state in MOVES[self.state], f"from {self.state.name} to {state.name}"  # noqa: S101
        self.state = state
        self.serving = state is State.SERVING
        for each in State:
            if each.value <= state.value:
                self._reached[each].set()

    def drain(self) -> None:
        """Begin the end, unless it has begun."""
        if not self.draining:
            self.move(State.DRAINING)

    @contextmanager
    def place(self) -> Iterator[bool]:
        """One of the `HELD` places for a request that comes before the store is open; False: all are taken."""
        free = self._held < HELD
        self._held += free
        try:
            yield free
        finally:
            self._held -= free

    async def wait_until_serving(self, gone: asyncio.Future[None] | None) -> bool:
        """Hold a request until it can be served; False: this process cannot serve it, or its client has left."""
        with self.place() as free:
            if free:
                await self._wait(State.SERVING, gone, HOLD)
        return self.serving

    async def wait_until_storing(self, gone: asyncio.Future[None] | None, seconds: float) -> None:
        """Return once the store is ours or the end has begun, the client has left, or the time is over."""
        await self._wait(State.STORING, gone, seconds)

    async def _wait(self, state: State, gone: asyncio.Future[None] | None, seconds: float) -> None:
        reached = asyncio.ensure_future(self._reached[state].wait())
        try:
            await asyncio.wait({reached, gone or reached}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reached.cancel()

    def published_one(self) -> None:
        """An append that was counted in `publishing` is over."""
        self.publishing -= 1
        if self._quiet is not None and not self.publishing:
            self._quiet.set()

    async def published(self) -> None:
        """Wait until no append is under way."""
        while self.publishing:
            self._quiet = self._quiet or asyncio.Event()
            self._quiet.clear()
            await self._quiet.wait()


def unavailable(detail: str) -> Problem:
    """503 that says when to come back, on a connection that ends: the next one may reach another process."""
    after = random.randint(1, COME_BACK)  # noqa: S311
    return Problem(503, detail, {"Retry-After": str(after), "Connection": "close"})
