"""The shortest course of events that still goes wrong in the same way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from tests.simulation.play import Outcome, outcomes
from tests.simulation.scenario import Event, Scenario

TRIES = 150
SHOWN = 40
"""Lines of the trace."""

T = TypeVar("T")


def without(parts: Sequence[T], begin: int, count: int) -> tuple[T, ...]:
    return (*parts[:begin], *parts[begin + count :])


def shrunk(scenario: Scenario, outcome: Outcome) -> str:
    """For people: what has to happen, and what came of it."""
    rule, tries = outcome.violations[0].rule, TRIES

    def fails(smaller: Scenario) -> bool:
        nonlocal outcome, scenario, tries
        tries -= 1
        (tried,) = outcomes([smaller])
        same = [each for each in tried.violations if each.rule == rule]
        if same:
            outcome, scenario = tried._replace(violations=same), smaller
        return bool(same)

    count = max(1, len(scenario.events) // 2)
    while count and tries > 0:
        begin = 0
        while begin < len(scenario.events) and tries > 0:
            if not fails(replace(scenario, events=without(scenario.events, begin, count))):
                begin += count
        count //= 2
    at = 0
    while len(scenario.listening) > 1 and at < len(scenario.listening) and tries > 0:
        at += not fails(replace(scenario, listening=without(scenario.listening, at, 1), events=_known(scenario, at)))
    head = f"\nseed {scenario.seed}: {scenario.store}, {scenario.hubs} hubs, size {scenario.size}, {scenario.settings}"
    subscribers = [str(each) for each in scenario.listening]
    events = [str(each) for each in scenario.events]
    wrong = [str(each) for each in outcome.violations[:5]]
    return "\n".join((head, *subscribers, *events, "...", *outcome.told[-SHOWN:], *wrong))


def _known(scenario: Scenario, at: int) -> tuple[Event, ...]:
    """Without what happens to the subscriber that is left out."""
    name = scenario.listening[at].name
    return tuple(each for each in scenario.events if name not in each.arguments)
