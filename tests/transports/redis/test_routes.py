"""How the Redis log finds its server: Sentinels, a Cluster; and what it asks of replicas."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from tests.transports.outages import Opened, recovered, refused, unavailable
from tests.transports.topologies import SERVICE, Cluster, Replica, Sentinel, Sentinels
from tests.transports.valkey import Valkey, free_ports, until
from transports import HistoryTrimmed, Receipt, Transport, TransportUnavailable
from transports.testing.suite import DEADLINE, an_update, collect, fill, ids, waiting

UPDATES = "{mercure}:updates"


@pytest.fixture
def own_sentinels() -> Iterator[Sentinels]:
    """What is failed over is nobody else's."""
    with Sentinels() as servers:
        yield servers


async def told_of_the_loss(transport: Transport, after: int) -> None:
    """A tail that stood there, and is taken up again as long as there is no server, ends in `HistoryTrimmed`."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await anext(transport.tail(after))
            except TransportUnavailable:
                await asyncio.sleep(0.05)
            except HistoryTrimmed:
                return


class Writer:
    """Appends one after another, and again what was refused, until it is stopped."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._receipts: list[Receipt] = []
        self._stopped = False
        self._idle = asyncio.Event()

    async def run(self) -> None:
        while not self._stopped:
            key = str(len(self._receipts))
            try:
                self._receipts.append(await self._transport.append(an_update(key, idempotency_key=key)))
            except TransportUnavailable:
                await asyncio.sleep(0.01)
        self._idle.set()

    async def more(self) -> None:
        """Until some that began after this call have been acknowledged."""
        wanted = len(self._receipts) + 20
        async with asyncio.timeout(DEADLINE):
            while len(self._receipts) < wanted:
                await asyncio.sleep(0.01)

    async def stop(self) -> list[Receipt]:
        self._stopped = True
        await self._idle.wait()
        return self._receipts


class Reader:
    """Follows the log as the dispatcher does; told of a loss, it begins anew."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.seen: list[int] = []
        self.ids: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                async with aclosing(self._transport.tail(self.seen[-1] if self.seen else 0)) as tail:  # type: ignore[type-var]
                    async for batch in tail:
                        self.seen += [entry.position for entry in batch]
                        self.ids += ids(batch)
            except TransportUnavailable:
                await asyncio.sleep(0.01)
            except HistoryTrimmed:
                self.seen, self.ids = [], []

    async def reached(self, position: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while position not in self.seen:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(writer: Writer, reader: Reader) -> AsyncIterator[tuple[Writer, Reader]]:
    """Both, beside the block."""
    tasks = [asyncio.create_task(each.run()) for each in (writer, reader)]
    yield writer, reader
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert not isinstance(outcome, Exception)


async def test_a_failover(own_sentinels: Sentinels, opened: Opened) -> None:
    """With `wait_replicas`, what was acknowledged before and while the replica is promoted is there once, in order."""
    transport = await opened(own_sentinels.url(wait_replicas=1, wait_timeout="200ms"))
    async with running(Writer(transport), Reader(await opened(own_sentinels.url()))) as (writer, reader):
        await writer.more()
        await asyncio.to_thread(own_sentinels.fail_over)
        await writer.more()
        receipts = await writer.stop()
        await reader.reached(receipts[-1].position)
    assert [each for each in reader.seen if each in {r.position for r in receipts}] == [r.position for r in receipts]
    assert len(set(reader.ids)) == len(reader.ids)
    await transport.check()


@pytest.mark.parametrize("later", ["nothing", "an update"])
async def test_a_replica_that_was_behind(own_sentinels: Sentinels, opened: Opened, later: str) -> None:
    """A tail that has seen what the promoted replica lacks is told; publishing and checks work again."""
    transport = await opened(own_sentinels.url())
    kept = await transport.append(an_update("kept"))
    primary, replica = own_sentinels.primary, own_sentinels.replica
    until(lambda: replica.client.xlen(UPDATES) == 1, "the replica does not follow")
    replica.signal(signal.SIGSTOP)
    primary.client.client_kill_filter(_type="replica")
    lost = await transport.append(an_update("lost"))
    tail = asyncio.create_task(told_of_the_loss(transport, lost.position))
    primary.kill()
    replica.signal(signal.SIGCONT)
    if later != "nothing":
        await recovered(transport, DEADLINE)
    await tail
    await recovered(transport, DEADLINE)
    await transport.check()
    assert (await transport.read(0, 2))[0].position == kept.position
    if later != "nothing":
        with pytest.raises(HistoryTrimmed):
            await transport.read(lost.position, 10)


async def test_sentinels_with_passwords(opened: Opened, tmp_path: Path) -> None:
    """The user and password of the URL are the server's, `sentinel_password_file` has that of the Sentinels."""
    for name, text in (("right", "of the watch\n"), ("wrong", "guess")):
        (tmp_path / name).write_text(text)
    (port,) = free_ports(1)
    (dead, watching) = free_ports(2)
    login = ("sentinel auth-pass " + SERVICE + " of-the-log", 'requirepass "of the watch"')
    with Valkey("--requirepass", "of-the-log", port=port), Sentinel(port, *login, port=watching):
        url = f"redis+sentinel://:of-the-log@127.0.0.1:{dead},127.0.0.1:{watching}/{SERVICE}/1"
        transport = await opened(f"{url}?sentinel_password_file={tmp_path}/right")
        await transport.append(an_update(1))
        for wrong in (url, f"{url}?sentinel_password_file={tmp_path}/wrong"):
            text = await refused(wrong)
            assert "refuses the user or the password" in text
            assert "guess" not in text
        unknown = url.replace(SERVICE, "other") + f"?sentinel_password_file={tmp_path}/right"
        assert "the sentinel knows no service of that name" in await refused(unknown)


