"""Publishing to one of many private topics, below the sockets: what does an audience more cost?

``python -m bench.audiences KIND`` prints the CPU-µs of a publish, by the number of audiences, each with a matcher of
its own, of one of `KINDS`; in a process of its own, so that nothing else lies in its memory.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from bench.servers import KEY, PATH, mercure
from hub.config.settings import Settings
from hub.fanout.wire import Wire
from hub.matching.matchers import Matcher
from hub.web.hub import Hub

SIZES = (100, 1_000, 10_000, 100_000)
PUBLISHES = 1_000
REPETITIONS = 9


class Counted(Wire):
    """Takes everything."""

    __slots__ = ("count",)
    descriptor = -1

    def __init__(self) -> None:
        self.count = 0

    def send(self, payload: bytes) -> bool:
        self.count += payload.count(b"\ndata:")
        return True

    def waiting(self) -> int:
        return 0

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class Subscriber:
    """Live on one private topic of its own."""

    slot: int | None = None

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def fall_behind(self) -> None:
        raise AssertionError("the wire takes everything")


def topic(number: int) -> str:
    return f"https://example.com/users/{number}/books"


KINDS = {
    "topics": lambda number: Matcher("topic", topic(number)),
    "patterns": lambda number: Matcher("urlpattern", f"https://example.com/users/{number}/*"),
}


class Crowd:
    """A hub with so many audiences of one, all on one wire."""

    def __init__(self, hub: Hub, size: int, kind: str) -> None:
        self._application, self.size = hub.asgi, size
        self._wire, self._random = Counted(), random.Random(size)  # noqa: S311
        for number in range(size):
            matchers = [KINDS[kind](number)]
            hub.streams.audiences.enter(matchers, matchers).join(Subscriber(self._wire))
        token = f"Bearer {mercure().token}".encode()
        form = (b"content-type", b"application/x-www-form-urlencoded")
        self._scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}
        self._scope |= {"headers": [(b"host", b"localhost"), (b"authorization", token), form], "http_version": "1.1"}
        self._scope |= {"scheme": "http", "server": ("localhost", 80), "client": ("localhost", 1), "root_path": ""}

    async def cost(self) -> float:
        """CPU-µs of a publish, one after the other, each to somebody by chance, up to its delivery."""
        numbers = self._random.choices(range(self.size), k=PUBLISHES)
        wanted = self._wire.count + len(numbers)
        begun = time.process_time()
        for number in numbers:
            await self._publish(f"topic={topic(number)}&data={'.' * 80}&private=on".encode())
        while self._wire.count < wanted:  # noqa: ASYNC110 - as a server would: nothing is added to what is measured
            await asyncio.sleep(0)
        return 1e6 * (time.process_time() - begun) / len(numbers)

    async def _publish(self, body: bytes) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            assert message.get("status", 200) == 200

        await self._application(dict(self._scope), receive, send)  # type: ignore[arg-type]


async def costs(sizes: Sequence[int], kind: str) -> dict[int, float]:
    """By the number of audiences; in turn, the median."""
    found: dict[int, list[float]] = {}
    async with AsyncExitStack() as stack:
        crowds = []
        for size in sizes:
            settings = Settings(publisher_jwt_key=KEY, subscriber_jwt_key=KEY, transport_url="memory://")
            hub = Hub(settings)
            await hub.open()
            stack.push_async_callback(hub.close)
            crowds.append(Crowd(hub, size, kind))
        for _ in range(REPETITIONS):
            for crowd in crowds:
                found.setdefault(crowd.size, []).append(await crowd.cost())
    return {size: median(values) for size, values in found.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(costs(SIZES, sys.argv[1]))))
