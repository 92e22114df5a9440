"""What the Redis log promises beyond the contract: outages, strangers, and a server that is not what it was."""

import asyncio
import gc
import json
import logging
import signal
import tracemalloc
from collections.abc import Iterator

import pytest

import transports.redis.transport
from tests.transports.outages import Opened, next_batch, recovered, refused, unavailable
from tests.transports.proxy import Proxy
from tests.transports.valkey import Valkey
from transports import (
    Entry,
    HistoryTrimmed,
    Transport,
    TransportFull,
    Update,
)
from transports.redis.transport import RedisTransport
from transports.redis.url import Parameters
from transports.testing.suite import DEADLINE, TOPICS, an_update, collect, fill, ids, waiting

UPDATES = "{mercure}:updates"


@pytest.fixture
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
async def transport(server: Valkey, opened: Opened) -> Transport:
    return await opened(server.url())


def add(server: Valkey, name: object, stream_id: str = "*") -> None:
    """What any program can do."""
    text = json.dumps({"id": f"urn:uuid:{name}", "topics": TOPICS})
    server.client.xadd(UPDATES, {"update": text}, id=stream_id)


async def test_any_program_can_read(server: Valkey, transport: Transport) -> None:
    """An entry's field "update" is the update as JSON."""
    await transport.append(an_update(1, data="é"))
    ((_, fields),) = server.client.xrange(UPDATES)
    assert json.loads(fields[b"update"]) == {"id": "urn:uuid:1", "topics": [*TOPICS], "data": "é", "private": False}


