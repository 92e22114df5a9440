"""What a hub does while the server that has its log is away, and when it comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
import redis

from hub.generations import PATH
from tests.e2e.processes import Address, Answer, Connection, Hub, Hubs, get, measured, until
from tests.e2e.stores import STORES, Store
from tests.hub.serving import TOPIC
from tests.transports.valkey import Valkey

READY = "/mercure/health/ready"


async def publish(address: Address, data: str) -> tuple[Answer, float]:
    """The answer, and how long it took."""
    begin = monotonic()
    async with Connection.to(address) as connection:
        return await connection.publish(data), monotonic() - begin


async def refused(address: Address) -> None:
    """Publishers are told within 3 seconds, probes within 2; the hub is alive all the same."""
    begin = monotonic()
    (answer, took), ready = await asyncio.gather(publish(address, "refused"), get(address, READY))
    assert (answer.status, answer.headers["retry-after"] in "123") == (503, True)
    assert took < 3
    assert ready.status == 503
    assert monotonic() - begin < 3
    assert (await get(address, "/mercure/health/live")).status == 200


async def is_ready(address: Address, within: float) -> None:
    async with asyncio.timeout(within):
        while (await get(address, READY)).status != 200:
            await asyncio.sleep(0.02)


async def accepted(address: Address, data: str) -> None:
    """An update that is sent until it is."""
    async with asyncio.timeout(15):
        while (await publish(address, data))[0].status != 200:
            await asyncio.sleep(0.02)


class Reader:
    """One connection, as it is: what came, heartbeats too."""

    def __init__(self) -> None:
        self.text = ""
        self.heartbeats = 0

    async def follow(self, connection: Connection) -> None:
        async for chunk in connection.chunks():
            self.text += chunk.decode()
            self.heartbeats += chunk == b":\n"


@asynccontextmanager
async def listening(address: Address) -> AsyncIterator[Reader]:
    reader = Reader()
    async with Connection.to(address) as connection:
        assert (await connection.request("GET", f"{PATH}?topic={TOPIC}", {})).status == 200
        task = asyncio.create_task(reader.follow(connection))
        yield reader
        assert not task.done(), "the connection was not kept"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def gone(server: Store) -> None:
    server.kill()


def back(server: Store) -> None:
    server.start()


def stopped(server: Store) -> None:
    server.stand_still()


def continued(server: Store) -> None:
    server.go_on()


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(("leave", "come"), [(gone, back), (stopped, continued)], ids=["killed", "stopped"])
async def test_the_store_is_away(
    hubs: Hubs, kind: str, leave: Callable[[Store], None], come: Callable[[Store], None]
) -> None:
    """503 for publishers, heartbeats for subscribers; a second after its return they get what others added."""
    with STORES[kind]() as server:
        hub = hubs.start(server.url(), "--heartbeat", "300ms")
        address = await hub.listening()
        async with listening(address) as reader:
            assert (await publish(address, "before"))[0].status == 200
            await until(lambda: "data: before\n" in reader.text)
            await asyncio.to_thread(leave, server)
            await refused(address)
            beats = reader.heartbeats
            await until(lambda: reader.heartbeats > beats + 2)
            await refused(address)
            await asyncio.to_thread(come, server)
            returned = monotonic()
            await server.add({"id": "urn:uuid:other", "topics": [TOPIC], "data": "meanwhile"})
            await accepted(address, "after")
            published = monotonic() - returned
            await until(lambda: "data: meanwhile\n" in reader.text and "data: after\n" in reader.text)
            told = monotonic() - returned
            await is_ready(address, within=2)
        assert max(published, told) < 1
        await until(lambda: "answers again" in hub.stderr)
        lines = [line for line in hub.stderr.splitlines() if "the store does not answer" in line]
        assert 1 <= len(lines) == len(set(lines)) <= 4
        measured(f"{kind}, {leave.__name__}: from its return to a 200, and to the subscriber", [published, told])


async def started_without(hubs: Hubs, server: Store | Valkey, login: str = "") -> tuple[Hub, Address]:
    hub = hubs.start(server.url().replace("://", f"://{login}"))
    address = await hub.listening()
    await refused(address)
    return hub, address


@pytest.mark.parametrize("kind", STORES)
async def test_a_start_without_its_store(hubs: Hubs, kind: str) -> None:
    """The hub starts, tells publishers that its store is away, and is ready by itself once it is there."""
    server = STORES[kind]()
    _, address = await started_without(hubs, server)
    with server:
        begin = monotonic()
        await accepted(address, "first")
        took = monotonic() - begin
        assert took < 1
        await is_ready(address, within=2)
        async with listening(address) as reader:
            await accepted(address, "second")
            # Maybe "first" as well: the dispatcher, which waits for the store too, need not have passed it yet.
            await until(lambda: "data: second\n" in reader.text)
        measured(f"started without {kind}: from its start to a 200", [took])


async def test_a_password_that_turns_out_wrong(hubs: Hubs) -> None:
    """A server that refuses the password after the start leaves the hub not ready, with a line that says why."""
    server = Valkey("--requirepass", "right")
    hub, address = await started_without(hubs, server, ":hunter2@")
    with server:
        await until(lambda: "invalid username-password pair" in hub.stderr)
        await refused(address)
        with redis.Redis(unix_socket_path=str(server.socket), password="right", protocol=2) as admin:
            admin.config_set("requirepass", "hunter2")
        await is_ready(address, within=3)
        await accepted(address, "now")
    assert "hunter2" not in hub.stderr
