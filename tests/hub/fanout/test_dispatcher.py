"""The dispatcher: outages are waited out, losses are shown, its own failure is not hidden."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from hub.fanout.dispatcher import MEMORY_TRIES
from tests.hub.serving import TOPIC, WIRES, Served, received, serving, until
from transports import Entry, HistoryTrimmed, TransportUnavailable, Update


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


def breaking(served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """From the next update on, the tail fails once with this error instead of giving it out."""
    tail = served.hub.transport.tail
    broken = False

    async def once(after: int) -> AsyncIterator[Sequence[Entry]]:
        nonlocal broken
        async for batch in tail(after):
            if not broken:
                broken = True
                raise error
            yield batch

    monkeypatch.setattr(served.hub.transport, "tail", once)


async def restarted(served: Served) -> None:
    """Let the running tail end, so that the dispatcher takes the broken one."""
    for task in served.hub._tasks[1:]:
        task.cancel()
    served.hub._tasks[1:] = [asyncio.ensure_future(served.hub._watched(served.hub._dispatcher.run))]


async def test_an_outage_is_waited_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribers keep their connection and get what was appended meanwhile, once."""
    breaking(served, monkeypatch, TransportUnavailable("gone"))
    await restarted(served)
    reader, _ = await served.stream()
    await served.live(1)
    ids = [await served.publish("1"), await served.publish("2")]
    assert await received(reader, 2) == ids


async def test_a_start_without_the_store_is_waited_out(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hub whose store is away at its start asks again until it is there, and says so once."""
    calls = 0

    async def fails_twice() -> tuple[int, str]:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise TransportUnavailable("gone")
        return 7, "urn:uuid:7"

    monkeypatch.setattr(served.hub.transport, "last", fails_twice)
    await served.hub._dispatcher.start()
    assert served.hub.log.position == 7
    assert caplog.text.count("the hub waits for it") == 1


@pytest.mark.parametrize("failures", [2, MEMORY_TRIES + 2])
async def test_a_lack_of_memory_does_not_end_the_hub(
    served: Served, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """An update for whose event there is no memory is pushed once there is; when that takes long, streams are ended."""
    to_event, left = Update.to_event, failures

    def fails(update: Update) -> bytes:
        nonlocal left
        left -= 1
        if left >= 0:
            raise MemoryError
        return to_event(update)

    async with served.subscribe() as stream:
        await served.live(1)
        monkeypatch.setattr(Update, "to_event", fails)
        first = await served.publish("1")
        if failures < MEMORY_TRIES:
            assert (await stream.next()).id == first
        else:
            await stream.ended()
    left = 0
    async with served.subscribe() as stream:
        await served.live(1)
        second = await served.publish("2")
        assert (await stream.next()).id == second


async def test_a_loss_ends_all_streams(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """When entries are gone that live subscribers had to get, they are closed and so learn of it."""
    breaking(served, monkeypatch, HistoryTrimmed())
    await restarted(served)
    async with served.subscribe() as stream:
        await served.live(1)
        await served.publish("lost")
        await stream.ended()
    async with served.subscribe(topic=TOPIC, last_event_id="earliest") as stream:
        assert (await stream.next()).data == "lost"


async def test_a_loss_during_an_outage_is_shown_after_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails again just when the dispatcher asks where the log goes on: it asks again."""
    breaking(served, monkeypatch, HistoryTrimmed())
    last, calls = served.hub.transport.last, 0

    async def fails_once() -> tuple[int, str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise TransportUnavailable("gone")
        return await last()

    monkeypatch.setattr(served.hub.transport, "last", fails_once)
    await restarted(served)
    async with served.subscribe() as stream:
        await served.live(1)
        await served.publish("lost")
        await stream.ended()
    reader, _ = await served.stream()
    await served.live(1)
    assert await received(reader, 0) == []
    assert [await served.publish("seen")] == await received(reader, 1)


async def test_an_unexpected_failure_ends_the_service(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that can't dispatch takes no updates, is not ready and keeps no stream that would stay silent."""
    breaking(served, monkeypatch, ZeroDivisionError())
    await restarted(served)
    async with served.subscribe() as stream:
        await served.live(1)
        await served.publish("x")
        await stream.ended()
    await until(served.server.stopping.is_set)
    assert served.hub.failed


@pytest.mark.parametrize("wire", WIRES)
async def test_a_push_over_many_turns_loses_and_repeats_nothing(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribers come, come back and go while pushes are under way: each gets an unbroken run of what is published."""
    monkeypatch.setattr("hub.fanout.dispatcher.TURN", 1)
    async with serving(WIRES[wire]) as served:
        published: list[str] = []
        done = asyncio.Event()

        async def publish() -> None:
            while not done.is_set():
                published.append(f"id-{len(published)}")
                await served.hub.transport.append(Update(published[-1], (TOPIC,)))
                await asyncio.sleep(0)

        async def come_and_go(number: int) -> None:
            header, last, query = "", "", f"topic={TOPIC}" if number % 2 else f"topic={TOPIC}&topic=urn:{number}"
            for turn in range(6):
                reader, writer = await served.stream(header, query)
                ids = await received(reader, 3 + (number + turn) % 5)
                first = published.index(ids[0])
                assert ids == published[first : first + len(ids)]
                if header:
                    assert published[first - 1] == last
                last = ids[-1]
                header = f"Last-Event-ID: {last}\r\n" if (number + turn) % 3 else ""
                writer.transport.abort()

        stay, _ = await served.stream()
        await served.live(1)
        publishing = asyncio.ensure_future(publish())
        await asyncio.gather(*(come_and_go(number) for number in range(24)))
        done.set()
        await publishing
        assert await received(stay, len(published)) == published
