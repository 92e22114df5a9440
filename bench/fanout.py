"""One update to many subscribers: what an event costs, and how late it comes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from bench.load import Load
from bench.servers import Kind, Server

PIECE = 0.8
"""Seconds that one repetition as fast as it goes should take."""
PATIENCE = 60.0
"""Seconds that a server may take for what it has fallen behind; later deliveries would count for the next sample."""
FAST = 0.0
"""The rate that means: each update as soon as the one before is answered."""


class Sample(NamedTuple):
    """One repetition. ``cost``: CPU-µs of the server per delivered event; latencies in milliseconds;
    ``rate``: events a second; ``busy``: the load generator's part of its core; ``complete``: nothing is missing."""

    cost: float
    p50: float
    p99: float
    max: float
    rate: float
    busy: float
    complete: bool
    kept_up: bool
    answered: float
    """p99 of the publisher's own wait."""


@dataclass
class Contender:
    """A server, and a load of its own whose subscribers stay connected."""

    server: Server
    load: Load
    subscribers: int

    def run(self, rate: float, count: int) -> Sample:
        """``count`` updates, ``rate`` a second."""
        self.load.report()
        cpu, busy, events = self.server.cpu(), self.load.cpu(), count * self.subscribers
        self.load.start("publish", rate, count)
        seconds = PATIENCE + (count / rate if rate else 0)
        complete = self.load.events(events, seconds) and self.load.answered("publish", seconds)
        cpu, busy = self.server.cpu() - cpu, self.load.cpu() - busy
        report = self.load.report()
        took = report["last"] - report["began"]
        return Sample(
            cost=1e6 * cpu / max(report["events"], 1),
            p50=report["latency"].p50,
            p99=report["latency"].p99,
            max=report["latency"].max,
            rate=report["events"] / took,
            busy=busy / took,
            complete=complete,
            kept_up=rate == FAST or took < 1.05 * count / rate + 0.1,
            answered=report["publish"].p99,
        )

    def warm(self) -> int:
        """How many updates fill a piece."""
        count = max(3, 10_000 // self.subscribers)
        sample = self.run(FAST, count)
        return max(3, round(PIECE * sample.rate / self.subscribers))


@contextmanager
def contending(kind: Kind, subscribers: int, publishers: int = 1) -> Iterator[Contender]:
    """A started server with connected subscribers."""
    with kind.running() as server, Load(server.address) as load:
        load.pool("publish", publishers, server.client.publish)
        load.open(subscribers, [server.client.subscribe])
        yield Contender(server, load, subscribers)


def middle(samples: Sequence[Sample]) -> Sample:
    """The median of each figure."""
    *figures, complete, kept_up, answered = zip(*samples, strict=True)
    return Sample(*map(median, figures), all(complete), all(kept_up), median(answered))  # type: ignore[call-arg]


def compare(
    kinds: Sequence[Kind], subscribers: int, plan: Sequence[tuple[float, float]], starts: int = 1
) -> dict[tuple[str, float], Sample]:
    """Each step of the plan, a rate and its seconds, with every server in turn: what disturbs the machine disturbs all.

    The median where a rate comes several times. ``starts``: how often all servers are started anew for the plan, for
    where a process has its memory makes some a quarter slower than their like, for as long as they live.
    """
    found: dict[tuple[str, float], list[Sample]] = {}
    for _ in range(starts):
        with ExitStack() as stack:
            contenders = [stack.enter_context(contending(kind, subscribers)) for kind in kinds]
            pieces = {each.server.name: each.warm() for each in contenders}
            for rate, seconds in plan:
                for each in contenders:
                    count = round(seconds * rate) if rate else pieces[each.server.name]
                    found.setdefault((each.server.name, rate), []).append(each.run(rate, count))
    return {place: middle(samples) for place, samples in found.items()}


def paced(kinds: Sequence[Kind], subscribers: int, rate: float) -> dict[tuple[str, str], Sample]:
    """Every server in turn, three times: at this rate, and at half of what it can do itself, for two seconds."""
    found: dict[tuple[str, str], list[Sample]] = {}
    with ExitStack() as stack:
        contenders = [stack.enter_context(contending(kind, subscribers)) for kind in kinds]
        most = {each.server.name: each.run(FAST, each.warm()).rate / subscribers for each in contenders}
        for _ in range(3):
            for each in contenders:
                for pace, wanted in ((f"{rate:.0f}", rate), ("half", most[each.server.name] / 2)):
                    sample = each.run(wanted, max(10, round(2 * wanted)))
                    found.setdefault((each.server.name, pace), []).append(sample)
    return {place: middle(samples) for place, samples in found.items()}
