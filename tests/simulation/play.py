"""Seeds, a few to a process, as many processes at once as there are cores."""

import gc
import os
import pickle
import selectors
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from itertools import chain, islice
from typing import Any, NamedTuple

import transports
from tests.simulation import surroundings
from tests.simulation.judge import Violation, judge
from tests.simulation.run import Run
from tests.simulation.scenario import Scenario

TOO_LONG = 60
"""Seconds of CPU after which a run is taken for one that never ends."""
BATCH = 16
"""Seeds to a process: a new one has all its memory to copy, and nothing of it is given back before it ends."""
LENGTH = 4
"""Bytes."""


class Outcome(NamedTuple):
    """``told``: what happened, and what the ledger says of it."""

    seed: int
    steps: int
    violations: list[Violation]
    told: list[str]


def played(scenario: Scenario) -> Outcome:
    """In this process, with nothing left behind but memory."""
    run = Run(scenario)
    try:
        violations = judge(run.play())
    except Exception:
        last = traceback.format_exc().splitlines()
        violations = [Violation("faults", " / ".join(line.strip() for line in last[-5:]))]
    finally:
        surroundings.removed()
    return Outcome(scenario.seed, run.world.steps, violations, run.world.told)


def prepare() -> None:
    """What all runs have in common is done once. Nothing is collected: when that happens is no business of a seed.

    So a world stays when its run is over, and nothing of it wakes up in the next one.
    """
    points = entry_points(group="mercure_hub.transports")
    for point in points:
        point.load()
    surroundings.prepare()
    setattr(transports, "entry_points", lambda **_: points)  # noqa: B010 - not for everybody
    gc.disable()
    gc.freeze()


def outcomes(scenarios: Iterable[Scenario], *, at_once: int | None = None) -> Iterator[Outcome]:
    """In the order in which they end."""
    prepare()
    waiting, running = iter(scenarios), selectors.DefaultSelector()
    free = at_once or os.cpu_count() or 1
    while True:
        while free and (batch := deque(islice(waiting, BATCH))):
            reading, pid = _forked(batch)
            running.register(reading, selectors.EVENT_READ, (pid, batch, bytearray()))
            free -= 1
        if not running.get_map():
            return
        for key, _ in running.select():
            pid, batch, text = key.data
            data = os.read(key.fd, 1 << 16)
            text += data
            for outcome in _whole(text):
                batch.popleft()
                yield outcome
            if not data:
                running.unregister(key.fd)
                os.close(key.fd)
                os.waitpid(pid, 0)
                free += 1
                if batch:
                    never = Violation("faults", f"it has not ended within {TOO_LONG} s of CPU")
                    yield Outcome(batch.popleft().seed, 0, [never], [])
                    waiting = chain(batch, waiting)


def _forked(batch: Iterable[Scenario]) -> tuple[int, int]:
    """Where its outcomes can be read, each with its length before it, and its process."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return reading, pid
    try:
        os.close(reading)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        with open(writing, "wb") as telling:
            for scenario in batch:
                signal.setitimer(signal.ITIMER_PROF, TOO_LONG)
                text = pickle.dumps(played(scenario))
                telling.write(len(text).to_bytes(LENGTH) + text)
                telling.flush()
    finally:
        os._exit(0)


def _whole(text: bytearray) -> Iterator[Outcome]:
    """Those that have arrived, which are taken out of it."""
    while len(text) >= LENGTH and len(text) >= (end := LENGTH + int.from_bytes(text[:LENGTH])):
        outcome: Any = pickle.loads(text[LENGTH:end])
        assert isinstance(outcome, Outcome)
        del text[:end]
        yield outcome
