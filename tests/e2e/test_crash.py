"""A hub that is killed while it works: KILLS=100 times, or a few."""

import os
import random
from collections.abc import Sequence
from signal import SIGKILL, SIGTERM
from time import monotonic

import pytest

from tests.e2e.processes import (
    Address,
    Hub,
    Hubs,
    Publisher,
    check_order,
    measured,
    receipts_of,
    replay,
    running,
    subscribed,
    until,
)

KILLS = int(os.environ.get("KILLS", "8"))
ANSWERS = range(20, 120)
"""At least so many publishes are answered between two kills; which are under way then is chance."""


async def kill_while_it_works(hub: Hub, publishers: Sequence[Publisher], address: Address) -> float:
    """When it was."""
    enough = len(receipts_of(publishers, address)) + random.choice(ANSWERS)
    await until(lambda: len(receipts_of(publishers, address)) > enough)
    hub.send(SIGKILL)
    killed = monotonic()
    assert await hub.ended() == -SIGKILL
    return killed


@pytest.mark.timeout(90 + 5 * KILLS)
async def test_kill_9_again_and_again(hubs: Hubs) -> None:
    """What was answered 200 is replayed once and in order after every kill, also to a subscriber that comes back."""
    addresses: list[Address] = []
    publishers = [Publisher(f"publisher {n}", addresses, repeat=n % 2 == 0) for n in range(16)]
    serving, answering = [], []
    hub = hubs.start("lmdb://store")
    addresses[:] = [await hub.listening()]
    async with subscribed(1, addresses) as [witness], running(*(each.publish() for each in publishers)):
        for kills in range(KILLS):
            # Each kill has to cut a stream: the witness may take longer to come back than the publishers do.
            await until(lambda: len(witness.answers) == kills + 1)  # noqa: B023 - awaited in the loop
            killed = await kill_while_it_works(hub, publishers, addresses[0])
            hub = hubs.start("lmdb://store")
            addresses[:] = [await hub.listening()]
            serving.append(monotonic() - killed)
            receipts = receipts_of(publishers)
            check_order(await replay(addresses[0], receipts), receipts)
            await until(lambda: receipts_of(publishers, addresses[0]))
            answering.append(min(each.answered for each in receipts_of(publishers, addresses[0])) - killed)
        receipts = receipts_of(publishers)
        history = await replay(addresses[0], receipts)
        check_order(history, receipts)
        await until(lambda: len(witness.events) >= len(history))
        assert witness.events[: len(history)] == history
        assert [end.clean for end in witness.ends] == [False] * KILLS
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    assert [each.stderr for each in hubs.started] == [""] * (KILLS + 1)
    measured(f"kill -9 with {len(history)} updates in the end: until the next hub listens", serving)
    measured("kill -9: until the next 200", answering)


@pytest.mark.timeout(90 + 5 * KILLS)
async def test_kill_9_of_one_of_two(hubs: Hubs) -> None:
    """Where two share a directory the other goes on, and what either has answered 200 is there once and in order."""
    stays, killed = hubs.start("lmdb://store?lock=shared"), hubs.start("lmdb://store?lock=shared")
    address, addresses = await stays.listening(), [await killed.listening()]
    there = [Publisher(f"killed {n}", addresses, repeat=n % 2 == 0) for n in range(8)]
    here = [Publisher(f"staying {n}", [address]) for n in range(8)]
    waits = []
    async with (
        subscribed(1, [address]) as [witness],
        subscribed(1, addresses) as [moved],
        running(*(each.publish() for each in (*here, *there))),
    ):
        for _ in range(KILLS // 4):
            at = await kill_while_it_works(killed, there, addresses[0])
            await until(lambda: any(each.receipts[-1].sent > at for each in here))  # noqa: B023 - awaited in the loop
            waits.append(min(each.answered for each in receipts_of(here) if each.answered > at) - at)
            killed = hubs.start("lmdb://store?lock=shared")
            addresses[:] = [await killed.listening()]
        receipts = receipts_of([*here, *there])
        history = await replay(address, receipts)
        check_order(history, receipts)
        for each in (witness, moved):
            await until(lambda: len(each.events) >= len(history))  # noqa: B023
            assert each.events[: len(history)] == history
        assert witness.ends == []
    assert [each.stderr for each in hubs.started] == [""] * (KILLS // 4 + 2)
    measured("kill -9 of one of two: until the next 200 of the other", waits)
