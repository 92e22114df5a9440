"""The logs themselves, without HTTP: appends, reading, and how soon a tail has one.

Each that appends is a process of its own on the hub's core, ``python -m bench.stores URL``; the servers are on the
load's.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from statistics import median, quantiles
from typing import Any

import uvloop

from bench.machine import HUB_CORE, pinned
from bench.servers import DATA, TOPIC
from transports import Transport, Update, open_transport

WAITING = 64
SECONDS = 2.0
READ = 50_000
WOKEN = 200
PAUSE = 0.005
"""Seconds between two appends that are waited for, at least."""

Figure = tuple[str, float]


def compared(urls: dict[str, str]) -> Iterator[Figure]:
    """Of one process; then the appends of two and of four, on that same core."""
    for name, url in urls.items():
        for what, value in _of_processes(url, 1)[0].items():
            yield f"stores/{name}/1 process/{what}", value
        for processes in (2, 4):
            found = _of_processes(url, processes, "--appends")
            yield f"stores/{name}/{processes} processes/rate", sum(each["rate"] for each in found)
            yield f"stores/{name}/{processes} processes/p50", median(each["p50"] for each in found)


def _of_processes(url: str, number: int, *arguments: str) -> list[dict[str, float]]:
    command = [*pinned(HUB_CORE), sys.executable, "-m", "bench.stores", url, *arguments]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(number)]
    return [json.loads(each.communicate(timeout=120)[0]) for each in running]


async def measured(url: str, *, only_appends: bool) -> dict[str, float]:
    transport = open_transport(url)
    await transport.open()
    try:
        found = await appends(transport)
        if not only_appends:
            found |= await following(transport) | await woken(transport)
            if url.startswith("postgresql:"):
                found |= await committed(transport, url)
        return found
    finally:
        await transport.close()


async def appends(transport: Transport) -> dict[str, float]:
    """64 at a time, each the next as soon as it is acknowledged."""
    took: list[float] = []
    end = time.perf_counter() + SECONDS

    async def one(publisher: int) -> None:
        for number in count():
            began = time.perf_counter()
            if began > end:
                return
            await transport.append(Update(f"urn:{publisher}:{number}:{began}", (TOPIC,), DATA))
            took.append(time.perf_counter() - began)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*map(one, range(WAITING)))
    elapsed = time.perf_counter() - began
    late = quantiles(took, n=100)
    return {
        "rate": len(took) / elapsed,
        "cost": 1e6 * (time.process_time() - cpu) / len(took),
        "p50": 1000 * late[49],
        "p99": 1000 * late[98],
    }


async def following(transport: Transport) -> dict[str, float]:
    """Entries a second that come out of a tail from the beginning, decoded."""
    entries, began = 0, time.perf_counter()
    async for batch in transport.tail(0):
        entries += len(batch)
        if entries >= READ or batch[-1].position >= (await transport.last())[0]:
            break
    return {"read": entries / (time.perf_counter() - began)}


async def woken(transport: Transport) -> dict[str, float]:
    """Milliseconds from the call of an append to its entry in a tail."""

    async def append(number: int) -> float:
        began = time.perf_counter()
        await transport.append(Update(f"urn:woken:{number}:{began}", (TOPIC,), DATA))
        return began

    return await _late(transport, append, "heard")


async def committed(transport: Transport, url: str) -> dict[str, float]:
    """Milliseconds from the commit of an application's transaction to what it published in a tail."""
    import asyncpg

    connection = await asyncpg.connect(url)
    publish = "SELECT mercure.publish($1::text, $2)"
    await connection.fetchval(publish, TOPIC, DATA)
    await asyncio.sleep(2)  # from the first one on the outbox is looked at often

    async def append(_number: int) -> float:
        await connection.fetchval(publish, TOPIC, DATA)
        return time.perf_counter()

    try:
        return await _late(transport, append, "from SQL")
    finally:
        await connection.close()


async def _late(transport: Transport, append: Callable[[int], Awaitable[float]], what: str) -> dict[str, float]:
    """``append`` says when the time begins."""
    tail: Any = transport.tail((await transport.last())[0])
    took = []
    for number in range(WOKEN):
        coming = asyncio.ensure_future(anext(tail))
        await asyncio.sleep(PAUSE * (1 + number % 7))
        began = await append(number)
        await coming
        took.append(1000 * (time.perf_counter() - began))
    await tail.aclose()
    late = quantiles(took, n=100)
    return {f"{what} p50": late[49], f"{what} p99": late[98]}


if __name__ == "__main__":
    found = uvloop.run(measured(sys.argv[1], only_appends="--appends" in sys.argv))
    sys.stdout.write(json.dumps(found))
