"""Slow readers, replays, herds, and descriptors that are used again."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.fanout.stream import PAGE, Phase
from hub.fanout.wire import TakenOver
from tests.hub.serving import DEADLINE, TOPIC, WIRES, Served, bearer, received, serving, token, until
from transports import Update


@pytest.fixture(params=WIRES)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(
        WIRES[request.param], transport_url="memory://?size=1000000", dispatch_timeout=0.5, heartbeat=0.3
    ) as running:
        yield running


async def fill(served: Served, count: int, data: str = "") -> list[str]:
    """Append straight to the log: the publish route is not what is tested here."""
    transport = served.hub.transport
    return [(await transport.append(Update(f"id-{n}", (TOPIC,), data or str(n)))).id for n in range(count)]


async def test_a_reader_that_stalls_holds_up_nobody_and_misses_nothing(served: Served) -> None:
    """20 that never read among 200: the others get everything, memory stays bounded, and who comes back has it all."""
    stalled = [await served.stalled() for _ in range(20)]
    live = [await served.stream() for _ in range(200)]
    await served.live(220)
    ids = await fill(served, 300, "x" * 2000)
    seen = await asyncio.gather(*(received(reader, 300) for reader, _ in live))
    assert all(each == ids for each in seen)
    assert sum(stream.wire.waiting() for stream in served.hub.streams.open) < 20 * 1024 * 1024
    # They took nothing for `dispatch_timeout` and are cut off; a reader that comes back goes on from its cursor.
    await until(lambda: len(served.hub.streams.open) == 200)
    for reader, writer in stalled:
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen_before = await whole_events(reader)
        again, _ = await served.stream(f"Last-Event-ID: {seen_before[-1]}\r\n")
        rest = await received(again, 300 - len(seen_before))
        assert seen_before + rest == ids, "an update is missing or came twice"


async def whole_events(reader: asyncio.StreamReader) -> list[str]:
    """The ids of the whole events that a connection still had when it was cut off."""
    text = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(DEADLINE):
            while part := await reader.read(65536):
                text += part
    lines = text[: text.rfind(b"\n\n") + 1].split(b"\n")
    return [line[4:].decode() for line in lines if line.startswith(b"id: ")]


@pytest.mark.parametrize("size", [150_000, 400_000])
async def test_a_large_update_does_not_cut_off_a_reader_that_keeps_up(served: Served, size: int) -> None:
    """More than a socket takes at once, to many readers: all get it, and stay."""
    readers = [(await served.stream())[0] for _ in range(100)]
    await served.live(100)
    ids = [await served.publish("x" * size), await served.publish("second")]
    assert all(each == ids for each in await asyncio.gather(*(received(reader, 2) for reader in readers)))
    await served.live(100)
    later = asyncio.get_running_loop().time() + 1.5 * served.hub.streams.dispatch_timeout
    await until(lambda: asyncio.get_running_loop().time() > later)
    assert len(served.hub.streams.open) == 100


async def test_a_socket_that_drains_at_once_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader takes everything between our short write and the rest: nothing waits, so it is still live."""
    async with serving() as served:
        reader, writer = await served.stalled()
        connection = writer.get_extra_info("socket")
        await served.live(1)
        sent = TakenOver.sent

        def drained_first(wire: TakenOver, framed: bytes, count: int) -> bool:
            with contextlib.suppress(BlockingIOError):
                while os.read(connection.fileno(), 1 << 20):
                    pass
            return sent(wire, framed, count)

        monkeypatch.setattr(TakenOver, "sent", drained_first)
        await served.publish("x" * 200_000)
        (stream,) = served.hub.streams.open
        await until(lambda: stream.phase is Phase.LIVE or stream.wire.waiting() > 0)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        event_id = await served.publish("second")
        assert await received(reader, 1) == [event_id]


async def test_earliest_is_what_is_left_now() -> None:
    """History is trimmed between two replays: the second starts with what is left, and reaches the end."""
    async with serving(transport_url="memory://?size=1000") as served:
        await fill(served, 1000)
        for _ in range(2):
            reader, _ = await served.stream("Last-Event-ID: earliest\r\n")
            assert len(await received(reader, 1000)) == 1000
            await fill(served, 700)


async def test_large_updates_are_read_a_few_at_a_time(served: Served) -> None:
    """A reader that is behind keeps about a page's bytes in memory, not a page's number of updates."""
    ids = await fill(served, 40, "x" * 1_000_000)
    reader, writer = await served.stalled("Last-Event-ID: earliest\r\n")
    await until(lambda: any(stream.wire.waiting() for stream in served.hub.streams.open))
    assert sum(stream.wire.waiting() for stream in served.hub.streams.open) < 3_000_000
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await received(reader, 40) == ids


async def test_a_slow_reader_that_goes_on_reading_stays_connected(served: Served) -> None:
    """It leaves the live ones, reads the log at its own pace, and is live again, with nothing missing."""
    reader, writer = await served.stalled()
    await served.live(1)
    ids = await fill(served, 2000, "x" * 500)
    await until(lambda: [stream.phase for stream in served.hub.streams.open] == [Phase.WAITING_FOR_READER])
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await received(reader, 2000) == ids
    await served.live(1)


async def test_a_deadline_that_comes_while_a_reader_takes_an_event(served: Served) -> None:
    """Its token expires in the middle of a large event: it gets all of it, and then a proper end."""
    reader, writer = await served.stalled()
    await served.live(1)
    event_id = await served.publish("x" * 1_000_000)
    (stream,) = served.hub.streams.open
    await until(lambda: stream.phase is Phase.WAITING_FOR_READER)
    stream.deadline = asyncio.get_running_loop().time()
    stream.tick(stream.deadline)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    text = await asyncio.wait_for(reader.read(), DEADLINE)
    assert f"id: {event_id}".encode() in text
    assert text.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("events", "subscribers"), [(60_000, 1), (10_000, 50)])
