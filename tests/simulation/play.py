"""Seeds, each in a process of its own, as many at once as there are cores."""

import gc
import os
import pickle
import selectors
import sys
import traceback
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import transports
from tests.simulation.judge import Violation, judge
from tests.simulation.run import Run
from tests.simulation.scenario import Scenario

TOO_LONG = 60
"""Seconds after which a run is taken for one that never ends."""


class Outcome(NamedTuple):
    """``told``: what happened, and what the ledger says of it."""

    seed: int
    steps: int
    violations: list[Violation]
    told: list[str]


def played(scenario: Scenario) -> Outcome:
    """Changes this process for good."""
    run = Run(scenario)
    try:
        violations = judge(run.play())
    except Exception:
        last = traceback.format_exc().splitlines()
        violations = [Violation("faults", " / ".join(line.strip() for line in last[-5:]))]
    return Outcome(scenario.seed, run.world.steps, violations, run.world.told)


def prepare() -> None:
    """What all runs have in common is done once. Nothing is collected: when that happens is no business of a seed."""
    points = entry_points(group="mercure_hub.transports")
    for point in points:
        point.load()
    setattr(transports, "entry_points", lambda **_: points)  # noqa: B010 - not for everybody
    gc.disable()
    gc.freeze()


def outcomes(scenarios: Iterable[Scenario], *, at_once: int | None = None) -> Iterator[Outcome]:
    """In the order in which they end."""
    prepare()
    waiting, running = iter(scenarios), selectors.DefaultSelector()
    free = at_once or os.cpu_count() or 1
    while True:
        while free and (scenario := next(waiting, None)) is not None:
            reading, pid = _forked(scenario)
            running.register(reading, selectors.EVENT_READ, (pid, scenario, bytearray()))
            free -= 1
        if not running.get_map():
            return
        for key, _ in running.select():
            pid, scenario, text = key.data
            data = os.read(key.fd, 1 << 16)
            text += data
            if not data:
                running.unregister(key.fd)
                os.close(key.fd)
                os.waitpid(pid, 0)
                free += 1
                yield _outcome(scenario, bytes(text))


def _forked(scenario: Scenario) -> tuple[int, int]:
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return reading, pid
    write = os.write
    try:
        import signal

        signal.alarm(TOO_LONG)
        os.close(reading)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        text = memoryview(pickle.dumps(played(scenario)))
        while text:
            text = text[write(writing, text) :]
    finally:
        os._exit(0)


def _outcome(scenario: Scenario, text: bytes) -> Outcome:
    if not text:
        return Outcome(scenario.seed, 0, [Violation("faults", f"it has not ended within {TOO_LONG} s")], [])
    outcome: Any = pickle.loads(text)
    assert isinstance(outcome, Outcome)
    return outcome
