"""Several hubs on one LMDB directory: one of them refused, one of them waiting, or all of them as one."""

import asyncio
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from time import monotonic

import pytest

from hub.client.sse_parser import Event
from hub.generations import PATH
from tests.e2e.processes import (
    PAUSE,
    Address,
    Connection,
    Hubs,
    Publisher,
    Subscriber,
    check_order,
    ends_of,
    free_port,
    get,
    measured,
    receipts_of,
    replay,
    running,
    subscribed,
    until,
)
from tests.hub.serving import TOPIC
from transports.lmdb.locks import HeldLock

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"lmdb://{tmp_path}/store"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[HeldLock]:
    """The store's lock, held by somebody who does not answer."""
    Path(tmp_path, "store").mkdir()
    lock = HeldLock(Path(tmp_path, "store", "lock"))
    assert lock.take(shared=False)
    yield lock
    lock.release()


def publishing(*publishers: Publisher) -> AbstractAsyncContextManager[None]:
    return running(*(each.publish() for each in publishers))


@pytest.mark.parametrize(
    ("first_says", "second_says", "timeout"),
    [("", "", 1.0), ("", "?lock=shared&lock_timeout=200ms", 0.2), ("?lock=shared", "?lock_timeout=200ms", 0.2)],
    ids=["exclusive", "shared-second", "shared-first"],
)
async def test_a_second_hub_is_refused(
    hubs: Hubs, store: str, first_says: str, second_says: str, timeout: float
) -> None:
    """It ends soon after lock_timeout without ever listening, says who holds the lock, and disturbs nobody."""
    first = hubs.start(store + first_says)
    address = await first.listening()
    async with subscribed(1, [address]) as [subscriber]:
        port = free_port()
        second = hubs.start(store + second_says, listen=f"127.0.0.1:{port}")
        while second.running:
            with pytest.raises(ConnectionRefusedError):
                await get(("127.0.0.1", port), "/mercure/health/live")
            await asyncio.sleep(PAUSE)
        took = monotonic() - second.started
        last = second.stderr.splitlines()[-1]
        assert second.process.returncode == 2
        assert f'"{store}": invalid transport: timeout' in last
        assert all(way in last for way in ("lock_timeout", "lock=shared", "redis://"))
        assert f"host {socket.gethostname()}, pid {first.process.pid} holds" in last
        assert second.stdout == ""
        assert timeout <= took < timeout + 3  # most of a second on an idle machine, to start the interpreter
        await Publisher("after", [address]).publish(1)
        await until(lambda: subscriber.data == ["after 0"])
        assert subscriber.ends == []
    first.send(signal.SIGTERM)
    assert await first.ended() == 0
    assert first.stderr == ""
    measured(f"refused, lock_timeout {timeout:g} s", [took])


async def test_standby_takes_over(hubs: Hubs, store: str) -> None:
    """A hub in standby is live, holds subscribers, and serves once the other is told to end: nothing lost or twice."""
    first = hubs.start(store, "--drain", "2s")
    old = await first.listening()
    second = hubs.start(f"{store}?lock_timeout=60s")
    new = await second.listening()
    assert (await get(new, "/mercure/health/live")).status == 200
    assert (await get(new, "/mercure/health/ready")).status == 503
    publishers = [Publisher("relayed", [new]), *(Publisher(f"publisher {n}", [old, new]) for n in range(4))]
    live, everything = Subscriber([new]), Subscriber([new], "earliest")
    async with (
        subscribed(20, [old, new]) as moved,
        running(live.follow(), everything.follow()),
        publishing(*publishers),
    ):
        await until(lambda: all(len(each.events) > 100 for each in moved))
        assert [live.answers, everything.answers] == [[], []]
        first.send(signal.SIGTERM)
        told = monotonic()
        assert await first.ended() == 0
        ended = monotonic() - told
        before = [len(each.receipts) for each in publishers]
        await until(lambda: all(len(each.receipts) > n + 50 for each, n in zip(publishers, before, strict=True)))
        receipts = receipts_of(publishers)
        history = await replay(new, receipts)
        check_order(history, receipts)
        await check_streams(history, old, moved, everything, live)
    assert first.stderr == second.stderr == ""
    answered = sorted(each.answered for each in receipts)
    gap = max(map(float.__sub__, answered[1:], answered))
    assert gap < 1
    measured("standby: the longest time without a 200", [gap])
    measured("standby: from SIGTERM to the exit of the old hub, 20 subscribers, --drain 2s", [ended])