async def test_a_replay_is_complete_while_publishing_goes_on(served: Served, events: int, subscribers: int) -> None:
    """Everything in history and everything new, in order, and the publishers do not wait for the replay."""
    served.hub.streams.dispatch_timeout = DEADLINE  # fifty readers here are slower than the hub
    if subscribers > 1 and "asgi" in os.environ.get("PYTEST_CURRENT_TEST", ""):
        events //= 4  # the same code reads the log on both wires
    await fill(served, events)
    new = 50
    connections = [await served.stream("Last-Event-ID: earliest\r\n") for _ in range(subscribers)]
    replays = [asyncio.ensure_future(received(reader, events + new)) for reader, _ in connections]
    published = [await served.publish("new 0")]
    assert not all(replay.done() for replay in replays)
    published += [await served.publish(f"new {n}") for n in range(1, new)]
    for replay in replays:
        ids = await replay
        assert ids[:events] == [f"id-{n}" for n in range(events)]
        assert ids[events:] == published


async def test_a_replay_from_disk_is_complete_while_publishing_goes_on(tmp_path: Path) -> None:
    """The same from LMDB: 50 readers of 20,000 updates, and publishers who do not wait for them."""
    async with serving(transport_url=f"lmdb://{tmp_path}/hub") as served:
        updates = [Update(f"id-{n}", (TOPIC,), str(n)) for n in range(20_000)]
        await asyncio.gather(*map(served.hub.transport.append, updates))
        connections = [await served.stream("Last-Event-ID: earliest\r\n") for _ in range(50)]
        replays = [asyncio.ensure_future(received(reader, 20_020)) for reader, _ in connections]
        published = [await served.publish("new 0")]
        assert not all(replay.done() for replay in replays)
        published += [await served.publish(f"new {n}") for n in range(1, 20)]
        for replay in replays:
            assert await replay == [*(update.id for update in updates), *published], "missing, twice or out of order"


async def test_readers_at_the_same_place_share_pages(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A herd that comes back reads the log once, not once each."""
    await fill(served, PAGE * 4)
    reads: list[int] = []
    page = served.hub.transport.page

    async def counted(after: int, limit: int, size: int) -> object:
        reads.append(after)
        return await page(after, limit, size)

    monkeypatch.setattr(served.hub.transport, "page", counted)
    connections = [await served.stream("Last-Event-ID: id-0\r\n") for _ in range(40)]
    for reader, _ in connections:
        await received(reader, PAGE * 4 - 1)
    assert len([after for after in reads if after < PAGE * 3]) <= 4


async def test_pages_of_a_store_that_went_back_are_forgotten(served: Served) -> None:
    """They lead to entries that a promoted replica never had: who reads on there would be sent back for ever."""
    await fill(served, PAGE)
    log = served.hub.log
    kept = await log.page(1)
    assert await log.page(1) is kept
    loading = asyncio.ensure_future(log.page(2))
    await asyncio.sleep(0)
    log.forget()
    assert await log.page(1) is not kept
    assert await log.page(2) is not await loading


async def test_a_reader_whose_history_is_trimmed_is_sent_back() -> None:
    """Who would miss something is closed, so that it comes back and is told `earliest`."""
    async with serving(transport_url="memory://?size=100") as served:
        reader, writer = await served.stalled()
        await served.live(1)
        await fill(served, 1000, "x" * 5000)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(DEADLINE):
            text = await reader.read()
        assert text.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("turn", [1, 500])
async def test_a_reused_descriptor_never_gets_anothers_update(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections churn under private updates and pushes that last; no stranger ever sees one, whatever its number."""
    monkeypatch.setattr("hub.fanout.dispatcher.TURN", turn)
    secret = "for alice only"
    alice = bearer(token(subscribe=[TOPIC]))["Authorization"]
    async with serving(transport_url="memory://") as served:
        leaked: list[bytes] = []
        done = asyncio.Event()

        async def publish() -> None:
            while not done.is_set():
                await served.publish(secret, private="on")

        async def come_and_go(number: int) -> None:
            for turn in range(30):
                header = f"Authorization: {alice}\r\n" if (number + turn) % 2 else ""
                reader, writer = await served.stream(header)
                await reader.readuntil(b":\n")
                await asyncio.sleep(0)
                if not header:
                    leaked.append(await _what_came(reader))
                writer.transport.abort()

        publishing = asyncio.ensure_future(publish())
        await asyncio.gather(*(come_and_go(number) for number in range(20)))
        done.set()
        await publishing
    assert not [text for text in leaked if secret.encode() in text]
    assert len(leaked) == 300


async def _what_came(reader: asyncio.StreamReader) -> bytes:
    """What arrives within a few turns of the loop: long enough for a push to have gone wrong."""
    try:
        async with asyncio.timeout(0.01):
            return await reader.read(10_000)
    except TimeoutError:
        return b""


async def test_a_faster_replicas_subscriber_gets_nothing_twice(served: Served) -> None:
    """A cursor ahead of our dispatcher waits for it: what it has seen elsewhere is not sent again."""
    log = served.hub.log
    await fill(served, 3)
    await until(lambda: log.position == 3)
    log.position = log.ahead = 1  # as if our dispatcher had not come that far
    reader, _ = await served.stream("Last-Event-ID: id-2\r\n")
    await until(lambda: len(served.hub.streams.open) == 1)
    log.advance(3)
    await served.live(1)
    await served.publish("new", id="new")
    assert await received(reader, 1) == ["new"]
