"""`Client` and `AsyncClient` against real hubs: retries that are safe, streams that come back, and what they refuse."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from signal import SIGKILL

import httpx
import jwt
import pytest

from hub.client.clients import AsyncClient, Client, Event, Gap, Key, Refused, Unreachable, Update
from hub.generations import PATH
from tests.e2e.processes import DEADLINE, Hubs, free_port, until
from tests.hub.serving import KEY, TOPIC, serving, token

STORE = "lmdb://store"
TASKS, EACH = 64, int(os.environ.get("EACH", "16"))
"""Publications of the test with kills: enough for each kill to hit many; ``EACH`` asks for more."""
LONG = DEADLINE * (1 + EACH / 8)
"""Seconds that they may take."""
WRITER = Key(KEY, publish=["*"])


async def taken(client: AsyncClient, count: int, **wanted: object) -> list[Event | Gap]:
    """The first of a subscription to `TOPIC`."""
    found = []
    async with asyncio.timeout(DEADLINE):
        async for each in client.subscribe([TOPIC], **wanted):  # type: ignore[arg-type]
            found.append(each)
            if len(found) == count:
                break
    return found


async def test_exactly_once_through_kills(hubs: Hubs) -> None:
    """Thousands of publications over 64 tasks, the hub killed twice: each is stored once, in one order for a reader."""
    port = free_port()

    hub = hubs.start(STORE, listen=f"127.0.0.1:{port}")
    await hub.listening()
    url, done, seen = f"http://127.0.0.1:{port}{PATH}", [0], []
    async with AsyncClient(url, token=WRITER, patience=DEADLINE) as client, AsyncClient(url) as reader:

        async def read() -> None:
            async for each in reader.subscribe([TOPIC], last_event_id="earliest"):
                assert isinstance(each, Event)
                seen.append(each)

        async def write(number: int) -> list[str]:
            ids = []
            for each in range(EACH):
                ids.append(await client.publish(TOPIC, f"{number} {each}"))
                done[0] += 1
            return ids

        reading = asyncio.create_task(read())
        writing = asyncio.gather(*map(write, range(TASKS)))
        for part in (1, 2):
            await until(lambda part=part: done[0] > part * TASKS * EACH // 3, LONG)  # type: ignore[misc]
            hub.send(SIGKILL)
            await hub.ended()
            hub = hubs.start(STORE, listen=f"127.0.0.1:{port}")
        published = await asyncio.wait_for(writing, LONG)
        await until(lambda: len(seen) >= TASKS * EACH, LONG)
        reading.cancel()
    ids = [each for part in published for each in part]
    assert len(seen) == len(set(ids)) == TASKS * EACH
    assert {each.id for each in seen} == set(ids)
    for number in range(TASKS):
        assert [each.data for each in seen if each.data.startswith(f"{number} ")] == [
            f"{number} {n}" for n in range(EACH)
        ]


async def test_a_hub_without_keys_is_not_asked_twice() -> None:
    """Where the metadata does not tell of idempotency keys, a lost answer is an error: the update may be stored."""
    asked: list[bytes] = []

    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(lose, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
        async with AsyncClient(url, token="x") as client:
            with pytest.raises(Unreachable):
                await client.publish(TOPIC)
    assert [head.split()[0] for head in asked] == [b"GET", b"POST"]
    assert b"idempotency-key" not in asked[-1].lower()


async def test_nobody_there() -> None:
    """It is tried for as long as the caller has patience, and no longer."""
    async with AsyncClient(f"http://127.0.0.1:{free_port()}{PATH}", patience=0.2) as client:
        with pytest.raises(Unreachable, match="does not answer"):
            await client.publish(TOPIC)


async def test_what_is_refused_is_not_repeated() -> None:
    """With the hub's own sentence; a stream that may not be had ends the loop as well."""
    async with serving(anonymous=False) as served, AsyncClient(served.url, token=token(publish=["urn:a"])) as client:
        with pytest.raises(Refused, match="does not grant") as caught:
            await client.publish(TOPIC)
        assert caught.value.status == 403
    async with serving(anonymous=False) as served, AsyncClient(served.url) as client:
        with pytest.raises(Refused, match="needs an access token"):
            await taken(client, 1)


@pytest.mark.parametrize("generation", ["0.x", "1.0"])
async def test_both_generations(generation: str) -> None:
    """Private updates, all fields, matchers of either, and the id with all its characters as the cursor."""
    async with serving(trusted_issuers=("https://issuer.example",)) as served:
        claims: dict[str, object] = {"mercure": {"publish": ["*"], "subscribe": ["*"]}}
        if generation == "1.0":
            detail = {"type": "https://mercure.rocks/authorization-detail", "topics": [{"match": "*"}]}
            claims = {
                "iss": "https://issuer.example",
                "aud": served.url,
                "exp": 2**32,
                "authorization_details": [{**detail, "actions": ["publish", "subscribe"]}],
            }
        kind = "at+jwt" if generation == "1.0" else "JWT"
        bearer = jwt.encode(claims, KEY, "HS256", headers={"typ": kind})
        async with AsyncClient(served.url, token=lambda: bearer) as client:
            assert (
                await client.publish([TOPIC, "urn:b"], "one\ntwo", private=True, id="urn:é", type="t", retry=10)
                == "urn:é"
            )
            await client.publish(TOPIC, "second", private=True)
            how = {"matches": [TOPIC]} if generation == "1.0" else {"topics": [TOPIC]}
            found: list[Event | Gap] = []
            async for each in client.subscribe(**how, last_event_id="earliest"):
                found.append(each)
                if len(found) == 2:
                    break
            assert found[0] == Event("urn:é", "t", "one\ntwo")
            assert (await taken(client, 1, last_event_id="urn:é"))[0] == found[1]


