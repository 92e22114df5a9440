"""What one client may have, and all of them together: 429 for publishers, "come back later" for streams."""

import asyncio
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.grants import Grants
from hub.problems import Problem
from hub.web.limits import MAX_REMEMBERED, Limits
from tests.hub.serving import TOPIC, Served, bearer, serving, token, until

ALICE, BOB = bearer(token(["*"], ["*"], sub="alice")), bearer(token(["*"], ["*"], sub="bob"))


async def streamed(served: Served, headers: dict[str, str] | None = None) -> bytes:
    """A whole answer to a subscriber that ends at once."""
    response = await served.client.get(f"{served.url}?topic={TOPIC}", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return response.content


async def test_a_client_has_so_many_streams() -> None:
    """By the subject of its token; one too many is told to come back, and is served once another has ended."""
    async with serving(max_subscriptions_per_client=2) as served:
        async with served.subscribe(ALICE, topic=TOPIC), served.subscribe(ALICE, topic="x"):
            await served.live(2)
            assert await streamed(served, ALICE) == b"retry: 10000\n\n"
            async with served.subscribe(BOB, topic=TOPIC) as other:
                await served.live(3)
                await served.publish("to bob")
                assert (await other.next()).data == "to bob"
        await until(lambda: not served.hub.streams.open)
        async with served.subscribe(ALICE, topic=TOPIC):
            await served.live(1)
        assert served.hub.limits._of == {} or len(served.hub.limits._of) == 1


async def test_who_has_no_token_is_known_by_the_address() -> None:
    """Anonymous subscribers of one address share its limit."""
    async with serving(max_subscriptions_per_client=1) as served, served.subscribe(topic=TOPIC):
        await served.live(1)
        assert await streamed(served) == b"retry: 10000\n\n"
        async with served.subscribe(ALICE, topic=TOPIC):
            await served.live(2)


async def test_a_token_publishes_so_fast() -> None:
    """Beyond its rate a 429 says when to come back; then it is accepted again, and others never notice."""
    async with serving(publish_rate=3.0) as served:
        answers = [await served.post({"topic": TOPIC}, headers=ALICE) for _ in range(6)]
        assert [each.status_code for each in answers].count(200) in (3, 4)
        assert answers[-1].status_code == 429
        assert answers[-1].headers["Retry-After"] == "1"
        assert (await served.post({"topic": TOPIC}, headers=BOB)).status_code == 200
        await asyncio.sleep(0.5)  # a second of its rate is what the bucket holds; half of it are one or two more
        assert (await served.post({"topic": TOPIC}, headers=ALICE)).status_code == 200


async def test_more_connections_than_there_may_be() -> None:
    """Publishers get 429, subscribers are told to come back, health answers; those that are there are served."""
    async with serving(max_connections=3) as served, served.subscribe(topic=TOPIC) as first:
        async with served.subscribe(topic=TOPIC), served.subscribe(topic=TOPIC):
            await served.live(3)
            async with httpx.AsyncClient() as another:
                refused = await another.post(served.url, data={"topic": TOPIC}, headers=ALICE)
                assert refused.status_code == 429
                assert int(refused.headers["Retry-After"]) >= 1
                stream = await another.get(f"{served.url}?topic={TOPIC}")
                assert stream.content == b"retry: 10000\n\n"
                health = await another.get(f"http://{served.address[0]}:{served.address[1]}/mercure/health/live")
                assert health.status_code == 200
        await until(lambda: len(served.hub.streams.open) == 1)
        await served.publish("still here")
        assert (await first.next()).data == "still here"


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.floats(0.5, 50))
def test_a_rate_is_never_exceeded(pauses: list[float], rate: float) -> None:
    """Whatever the pauses: no more than the bucket and the rate allow, and no fewer than the rate."""
    now = 1000.0
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits, taken = Limits(publish_rate=rate), 0
    try:
        for pause in pauses:
            now += pause
            try:
                limits.take_one(Grants(subject="x"))
            except Problem:
                continue
            taken += 1
    finally:
        monkeypatch.undo()
    assert taken <= max(1.0, rate) + rate * sum(pauses[1:]) + 1e-6
    assert taken >= 1


def test_publishers_are_forgotten() -> None:
    """What is remembered is bounded, however many tokens there are."""
    limits = Limits(publish_rate=1)
    for number in range(MAX_REMEMBERED + 50):
        limits.take_one(Grants(subject=str(number)))
    assert len(limits._buckets) == MAX_REMEMBERED
