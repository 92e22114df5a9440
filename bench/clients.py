"""The library's own ways to publish, side by side: publications a second, and CPU-µs of the program for each.

``python -m bench.clients URL FOLDER`` publishes to a hub that has the benchmark's key, then to hubs in its own process,
one of which stores in that folder. It runs on the core of the load.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from bench.servers import DATA, KEY, TOPIC
from hub import Hub, Settings
from hub.client.client import publish
from hub.client.clients import AsyncClient, Client, Key, Update

TASKS = 64
FEW, MANY = 300, 6_000
"""Publications of a way that waits for each answer, and of one that does not."""

Rates = dict[str, Mapping[str, float]]


def measured(count: int, begin: tuple[float, float]) -> Mapping[str, float]:
    wall, cpu = begin
    return {"rate": count / (time.perf_counter() - wall), "cost": 1e6 * (time.process_time() - cpu) / count}


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def blocking(url: str, token: str) -> Rates:
    """The functions of the standard library's client, and `Client`."""
    found: Rates = {}
    begin = now()
    for _ in range(FEW):
        publish(url, [TOPIC], DATA, token=token)
    found["hub.client.publish"] = measured(FEW, begin)
    with Client(url, token=token) as client:
        client.publish(TOPIC, DATA)
        begin = now()
        for _ in range(FEW):
            client.publish(TOPIC, DATA)
        found["Client.publish"] = measured(FEW, begin)
        begin = now()
        client.publish_many(Update(TOPIC, DATA) for _ in range(MANY))
        found["Client.publish_many"] = measured(MANY, begin)
    return found


async def together(one: Callable[[], Awaitable[object]]) -> Mapping[str, float]:
    """So many tasks, each the next once it is answered."""

    async def work() -> None:
        for _ in range(MANY // TASKS):
            await one()

    await one()
    begin = now()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    return measured(MANY // TASKS * TASKS, begin)


async def asynchronous(url: str, token: str, store: str) -> Rates:
    """`AsyncClient`, and `Hub.publish` of a hub in this process, whose CPU is the hub's and the program's."""
    found: Rates = {}
    async with AsyncClient(url, token=token) as client:
        found["AsyncClient.publish, 64 tasks"] = await together(lambda: client.publish(TOPIC, DATA))
        begin = now()
        await client.publish_many(Update(TOPIC, DATA) for _ in range(MANY))
        found["AsyncClient.publish_many"] = measured(MANY, begin)
    for name, place in (("memory", "memory://"), ("lmdb", store)):
        async with Hub(Settings(publisher_jwt_key=KEY, transport_url=place)).running() as hub:
            found[f"hub.publish, {name}, 64 tasks"] = await together(lambda hub=hub: hub.publish(TOPIC, DATA))  # type: ignore[misc]
    return found


if __name__ == "__main__":
    address, folder = sys.argv[1:]
    bearer = Key(KEY, publish=["*"])()
    rates = blocking(address, bearer)
    rates |= asyncio.run(asynchronous(address, bearer, f"lmdb://{folder}/clients"))
    print(json.dumps(rates))
