"""The sections of a run, one after the other; one that fails is reported, and the others go on."""

import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from bench import connecting, counting, fanout, history, publishing, scale, stores
from bench.load import SOURCES
from bench.machine import HUB_CORE, LOAD_CORE, pinned
from bench.servers import (
    LMDB,
    MEMORY,
    PATH,
    PROGRAM,
    Kind,
    centrifugo,
    go_hub,
    hub,
    nchan,
    of_lengths,
    own_patterns,
    postgresql,
    private_topics,
    redis,
    spread,
    sse_starlette,
    write_loop,
)

Figure = tuple[str, float]


@dataclass(frozen=True)
class Servers:
    """What takes part: the hub with each store there is a server for, and the baselines that are installed."""

    hubs: Sequence[Kind]
    loop: Kind
    starlette: Kind
    nchan: Kind | None
    given: Sequence[Kind] = ()
    """Other servers, whose programs the environment names."""
    postgresql: Kind | None = None
    """The hub on it, for the sections in which the store counts."""

    @property
    def stored(self) -> Sequence[Kind]:
        """The hub with every store."""
        return [*self.hubs, *([self.postgresql] if self.postgresql else [])]

    @property
    def others(self) -> Sequence[Kind]:
        """Hubs that somebody would use."""
        return [self.starlette, *([self.nchan] if self.nchan else []), *self.given]

    @property
    def all(self) -> Sequence[Kind]:
        return [self.loop, *self.hubs, *self.others]


def fan_out(servers: Servers, quick: bool) -> Iterator[Figure]:
    if quick:
        kinds = [servers.loop, *servers.hubs[:2], *servers.others]
        yield from _fanned_out(kinds, 1000, [(fanout.FAST, 0), (40, 1)] * 3)
        return
    yield from _fanned_out(servers.all, 10, [(fanout.FAST, 0), (10, 1), (40, 1), (200, 1)])
    # What a machine is worth changes within seconds, and from one process to the next: by a quarter.
    yield from _fanned_out(servers.all, 1000, [*[(fanout.FAST, 0), (40, 1.5)] * 2, (10, 2), (200, 0.5)], starts=5)
    yield from _fanned_out(servers.all, 10000, [(fanout.FAST, 0), (4, 2)] * 2)
    yield from _fanned_out([servers.loop, *servers.hubs], 10000, [(10, 1.5), (40, 0.5), (200, 0.2)])


def _fanned_out(
    kinds: Sequence[Kind], subscribers: int, plan: Sequence[tuple[float, float]], starts: int = 1
) -> Iterator[Figure]:
    for (name, rate), sample in fanout.compare(kinds, subscribers, plan, starts).items():
        pace = f"{rate:.0f}" if rate else "fast"
        for what, value in sample._asdict().items():
            yield f"fanout/{name}/{subscribers}/{pace}/{what}", float(value)


def connect(servers: Servers, quick: bool) -> Iterator[Figure]:
    tokens = {"none": connecting.anonymous, "cached": connecting.cached(), "own": connecting.own}
    hubs = servers.hubs[: 1 if quick else 2]
    kinds = [(f"{hub.name}/{token}", hub, heads) for hub in hubs for token, heads in tokens.items()]
    kinds += [(f"{each.name}/none", each, connecting.plain(each)) for each in servers.others]
    for name, cost in connecting.connecting(kinds, 1000 if quick else 3000, 3).items():
        yield f"connect/{name}", cost


TOPICS = {"one topic": connecting.own, "own topics": private_topics, "own URL Patterns": own_patterns}


def idle(servers: Servers, quick: bool) -> Iterator[Figure]:
    count = 2000 if quick else 10000
    hubs = servers.hubs[: 1 if quick else 2]
    plan = [(f"{hub.name}, {topics}", hub, heads(count)) for hub in hubs for topics, heads in TOPICS.items()]
    if not quick:
        plan += [(each.name, each, [each.client().subscribe] * count) for each in servers.others]
    for name, kind, heads in plan:
        for what, value in connecting.idle(kind, heads)._asdict().items():
            yield f"idle/{name}/{what}", value / 1024


def publish(servers: Servers, quick: bool) -> Iterator[Figure]:
    numbers = [1, 64] if quick else [1, 16, 64]
    kinds = [LMDB] if quick else [*servers.stored, of_lengths(MEMORY), *servers.others]
    # What is beside a hub in the processor moves a single sample by a quarter.
    for (name, number), found in publishing.compare(kinds, numbers, 3 if quick else 9).items():
        for what, value in found._asdict().items():
            yield f"publish/{name}/{number}/{what}", value


def metrics(_servers: Servers, _quick: bool) -> Iterator[Figure]:
    for name, found in counting.compared(11, 13).items():
        yield f"metrics/{name}/cost", found.cost


