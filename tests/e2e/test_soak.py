"""A hub that people come to and leave for long: SOAK=600 takes ten minutes for each store."""

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIGTERM
from time import monotonic

import pytest

from hub.generations import PATH
from tests.e2e.processes import (
    LOST,
    Address,
    Connection,
    Hub,
    Hubs,
    Publisher,
    receipts_of,
    running,
    subscribed,
    survived,
    until,
)
from tests.e2e.stores import STORES

SOAK = float(os.environ.get("SOAK", "3"))
LEVEL = 1.1
"""How much more memory the last third of a long run may take than the middle one, and 8 MiB."""
LONG = 60.0
"""Seconds from which on a run is long."""


def memory_of(hub: Hub) -> int:
    """Bytes of its own, without those of mapped files (proc(5), RssAnon)."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1]) * 1024


def held_by(hub: Hub) -> tuple[int, int]:
    """Descriptors and threads."""
    folder = Path(f"/proc/{hub.process.pid}")
    return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))


async def visit(address: Address, number: int) -> None:
    """Comes for a topic of its own, or for the history of all, reads a little or nothing, and leaves without a word."""
    chance = random.Random(number)
    topic = chance.choice(["*", f"https://example.com/visitors/{number}"])
    with suppress(*LOST, TimeoutError):
        async with Connection.to(address) as connection:
            cursor = {"Last-Event-ID": "earliest"} if chance.random() < 0.3 else {}
            await connection.request("GET", f"{PATH}?topic={topic}", cursor)
            if chance.random() < 0.8:
                async with asyncio.timeout(chance.random()):
                    async for _ in connection.chunks():
                        pass
            else:
                await asyncio.sleep(chance.random() * 2)


async def leave_in_the_middle(address: Address, number: int) -> None:
    """A publisher that is gone before it has sent all, or before it has its answer."""
    body = f"topic=https%3A%2F%2Fexample.com%2Fleft&data={'x' * 3000}"
    request = f"POST {PATH} HTTP/1.1\r\nHost: hub\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    whole = f"{request}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    with suppress(*LOST):
        _, writer = await asyncio.open_connection(*address)
        writer.write(whole[: random.Random(number).randrange(len(whole) + 1)])
        with suppress(*LOST):
            await writer.drain()
        writer.transport.abort()


async def crowd(address: Address) -> None:
    """Sixteen at once come and go, for ever."""

    async def one_after_another(lane: int) -> None:
        number = lane
        while True:
            await visit(address, number)
            await leave_in_the_middle(address, number)
            number += 16

    await asyncio.gather(*(one_after_another(lane) for lane in range(16)))


async def sampled(hub: Hub, seconds: float) -> Sequence[int]:
    """Its memory, a few times a second."""
    end, found = monotonic() + seconds, list[int]()
    while monotonic() < end:
        found.append(memory_of(hub))
        await asyncio.sleep(min(1.0, seconds / 10))
    return found


@pytest.mark.timeout(SOAK + 120)
@pytest.mark.parametrize("kind", ["memory", "lmdb", *STORES])
async def test_what_comes_and_goes_leaves_nothing(hubs: Hubs, kind: str) -> None:
    """Memory, descriptors and threads are level; those that stay get everything; the end is a clean one."""
    with ExitStack() as stack:
        url = stack.enter_context(STORES[kind]()).url() if kind in STORES else f"{kind}://"
        url = {"lmdb": "lmdb://store?size=2000", "memory": "memory://?size=2000"}.get(kind, url)
        hub = hubs.start(url, "--subscriptions", "--dispatch-timeout", "1s", "--heartbeat", "1s")
        address = await hub.listening()
        publishers = [Publisher(f"publisher {n}", [address]) for n in range(2)]
        async with subscribed(2, [address]) as witnesses:
            await Publisher("first", [address]).publish(1)  # a connection to a store is made when it is needed
            await until(lambda: all(each.data == ["first 0"] for each in witnesses))
            quiet = held_by(hub)
            async with running(crowd(address), *(each.publish() for each in publishers)):
                await sampled(hub, SOAK / 3)  # it warms up
                middle = sorted(await sampled(hub, SOAK / 3))
                last = sorted(await sampled(hub, SOAK / 3))
            known = receipts_of(publishers)
            for each in witnesses:
                await until(lambda: {receipt.id for receipt in known} <= {event.id for event in each.events})  # noqa: B023
                assert all(end.clean for end in each.ends)  # a stream lasts for ten minutes at most
            await until(lambda: held_by(hub)[0] <= quiet[0] + 1 and held_by(hub)[1] <= quiet[1] + 1)
        before, after = middle[len(middle) // 2], last[len(last) // 2]
        if SOAK >= LONG:
            assert after < LEVEL * before + (8 << 20)
        hub.send(SIGTERM)
        assert await hub.ended() == 0
        assert hub.stderr == ""
    told = f"{before / (1 << 20):.0f} MiB in the middle, {after / (1 << 20):.0f} MiB at the end"
    survived(f"{kind}: {SOAK:.0f} s, {len(known)} updates, {told}; {quiet[0]} descriptors before and after")
