"""What the ledger and the streams say."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.swarm.load import PUBLISHERS
from tests.swarm.measure import Run
from tests.swarm.strategies import Strategy

LATE = "without a 2xx"
LASTS = 0.2
"""Seconds from which on a stream is one: another says only when to come back."""
ALWAYS = ((float("-inf"), float("inf")),)

Span = Sequence[float]
"""Begin and end, in Unix seconds."""


@dataclass(frozen=True)
class Figures:
    """``gap``: the longest time without a 2xx, seconds; ``one``: the same for a single publisher, the unluckiest; both
    while something was done to the service, and without the time in which the load itself did not run, of which
    ``stalled`` is the longest.

    ``lost``: acknowledged updates that are not in the history, or that a subscriber did not get. ``twice``: updates
    that one connection brought twice; ``stored_twice``: under two ids. ``cut_off``: subscribers that got an answer on
    which a browser gives up, or had not caught up at the end. ``unclean``: streams that ended without the final chunk.
    ``back``: the longest that a subscriber was without a stream that lasts, seconds.
    """

    state: str
    gap: float
    one: float
    stalled: float
    acknowledged: int
    lost: int
    twice: int
    stored_twice: int
    cut_off: int
    streams: int
    unclean: int
    back: float
    finished: float
    retried: int


def figures(run: Run) -> Figures:
    load = run.load
    ledger: list[dict[str, Any]] = sorted(load["ledger"], key=lambda entry: entry["answered"])
    acknowledged = {entry["data"] for entry in ledger}
    subscribers, stopped = load["subscribers"], load["stopped"]
    acts = _acts(run)
    ended = [each for one in subscribers + load["idle"] for each in one["connections"] if _while(run, each["closed"])]
    return Figures(
        state=", ".join(dict.fromkeys(state for *_, state in run.acts)),
        gap=longest(_answers(run), load["stalls"], acts),
        one=max(longest([*each, stopped], load["stalls"], acts) for each in _by_publisher(ledger)),
        stalled=max((until - begun for begun, until in load["stalls"]), default=0.0),
        acknowledged=len(acknowledged),
        lost=len(acknowledged - set(load["history"]) | missed(acknowledged, subscribers)),
        twice=sum(repeated(each["events"]) for one in subscribers for each in one["connections"]),
        stored_twice=repeated(load["history"]),
        cut_off=sum(bool(one["gave_up"]) for one in subscribers + load["idle"]) or load["behind"],
        streams=len(ended),
        unclean=sum(not each.get("clean") for each in ended),
        back=max((gap for one in subscribers for gap in without_a_stream(one["connections"], stopped)), default=0.0),
        finished=max(until - begun for begun, until, *_ in run.acts),
        retried=sum(entry["attempts"] > 1 for entry in ledger),
    )


def _by_publisher(ledger: Sequence[dict[str, Any]]) -> list[list[float]]:
    found: dict[str, list[float]] = {str(number): [] for number in range(PUBLISHERS)}
    for entry in ledger:
        found[entry["data"].partition("-")[0]].append(entry["answered"])
    return list(found.values())


def longest(times: Iterable[float], stalls: Sequence[Span] = (), acts: Sequence[Span] = ALWAYS) -> float:
    """Between two that follow each other, during an act, less what they share with a stall. Only one: for ever."""
    points = list(times)
    silence = longest_silence(points, stalls, acts)
    return _seconds(silence, stalls) if silence else 0.0 if len(points) > 1 else float("inf")


def longest_silence(times: Iterable[float], stalls: Sequence[Span], acts: Sequence[Span]) -> Span | None:
    """The two between which it is."""
    during = (each for each in pairwise(sorted(times)) if any(_shared(each, [act]) for act in acts))
    return max(during, key=lambda each: _seconds(each, stalls), default=None)


def _seconds(span: Span, stalls: Sequence[Span]) -> float:
    return span[1] - span[0] - _shared(span, stalls)


def _shared(span: Span, others: Sequence[Span]) -> float:
    return sum(max(0.0, min(span[1], until) - max(span[0], begun)) for begun, until in others)


def in_the_gap(run: Run) -> str:
    """What the disk did and what publishers met in the longest time without a 2xx."""
    silence = longest_silence(_answers(run), run.load["stalls"], _acts(run))
    if silence is None:
        return "no gap"
    met = Counter(what for when, _, what in run.load["troubles"] if silence[0] <= when <= silence[1])
    told = "; ".join(f"{count} times {what}" for what, count in met.most_common()) or "nothing"
    return f"in the gap the disk stood still for {_shared(silence, run.disk):.2f} s, publishers met {told}"


def _acts(run: Run) -> list[Span]:
    return [act[:2] for act in run.acts]


def _answers(run: Run) -> list[float]:
    return [*(entry["answered"] for entry in run.load["ledger"]), run.load["stopped"]]


def repeated(events: Sequence[str]) -> int:
    return sum(count - 1 for count in Counter(events).values())


def without_a_stream(connections: Sequence[dict[str, Any]], stopped: float) -> list[float]:
    """How long, each time, from the end of a stream until the next one that lasts; not the load's own end."""
    lasting = [each for each in connections if each["closed"] - each["opened"] > LASTS or each["closed"] >= stopped]
    return [later["opened"] - before["closed"] for before, later in pairwise(lasting) if before["closed"] < stopped]


def missed(acknowledged: set[str], subscribers: Sequence[dict[str, Any]]) -> set[str]:
    """All subscribers were there before the first update, so each should have every one."""
    return {
        data
        for one in subscribers
        for data in acknowledged.difference(*(each["events"] for each in one["connections"]))
    }


def _while(run: Run, closed: float) -> bool:
    """Did the stream end by what was done, not by the load's own end?"""
    return bool(run.load["stopped"] > closed)


def broken_bars(strategy: Strategy, found: Figures) -> list[str]:
    """What must not be, in words."""
    if not strategy.good:
        return []
    checks = [
        (found.state == strategy.state, f"the update ended as {found.state}, not {strategy.state}"),
        (
            strategy.gap is None or found.gap <= strategy.gap,
            f"{found.gap:.2f} s {LATE}, the bar is {strategy.gap} s",
        ),
        (
            strategy.back is None or found.back <= strategy.back,
            f"a subscriber was {found.back:.2f} s without a stream, the bar is {strategy.back} s",
        ),
        (found.lost == 0, f"{found.lost} acknowledged updates lost"),
        (found.twice == 0, f"{found.twice} updates twice on one connection"),
        (found.stored_twice == 0, f"{found.stored_twice} updates stored twice"),
        (found.cut_off == 0, f"{found.cut_off} subscribers cut off"),
        (
            strategy.act == "kill" or strategy.act.startswith("restart") or found.unclean == 0,
            f"{found.unclean} streams cut",
        ),
    ]
    return [sentence for holds, sentence in checks if not holds]
