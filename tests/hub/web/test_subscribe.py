"""Subscribing, on both wires: what a subscriber gets, from where, in which order, and when its stream ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from hub.fanout.wire import Connection, wire_for
from hub.generations import Generation, generations_in
from hub.problems import Problem
from hub.web import subscribe
from hub.web.subscribe import last_event_id, matchers_in, parse_pairs
from tests.hub.serving import (
    DEADLINE,
    PUBLISHER,
    TOPIC,
    WIRES,
    Served,
    bearer,
    problem,
    received,
    serving,
    token,
    until,
)
from transports import Entry, TransportUnavailable, Update

BOTH = generations_in("both")
OTHER = "https://example.com/other"
PAGE = "https://app.example"


@pytest.fixture(params=WIRES)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(WIRES[request.param], cors_origins=(PAGE,), heartbeat=0.3) as running:
        yield running


@given(st.binary(max_size=200))
def test_any_query_is_matchers_or_a_problem(query: bytes) -> None:
    """Whatever bytes a query holds, it names matchers or is a 400."""
    try:
        pairs = parse_pairs(query, "query")
        assert matchers_in(pairs, BOTH)
        last_event_id(None, pairs, BOTH)
    except Problem as error:
        assert error.status == 400  # noqa: PT017


@pytest.mark.parametrize("name", ["matches", "Match", "match_regex", "MATCH_EXACT", "match-exact"])
def test_the_match_namespace_is_reserved(name: str) -> None:
    """A misspelled matcher type fails loudly (Mercure, "Subscription")."""
    with pytest.raises(Problem, match="unknown matcher"):
        matchers_in([("match", "a"), (name, "b")], BOTH)


def test_each_generation_has_its_own_names() -> None:
    """With one generation switched off its parameters mean nothing."""
    with pytest.raises(Problem, match=r"match_urlpattern$"):
        matchers_in([("topic", "a")], (Generation.V1,))
    with pytest.raises(Problem):
        matchers_in([("match", "a")], (Generation.V0,))


@pytest.mark.parametrize("name", ["last_event_id", "lastEventID", "Last-Event-ID"])
def test_the_cursor_has_three_names_and_the_header_wins(name: str) -> None:
    """A browser resends the first query beside a fresh header."""
    assert last_event_id(None, [(name, "a")], BOTH) == "a"
    assert last_event_id("b", [(name, "a")], BOTH) == "b"


async def test_a_live_subscriber_gets_what_is_published(served: Served) -> None:
    """Events arrive with id, type, retry and data, in order; other topics do not."""
    async with served.subscribe() as stream:
        ids = [await served.publish("one", type="greeting", retry="1500"), await served.publish("two")]
        await served.publish("no", topic=OTHER)
        ids.append(await served.publish("three"))
        events = await stream.take(3)
    assert [event.id for event in events] == ids
    assert [event.data for event in events] == ["one", "two", "three"]
    assert (events[0].event, events[0].retry) == ("greeting", 1500)


@pytest.mark.parametrize(
    "query",
    [
        {"topic": "https://example.com/books/{id}"},
        {"match": TOPIC},
        {"match_exact": TOPIC},
        {"match_urlpattern": "https://example.com/books/:id"},
        {"match": "*"},
        {"topic": "*"},
        {"topic": [OTHER, TOPIC], "match_urlpattern": "/nothing"},
    ],
)
async def test_every_matcher_type_selects(served: Served, query: dict[str, str | list[str]]) -> None:
    """Templates, patterns, exact topics and the wildcard, mixed freely, each event once."""
    async with served.subscribe(**query) as stream:
        await served.publish("x", topic=[TOPIC, "https://example.com/books/2"])
        await served.publish("y")
        assert [event.data for event in await stream.take(2)] == ["x", "y"]


AWKWARD = ["", " leading", "a\nb\n", "nul\0", "\u2028\u2029", "🎉", ":", "data: x", "id: 1\n\nevent: y", "x" * 2**20]


@pytest.mark.parametrize("replayed", [False, True])
async def test_any_data_survives_the_round_trip(served: Served, replayed: bool) -> None:
    """Whatever Unicode was published is received, live or from history; CR and CRLF become LF."""
    sent = [*AWKWARD, "cr\rcrlf\r\nlf\n"]
    query = {"topic": TOPIC, "last_event_id": "earliest"} if replayed else {"topic": TOPIC}
    if replayed:
        for data in sent:
            await served.publish(data)
    async with served.subscribe(**query) as stream:
        if not replayed:
            for data in sent:
                await served.publish(data)
        received = [event.data for event in await stream.take(len(sent))]
    assert received == [*AWKWARD, "cr\ncrlf\nlf\n"]


@pytest.mark.parametrize("name", ["last_event_id", "lastEventID", "Last-Event-ID", "header"])
async def test_history_follows_the_last_event_id(served: Served, name: str) -> None:
    """What came after the id is sent, then what is new; the response says where it starts."""
    ids = [await served.publish(str(number)) for number in range(5)]
    headers = {"Last-Event-ID": ids[1]} if name == "header" else {}
    query = {"topic": TOPIC} if name == "header" else {"topic": TOPIC, name: ids[1]}
    async with served.subscribe(headers, **query) as stream:
        ids.append(await served.publish("5"))
        assert [event.id for event in await stream.take(4)] == ids[2:]
        assert stream.response.headers["mercure-last-event-id"] == ids[1]
        assert stream.response.headers["last-event-id"] == ids[1]


@pytest.mark.parametrize("asked", ["earliest", "unknown", "x" * 10_000, "bad\r\nX-Injected: 1"])
async def test_an_unknown_id_starts_at_the_earliest_and_says_so(served: Served, asked: str) -> None:
    """A loss is visible: the header differs from what was asked for."""
    await served.publish("0")
    async with served.subscribe(topic=TOPIC, last_event_id=asked) as stream:
        assert (await stream.next()).data == "0"
        assert stream.response.headers["mercure-last-event-id"] == "earliest"
        assert "x-injected" not in stream.response.headers


async def test_a_store_that_does_not_answer_sends_back(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """EventSource would give up on a 503: it gets an empty stream, and comes again."""

    async def gone(_event_id: str) -> int:
        raise TransportUnavailable("gone")

    monkeypatch.setattr(served.hub.transport, "position_of", gone)
    response = await served.client.get(served.url, params={"topic": TOPIC, "last_event_id": "x"})
    assert (response.status_code, response.text) == (200, "retry: 1000\n\n")
    assert response.headers["mercure-last-event-id"] == response.headers["last-event-id"] == "x"


@pytest.mark.parametrize(
    ("headers", "query", "told"),
    [
        ({}, {}, None),
        ({"Last-Event-ID": "h"}, {"last_event_id": "q"}, "h"),
        ({}, {"lastEventID": "q"}, "q"),
        ({}, {"last_event_id": "earliest"}, "earliest"),
        ({}, {"last_event_id": "a\nb: c"}, "earliest"),
    ],
)
async def test_who_is_sent_back_stands_where_it_stood(
    served: Served, headers: dict[str, str], query: dict[str, str], told: str | None
) -> None:
    """Nothing was sent and nothing is lost: the id that was asked for is repeated, where one was (Mercure)."""
    served.hub.lifecycle.drain()
    response = await served.client.get(served.url, params={"topic": TOPIC, **query}, headers=headers)
    assert (response.status_code, response.text) == (200, "retry: 1000\n\n")
    assert response.headers.get("mercure-last-event-id") == response.headers.get("last-event-id") == told


async def test_only_an_event_ends_with_an_empty_line(served: Served) -> None:
    """Clients that dispatch on every empty line get no empty events from heartbeats, nor from the first bytes."""
    for query in (f"topic={TOPIC}", f"topic={TOPIC}&last_event_id=x"):
        reader, writer = await served.stream(query=query)
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(3):
                assert await reader.readuntil(b"\r\n") == b"2\r\n"
                assert await reader.readexactly(4) == b":\n\r\n"
        writer.close()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def query(served: Served, body: str, search: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
    request = served.client.build_request(
        "QUERY", f"{served.url}{search}", content=body, headers=FORM if headers is None else headers
    )
    return await served.client.send(request, stream=True)


async def lines_of(response: httpx.Response, count: int) -> list[str]:
    """So many lines of data."""
    found: list[str] = []
    async with asyncio.timeout(DEADLINE):
        async for line in response.aiter_lines():
            found += [line.removeprefix("data: ")] if line.startswith("data: ") else []
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {found}")


async def test_a_query_subscribes_to_the_union(served: Served) -> None:
    """Matchers of the body and of the query component alike, more of them than a URL could hold (RFC 10008)."""
    many = "&".join(f"match=https://example.com/books/{number}" for number in range(2, 990))
    stream = await query(served, many, f"?topic={TOPIC}")
    assert stream.status_code == 200
    await served.publish("one")
    await served.publish("two", topic="https://example.com/books/500")
    await served.publish("none", topic="https://example.com/books/5000")
    await served.publish("three", topic="https://example.com/books/989")
    assert await lines_of(stream, 3) == ["one", "two", "three"]
    await stream.aclose()


@pytest.mark.parametrize(
    ("headers", "search", "body", "expected"),
    [
        ({"Last-Event-ID": "1"}, "?last_event_id=2", "&last_event_id=3", "1"),
        ({}, "?last_event_id=2", "&last_event_id=3", "2"),
        ({}, "", "&last_event_id=3", "3"),
        ({}, "", "&lastEventID=3", "3"),
    ],
)
async def test_a_querys_cursor(served: Served, headers: dict[str, str], search: str, body: str, expected: str) -> None:
    """The header before the query component, and that before the body (Mercure, "Subscription")."""
    for number in range(1, 5):
        await served.publish(str(number), id=str(number))
    stream = await query(served, f"topic={TOPIC}{body}", search, FORM | headers)
    assert stream.headers["mercure-last-event-id"] == expected
    assert await lines_of(stream, 1) == [str(int(expected) + 1)]
    await stream.aclose()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (f"topic={TOPIC}", {"Content-Type": "application/json"}, 415),
        (f"topic={TOPIC}", {}, 415),
        (f"topic={TOPIC}", FORM | {"Content-Encoding": "gzip"}, 415),
        ("topic=" + "x" * 5 * 1024 * 1024, FORM, 413),
        ("", FORM, 400),
        ("matchx=a", FORM, 400),
        ("match=%ff", FORM, 400),
        ("match=%00", FORM, 400),
        ("&".join(["match=a"] * 1200), FORM, 400),
    ],
)
async def test_a_query_that_is_none(served: Served, body: str, headers: dict[str, str], status: int) -> None:
    """The rules for names and values are those of the query component, the bounds those of a publish."""
    response = await query(served, body, headers=headers)
    await response.aread()
    assert problem(response)["status"] == response.status_code == status


async def test_a_query_is_sent_back_like_a_get(served: Served) -> None:
    """With the cursor of its body."""
    served.hub.lifecycle.drain()
    response = await query(served, f"topic={TOPIC}&last_event_id=x")
    assert await response.aread() == b"retry: 1000\n\n"
    assert response.headers["mercure-last-event-id"] == "x"


async def test_what_is_published_once_the_head_is_out_arrives(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that waits for the subscriber's response head need not wait for more."""
    ids = []
    monkeypatch.setattr(served.server.config.app, "direct", lambda *_: False)  # which leaves no room between the two
    connection = wire_for

    def late(scope: Scope, receive: Receive, send: Send) -> Connection:
        update = Update("between", (TOPIC,))
        served.hub.transport.submit(update, lambda _: None)
        with suppress(StopIteration):
            served.hub._dispatcher.fan_out([Entry(1, update)]).send(None)
        ids.append(update.id)
        return connection(scope, receive, send)

    monkeypatch.setattr(subscribe, "wire_for", late)
    async with served.subscribe() as stream:
        assert (await stream.next()).id == ids[0]


