"""One clock, and whose turn it is: everything that happens in a simulated world is decided by its seed.

Theory of operation. A world has processes. Each has an event loop of its own (`loop.SimulatedLoop`), first in, first
out as a real one, and maybe threads (`Thread`), which are greenlets. `World.step` lets one of them, drawn by the seed,
run one callback, or until it waits; nothing else runs meanwhile. When nobody can run, the clock moves on to the next
thing that is due. What reaches a process from outside (bytes, answers, signals) is an event at a time that the seed
drew as well, and becomes a callback of its loop. So the order of what a process does itself is never one that a real
event loop would not have, and everything that a real kernel or network leaves open is tried.

A process that is killed never runs again; what it held in the kernel is let go of by `Process.on_death`. One that is
paused (SIGSTOP) keeps its place in the kernel and does not run.
"""

import heapq
from collections import deque
from collections.abc import Callable
from queue import Empty
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

from tests.simulation.loop import SimulatedLoop

EPOCH = 1_900_000_000.0
"""Unix seconds at which every world begins."""


class World:
    """``now``: seconds since it began. ``pace``: seconds that one callback takes at most."""

    def __init__(self, seed: int, pace: float) -> None:
        self.random, self.pace = Random(seed), pace
        self.now = 0.0
        self.steps = 0
        self.calm = False
        """Nothing gets lost any more that may."""
        self.current: Process | None = None
        self.processes: list[Process] = []
        self.faults: list[str] = []
        """What nobody caught, and what a program must never say."""
        self.told: list[str] = []
        """What happened, for people."""
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0

    def tell(self, text: str) -> None:
        self.told.append(f"{self.now:9.4f} {text}")

    def at(self, time: float, event: Callable[[], object]) -> None:
        """Have something happen then."""
        self._number += 1
        heapq.heappush(self._events, (time, self._number, event))

    def later(self, seconds: float, event: Callable[[], object]) -> None:
        self.at(self.now + seconds, event)

    def run(self, until: Callable[[], bool], deadline: float) -> bool:
        """Go on until that holds, or to the deadline; whether it holds."""
        while not until():
            if self.now >= deadline:
                return False
            self.step()
        return True

    def step(self) -> None:
        """One callback, or on to the next thing that is due."""
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        able = self._able()
        if not able:
            self._wait()
            return
        chosen = able[0] if len(able) == 1 else able[int(self.random.random() * len(able))]
        self.steps += 1
        self.current = chosen.process
        chosen.step()
        self.current = None
        self.now += self.pace * self.random.random()

    def _able(self) -> list[Any]:
        """Asked for each step, so that it takes `Process.actors` apart for speed."""
        now, able = self.now, list[Any]()
        for process in self.processes:
            if not process.paused:
                loop = process.loop
                if loop._ready or loop.next_time() <= now:
                    able.append(loop)
                if process.threads:
                    able += [each for each in process.threads if each.can_run(now)]
        return able

    def _wait(self) -> None:
        times = [actor.next_time() for process in self.processes for actor in process.actors()]
        if self._events:
            times.append(self._events[0][0])
        soonest = min(times)
        if soonest == float("inf"):
            raise AssertionError("nothing will ever happen again")
        self.now = max(self.now, soonest)


class Process:
    """``skew``: seconds that its host's wall clock is ahead."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.loop = SimulatedLoop(self)
        self.threads: list[Thread] = []
        self.descriptors: dict[int, Any] = {}
        self.alive, self.paused, self.skew = True, False, 0.0
        self.on_death: list[Callable[[], object]] = []
        world.processes.append(self)

    def actors(self) -> list[Any]:
        return [] if self.paused else [self.loop, *self.threads]

    def wall_clock(self) -> float:
        """Unix seconds as this host has them."""
        return EPOCH + self.world.now + self.skew

    def descriptor(self, of: object) -> int:
        """The lowest number that is free, as the kernel gives them."""
        number = 1000
        while number in self.descriptors:
            number += 1
        self.descriptors[number] = of
        return number

    def end(self) -> None:
        """It runs no more, by itself or by a signal; the kernel lets go of what it held."""
        self.alive = False
        self.world.processes.remove(self)
        for each in self.on_death:
            each()


class Thread:
    """A thread of the process whose turn it is; it gives way only where it would wait for the kernel."""

    def __init__(self, target: Callable[[], None], name: str = "", daemon: bool = False) -> None:
        world = worlds[-1]
        assert world.current is not None
        self.world, self.process, self.name = world, world.current, name
        self._greenlet = greenlet(target)
        self._wake_at = 0.0

    def start(self) -> None:
        self.process.threads.append(self)

    def join(self) -> None:
        assert self._greenlet.dead, "a thread is joined that has not ended"

    def can_run(self, now: float) -> bool:
        return self._wake_at <= now

    def next_time(self) -> float:
        return self._wake_at

    def step(self) -> None:
        self._greenlet.switch()
        if self._greenlet.dead:
            self.process.threads.remove(self)

    def wait(self, seconds: float) -> None:
        """Give way for so long, or until `wake`."""
        self._wake_at = self.world.now + seconds
        self._greenlet.parent.switch()

    def wake(self) -> None:
        self._wake_at = 0.0


worlds: list[World] = []
"""The one that is running stands last."""


def thread() -> Thread | None:
    """The thread that runs now; None: an event loop does."""
    world = worlds[-1]
    current = getcurrent()
    if world.current is None:
        return None
    return next((each for each in world.current.threads if each._greenlet is current), None)


class SimpleQueue:
    """`queue.SimpleQueue` between a loop and a thread."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiting: list[Thread] = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        for each in self._waiting:
            each.wake()
        self._waiting.clear()

    def get(self, block: bool = True) -> Any:
        while not self._items:
            if not block:
                raise Empty
            waiting = thread()
            assert waiting is not None, "the event loop waits for a thread"
            self._waiting.append(waiting)
            waiting.wait(float("inf"))
        return self._items.popleft()
