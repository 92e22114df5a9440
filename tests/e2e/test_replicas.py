"""Three hubs on one server are one hub, also while one of them is killed and the server restarts."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM
from time import monotonic

import pytest

from hub.presence.documents import ROOT
from tests.e2e.processes import (
    Address,
    Connection,
    Hubs,
    Publisher,
    Subscriber,
    check_order,
    measured,
    receipts_of,
    replay,
    running,
    until,
)
from tests.e2e.stores import STORES
from tests.hub.serving import bearer, token

ALL = bearer(token(subscribe=["*"]))
SUBSCRIBERS = 300
EVENTS = f"{ROOT}/{{topic}}/{{subscriber}}"


def rotated(addresses: Sequence[Address], by: int) -> list[Address]:
    return [addresses[(n + by) % len(addresses)] for n in range(len(addresses))]


async def listed(address: Address) -> list[str]:
    """The ids of all active subscriptions, as one of the hubs tells them."""
    async with Connection.to(address) as connection:
        answer = await connection.request("GET", ROOT, ALL)
    assert answer.status == 200, answer
    return [document["id"] for document in json.loads(answer.body)["subscriptions"] if document["active"]]


def states(watcher: Subscriber) -> dict[str, list[bool]]:
    """What was told of each subscription."""
    found: dict[str, list[bool]] = {}
    for document in map(json.loads, watcher.data):
        found.setdefault(document["id"], []).append(document["active"])
    return found


def ended(watcher: Subscriber) -> int:
    return Counter(json.loads(data)["active"] for data in watcher.data)[False]


@pytest.mark.parametrize("kind", STORES)
async def test_three_hubs_a_kill_and_a_restart(tmp_path: Path, kind: str) -> None:
    """What was answered 200 reaches each of 300 subscribers once, in one order; what a dead hub held ends once."""
    with STORES[kind]() as server, Hubs(tmp_path) as hubs:
        flags = ("--subscriptions", "--heartbeat", "2s")
        started = [hubs.start(server.url(), *flags) for _ in range(3)]
        addresses = [await hub.listening() for hub in started]
        watcher = Subscriber(addresses[:1], topic=EVENTS, headers=ALL)
        everyone = [Subscriber(rotated(addresses, n)) for n in range(SUBSCRIBERS)]
        publishers = [Publisher(f"publisher {n}", rotated(addresses, n)) for n in range(6)]
        async with running(watcher.follow()), running(*(each.follow() for each in everyone)):
            await until(lambda: all(each.answers for each in everyone))
            await until(lambda: len(states(watcher)) == SUBSCRIBERS + 1)
            there = set(await listed(addresses[0]))
            async with running(*(each.publish() for each in publishers)):
                await until(lambda: len(receipts_of(publishers)) > 100)
                started[2].send(SIGKILL)
                killed = monotonic()
                await until(lambda: len(receipts_of(publishers)) > 200)
                await asyncio.to_thread(server.kill)
                away, before = monotonic(), len(receipts_of(publishers))
                await asyncio.to_thread(server.start)
                back = monotonic()
                await until(lambda: any(each.answered > back for each in receipts_of(publishers)))
                answered = min(each.answered for each in receipts_of(publishers) if each.answered > back)
                await until(lambda: len(receipts_of(publishers)) > before + 100)
            receipts = receipts_of(publishers)
            history = await replay(addresses[0], receipts)
            check_order(history, receipts)
            for each in everyone:
                await until(lambda: len(each.events) >= len(history))  # noqa: B023
                assert each.events == history
            await until(lambda: ended(watcher) == SUBSCRIBERS // 3 + 1, within=60)  # and the replay's own
            told = monotonic() - killed
            # The ends are told first, then the dead hub's list is forgotten.
            async with asyncio.timeout(10):
                while len(now := set(await listed(addresses[1]))) != SUBSCRIBERS + 1:
                    await asyncio.sleep(0.01)
            seen = states(watcher)
        assert len(there - now) == SUBSCRIBERS // 3
        assert all(seen[id] == [True, False] for id in there - now)
        assert all(state == [True] for id, state in seen.items() if id in now)
        assert all(each.status == 200 for client in everyone for each in client.answers)
        for hub in started[:2]:
            hub.send(SIGTERM)
            assert await hub.ended() == 0
        measured(f"{kind} was away", [back - away])
        measured(f"{kind} is back: until the next 200", [answered - back])
        measured("kill -9 of a hub: until all of its subscriptions have ended", [told])