async def test_ids_may_be_any_unicode(served: Served) -> None:
    """An id outside of Latin-1 comes back as the cursor, in the query and in the header."""
    await served.publish("0", id="é-日本")
    await served.publish("1")
    reader, writer = await served.stream("Last-Event-ID: é-日本\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert "mercure-last-event-id: é-日本\r\n".encode() in head
    assert (await received(reader, 1))[0].startswith("urn:uuid:")
    writer.close()


async def test_a_reused_id_means_its_earliest_update(served: Served) -> None:
    """Everything after the first update with that id is sent, the later one with the same id too."""
    for number in range(3):
        await served.publish(str(number), id="same")
    async with served.subscribe(topic=TOPIC, last_event_id="same") as stream:
        assert [event.data for event in await stream.take(2)] == ["1", "2"]


async def test_history_then_live_has_no_gap_and_no_duplicate(served: Served) -> None:
    """Twenty subscribers that come while a stream of updates flows all get all of them, once, in order."""
    total = 300

    async def publish() -> list[str]:
        return [await served.publish(str(number)) for number in range(total)]

    async def follow(after: int) -> list[str]:
        await until(lambda: served.hub.log.position >= after)
        reader, writer = await served.stream("Last-Event-ID: earliest\r\n")
        try:
            return await received(reader, total)
        finally:
            writer.close()

    ids, *seen = await asyncio.gather(publish(), *(follow(number * 10) for number in range(20)))
    assert all(each == ids for each in seen)


async def test_private_updates_go_to_those_who_may_read_them(served: Served) -> None:
    """A grant on any of the update's topics allows it; without one it does not arrive, live or replayed."""
    may = bearer(token(subscribe=["https://example.com/users/42/{+any}"]))
    for_42 = [TOPIC, "https://example.com/users/42/books/1"]
    async with served.subscribe(may) as reader, served.subscribe() as stranger:
        for private in ({"private": "on"}, {}):
            await served.publish("secret" if private else "public", topic=for_42, **private)
        assert [event.data for event in await reader.take(2)] == ["secret", "public"]
        assert (await stranger.next()).data == "public"
    async with (
        served.subscribe(may, topic=TOPIC, last_event_id="earliest") as reader,
        served.subscribe(topic=TOPIC, last_event_id="earliest") as stranger,
    ):
        assert [event.data for event in await reader.take(2)] == ["secret", "public"]
        assert (await stranger.next()).data == "public"


async def test_a_silent_stream_has_heartbeats(served: Served) -> None:
    """Comments keep an idle connection alive, and are spaced as told."""
    reader, writer = await served.stream()
    began = time.monotonic()
    for _ in range(3):  # the first comes with the head
        await reader.readuntil(b":\n")
    assert time.monotonic() - began >= 0.5
    writer.close()


async def test_a_stream_ends_with_its_token(served: Served) -> None:
    """At the token's `exp` the connection ends, properly."""
    expiring = bearer(token(subscribe=["*"], exp=int(time.time()) + 2))
    async with served.subscribe(expiring) as stream:
        await stream.ended()
    assert time.time() % 1 < 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_lasts_as_long_as_write_timeout(wire: str) -> None:
    """Connections are bounded, and differ by the jitter."""
    async with serving(WIRES[wire], write_timeout=1.0) as served:
        began = time.monotonic()
        async with served.subscribe() as stream:
            await stream.ended()
        assert 0.85 <= time.monotonic() - began < 2


async def test_a_subscriber_that_leaves_is_forgotten(served: Served) -> None:
    """Nothing is kept of a stream that is over, nor of an audience without streams."""
    async with served.subscribe(), served.subscribe(match="*"):
        await served.live(2)
    await until(lambda: not served.hub.streams.open)
    assert not served.hub.streams.audiences._all
    assert not served.hub.streams.audiences._index._at
    assert not served.hub.streams.audiences._templates


def slow_to_say_where(served: Served, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Set once the log is asked where an event stands; it answers once the second one is."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def position_of(_event_id: str) -> None:
        asked.set()
        await go_on.wait()

    monkeypatch.setattr(served.hub.transport, "position_of", position_of)
    return asked, go_on


async def test_a_token_that_runs_out_while_the_log_is_asked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subscriber comes back, and is told then: it gets nothing of what it may not see any more."""
    asked, go_on = slow_to_say_where(served, monkeypatch)
    expires = time.time() + 1
    headers = bearer(token(subscribe=["*"], exp=expires)) | {"Last-Event-ID": "urn:x"}
    coming = asyncio.create_task(served.client.get(served.url, params={"topic": TOPIC}, headers=headers))
    await asked.wait()
    await until(lambda: time.time() > expires)
    go_on.set()
    answer = await coming
    assert answer.text.startswith("retry: ")
    assert not served.hub.streams.open


async def test_who_comes_while_the_others_are_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that began while the log was asked: the client comes back elsewhere, for nobody would end its stream."""
    asked, go_on = slow_to_say_where(served, monkeypatch)
    query = {"topic": TOPIC, "last_event_id": "urn:x"}
    coming = asyncio.create_task(served.client.get(served.url, params=query))
    await asked.wait()
    await served.hub.drain(0)
    go_on.set()
    answer = await coming
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert answer.text.startswith("retry: ")
    assert answer.headers["mercure-last-event-id"] == "urn:x"
    assert not served.hub.streams.open


async def test_head_answers_like_get_without_a_body(served: Served) -> None:
    """HEAD says what a stream would look like, and refuses what GET refuses."""
    head = await served.client.head(served.url, params={"topic": TOPIC, "last_event_id": "x"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream"
    assert head.headers["mercure-last-event-id"] == "earliest"
    assert "no-store" in head.headers["cache-control"]
    assert head.headers["x-accel-buffering"] == "no"
    assert (await served.client.head(served.url)).status_code == 400


async def test_a_browsers_preflight_is_answered(served: Served) -> None:
    """A page on an allowed origin may send credentials and read the cursor; any other may not."""
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,last-event-id"}
    allowed = await served.client.options(served.url, headers=asked | {"Origin": PAGE})
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert allowed.headers["access-control-allow-credentials"] == "true"
    refused = await served.client.options(served.url, headers=asked | {"Origin": "https://evil.example"})
    assert refused.status_code == 204  # the plain answer to OPTIONS
    assert not any(name.startswith("access-control") for name in refused.headers)


async def test_responses_carry_cors_and_expose_the_cursor(served: Served) -> None:
    """Streams and errors alike can be read by the page."""
    async with served.subscribe({"Origin": PAGE}) as stream:
        headers = stream.response.headers
        assert headers["access-control-allow-origin"] == PAGE
        exposed = {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")}
        assert exposed == {"last-event-id", "mercure-last-event-id", "link"}
    error = await served.client.get(served.url, headers={"Origin": PAGE})
    assert error.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?topic=%ff", 400),
        ("?match_urlpattern=https://%5B", 400),
        ("?match_urlpattern=/(%5Cw%7B1000%7D)", 400),
        ("?topic=" + "%7Ba%7D" * 2000, 400),
        ("?topic=a%00b", 400),
        ("?" + "&".join(f"topic={n}" for n in range(2000)), 400),
    ],
)
async def test_bad_queries_are_400(served: Served, query: str, status: int) -> None:
    """Each ends in a sentence that says what is wrong."""
    response = await served.client.get(served.url + query)
    assert response.status_code == status
    assert problem(response)["detail"]


@pytest.mark.parametrize("wire", WIRES)
async def test_without_anonymous_a_token_is_needed(wire: str) -> None:
    """401 without an error in its challenge; a valid token is enough to listen to public updates."""
    async with serving(WIRES[wire], anonymous=False) as served:
        refused = await served.client.get(served.url, params={"topic": TOPIC})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer resource_metadata=")
        async with served.subscribe(bearer(token(subscribe=[]))) as stream:
            await served.publish("x")
            assert (await stream.next()).data == "x"


async def test_a_bad_token_is_401_even_where_none_is_needed(served: Served) -> None:
    """A token that does not hold is never taken for none."""
    response = await served.client.get(served.url, params={"topic": TOPIC}, headers=bearer("not.a.token"))
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert PUBLISHER["Authorization"] not in response.text
