"""Subscriptions that begin and end, in one process and in several, with hubs that die, freeze and lose their store."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hub.auth.grants import ANONYMOUS, Grants, Payload
from hub.matching.matchers import Matcher, Matching
from hub.presence.active import PART, ActiveSubscriptions, Watch
from tests.hub.serving import until
from transports import Transport, TransportFull, TransportUnavailable, Update, open_transport

LEASE = 0.6
BEAT = 0.1
A, B = Matcher("exact", "a"), Matcher("topic", "b{?x}")


@pytest.fixture(params=["memory://", "lmdb://{}/hub", "lmdb://{}/hub?lock=shared"])
async def transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Transport]:
    transport = open_transport(request.param.format(tmp_path))
    await transport.open()
    yield transport
    await transport.close()


@asynccontextmanager
async def process(transport: Transport) -> AsyncIterator[ActiveSubscriptions]:
    """One hub's part; it dies at the end, without a word."""
    active = ActiveSubscriptions(transport, Matching("https://hub/"), lease=LEASE, beat=BEAT)
    tasks = [asyncio.create_task(active.announce()), asyncio.create_task(active.watch())]
    try:
        yield active
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def told(transport: Transport) -> list[tuple[str, bool]]:
    """What the log says: which subscription, and whether it is active."""
    documents = [json.loads(update.data) for _, update in await transport.read(0, 10_000)]
    return [(document["id"], document["active"]) for document in documents]


async def until_told(transport: Transport, condition: Callable[[Counter[bool]], bool]) -> list[tuple[str, bool]]:
    async with asyncio.timeout(10):
        while not condition(Counter(active for _, active in await told(transport))):
            await asyncio.sleep(0.01)
    return await told(transport)


async def until_listed(transport: Transport, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await transport.presence.all()) != count:
            await asyncio.sleep(0.01)


def begin(active: ActiveSubscriptions, streams: Iterable[object], *matchers: Matcher) -> None:
    for stream in streams:
        active.begin(stream, matchers, ANONYMOUS)


async def looking(transport: Transport) -> tuple[ActiveSubscriptions, Watch]:
    """A hub's part without its tasks, with one subscription, in the store for a while."""
    active, watch = ActiveSubscriptions(transport, Matching("https://hub/")), Watch(LEASE, BEAT)
    begin(active, ["one"], A)
    await active._settle()
    await active._look(watch)
    return active, watch


async def test_each_matcher_begins_and_ends_once(transport: Transport) -> None:
    """Two matchers are two subscriptions of one subscriber; both are listed while it is there."""
    async with process(transport) as active:
        begin(active, ["stream"], A, B)
        events = await until_told(transport, lambda seen: seen[True] == 2)
        listed = await transport.presence.all()
        assert listed.keys() == {id for id, _ in events}
        assert len({json.loads(document)["subscriber"] for document in listed.values()}) == 1
        active.end("stream")
        active.end("stream")
        await until_told(transport, lambda seen: seen[False] == 2)
        await until_listed(transport, 0)
        assert len(await told(transport)) == 4