async def check_streams(
    history: Sequence[Event], old: Address, moved: Sequence[Subscriber], everything: Subscriber, live: Subscriber
) -> None:
    """The moved streams ended properly and have it all, as has the one that asked for it; the live one has the new."""
    for each in (*moved, everything):
        await until(lambda: len(each.events) >= len(history))  # noqa: B023 - awaited in the loop
        assert each.events[: len(history)] == history
    assert all([(end.address, end.clean) for end in each.ends] == [(old, True)] for each in moved)
    start = history.index(live.events[0])
    await until(lambda: len(live.events) >= len(history) - start)
    assert live.events[: len(history) - start] == history[start:]
    assert start >= 100, "it got what was old"


async def test_a_kept_connection_is_sent_on(hubs: Hubs, store: str) -> None:
    """After SIGTERM a POST on a kept-alive connection gets 503, Retry-After and Connection: close."""
    hub = hubs.start(store, "--drain", "1s")
    address = await hub.listening()
    async with (
        subscribed(30, [address]) as subscribers,
        Connection.to(address) as kept,
        Connection.to(address) as probe,
    ):
        assert (await kept.publish("before")).status == 200
        assert (await probe.request("GET", "/mercure/health/ready", {})).status == 200
        hub.send(signal.SIGTERM)
        await until(lambda: subscribers[0].ends)
        answer = await kept.publish("after")
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert answer.headers["retry-after"] in "123"
        assert (await probe.request("GET", "/mercure/health/ready", {})).status == 503
        assert await hub.ended() == 0
        await ends_of(subscribers)
        assert all(each.data == ["before"] for each in subscribers)
    assert hub.stderr == ""


async def test_a_publisher_is_held(hubs: Hubs, store: str, locked: HeldLock) -> None:
    """Where the lock's holder does not answer, a POST waits until the lock is ours; the client's token does not."""
    address = await hubs.start(f"{store}?lock_timeout=60s").listening()
    held = Publisher("held", [address])
    async with running(held.publish(1)), Connection.to(address) as stranger:
        assert (await stranger.request("POST", PATH, FORM, f"topic={TOPIC}")).status == 401
        assert [held.receipts, held.refusals] == [[], []]
        locked.release()
        await until(lambda: held.receipts)
    assert held.refusals == []


async def test_publishing_in_standby(hubs: Hubs, store: str) -> None:
    """While the holder serves, a POST to the hub in standby is answered at once, as if the holder had got it."""
    old = await hubs.start(store).listening()
    new = await hubs.start(f"{store}?lock_timeout=60s").listening()
    publishers = [Publisher("here", [old]), Publisher("there", [new]), Publisher("both", [old, new])]
    async with subscribed(3, [old]) as subscribers:
        for _ in range(30):  # each time on a new connection
            await asyncio.gather(*(each.publish(len(each.receipts) + 1) for each in publishers))
        await until(lambda: all(len(each.events) >= 90 for each in subscribers))
        check_order(subscribers[0].events, receipts_of(publishers))
        assert all(each.events == subscribers[0].events for each in subscribers)
    async with Connection.to(new) as again, Connection.to(old) as first:
        assert (await first.publish("one", "key")).body == (await again.publish("one", "key")).body
        assert (await again.publish("another", "key")).status == 422
    waits = [each.answered - each.sent for each in receipts_of(publishers, new)]
    assert len(waits) > 30
    assert max(waits) < 1
    assert all(each.refusals == [] for each in publishers)
    measured("standby: a POST while the holder serves", waits)