async def test_any_program_can_add(server: Valkey, transport: Transport) -> None:
    """An update that a stranger adds is delivered in order, found by its id, and trimmed with it."""
    first = await transport.append(an_update(1))
    task = await waiting(transport, first.position)
    add(server, "stranger")
    async with asyncio.timeout(DEADLINE):
        (entry,) = await task
    assert entry.update.id == "urn:uuid:stranger"
    assert await transport.position_of(entry.update.id) == entry.position
    await transport.append(an_update(3))
    assert ids(await collect(transport, first.position, 2)) == ["urn:uuid:stranger", "urn:uuid:3"]


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        "1",
        "[" * 100_000,
        "{}",
        '{"id":"","topics":["t"]}',
        '{"id":"a","topics":[]}',
        '{"id":"a","topics":[1]}',
        '{"id":"a\\nb","topics":["t"]}',
        '{"id":"a","topics":["t"],"data":"\\ud800"}',
        '{"id":"a","topics":["t"],"retry":"soon"}',
        '{"id":"a","topics":["t"],"type":0}',
        b"\xff",
        None,
    ],
    ids=lambda text: str(text)[:20].replace("\\", "/"),
)
async def test_what_is_no_update(
    server: Valkey, opened: Opened, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An entry that is no update is skipped by all, trimmed like any, and said once, without what is in it."""
    transport = await opened(server.url(size=4))
    first = await transport.append(an_update(1))
    for _ in range(3):
        server.client.xadd(UPDATES, {"other": "x"} if text is None else {"update": text})
    assert await transport.last() == (first.position, first.id)
    assert await transport.read(first.position, 1) == []
    await transport.append(an_update(2))
    assert ids(await collect(transport, 0, 1)) == ["urn:uuid:2"]
    assert ids(await transport.read(0, 1)) == ["urn:uuid:2"]
    await fill(transport, range(3, 6))
    assert server.client.xlen(UPDATES) == 4
    assert len([record for record in caplog.records if "is no update" in record.message]) == 1


async def test_names_are_trimmed_with_their_entries(server: Valkey, opened: Opened) -> None:
    """Ids, keys and chains of one id go with the entries that have them: nothing is left over."""
    transport = await opened(server.url(size=10))
    for n in range(200):
        await transport.append(an_update(n % 7 if n < 150 else n, idempotency_key=str(n)))
    sizes = [server.client.hlen(f"{{mercure}}:{name}") for name in ("ids", "keys", "again")]
    assert [server.client.xlen(UPDATES), *sizes] == [10, 10, 10, 0]


async def test_old_entries_go(server: Valkey, opened: Opened) -> None:
    """What is older than the ttl goes with the next append, 16 at a time."""
    for n in range(1, 21):
        add(server, n, f"{n}-1")
    transport = await opened(server.url(ttl="1h"))
    await transport.append(an_update("new"))
    assert server.client.xlen(UPDATES) == 5
    await transport.append(an_update("newer"))
    assert server.client.xlen(UPDATES) == 2


async def test_trimmed_by_a_stranger(server: Valkey, transport: Transport) -> None:
    """Whatever trimmed the stream, a cursor before the first entry left gets `HistoryTrimmed`."""
    first, *_, newest = await fill(transport, range(5))
    server.client.xtrim(UPDATES, maxlen=2, approximate=False)
    for use in (transport.read(first.position, 1), anext(transport.tail(first.position))):
        with pytest.raises(HistoryTrimmed):
            await use
    assert await transport.read(newest.position, 1) == []


async def test_overtaken_from_the_beginning(server: Valkey, opened: Opened) -> None:
    """A tail of the empty log that trimming overtakes before it has asked for what follows is told as well."""
    transport = await opened(server.url(size=3))
    assert isinstance(transport, RedisTransport)
    await fill(transport, range(5))
    with pytest.raises(HistoryTrimmed):
        await transport._changes_since(transport._open().reads, 0)


async def test_flushed(server: Valkey, transport: Transport) -> None:
    """A live tail is told of a FLUSHALL with the first update after it; a new one goes on from there."""
    *_, newest = await fill(transport, ["a", "a"])
    task = await waiting(transport, newest.position)
    server.client.flushall()
    first = await transport.append(an_update("a"))
    with pytest.raises(HistoryTrimmed):
        await asyncio.wait_for(task, DEADLINE)
    assert await transport.position_of(first.id) == first.position
    await transport.append(an_update("b"))
    assert ids(await next_batch(transport, first.position)) == ["urn:uuid:b"]


@pytest.mark.parametrize("later", ["nothing", "an entry with a smaller id"])
async def test_ids_that_go_backwards(
    server: Valkey, transport: Transport, later: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail does not wait for a larger id for ever, when the stream that it stood in is gone."""
    monkeypatch.setattr(transports.redis.transport, "BLOCK", 50)
    newest = await transport.append(an_update(1))
    task = await waiting(transport, newest.position)
    server.client.flushall()
    if later != "nothing":
        add(server, "old", "1-1")
    with pytest.raises(HistoryTrimmed):
        await asyncio.wait_for(task, DEADLINE)
    with pytest.raises(HistoryTrimmed):
        await next_batch(transport, newest.position)


async def test_an_outage(server: Valkey, opened: Opened) -> None:
    """Everything says so at once while the server is gone; a second after its return all goes on, cursors too."""
    transport, other = await opened(server.url()), await opened(server.url())
    first = await transport.append(an_update(1))
    tail = await waiting(transport, first.position)
    server.client.save()
    server.kill()
    uses = (transport.append(an_update(2)), transport.read(0, 1), transport.last(), transport.check(), tail)
    for error in await asyncio.gather(*map(unavailable, (*uses, anext(transport.tail(first.position))))):
        assert error.__cause__ is not None
    server.start()
    written = await other.append(an_update("meanwhile"))
    await recovered(transport)
    assert ids(await collect(transport, first.position, 2)) == [written.id, "urn:uuid:back"]


async def test_a_server_that_hangs(server: Valkey, transport: Transport) -> None:
    """A server that stands still is not waited for; once it goes on, so does everything."""
    await transport.append(an_update(1))
    server.signal(signal.SIGSTOP)
    try:
        uses = [transport.append(an_update(n)) for n in range(2, 600)]
        await asyncio.gather(*map(unavailable, [*uses, transport.read(0, 1), transport.check()]))
    finally:
        server.signal(signal.SIGCONT)
    await recovered(transport)


async def test_a_start_without_a_server(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """`open` does not wait for a server that is not there yet; once it is, the log is ready."""
    server = Valkey()
    transport = await opened(server.url())
    assert "not there yet" in caplog.text
    await unavailable(transport.check())
    with server:
        await transport.check()
        await recovered(transport)


async def test_a_lost_reply(server: Valkey, opened: Opened) -> None:
    """An append whose reply is lost raises and is there once; with its key it can be sent again."""
    async with Proxy(server) as proxy:
        transport = await opened(proxy.url)
        first = await transport.append(an_update(1))
        proxy.losing = True
        await unavailable(transport.append(an_update(2, idempotency_key="k")))
        again = await transport.append(an_update(3, idempotency_key="k"))
        assert (again.id, again.repeated) == ("urn:uuid:2", True)
        await transport.append(an_update(4))
        assert ids(await collect(transport, first.position, 2)) == ["urn:uuid:2", "urn:uuid:4"]
        await transport.close()


async def test_a_replica(server: Valkey, transport: Transport) -> None:
    """A server that has become a replica does not answer for the log; once it is promoted it does."""
    await transport.append(an_update(1))
    server.client.replicaof("127.0.0.1", "1")
    assert "read only" in str(await unavailable(transport.append(an_update(2))))
    await unavailable(transport.check())
    server.client.replicaof("no", "one")
    await recovered(transport)


async def test_no_memory(server: Valkey, transport: Transport) -> None:
    """A server that others have filled is full, even without history; the newest update stays."""
    await transport.append(an_update(1))
    await transport.append(an_update(2))
    server.client.config_set("maxmemory", 1)
    with pytest.raises(TransportFull):
        await transport.append(an_update(3))
    server.client.config_set("maxmemory", 0)
    assert [entry.update.id for entry in await transport.read(0, 10)] == ["urn:uuid:2"]


async def test_the_oldest_go_on_a_server_without_memory(
    server: Valkey, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    """Every append is taken, one by one and many at once; the newest are there, each once, with all that names them."""
    server.client.config_set("maxmemory", int(server.client.info("memory")["used_memory"]) + 4_000_000)
    ids = []
    for start in range(0, 2000, 40):
        updates = [an_update(n, data="x" * 10_000, idempotency_key=str(n)) for n in range(start, start + 40)]
        ids += [(await transport.append(updates[0])).id]
        ids += [receipt.id for receipt in await asyncio.gather(*map(transport.append, updates[1:]))]
    kept = await collect_all(transport)
    assert len(ids) == 2000
    assert 50 < len(kept) < 1000
    found = [entry.update.id for entry in kept]
    assert len(set(found)) == len(found)
    assert set(found) <= set(ids)
    assert set(ids[-40:]) <= set(found)
    names = {name.rpartition(":")[2]: name for name in map(bytes.decode, server.client.keys("*"))}
    assert server.client.hlen(names["ids"]) == server.client.hlen(names["keys"]) == len(kept)
    assert await transport.position_of(ids[0]) is None
    with pytest.raises(HistoryTrimmed):
        await transport.read(1 << 64, 10)
    assert caplog.text.count("the oldest updates are deleted") == 1
    server.client.config_set("maxmemory", 0)


async def collect_all(transport: Transport) -> list[Entry]:
    entries: list[Entry] = []
    while page := await transport.read(entries[-1].position if entries else 0, 1000):
        entries += page
    return entries


def test_history_is_bounded_by_default() -> None:
    """A million updates, or as the URL says; 0 is no bound."""
    sizes = {"": 1_000_000, "?size=5": 5, "?size=0": 0}
    assert {query: Parameters.of(f"redis://host{query}").size for query in sizes} == sizes


async def test_forgotten_scripts(server: Valkey, transport: Transport) -> None:
    """A server that has forgotten the script is given it again."""
    await transport.append(an_update(1))
    server.client.script_flush()
    await asyncio.gather(*(transport.append(an_update(n)) for n in range(2, 5)))
    assert len(await transport.read(0, 10)) == 4


async def test_passwords(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password ends the start, a right one opens; neither is shown."""
    with Valkey("--requirepass", "top/secret") as server:
        for login in ("", ":guess@", "user:guess@", ":top%2Fsecre@"):
            text = await refused(server.url().replace("://", f"://{login}"))
            assert "refuses the user or the password" in text
            assert "guess" not in text + caplog.text
            assert "top" not in text + caplog.text
        await (await opened(server.url().replace("://", "://:top%2Fsecret@"))).check()
        await (await opened(server.url().replace("://", "://default:top%2Fsecret@"))).check()


async def test_databases(server: Valkey, opened: Opened) -> None:
    """Databases and prefixes keep logs apart; a database that is not there ends the start."""
    async with Proxy(server) as proxy:
        for url in (proxy.url, f"{proxy.url}/1", f"{proxy.url}/1?prefix=b", server.url(db=2)):
            transport = await opened(url)
            assert await transport.last() == (0, "earliest")
            await transport.append(an_update(1))
            await transport.close()
        assert "refuses to work" in await refused(f"{proxy.url}/99")


async def test_not_redis() -> None:
    """Something else that listens there ends the start."""

    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert "is not Redis" in await refused(f"redis://127.0.0.1:{port}")
        await left.wait()


async def test_an_old_server(server: Valkey) -> None:
    """A server that is too old ends the start."""
    async with Proxy(server, lambda data: data.replace(b"redis_version:7.2.4", b"redis_version:6.0.9")) as proxy:
        assert "the server is Redis 6.0.9; 6.2 or newer is needed" in await refused(proxy.url)


@pytest.mark.parametrize("name", ["updates", "ids", "keys", "again"])
async def test_a_key_of_somebody_else(server: Valkey, name: str) -> None:
    """A key of ours that is of another type ends the start, and is left as it is."""
    server.client.set(f"{{mercure}}:{name}", "theirs")
    assert f"the key {{mercure}}:{name} is another program's string" in await refused(server.url())
    assert server.client.get(f"{{mercure}}:{name}") == b"theirs"


async def test_one_line_a_minute(server: Valkey, transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    """What is no update is counted, and spoken of again after a minute."""
    assert isinstance(transport, RedisTransport)
    caplog.set_level(logging.WARNING)
    server.client.xadd(UPDATES, {"x": "y"})
    for said in (1, 1):
        await transport.read(0, 1)
        assert len(caplog.records) == said
    transport._skipped._tell._quiet_until = 0.0
    await transport.read(0, 1)
    assert [record.getMessage().rpartition(", ")[2] for record in caplog.records] == ["as 0 before", "as 2 before"]


def asked(server: Valkey) -> int:
    """Commands that the server has been sent by anybody, this question included."""
    return sum(each["calls"] for name, each in server.client.info("commandstats").items() if name not in INSIDE)


INSIDE = frozenset(f"cmdstat_{name}" for name in ("xadd", "hset", "hget", "hdel", "xrevrange", "xlen", "xdel", "del"))
"""What the script does."""


async def test_one_append_is_one_round_trip(server: Valkey, opened: Opened) -> None:
    """Of an append the server sees one command in one packet; of those that wait together, one packet."""
    async with Proxy(server) as proxy:
        transport = await opened(proxy.url)
        await transport.append(an_update("the script is known"))
        proxy.asked.clear()
        before = asked(server)
        for n in range(10):
            await transport.append(an_update(n))
        assert len(proxy.asked) == 10
        assert asked(server) - before == 10 + 1
        proxy.asked.clear()
        await asyncio.gather(*(transport.append(an_update(n)) for n in range(100)))
        assert len(proxy.asked) <= 2
        assert all(b"EVALSHA" in data for data in proxy.asked)
        await transport.close()


async def test_history_costs_the_client_no_memory(server: Valkey, opened: Opened) -> None:
    """4,000 entries of as many topics and ids leave nothing in this process; names and entries go together."""
    transport = await opened(server.url(size=1000))

    async def fill_up(begin: int, end: int) -> int:
        for start in range(begin, end, 500):
            names = range(start, start + 500)
            updates = [Update(f"urn:uuid:{n}", (f"https://example.com/{n}",), "x" * 100) for n in names]
            await asyncio.gather(*map(transport.append, updates))
            await transport.read((await transport.last())[0], 1)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await fill_up(0, 1000)
        assert await fill_up(1000, 5000) - before < 100_000
    finally:
        tracemalloc.stop()
    assert server.client.xlen(UPDATES) == server.client.hlen("{mercure}:ids") == 1000


async def test_a_count_that_is_none(server: Valkey, transport: Transport) -> None:
    """What a stranger writes among the nodes is passed over."""
    await transport.presence.enter("a", {})
    server.client.hset(next(key for key in server.client.keys("*:nodes")), "stranger", "soon")
    assert (await transport.presence.beat("a")).keys() == {"a"}