def replay(_servers: Servers, _quick: bool) -> Iterator[Figure]:
    count = 300_000
    with history.lmdb_with(count) as kind, kind.running() as server:
        rates = [history.replay(server, 1, count - 1, count) for _ in range(3)]
        yield "replay/lmdb/1/rate", median(rates)
        yield "replay/lmdb/50/rate", history.replay(server, 50, count // 10, count)


def herd(_servers: Servers, _quick: bool) -> Iterator[Figure]:
    count = 5000
    with history.lmdb_with(count) as kind:
        noticed, seconds = history.herd(kind, 10000, 500, count, 10)
    yield "herd/lmdb/seconds", seconds
    for what, value in noticed._asdict().items():
        yield f"herd/lmdb/{what}", value


def lag(servers: Servers, _quick: bool) -> Iterator[Figure]:
    for kind in servers.hubs[:2]:
        for what, value in history.steady(kind, 10000, 20, 5)._asdict().items():
            yield f"lag/{kind.name}/{what}", value


def audiences(_servers: Servers, _quick: bool) -> Iterator[Figure]:
    for kind in ("topics", "patterns"):
        command = [*pinned(HUB_CORE), sys.executable, "-m", "bench.audiences", kind]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout
        for size, cost in json.loads(found).items():
            yield f"audiences/{size}/{kind}", cost


def several(_servers: Servers, _quick: bool) -> Iterator[Figure]:
    """On all cores, which the load shares: two workers cannot be twice as fast where there are two cores."""
    if b"--workers" not in subprocess.run([PROGRAM, "serve", "--help"], check=True, stdout=subprocess.PIPE).stdout:
        return
    kinds = [spread(workers) for workers in (1, 2)]
    for (name, _), sample in fanout.compare(kinds, 1000, [(fanout.FAST, 0)] * 3).items():
        yield f"workers/{name}/events a second", sample.rate
        yield f"workers/{name}/CPU-µs an event", sample.cost
    for (name, _), found in publishing.compare(kinds, [64], 3).items():
        yield f"workers/{name}/publishes a second", found.rate
        yield f"workers/{name}/CPU-µs a publish", found.cost


def clients(_servers: Servers, _quick: bool) -> Iterator[Figure]:
    """Against a hub on LMDB, so that a publication is durable."""
    with LMDB.running() as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        url = f"http://{server.address[0]}:{server.address[1]}{PATH}"
        command = [*pinned(LOAD_CORE), sys.executable, "-m", "bench.clients", url, folder]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout
    for way, figures in json.loads(found).items():
        for what, value in figures.items():
            yield f"clients/{way}/{what}", value


def latency(servers: Servers, _quick: bool) -> Iterator[Figure]:
    """At 40 a second, and at half of what each server can do; the publisher's own wait as well."""
    kinds = [*servers.hubs[:2], *([servers.nchan] if servers.nchan else []), *servers.given]
    for subscribers in (1000, 8000):
        for (name, pace), sample in fanout.paced(kinds, subscribers, 40).items():
            for what in ("p50", "p99", "max", "answered"):
                yield f"latency/{name}/{subscribers}/{pace}/{what}", float(getattr(sample, what))


def several_on_one_store(servers: Servers, _quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        kinds = {"lmdb": hub("shared", f"lmdb://{folder}/data?lock=shared")}
        kinds |= {each.name: each for each in servers.stored if each.name in ("redis", "postgresql")}
        for name, kind in kinds.items():
            for (processes, subscribers), cost in scale.scaled(kind).items():
                yield f"scale/{name}/{processes} processes/{subscribers} subscribers", cost


def logs(servers: Servers, _quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        urls = {each.name: each.url for each in servers.stored if each.name in ("redis", "postgresql")}
        yield from stores.compared({"lmdb": f"lmdb://{folder}/data?lock=shared", **urls})


SECTIONS: dict[str, Callable[[Servers, bool], Iterator[Figure]]] = {
    "fanout": fan_out,
    "connect": connect,
    "idle": idle,
    "publish": publish,
    "latency": latency,
    "clients": clients,
    "metrics": metrics,
    "replay": replay,
    "herd": herd,
    "lag": lag,
    "audiences": audiences,
    "workers": several,
    "scale": several_on_one_store,
    "stores": logs,
}

QUICK = ("fanout", "connect", "idle", "publish", "audiences")
"""The sections whose figures a minute's run can judge."""


@dataclass
class Results:
    """Figures by name, and why sections failed."""

    figures: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def measure(sections: Iterable[str], *, quick: bool) -> Results:
    """Run them; progress is told on stderr."""
    results = Results()
    with ExitStack() as stack:
        stored, postgres = stack.enter_context(redis()), stack.enter_context(postgresql())
        hubs, given = [MEMORY, LMDB, *([stored] if stored else [])], [each for each in (go_hub(), centrifugo()) if each]
        servers = Servers(hubs, write_loop(), sse_starlette(), nchan(), given, postgres)
        there = {"redis": stored, "PostgreSQL": postgres, "Nchan": servers.nchan}
        results.missing = [name for name, found in there.items() if not found]
        for name in sections:
            print(f"{name} … ", end="", file=sys.stderr, flush=True)
            began = time.monotonic()
            try:
                for figure, value in SECTIONS[name](servers, quick):
                    results.figures[figure] = value
            except Exception as error:
                traceback.print_exc()
                results.failed[name] = f"{type(error).__name__}: {error}".replace(str(SOURCES.parent), "…")
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return results