async def test_a_gap_is_seen() -> None:
    """Before what is left of history comes."""
    async with serving() as served, AsyncClient(served.url) as client:
        await served.publish("left")
        gap, event = await taken(client, 2, last_event_id="urn:gone")
        assert gap == Gap("urn:gone", "earliest")
        assert isinstance(event, Event)
        assert event.data == "left"


async def test_many() -> None:
    """All of them, their ids in the order in which they were given."""
    async with serving() as served, AsyncClient(served.url, token=WRITER) as client:
        ids = await client.publish_many(Update(TOPIC, str(number)) for number in range(200))
        history = await taken(client, 200, last_event_id="earliest")
        data = {each.id: each.data for each in history if isinstance(each, Event)}
        assert [data[each] for each in ids] == [str(number) for number in range(200)]


async def test_the_blocking_client() -> None:
    """The same from a thread; in a coroutine it says what to use instead."""
    async with serving() as served:

        def use() -> tuple[list[str], list[str]]:
            with Client(served.url, token=WRITER) as client:
                first = client.publish(TOPIC, "0")
                ids = [first, *client.publish_many(Update(TOPIC, str(number)) for number in range(1, 20))]
                seen = []
                for event in client.subscribe([TOPIC], last_event_id="earliest"):
                    assert isinstance(event, Event)
                    seen.append(event.id)
                    if len(seen) == 20:
                        return ids, seen
            raise AssertionError

        ids, seen = await asyncio.to_thread(use)
        assert sorted(ids) == sorted(seen)
        with Client(served.url) as client, pytest.raises(RuntimeError, match="AsyncClient"):
            client.publish(TOPIC)


class Stops(Exception):
    """Of the test's own."""


async def test_many_until_one_fails() -> None:
    """What is under way is finished, nothing more is begun, and the first failure is raised."""
    async with serving() as served, AsyncClient(served.url, token=token(publish=["urn:a"])) as client:
        begun: list[int] = []

        def updates() -> Iterator[Update]:
            for number in range(100):
                begun.append(number)
                yield Update("urn:b" if number == 5 else "urn:a", str(number))

        with pytest.raises(Refused, match="does not grant"):
            await client.publish_many(updates(), at_once=4)
        assert 5 < len(begun) < 20
        stored = (await served.hub.transport.last())[0]
        assert stored == len(begun) - 1

        def broken() -> Iterator[Update]:
            yield Update("urn:a")
            raise Stops

        with pytest.raises(Stops):
            await client.publish_many(broken())


async def test_a_token_that_ends_between_attempts() -> None:
    """Each attempt asks for the token anew."""
    given: list[str] = []

    def gives() -> str:
        given.append("x" if not given else token(publish=["*"]))
        return given[-1]

    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1",
        b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ]
    tokens: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            tokens.append(head)
            writer.write(
                answers.pop() if answers else b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"
            )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
        async with AsyncClient(url, token=gives) as client:
            assert await client.publish(TOPIC) == "1"
    assert [given[number].encode() in head for number, head in enumerate(tokens)] == [True, True]
    assert given[0] != given[1]


async def test_nothing_is_left_behind() -> None:
    """No task, once a client and what it did are over."""
    before = asyncio.all_tasks()
    async with serving() as served, AsyncClient(served.url, token=WRITER) as client:
        await client.publish_many(Update(TOPIC, str(number)) for number in range(50))
        assert len(await taken(client, 50, last_event_id="earliest")) == 50
    await until(lambda: asyncio.all_tasks() == before)


@asynccontextmanager
async def document(link: str) -> AsyncIterator[str]:
    """The URL of one that answers with this Link header."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\n{link}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/books/1"


@pytest.mark.parametrize(
    ("link", "hub", "last_event_id"),
    [
        ('Link: </.well-known/mercure>; rel="mercure"\r\n', PATH, None),
        ('Link: <https://h.example/hub>; rel=mercure; last-event-id="urn:1"\r\n', "https://h.example/hub", "urn:1"),
        (
            'Link: <a>; rel="self", <https://h.example/hub>; type="x"; rel="x mercure"\r\n',
            "https://h.example/hub",
            None,
        ),
        ('Link: <a>; rel="self"\r\nLink: </hub>; rel="mercure"\r\n', "/hub", None),
    ],
)
async def test_discovery(link: str, hub: str, last_event_id: str | None) -> None:
    """The hub that a document's Link names, relative to it, and what the document holds already."""
    async with document(link) as url:
        client, cursor = await AsyncClient.discover(url)
        assert client.url == str(httpx.URL(url).join(hub))
        assert cursor == last_event_id
        await client.aclose()
        blocking, _ = await asyncio.to_thread(Client.discover, url)
        assert blocking.url == client.url
        blocking.close()


async def test_a_document_without_a_hub() -> None:
    """Is refused with a sentence."""
    async with document("") as url:
        with pytest.raises(Refused, match="names no hub"):
            await AsyncClient.discover(url)


def test_tokens_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key gives one token until nine tenths of its life are over, and then another that lasts longer."""
    now = 1_000_000.0
    monkeypatch.setattr("hub.client.clients.time.time", lambda: now)
    key = Key(KEY, publish=["*"], lifetime=100)
    first = key()
    now += 80
    assert key() == first
    now += 11
    claims = jwt.decode(key(), KEY, ["HS256"], options={"verify_exp": False})
    assert claims == {"mercure": {"publish": ["*"]}, "exp": int(now + 100)}
