"""What must hold, and what we would like to hold: one row of the table each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Figures = Mapping[str, float]
"""Names such as ``fanout/memory/1000/fast/cost``: section, server, what it was given, what it came to."""

SLACK = 1.4
"""In a short run on a busy machine a figure may miss its bar by this factor."""


@dataclass(frozen=True)
class Bar:
    """A figure, or its ratio to that of another server in the same run. ``least``: more is better."""

    text: str
    unit: str
    bar: float
    stretch: float
    figure: str
    of: str | None = None
    least: bool = False

    @property
    def section(self) -> str:
        return self.figure.partition("/")[0]

    @property
    def steady(self) -> bool:
        """A short run on any machine can judge it: a ratio, or memory."""
        return self.of is not None or self.section == "idle"

    def value(self, figures: Figures) -> float | None:
        """None where it was not measured."""
        if self.figure not in figures or (self.of is not None and self.of not in figures):
            return None
        return figures[self.figure] / (figures[self.of] if self.of is not None else 1)

    def holds(self, value: float, slack: float = 1.0) -> bool:
        return value * slack >= self.bar if self.least else value <= self.bar * slack

    def reaches(self, value: float) -> bool:
        """The stretch."""
        return value >= self.stretch if self.least else value <= self.stretch


class Verdict(NamedTuple):
    bar: Bar
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        return "stretch" if self.bar.reaches(self.value) else "holds" if self.bar.holds(self.value) else "**missed**"


def judged(figures: Figures) -> Iterator[Verdict]:
    """Every row, with what was measured."""
    return (Verdict(bar, bar.value(figures)) for bar in BARS)


def missed(figures: Figures) -> list[Bar]:
    """What a short run finds wrong."""
    values = [(bar, value) for bar, value in judged(figures) if bar.steady and value is not None]
    return [bar for bar, value in values if not bar.holds(value, SLACK)]


def _fan_out() -> Iterator[Bar]:
    against = {
        "the write() loop": ("write() loop", {1000: "fast", 10000: "fast"}, 1.25, 1.1),
        "Nchan": ("Nchan", {1000: "40", 10000: "4"}, 0.85, 0.7),
        "sse-starlette": ("sse-starlette", {1000: "40", 10000: "4"}, 0.28, 0.22),
    }
    for text, (baseline, rates, bar, stretch) in against.items():
        for hub in ("memory", "lmdb"):
            for subscribers, rate in rates.items():
                pace = "as fast as it goes" if rate == "fast" else f"{rate} updates/s"
                title = f"CPU per delivered event against {text}: {hub}, {subscribers:,} subscribers, {pace}"
                place = f"{subscribers}/{rate}/cost"
                yield Bar(title, "×", bar, stretch, f"fanout/{hub}/{place}", of=f"fanout/{baseline}/{place}")


def _connections() -> Iterator[Bar]:
    for topics in ("one topic", "own topics", "own URL Patterns"):
        text = f"resident per idle connection, 10,000 with a token each, {topics}"
        yield Bar(text, "KiB", 4, 2.5, f"idle/memory, {topics}/resident")
    connect, cached = "CPU per connect", "connect/memory/cached"
    yield Bar(f"{connect}, no token", "µs", 150, 100, "connect/memory/none")
    yield Bar(f"{connect}, cached HS256 token", "µs", 180, 100, cached)
    for text, figure in (("no token", "connect/memory/none"), ("cached token", cached)):
        yield Bar(f"{connect} against sse-starlette, {text}", "×", 0.5, 0.5, figure, of="connect/sse-starlette/none")


def _publishing() -> Iterator[Bar]:
    text = "durable publishes a second, lmdb, 64 publishers against 1"
    yield Bar(text, "×", 5, 10, "publish/lmdb/64/rate", of="publish/lmdb/1/rate", least=True)
    counted = "CPU per publish with metrics against without, memory, 64 publishers"
    yield Bar(counted, "×", 1.02, 1.01, "metrics/counted/cost", of="metrics/uncounted/cost")
    stores = (("memory", 2.4, 2.0), ("memory, lengths vary", 2.4, 2.0), ("lmdb", 5.7, 4.5), ("redis", 6.0, 5.0))
    for hub, bar, stretch in stores:
        text = f"CPU per publish against Nchan, {hub}, 64 publishers"
        yield Bar(text, "×", bar, stretch, f"publish/{hub}/64/cost", of="publish/Nchan/64/cost")
    for hub, bar, stretch in (("memory", 120, 60), ("lmdb", 140, 70)):
        for publishers in (16, 64):
            text, figure = f"CPU per publish, {hub}, {publishers} publishers", f"publish/{hub}/{publishers}/cost"
            yield Bar(text, "µs", bar, stretch, figure)


def _latency() -> Iterator[Bar]:
    for hub in ("memory", "lmdb"):
        text = f"p99 from publish to delivery against Nchan: {hub}, 1,000 subscribers, 40 updates/s"
        yield Bar(text, "×", 1.0, 0.8, f"latency/{hub}/1000/40/p99", of="latency/Nchan/1000/40/p99")


def _history() -> Iterator[Bar]:
    yield Bar("replay, lmdb, 1 subscriber", "events/s", 300_000, 1_000_000, "replay/lmdb/1/rate", least=True)
    for kind in ("topics", "patterns"):
        text = f"one publish beside 100,000 subscribers with {kind} of their own against 100"
        yield Bar(text, "×", 1.3, 1.05, f"audiences/100000/{kind}", of=f"audiences/100/{kind}")
    for hub in ("memory", "lmdb"):
        text = f"event loop lag p99, {hub}, 10,000 subscribers, 20 updates/s"
        yield Bar(text, "ms", 150, 50, f"lag/{hub}/lag")
    yield Bar("event loop lag p99, lmdb, during a herd of 10,000", "ms", 150, 50, "herd/lmdb/lag")


BARS = [*_fan_out(), *_connections(), *_publishing(), *_latency(), *_history()]