async def test_many_at_once(transport: Transport) -> None:
    """More than one part of them, some of which have left before anybody was told: begin comes before end."""
    async with process(transport) as active:
        begin(active, range(3 * PART), A)
        for stream in range(0, 3 * PART, 2):
            active.end(stream)
        events = await until_told(transport, lambda seen: sum(seen.values()) == 4.5 * PART)
        state: dict[str, list[bool]] = {}
        for id, is_active in events:
            state.setdefault(id, []).append(is_active)
        assert sorted(state.values()) == [[True]] * (3 * PART // 2) + [[True, False]] * (3 * PART // 2)
        await until_listed(transport, 3 * PART // 2)


async def test_payloads_are_attached() -> None:
    """The first grant whose topics select the matcher's own text gives the payload, also if that is none."""
    matching = Matching("https://hub/")
    grants = Grants(
        payloads=(
            Payload((Matcher("exact", "https://e.com/foo"),), {"n": 1}),
            Payload((Matcher("urlpattern", "https://e.com/bar/:id"),), {"n": 2}),
            Payload((Matcher("exact", "https://e.com/none"),), None),
            Payload((Matcher("exact", "*"),), {"n": 3}),
        )
    )
    found = {
        text: grants.payload(Matcher("exact", f"https://e.com/{text}"), matching) for text in ("foo", "bar/:id", "none")
    }
    assert found == {"foo": {"n": 1}, "bar/:id": {"n": 2}, "none": None}
    assert grants.payload(Matcher("topic", "x"), matching) == {"n": 3}


async def test_a_killed_process_is_announced_once(tmp_path: Path) -> None:
    """Two others notice that a third has died; each of its subscriptions ends once, and theirs go on."""
    transport = open_transport(f"lmdb://{tmp_path}/hub?lock=shared")
    await transport.open()
    async with process(transport) as one, process(transport) as two:
        async with process(transport) as killed:
            begin(one, ["one"], A)
            begin(two, ["two"], A)
            begin(killed, range(PART + 10), A)
            await until_told(transport, lambda seen: seen[True] == PART + 12)
        await until_told(transport, lambda seen: seen[False] == PART + 10)
        async with asyncio.timeout(10):
            while len(await transport.presence.beat("")) > 2:
                await asyncio.sleep(BEAT)
        assert len(await transport.presence.all()) == 2
        assert max(Counter(await told(transport)).values()) == 1
        assert len(await told(transport)) == 2 * (PART + 11)
    await transport.close()


async def test_whoever_buries_many_lives(transport: Transport) -> None:
    """The ends of a dead hub's subscriptions may take longer than a lease: the signs of life go on in between."""
    active, _ = await looking(transport)
    dead, _ = await looking(transport)
    begin(dead, range(3 * PART), A)
    await dead._settle()
    counts = await transport.presence.beat("")
    await active._bury(dead._node, counts[dead._node])
    assert (await transport.presence.beat("")) == {active._node: counts[active._node] + 4}


async def test_an_end_survives_who_tells_it(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that dies while it announces an end has not taken the subscription out of the store before."""
    active, _ = await looking(transport)

    async def dying(update: Update) -> Any:
        raise asyncio.CancelledError

    monkeypatch.setattr(transport, "append", dying)
    active.end("one")
    with pytest.raises(asyncio.CancelledError):
        await active._settle()
    monkeypatch.undo()
    (document,) = (await transport.presence.all()).values()
    assert json.loads(document)["active"] is False
    other, _ = await looking(transport)
    await other._bury(active._node, 1)
    assert Counter(is_active for _, is_active in await told(transport)) == {True: 2, False: 1}


async def test_the_next_process_of_an_exclusive_store_announces_at_once(tmp_path: Path) -> None:
    """The holder of the lock knows that all others have ended."""
    for number in range(2):
        transport = open_transport(f"lmdb://{tmp_path}/hub")
        await transport.open()
        async with process(transport) as active:
            if number:
                events = await until_told(transport, lambda seen: seen[False] == 1)
                assert events == [(events[0][0], True), (events[0][0], False)]
            else:
                begin(active, ["stream"], A)
                await until_told(transport, lambda seen: seen[True] == 1)
        await transport.close()


async def test_taken_for_dead(transport: Transport) -> None:
    """A process that was frozen begins anew: what others said has ended is announced as somebody else's."""
    async with process(transport) as active:
        begin(active, ["stream"], A)
        await until_told(transport, lambda seen: seen[True] == 1)
        other = ActiveSubscriptions(transport, Matching("https://hub/"))
        (node,) = await transport.presence.beat("")
        async with asyncio.timeout(10):
            while not await transport.presence.expire(node, (await transport.presence.beat(""))[node]):
                await asyncio.sleep(0)
        await other._bury(node, -1)
        events = await until_told(transport, lambda seen: seen[True] == 2)
        ended = [id for id, is_active in events if not is_active]
        assert ended == [events[0][0]]
        assert list(await transport.presence.all()) == [id for id, is_active in events if is_active and id not in ended]
        active.end("stream")
        await until_told(transport, lambda seen: seen[False] == 2)
        await until_listed(transport, 0)


async def test_forgotten_and_entered_again(transport: Transport) -> None:
    """A subscriber that comes before the hub notices that its store has forgotten it does not hide the others."""
    active, watch = await looking(transport)
    node = active._node
    await transport.presence.forget(node)
    begin(active, ["two"], A)
    await active._settle()
    await active._look(watch)
    await active._settle()
    await active._bury(node, 1)
    assert len(await transport.presence.all()) == 2
    state = dict(await told(transport))
    assert {id for id, is_active in state.items() if is_active} >= (await transport.presence.all()).keys()


async def test_a_store_that_went_back_in_time(transport: Transport) -> None:
    """After an outage what is listed is what is held: who has left since is told to have, who has come is listed."""
    active, watch = await looking(transport)
    (before,) = (await transport.presence.all()).items()
    active.end("one")
    begin(active, ["two"], B)
    await active._settle()
    (after,) = await transport.presence.all()
    # A replica takes over that has seen neither.
    await transport.presence.leave(active._node, [after])
    await transport.presence.enter(active._node, dict([before]))
    active.doubt()
    await active._look(watch)
    await active._settle()
    assert list(await transport.presence.all()) == [after]
    assert await told(transport) == [(before[0], True), (after, True), (before[0], False)]


async def test_death_is_noticed_once(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub learns of it by a refused entry while its sign of life is under way: its subscriptions begin anew once."""
    active, watch = await looking(transport)
    node, beat = active._node, transport.presence.beat
    await transport.presence.expire(node, 1)

    async def beaten(node: str) -> Mapping[str, int]:
        counts = await beat(node)
        begin(active, ["two"], A)
        await active._settle()
        return counts

    monkeypatch.setattr(transport.presence, "beat", beaten)
    await active._look(watch)
    monkeypatch.undo()
    await active._settle()
    await active._bury(node, -1)
    assert len(await transport.presence.all()) == 2


async def test_an_outage(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store does not answer nothing is lost: what began and ended meanwhile is told afterwards, once."""
    append, failures = transport.append, 0

    async def failing(update: Update) -> Any:
        nonlocal failures
        receipt = await append(update)
        if failures < 3:
            failures += 1
            raise TransportUnavailable("its reply was lost")
        return receipt

    monkeypatch.setattr(transport, "append", failing)
    monkeypatch.setattr("hub.presence.active.ANNOUNCE_RETRY", 0.01)
    async with process(transport) as active:
        begin(active, range(3), A)
        active.end(0)
        await until_told(transport, lambda seen: seen == {True: 3, False: 1})
        await until(lambda: failures == 3)
        assert len(await told(transport)) == 4


async def test_a_crowd_in_an_outage(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that come and go while nobody can be told take no memory; the rest is told when that is possible."""
    monkeypatch.setattr("hub.presence.active.CROWDED", 100)
    active, _ = await looking(transport)
    for stream in range(1000):
        begin(active, [stream], A, B)
        if stream >= 30:
            active.end(stream)
        assert len(active._changes) <= 2 * 2 * 31
    active.end("one")
    await active._settle()
    assert len(await transport.presence.all()) == 60
    state = dict(await told(transport))
    assert {id for id, is_active in state.items() if is_active} == (await transport.presence.all()).keys()


async def test_a_full_store(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no room for what begins, what ends is told and makes some; who came and went leaves no trace."""
    monkeypatch.setattr("hub.presence.active.ANNOUNCE_RETRY", 0.01)
    enter, room = transport.presence.enter, 3

    async def entering(node: str, subscriptions: Mapping[str, bytes]) -> bool:
        if len({**await transport.presence.all(), **subscriptions}) > room:
            raise TransportFull("no room")
        return await enter(node, subscriptions)

    monkeypatch.setattr(transport.presence, "enter", entering)
    async with process(transport) as active:
        begin(active, range(2), A)
        await until_told(transport, lambda seen: seen == {True: 2})
        begin(active, range(2, 5), A)
        await until(lambda: active._late)
        active.end(4)
        active.end(0)
        await until_told(transport, lambda seen: seen == {True: 4, False: 1})
        await until_listed(transport, 3)
        assert max(Counter(await told(transport)).values()) == 1


async def test_closing(transport: Transport) -> None:
    """A process that ends properly announces its own ends, and is not missed."""
    async with process(transport) as active:
        begin(active, range(10), A)
        await active.close()
        assert Counter(is_active for _, is_active in await told(transport)) == {True: 10, False: 10}
        assert not await transport.presence.all()
        assert not await transport.presence.beat("")


async def test_a_closed_store_is_left_quietly(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    """The store may be closed before the streams; nothing fails, and nobody is warned."""
    async with process(transport) as active:
        begin(active, range(10), A)
        await transport.close()
        active.end(1)
        with suppress(TimeoutError):
            await active.close()
    assert not caplog.records


def test_only_a_whole_lease_under_watch_counts() -> None:
    """Nobody is judged by time in which the judge was blind, frozen, or had just begun to look."""
    watch = Watch(10, 4)
    assert not watch.still({"a": 1}, 0)
    assert not watch.still({"a": 1}, 3)
    watch.restart()
    for now in range(4, 14, 3):
        assert not watch.still({"a": 1, "b": now}, now)
    assert watch.still({"a": 1, "b": 14}, 14) == [("a", 1)]
    assert not watch.still({"a": 1}, 19)
    for now in range(20, 29, 3):
        assert not watch.still({"a": 1}, now)
    assert watch.still({"a": 1}, 29) == [("a", 1)]
    assert not watch.still({"a": 2}, 30)


async def test_what_a_stranger_has_left(transport: Transport) -> None:
    """A dead node's rows that are no documents are passed over; the rest is announced."""
    await transport.presence.enter("dead", {"/a": b"{", "/b": b"[]", "/c": b'{"id":"/c"}', "/d": b"\xff"})
    async with process(transport):
        assert await until_told(transport, lambda seen: seen[False] == 1) == [("/c", False)]
        async with asyncio.timeout(10):
            while "dead" in await transport.presence.beat(""):
                await asyncio.sleep(BEAT)


async def test_subscriptions_leave_the_log_its_room(tmp_path: Path) -> None:
    """What is there takes an eighth of the map at most: then nobody else is listed, and updates are stored as ever."""
    transport = open_transport(f"lmdb://{tmp_path}/hub?map_size=4MiB")
    await transport.open()
    parts = [{f"/{part}-{n}": b"x" * 400 for n in range(100)} for part in range(100)]
    with pytest.raises(TransportFull):
        await asyncio.gather(*(transport.presence.enter("a", part) for part in parts))
    for n in range(1000):
        await transport.append(Update(f"urn:{n}", ("a",), "x" * 1000))
    assert len(await transport.read(0, 2000)) > 500
    await transport.presence.leave("a", list(await transport.presence.all()))
    assert await transport.presence.enter("a", {"/1": b"{}"})
    await transport.close()
