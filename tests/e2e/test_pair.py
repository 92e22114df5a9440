"""Two hubs on one directory, one of which serves: the other takes over at once, and says meanwhile who does."""

from signal import SIGKILL
from time import monotonic

from tests.e2e.processes import (
    Connection,
    Hubs,
    Publisher,
    check_order,
    get,
    measured,
    receipts_of,
    replay,
    running,
    subscribed,
    until,
)
from tests.hub.serving import TOPIC

PAIR = "lmdb://store?lock_timeout=forever"
TIMES = 5


async def test_the_other_one_takes_over(hubs: Hubs) -> None:
    """Killed again and again: publishers that repeat are answered at once, nothing is lost, streams come back."""
    first, second = hubs.start(PAIR), hubs.start(PAIR)
    addresses = [await first.listening()]
    serving, waiting = first, second
    addresses.append(await waiting.listening())
    publishers = [Publisher(f"publisher {n}", addresses) for n in range(8)]
    gaps = []
    async with subscribed(10, addresses) as subscribers, running(*(each.publish() for each in publishers)):
        for _ in range(TIMES):
            enough = len(receipts_of(publishers)) + 50
            await until(lambda: len(receipts_of(publishers)) > enough)  # noqa: B023 - awaited in the loop
            serving.send(SIGKILL)
            killed = monotonic()
            await until(lambda: any(each.answered > killed + 0.001 for each in receipts_of(publishers)))  # noqa: B023
            gaps.append(
                min(each.answered for each in receipts_of(publishers) if each.answered > killed + 0.001) - killed
            )
            await serving.ended()
            serving, waiting = waiting, hubs.start(PAIR)
            addresses[:] = [await serving.listening(), await waiting.listening()]
        receipts = receipts_of(publishers)
        history = await replay(await serving.listening(), receipts)
        check_order(history, receipts)
        await until(lambda: all(history[-1] in each.events for each in subscribers))
        for each in subscribers:
            # Publishing goes on: a subscriber may have seen more than the history that was read.
            common = history[history.index(each.events[0]) :][: len(each.events)]
            assert each.events[: len(common)] == common
    measured("a pair: from kill -9 of the one that serves to the next 200", gaps)
    assert max(gaps) < 1


async def test_the_one_in_standby_says_so(hubs: Hubs) -> None:
    """Publishers are served through the other, subscribers are told at once to come back; live, and not ready."""
    serving = await hubs.start(PAIR).listening()
    waiting = await hubs.start(PAIR).listening()
    assert (await get(waiting, "/mercure/health/live")).status == 200
    assert (await get(waiting, "/mercure/health/ready")).status == 503
    async with Connection.to(waiting) as connection:
        assert (await connection.publish("through the other")).status == 200
        began = monotonic()
        answer = await connection.request("GET", f"/.well-known/mercure?topic={TOPIC}", {})
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.body == "retry: 500\n\n"
        assert monotonic() - began < 1
    async with Connection.to(serving) as connection:
        await connection.request("GET", f"/.well-known/mercure?topic={TOPIC}&last_event_id=earliest", {})
        async for chunk in connection.chunks():
            assert chunk == b"retry: 500\n"
            break
