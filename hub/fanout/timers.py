"""One timer for all streams: heartbeats and deadlines are spread over its ticks instead of each having a handle."""

import asyncio
from math import inf
from typing import Protocol

RESOLUTION = 0.1
"""Seconds a tick lasts; nothing here is more exact than that."""


class Ticking(Protocol):
    due: int
    """The tick that the wheel shall call this object at; set by the wheel, 0 when none."""

    def tick(self, now: float) -> float | None:
        """Act, and say when to be called next (event loop time, seconds); None for never."""


class TimerWheel:
    """Calls `Ticking.tick` at about the asked time, never early. An object has one place in it at a time."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[Ticking, None]] = {}
        self._now = 0

    def at(self, time: float, ticking: Ticking) -> None:
        """Call ``ticking`` at ``time`` (event loop time, seconds) instead of whenever it was due; inf: never.

        An object that is not to be called is not kept either: clients come and go faster than their heartbeats.
        """
        due = 0 if time == inf else max(int(time / RESOLUTION) + 1, self._now + 1)
        if due == ticking.due:
            return
        self._take_out(ticking)
        ticking.due = due
        if due:
            self._slots.setdefault(due, {})[ticking] = None

    def _take_out(self, ticking: Ticking) -> None:
        slot = self._slots.get(ticking.due)
        if slot is not None:
            del slot[ticking]
            if not slot:
                del self._slots[ticking.due]

    async def run(self) -> None:
        """Turn until cancelled."""
        loop = asyncio.get_running_loop()
        self._now = int(loop.time() / RESOLUTION)
        while True:
            self._advance(loop.time())
            await asyncio.sleep(RESOLUTION)

    def _advance(self, time: float) -> None:
        for now in range(self._now + 1, int(time / RESOLUTION) + 1):
            self._now = now
            for ticking in self._slots.pop(now, ()):
                # A stream that was moved to another tick since is called there.
                if ticking.due == now:
                    ticking.due = 0
                    again = ticking.tick(time)
                    if again is not None:
                        self.at(again, ticking)
