"""The wheel calls each object when it is due: not early, not twice, not after it was moved."""

import asyncio
from contextlib import suppress
from math import inf

from hub.fanout.timers import RESOLUTION, TimerWheel
from tests.hub.serving import until


class Called:
    """Notes when it was called, and asks to be called again as often as told."""

    def __init__(self, again: int = 0) -> None:
        self.due = 0
        self.at: list[float] = []
        self._again = again

    def tick(self, now: float) -> float | None:
        self.at.append(now)
        self._again -= 1
        return now + RESOLUTION if self._again >= 0 else None


async def test_nothing_is_called_early_or_twice() -> None:
    """Objects are called once, at their time or up to two ticks later; a moved one only where it was moved to."""
    loop, wheel = asyncio.get_running_loop(), TimerWheel()
    turning = asyncio.ensure_future(wheel.run())
    await asyncio.sleep(0)
    begin = loop.time()
    soon, moved, never, repeated = Called(), Called(), Called(), Called(again=2)
    wheel.at(begin + 0.2, soon)
    wheel.at(begin + 0.2, moved)
    wheel.at(begin + 0.5, moved)
    wheel.at(begin + 0.2, never)
    wheel.at(inf, never)
    wheel.at(begin - 5, repeated)
    await until(lambda: len(moved.at) == 1)
    turning.cancel()
    with suppress(asyncio.CancelledError):
        await turning
    assert [len(called.at) for called in (soon, moved, never, repeated)] == [1, 1, 0, 3]
    assert soon.at[0] >= begin + 0.2
    assert moved.at[0] >= begin + 0.5


def test_what_is_not_to_be_called_is_not_kept() -> None:
    """A callback that is cancelled or moved leaves nothing behind where it was."""
    wheel, moved = TimerWheel(), Called()
    for time in (1000.0, 2000.0, 3000.0):
        wheel.at(time, moved)
    assert [list(slot) for slot in wheel._slots.values()] == [[moved]]
    wheel.at(inf, moved)
    assert not wheel._slots