async def test_a_primary_that_is_none(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """A server that the Sentinels name, and that is a replica, is not written to."""
    port, watching = free_ports(2)
    with Valkey(port=port) as server, Sentinel(port, port=watching):
        transport = await opened(f"redis+sentinel://127.0.0.1:{watching}/{SERVICE}")
        server.client.replicaof("127.0.0.1", "1")
        server.client.client_kill_filter(_type="normal", skipme=True)
        await unavailable(transport.read(0, 1))  # finds its connection closed
        assert "it is a replica" in str(await unavailable(transport.read(0, 1)))
        server.client.replicaof("no", "one")
        await recovered(transport)


async def test_sentinels_that_stand_still(sentinels: Sentinels, opened: Opened) -> None:
    """Two of three Sentinels that do not answer hold up nobody for 3 seconds."""
    first, second, _ = sentinels.sentinels
    for each in (first, second):
        each.signal(signal.SIGSTOP)
    try:
        transport = await opened(sentinels.url(prefix="still"))
        begin = time.monotonic()
        await transport.append(an_update(1))
        assert time.monotonic() - begin < 1, "the one that answers is the first to be asked"
    finally:
        for each in (first, second):
            each.signal(signal.SIGCONT)


async def test_urls_for_something_else(cluster: Cluster, sentinels: Sentinels, valkey: Valkey) -> None:
    """A URL of the wrong kind ends the start with the right one."""
    node, watch, single = cluster.nodes[0].port, sentinels.sentinels[0].port, sentinels.primary.port
    assert "write redis+cluster://host1,host2" in await refused(f"redis://127.0.0.1:{node}")
    assert "write redis+sentinel://host1,host2/service" in await refused(f"redis://127.0.0.1:{watch}")
    assert "the server's mode is standalone; write redis://host:6379" in await refused(
        f"redis+cluster://127.0.0.1:{single}"
    )


async def test_a_slot_that_moves(cluster: Cluster, opened: Opened) -> None:
    """While the log moves to another node, and back, every acknowledged update is there once, in order, for all."""
    key = "{moving}:updates"
    transport = await opened(cluster.url(prefix="moving"))
    async with running(Writer(transport), Reader(await opened(cluster.url(prefix="moving")))) as (writer, reader):
        home = cluster.owner(key)
        await writer.more()
        for there in (*(node for node in cluster.nodes if node is not home), home):
            here = cluster.owner(key)
            cluster.begin_to_move(key, there)
            await asyncio.sleep(0.05)
            cluster.move_keys(key, here, there)
            await asyncio.sleep(0.05)
            cluster.finish_moving(key, there)
            await writer.more()
        receipts = await writer.stop()
        await reader.reached(receipts[-1].position)
    assert reader.seen == [receipt.position for receipt in receipts]


async def test_half_a_move(cluster: Cluster, opened: Opened) -> None:
    """Keys that have moved are asked for where they are; an append waits for the end of the move."""
    key = "{half}:updates"
    transport = await opened(cluster.url(prefix="half"))
    first = await transport.append(an_update(1))
    tail = await waiting(transport, first.position)
    here = cluster.owner(key)
    there = next(node for node in cluster.nodes if node is not here)
    cluster.begin_to_move(key, there)
    cluster.move_keys(key, here, there)
    assert ids(await transport.read(0, 2)) == ["urn:uuid:1"]
    assert await transport.position_of("urn:uuid:1") == first.position
    append = asyncio.create_task(transport.append(an_update(2)))
    other = await opened(cluster.url(prefix="half"))
    assert await other.last() == (first.position, "urn:uuid:1")
    assert not append.done()
    cluster.finish_moving(key, there)
    second = await append
    async with asyncio.timeout(DEADLINE):
        assert [entry.position for entry in await tail] == [second.position]


async def test_a_node_that_dies(opened: Opened) -> None:
    """When the log's node is killed, its replica takes over; a client that knows one living node finds it."""
    with Cluster() as cluster:
        owner = cluster.owner(UPDATES)
        with cluster.replica(owner) as replica:
            transport = await opened(cluster.url())
            first = await transport.append(an_update(1))
            tail = asyncio.create_task(collect_through(transport, first.position))
            until(lambda: replica.client.info("replication")["slave_repl_offset"] > 0, "the replica does not follow")
            until(replica.in_sync, "the replica does not follow")
            owner.kill()
            await unavailable(transport.append(an_update("refused")))
            back = await recovered(transport, DEADLINE)
            assert back.position in await tail
            await transport.check()


async def collect_through(transport: Transport, after: int) -> list[int]:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return [entry.position for entry in await anext(transport.tail(after))]
            except TransportUnavailable:
                await asyncio.sleep(0.05)


@pytest.fixture
def primary() -> Iterator[Valkey]:
    (port,) = free_ports(1)
    with Valkey("--repl-diskless-sync-delay", "0", port=port) as server:
        yield server


async def test_replicas_that_must_have_it(primary: Valkey, opened: Opened) -> None:
    """With `wait_replicas` nothing is acknowledged before so many replicas have it, repeated ones included."""
    url = primary.url(wait_replicas=1, wait_timeout="300ms")
    transport = await opened(url)
    assert "0 replicas have taken it, wait_replicas=1" in str(await unavailable(transport.append(an_update(0))))
    with Replica(primary) as replica:
        first = await transport.append(an_update(1, idempotency_key="first"))
        assert replica.client.xrevrange(UPDATES, count=1)[0][1][b"id"] == b"urn:uuid:1"
        await transport.check()
        replica.signal(signal.SIGSTOP)
        try:
            late = an_update(2, idempotency_key="late")
            uses = [transport.append(late), transport.append(an_update(3)), transport.check()]
            for error in await asyncio.gather(*map(unavailable, uses)):
                assert "it may be in the log" in str(error)
            other = await opened(url)
            await unavailable(other.append(late))
            assert await transport.position_of("urn:uuid:2"), "it is in the log all the same"
        finally:
            replica.signal(signal.SIGCONT)
        assert (await transport.append(late)).repeated
        assert ids(await collect(transport, first.position, 2)) == ["urn:uuid:2", "urn:uuid:3"]
        replica.signal(signal.SIGCONT)


async def test_too_few_replicas_to_write(primary: Valkey, opened: Opened) -> None:
    """A server that lacks its `min-replicas-to-write` refuses, and keeps what it has."""
    log = await opened(primary.url())
    await fill(log, range(2))
    primary.client.config_set("min-replicas-to-write", 1)
    assert "Not enough good replicas" in str(await unavailable(log.append(an_update(2))))
    assert len(await log.read(0, 10)) == 2