@pytest.mark.parametrize("repeat", [True, False], ids=["keys", "no-keys"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_hand_over_under_load(hubs: Hubs, store: str, number: signal.Signals, repeat: bool) -> None:
    """What was acknowledged in standby outlives the holder, and is there once; with keys nothing is given up."""
    first = hubs.start(store, "--drain", "100ms")
    old = await first.listening()
    second = hubs.start(f"{store}?lock_timeout=60s")
    new = await second.listening()
    publishers = [Publisher(f"publisher {n}", [new], repeat=repeat) for n in range(16)]
    async with publishing(*publishers), subscribed(2, [old, new]) as moved:
        await until(lambda: all(len(each.receipts) > 20 for each in publishers))
        first.send(number)
        await first.ended()
        before = [len(each.receipts) for each in publishers]
        await until(lambda: all(len(each.receipts) > n + 20 for each, n in zip(publishers, before, strict=True)))
        receipts = receipts_of(publishers)
        history = await replay(new, receipts)
        check_order(history, receipts)
        for each in moved:
            expected = history[history.index(each.events[0]) :]
            await until(lambda: len(each.events) >= len(expected))  # noqa: B023 - awaited in the loop
            assert each.events[: len(expected)] == expected
    assert second.stderr == ""
    assert number == signal.SIGKILL or all(each.refusals == [] for each in publishers)
    answered = sorted(each.answered for each in receipts)
    measured(f"{number.name}: the longest time without a 200", [max(map(float.__sub__, answered[1:], answered))])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("locked")
async def test_standby_can_be_ended(hubs: Hubs, store: str, number: signal.Signals) -> None:
    """A signal ends a hub in standby at once with exit code 0; who was held is told to come back."""
    standby = hubs.start(f"{store}?lock_timeout=60s")
    address = await standby.listening()
    held, subscriber = Publisher("held", [address]), Subscriber([address])
    async with running(subscriber.follow()), publishing(held):
        assert (await get(address, "/mercure/health/ready")).status == 503
        standby.send(number)
        told = monotonic()
        assert await standby.ended() == 0
        took = monotonic() - told
        assert took < 1
        (refusal,) = held.refusals
        assert refusal.headers["retry-after"] in "123"
        assert [answer.body for answer in subscriber.answers] == ["retry: 1000\n\n"]
    assert standby.stderr == ""
    measured(f"standby: from {number.name} to its exit", [took])


async def test_a_signal_before_standby(hubs: Hubs, store: str) -> None:
    """A hub that waits for the lock and does not listen yet obeys too."""
    await hubs.start(store).listening()
    waiting = hubs.start(f"{store}?lock_timeout=60s")
    await until(lambda: waiting.obeys(signal.SIGTERM))
    waiting.send(signal.SIGTERM)
    assert await waiting.ended(within=1) == 0
    assert waiting.stdout == waiting.stderr == ""


@pytest.mark.usefixtures("locked")
async def test_standby_gives_up(hubs: Hubs, store: str) -> None:
    """A lock that never comes free ends the standby at lock_timeout, as a refusal would."""
    standby = hubs.start(f"{store}?lock_timeout=3s")
    address = await standby.listening()
    held, subscriber = Publisher("held", [address]), Subscriber([address])
    async with running(subscriber.follow()), publishing(held):
        assert await standby.ended() == 2
        took = monotonic() - standby.started
        assert [answer.status for answer in held.refusals] == [503]
        assert [answer.status for answer in subscriber.answers] == [200]
    assert 3 <= took < 6
    assert f'"{store}": invalid transport: timeout' in standby.stderr.splitlines()[-1]


async def test_shared_is_one_hub(hubs: Hubs, store: str) -> None:
    """What is published on either hub reaches the subscribers of both once, in one order, also those who cross over."""
    started = [hubs.start(f"{store}?lock=shared") for _ in range(2)]
    addresses = [await each.listening() for each in started]
    publishers = [Publisher(f"publisher {n}", [addresses[n % 2]]) for n in range(6)]
    async with subscribed(3, addresses[:1]) as here, subscribed(3, addresses[1:]) as there:
        await asyncio.gather(*(each.publish(40) for each in publishers))
        await until(lambda: all(len(each.events) >= 240 for each in here + there))
        events = here[0].events[:]
        check_order(events, receipts_of(publishers))
        assert all(each.events == events for each in here + there)
        for at in (0, 119, 238):
            for address in addresses:
                async with subscribed(1, [address], events[at].id) as [crossed]:
                    await until(lambda: len(crossed.events) >= 239 - at)  # noqa: B023 - awaited in the loop
                    assert crossed.events == events[at + 1 :]
                    assert crossed.answers[0].headers["last-event-id"] == events[at].id


async def test_shared_hubs_wake_each_other(hubs: Hubs, store: str) -> None:
    """An update that comes when all is quiet reaches the other hub's subscribers long before a poll would find it."""
    addresses = [await hubs.start(f"{store}?lock=shared").listening() for _ in range(2)]
    publisher, waits = Publisher("publisher", addresses[:1]), []
    async with subscribed(1, addresses[1:]) as [subscriber]:
        for number in range(1, 11):
            await publisher.publish(number)
            await until(lambda: len(subscriber.events) == number)  # noqa: B023 - awaited in the loop
            waits.append(monotonic() - publisher.receipts[-1].sent)
    assert sorted(waits)[5] < 0.25
    measured("shared: from a POST to one hub to its event at the other", waits)


async def test_one_shared_hub_ends(hubs: Hubs, store: str) -> None:
    """The other goes on without a gap; a client that comes over to it misses nothing and gets nothing twice."""
    first, second = (hubs.start(f"{store}?lock=shared", "--drain", "500ms") for _ in range(2))
    addresses = [await first.listening(), await second.listening()]
    old, new = addresses
    moving = [Publisher(f"moving {n}", addresses) for n in range(3)]
    staying = [Publisher(f"staying {n}", [new]) for n in range(3)]
    async with subscribed(5, addresses) as moved, subscribed(5, [new]) as stayed:
        async with publishing(*moving, *staying):
            await until(lambda: all(len(each.events) > 100 for each in moved))
            first.send(signal.SIGTERM)
            assert await first.ended() == 0
            before = len(receipts_of(staying))
            await until(
                lambda: len(receipts_of(staying)) > before + 50 and all(receipts_of([each], new) for each in moving)
            )
        receipts = receipts_of([*moving, *staying])
        history = await replay(new, receipts)
        check_order(history, receipts)
        await until(lambda: all(len(each.events) >= len(history) for each in moved + stayed))
        assert all(each.events[: len(history)] == history for each in moved + stayed)
        assert all([(end.address, end.clean) for end in each.ends] == [(old, True)] for each in moved)
        assert all(each.ends == [] for each in stayed)
    answered = sorted(each.answered for each in receipts_of(staying))
    measured(
        "shared: longest time between two 200s of the hub that stays", [max(map(float.__sub__, answered[1:], answered))]
    )
    assert first.stderr == second.stderr == ""


async def test_one_key_at_both_hubs(hubs: Hubs, store: str) -> None:
    """The same Idempotency-Key sent to both at once appends once, and both say the same id."""
    addresses = [await hubs.start(f"{store}?lock=shared").listening() for _ in range(2)]
    twins = [[Publisher("twin", [address]), Publisher("other", [address])] for address in addresses]
    await asyncio.gather(*(each.publish(50) for pair in twins for each in pair))
    here, there = ({receipt.data: receipt.id for receipt in receipts_of(pair)} for pair in twins)
    assert here == there
    history = await replay(addresses[0], receipts_of(twins[0]))
    assert {event.data: event.id for event in history} == here
    assert len(history) == 100
