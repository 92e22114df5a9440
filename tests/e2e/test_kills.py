"""Hubs and the server that they share, killed at random by a seed: KILLS=100 SEED=1 makes it longer."""

import asyncio
import os
import random
from contextlib import suppress
from itertools import count
from signal import SIGKILL
from time import monotonic

import pytest

from tests.e2e.processes import (
    PAUSE,
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
from tests.e2e.stores import STORES, DurablePostgres, Store
from tests.hub.serving import TOPIC

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "18"))
HUBS = 3


class Application:
    """Publishes from SQL, each second transaction of which is rolled back. ``committed``: ids, as far as it knows."""

    def __init__(self, server: Store) -> None:
        self._server = server
        self.committed: list[str] = []
        self.rolled_back: list[str] = []

    async def publish(self) -> None:
        """For ever, where the store has SQL. Of a commit whose answer is lost nothing is claimed."""
        numbers = count()
        while isinstance(self._server, DurablePostgres):
            with suppress(Exception):
                connection = await self._server.connect()
                try:
                    while True:
                        await self._transact(connection, next(numbers))
                finally:
                    connection.terminate()
            await asyncio.sleep(PAUSE)

    async def _transact(self, connection: object, number: int) -> None:
        transaction = connection.transaction()  # type: ignore[attr-defined]
        await transaction.start()
        event_id = f"urn:sql:{number}"
        await connection.fetch(  # type: ignore[attr-defined]
            "SELECT mercure.publish($1::text, $2, id => $3)", TOPIC, f"sql {number}", event_id
        )
        if number % 2:
            self.rolled_back.append(event_id)
            await transaction.rollback()
        else:
            await transaction.commit()
            self.committed.append(event_id)


@pytest.mark.timeout(90 + 15 * KILLS)
@pytest.mark.parametrize("kind", STORES)
async def test_kills_by_a_seed(hubs: Hubs, kind: str) -> None:
    """What was acknowledged is in the log once, in one order for all, and every stream has it; nothing else came."""
    chance = random.Random(SEED)
    with STORES[kind]() as server:
        started = [hubs.start(server.url()) for _ in range(HUBS)]
        addresses = [await hub.listening() for hub in started]
        publishers = [Publisher(f"publisher {n}", addresses, repeat=n % 2 == 0) for n in range(12)]
        witnesses = [Subscriber(addresses) for _ in range(HUBS * 4)]
        application, answering = Application(server), list[float]()
        async with running(
            *(each.follow() for each in witnesses), *(each.publish() for each in publishers), application.publish()
        ):
            await until(lambda: all(each.answers for each in witnesses) and len(receipts_of(publishers)) > 100)
            for _ in range(KILLS):
                enough = len(receipts_of(publishers)) + chance.randrange(20, 200)
                await until(lambda: len(receipts_of(publishers)) > enough)  # noqa: B023 - awaited in the loop
                killed, victim = monotonic(), chance.randrange(HUBS + 2)
                if victim >= HUBS:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                else:
                    started[victim].send(SIGKILL)
                    await started[victim].ended()
                    started[victim] = hubs.start(server.url())
                    addresses[victim] = await started[victim].listening()
                back = monotonic()
                await until(lambda: any(each.receipts[-1].sent > back for each in publishers))  # noqa: B023
                answering.append(monotonic() - killed)
            known, committed = receipts_of(publishers), list(application.committed)
        histories = [await replay(address, known) for address in addresses]
        history = max(histories, key=len)
        assert all(each == history[: len(each)] for each in histories)
        check_order(history, known)
        found = [event.id for event in history]
        assert set(committed) <= set(found)
        assert not set(application.rolled_back) & set(found)
        sql = [int(event.data.split()[1]) for event in history if event.data.startswith("sql")]
        assert sql == sorted(sql)
        for each in witnesses:
            first = history.index(each.events[0])
            assert each.events == history[first : first + len(each.events)]
    measured(f"{kind}, {KILLS} kills, {len(history)} updates, {len(sql)} of them by SQL: until the next 200", answering)
