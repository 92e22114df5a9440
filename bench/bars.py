"""What must hold, and what we would like to hold: one row of the table each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Figures = Mapping[str, float]
"""Names such as ``fanout/memory/1000/fast/cost``: section, server, what it was given, what it came to."""

SLACK = 1.25
"""In a short run on a busy machine a ratio may miss its bar by this factor."""


@dataclass(frozen=True)
class Bar:
    """``least``: more is better. ``ratio``: of two figures of one run, which is what a short run can judge."""

    text: str
    unit: str
    bar: float
    stretch: float
    measure: Callable[[Figures], float]
    least: bool = False
    ratio: bool = False

    def holds(self, value: float, slack: float = 1.0) -> bool:
        return value * slack >= self.bar if self.least else value <= self.bar * slack

    def reaches(self, value: float) -> bool:
        """The stretch."""
        return value >= self.stretch if self.least else value <= self.stretch


class Verdict(NamedTuple):
    """``value``: None where it was not measured."""

    bar: Bar
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        return "stretch" if self.bar.reaches(self.value) else "holds" if self.bar.holds(self.value) else "**missed**"


def judged(figures: Figures) -> Iterator[Verdict]:
    """Every row, with what was measured."""
    for bar in BARS:
        try:
            yield Verdict(bar, bar.measure(figures))
        except KeyError:
            yield Verdict(bar, None)


def figure(name: str, factor: float = 1.0) -> Callable[[Figures], float]:
    return lambda figures: figures[name] * factor


def quotient(name: str, of: str) -> Callable[[Figures], float]:
    return lambda figures: figures[name] / figures[of]


def _fan_out() -> Iterator[Bar]:
    against = {
        "the write() loop, as fast as it goes": ("write() loop", {1000: "fast", 10000: "fast"}, 1.25, 1.1),
        "Nchan, paced": ("Nchan", {1000: "40", 10000: "4"}, 0.85, 0.7),
        "sse-starlette, paced": ("sse-starlette", {1000: "40", 10000: "4"}, 0.28, 0.22),
    }
    for text, (baseline, rates, bar, stretch) in against.items():
        for hub in ("memory", "lmdb"):
            for subscribers, rate in rates.items():
                pace = "" if rate == "fast" else f" at {rate} updates/s"
                place = f"{subscribers}/{rate}/cost"
                measure = quotient(f"fanout/{hub}/{place}", of=f"fanout/{baseline}/{place}")
                title = f"CPU per delivered event against {text}{pace}: {hub}, {subscribers:,} subscribers"
                yield Bar(title, "×", bar, stretch, measure, ratio=True)


def _connections() -> Iterator[Bar]:
    yield Bar("resident per idle connection", "KiB", 4, 2.5, figure("idle/memory/resident", 1 / 1024))
    connect = "CPU per connect, "
    yield Bar(f"{connect}no token", "µs", 150, 100, figure("connect/memory/none"))
    yield Bar(f"{connect}cached HS256 token", "µs", 180, 100, figure("connect/memory/cached"))
    half = quotient("connect/memory/cached", of="connect/sse-starlette/none")
    yield Bar(f"{connect}cached token, against sse-starlette", "×", 0.5, 0.5, half, ratio=True)


def _publishing() -> Iterator[Bar]:
    several = quotient("publish/lmdb/64/rate", of="publish/lmdb/1/rate")
    text = "durable publishes a second, lmdb, 64 publishers against 1"
    yield Bar(text, "×", 5, 10, several, least=True, ratio=True)
    for hub, bar, stretch in (("memory", 120, 60), ("lmdb", 140, 70)):
        yield Bar(f"CPU per publish, {hub}, 16 publishers", "µs", bar, stretch, figure(f"publish/{hub}/16/cost"))


def _history() -> Iterator[Bar]:
    yield Bar("replay, lmdb, 1 subscriber", "events/s", 300_000, 1_000_000, figure("replay/lmdb/1/rate"), least=True)
    growth = quotient("audiences/100000/cost", of="audiences/100/cost")
    yield Bar("one publish with 100,000 private audiences against 100", "×", 1.3, 1.05, growth, ratio=True)
    lag = "event loop lag p99, 10,000 subscribers, "
    yield Bar(f"{lag}20 updates/s", "ms", 150, 50, figure("lag/memory/p99"))
    yield Bar(f"{lag}during a herd", "ms", 150, 50, figure("herd/lmdb/lag"))


BARS = [*_fan_out(), *_connections(), *_publishing(), *_history()]
