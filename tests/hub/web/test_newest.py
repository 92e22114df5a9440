"""`last=1`: a stream begins with the newest update of each topic and goes on without a gap or a double."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from hub.fanout import newest
from tests.hub.serving import TOPIC, WIRES, Served, bearer, problem, received, serving, token
from tests.transports.postgresql import Postgres, a_schema
from transports import EARLIEST, Update

BOOKS = [f"https://example.com/books/{n}" for n in range(5)]
STORES = ["memory://", "lmdb://{folder}/store?index=topics", "postgresql"]


@pytest.fixture(params=STORES, ids=["memory", "lmdb", "postgresql"])
async def served(request: pytest.FixtureRequest, tmp_path: object) -> AsyncIterator[Served]:
    url = request.param.format(folder=tmp_path)
    if url == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url(schema=a_schema(), index="topics")
    async with serving(WIRES["taken-over"], transport_url=url) as running:
        async with asyncio.timeout(10):
            while running.hub.transport.index is None:
                await asyncio.sleep(0.01)
        yield running


async def test_the_newest_of_each(served: Served) -> None:
    """One of each topic that matches, in the order of the log, then what is new."""
    for data, topic in (("old", 1), ("zero", 0), ("one", 1), ("two", 2), ("other", 4)):
        await served.publish(data, BOOKS[topic])
    async with served.subscribe(match=[*BOOKS[:4], "https://example.com/none"], last="1") as stream:
        assert [each.data for each in await stream.take(3)] == ["zero", "one", "two"]
        await served.publish("three", BOOKS[3])
        await served.publish("one again", BOOKS[1])
        assert [each.data for each in await stream.take(2)] == ["three", "one again"]


@pytest.mark.parametrize(
    "query",
    [
        {"match_urlpattern": "https://example.com/books/*"},
        {"match_urlpattern": "/books/:id", "match": BOOKS[3]},
        {"topic": "https://example.com/books/{id}"},
        {"topic": "*"},
    ],
    ids=str,
)
async def test_by_patterns(served: Served, query: dict[str, str]) -> None:
    """Patterns are held against the topics that history has; an update with two of them comes once."""
    await served.publish("both", [BOOKS[0], BOOKS[1]])
    await served.publish("three", BOOKS[3])
    wanted = ["both", "three"] if "/books/:id" not in query.values() else ["three"]
    async with served.subscribe(**query, last="1") as stream:
        assert [each.data for each in await stream.take(len(wanted))] == wanted
        await served.publish("new", BOOKS[3])
        assert (await stream.next()).data == "new"


async def test_private_ones_by_grant(served: Served) -> None:
    """Of what a subscriber may not read it gets the one before, which it may; with a grant the newest."""
    await served.publish("public")
    await served.publish("private", private="on")
    async with served.subscribe(topic=TOPIC, last="1") as stranger:
        assert (await stranger.next()).data == "public"
        async with served.subscribe(bearer(token(subscribe=[TOPIC])), topic=TOPIC, last="1") as granted:
            assert (await granted.next()).data == "private"
            await served.publish("end")
            assert (await granted.next()).data == (await stranger.next()).data == "end"


async def test_a_cursor_counts_before_it(served: Served) -> None:
    """Who comes back gets what it missed; where history no longer has that, the newest again, and is told so."""
    first = await served.publish("one")
    await served.publish("two")
    await served.publish("three")
    async with served.subscribe({"Last-Event-ID": first}, topic=TOPIC, last="1") as stream:
        assert [each.data for each in await stream.take(2)] == ["two", "three"]
    async with served.subscribe({"Last-Event-ID": "urn:gone"}, topic=TOPIC, last="1") as stream:
        assert stream.response.headers["Mercure-Last-Event-ID"] == EARLIEST
        assert (await stream.next()).data == "three"
    async with served.subscribe({"Last-Event-ID": EARLIEST}, topic=TOPIC, last="1") as stream:
        assert [each.data for each in await stream.take(3)] == ["one", "two", "three"]


async def test_neither_gap_nor_double(served: Served) -> None:
    """Beside publishers each stream is the newest of each topic at one moment, then all that came after that."""
    chance, log = random.Random(7), served.hub.transport

    async def publish(publisher: int) -> None:
        for n in range(60):
            await log.append(Update(f"{publisher}-{n}", (chance.choice(BOOKS),)))

    publishing = [asyncio.create_task(publish(publisher)) for publisher in range(4)]
    query = "&".join(f"match={topic}" for topic in BOOKS)
    readers = []
    async with AsyncExitStack() as stack:
        stack.push_async_callback(served.hang_up)
        for n in range(40):
            where = "match_urlpattern=*://*/books/*" if n % 2 else query
            readers.append((await served.stream(query=f"{where}&last=1"))[0])
            await asyncio.sleep(0.002)
        await asyncio.gather(*publishing)
        end = await log.append(Update("end", (BOOKS[0],)))
        entries = [*await log.read(0, 256)]
        assert entries[-1].position == end.position
        ids, topics = [entry.update.id for entry in entries], [entry.update.topics[0] for entry in entries]
        for reader in readers:
            got: list[str] = []
            while "end" not in got:
                got += await received(reader, 1)
            places = [ids.index(each) for each in got]
            assert places == sorted(set(places))
            assert any(is_whole(places, cut, topics) for cut in range(len(ids) + 1))


def is_whole(places: list[int], cut: int, topics: list[str]) -> bool:
    """Is it what came after the cut, and before that the newest of each topic, but of those with a newer one?"""
    newest_then = {topic: place for place, topic in enumerate(topics[:cut])}
    opening = [place for place in places if place < cut]
    missing = {topic for topic, place in newest_then.items() if place not in opening}
    return (
        set(opening) <= set(newest_then.values())
        and places[len(opening) :] == [*range(cut, len(topics))]
        and missing <= set(topics[cut:])
    )


async def test_what_can_not_be_sent(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """More topics than are sent, more bytes, or more topics than are looked at, are a 413 with a sentence."""
    for topic in BOOKS:
        await served.publish("x", topic)
    monkeypatch.setattr(newest, "MOST", 4)
    answer = await served.client.get(served.url, params={"topic": "https://example.com/books/{id}", "last": "1"})
    assert "more than 4 topics match" in problem(answer)["detail"]
    monkeypatch.setattr(newest, "MOST", 5)
    monkeypatch.setattr(newest, "TOGETHER", 2)
    monkeypatch.setattr(newest, "LARGEST", 100)
    answer = await served.client.get(served.url, params={"match": BOOKS, "last": "1"})
    assert "newest updates of these topics have more than" in problem(answer)["detail"]
    monkeypatch.setattr(newest, "LOOKED_AT", 3)
    answer = await served.client.get(served.url, params={"topic": "*", "last": "1"})
    assert "history has more than 3 topics" in problem(answer)["detail"]


async def test_a_store_without_an_index(tmp_path: object) -> None:
    """It is said, and how to have one; with the strict protocol the parameter means nothing."""
    async with serving(WIRES["taken-over"], transport_url=f"lmdb://{tmp_path}/store") as served:
        answer = await served.client.get(served.url, params={"topic": TOPIC, "last": "1"})
        assert "needs index=topics in its URL" in problem(answer)["detail"]
    async with serving(WIRES["taken-over"], transport_url="memory://", strict_protocol=True) as served:
        await served.publish("old")
        async with served.subscribe(topic=TOPIC, last="1") as stream:
            await served.publish("new")
            assert (await stream.next()).data == "new"
