"""What every simulated server of a store has: it stops, stands still, loses its connections, and has no room."""

from collections.abc import Callable
from typing import Protocol

from tests.simulation.world import World
from transports import Update

LOSING = 5e-5
"""Seconds after which connections break; a reply takes longer."""


class Breakable(Protocol):
    """A connection to it."""

    def broken(self) -> None: ...


class StoreServer:
    """``on_append`` gets each update that comes, and the idempotency keys of what was there before.

    ``up``: whether it takes connections; ``full``: whether it refuses to write.
    """

    def __init__(self, world: World, on_append: Callable[[Update, list[str]], None]) -> None:
        self.world, self.on_append = world, on_append
        self.links: list[Breakable] = []
        self.up, self.frozen, self.full = True, False, False
        self._frozen: list[Callable[[], object]] = []
        self._loses = False

    def stop(self) -> None:
        """It is killed, or stopped; what it has is on its disk."""
        self.up = False
        self.cut()

    def start(self) -> None:
        self.up = True

    def cut(self) -> None:
        """All connections break, with what is under way."""
        for link in list(self.links):
            link.broken()

    def lose_reply(self) -> None:
        """The next append is done, and all connections break before anybody hears of it."""
        self._loses = True

    def added(self, update: Update, keys: list[str]) -> None:
        """One that was just stored; ``keys``: as `on_append` gets them."""
        self.on_append(update, keys)
        if self._loses:
            self._loses = False
            self.world.later(LOSING, self.cut)

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        waiting, self._frozen = self._frozen, []
        for each in waiting:
            each()

    def when_awake(self, task: Callable[[], object]) -> None:
        if self.frozen:
            self._frozen.append(task)
        else:
            task()
