"""What history costs: a replay to few, and a herd of many that come back at once."""

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.load import Load
from bench.servers import DATA, TOPIC, Kind, Server, head, hub, mercure
from transports import Update, open_transport

TOGETHER = 500
"""Appends that wait for each other while history is written."""
HERD_AT_ONCE = 1000
PROBES = 16
PROBE_RATE = 100


def identifier(number: int) -> str:
    return uuid.UUID(int=number).urn


async def fill(url: str, count: int) -> None:
    """Write history through the transport, as a hub would."""
    transport = open_transport(url)
    await transport.open()
    try:
        for first in range(0, count, TOGETHER):
            numbers = range(first, min(first + TOGETHER, count))
            updates = [Update(identifier(number), (TOPIC,), DATA, private=True) for number in numbers]
            await asyncio.gather(*map(transport.append, updates))
    finally:
        await transport.close()


@contextmanager
def lmdb_with(count: int) -> Iterator[Kind]:
    """A hub whose directory holds so many updates."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        url = f"lmdb://{Path(folder, 'data')}"
        asyncio.run(fill(url, count))
        yield hub("lmdb", url)


def replay(server: Server, readers: int, behind: int, newest: int) -> float:
    """Events a second to readers that are so many updates behind, from when they connect."""
    with Load(server.address) as load:
        load.open(readers, [_back(behind, newest)], events=behind)
        return readers * behind / load.complete()


def _back(behind: int, newest: int) -> bytes:
    """A subscriber that had all but the newest ones."""
    return mercure().subscribe(f"Last-Event-ID: {identifier(newest - 1 - behind)}")


class Lag(NamedTuple):
    """Milliseconds until `live` answers on a kept-alive connection, an event comes, a publisher is answered.

    The first tells how long the event loop did nothing else, and holds what the probe itself costs.
    """

    lag: float
    lag_max: float
    event: float
    publish: float


@contextmanager
def probed(server: Server) -> Iterator[Load]:
    """A load that also asks for `live`, from connections of its own."""
    with Load(server.address) as load:
        load.pool("probe", PROBES, head("GET", "/mercure/health/live"))
        load.pool("publish", PROBES, server.client.publish)
        yield load


def lag(load: Load, rate: float, seconds: float, meanwhile: Callable[[], float]) -> tuple[Lag, float]:
    """What probes and publishers notice while something happens, and what that came to."""
    load.report()
    load.start("publish", rate, round(rate * seconds))
    load.start("probe", PROBE_RATE, round(PROBE_RATE * seconds))
    found = meanwhile()
    load.start("publish", rate, 0)
    load.start("probe", PROBE_RATE, 0)
    report = load.report()
    wrong = {what: report[what] for what in ("probe failed", "publish failed", "refused") if report[what]}
    if wrong:
        raise RuntimeError(f"not everything was answered well: {wrong}")
    return Lag(report["probe"].p99, report["probe"].max, report["latency"].p99, report["publish"].p99), found


def steady(kind: Kind, subscribers: int, rate: float, seconds: float) -> Lag:
    """While everybody is live and gets so many updates a second."""
    with kind.running() as server, probed(server) as load:
        load.open(subscribers, [server.client.subscribe])

        def wait() -> float:
            load.answered("probe", 2 * seconds)
            return float(load.answered("publish", 2 * seconds))

        return lag(load, rate, seconds, wait)[0]


def herd(kind: Kind, subscribers: int, behind: int, newest: int, rate: float) -> tuple[Lag, float]:
    """While so many come back at once; the seconds until the last of them has what it missed."""
    with kind.running() as server, probed(server) as load:

        def come_back() -> float:
            load.open(subscribers, [_back(behind, newest)], events=behind, window=HERD_AT_ONCE)
            return load.complete(120)

        return lag(load, rate, 120, come_back)
