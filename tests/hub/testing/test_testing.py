"""What the tests of others use: a hub that remembers, and one that runs."""

import asyncio
from typing import Any

import httpx
import pytest

from hub import Problem
from hub.testing import FakeHub
from hub.testing.plugin import RunningHub
from tests.hub.serving import TOPIC, bearer, token


async def test_it_remembers() -> None:
    """What was published, to which topics, once for each idempotency key."""
    hub = FakeHub()
    first = await hub.publish([TOPIC, "urn:b"], {"a": 1}, private=True, type="t", retry=5, idempotency_key="k")
    assert await hub.publish([TOPIC, "urn:b"], {"a": 1}, idempotency_key="k") == first
    await hub.publish("https://example.com/authors/1", "text")
    (book,) = hub.to("https://example.com/books/{id}")
    assert (book.id, book.topics, book.json, book.private) == (first, (TOPIC, "urn:b"), {"a": 1}, True)
    assert [each.data for each in hub.published] == ['{"a": 1}', "text"]


@pytest.mark.parametrize("arguments", [{"topic": []}, {"topic": "*"}, {"topic": "x", "id": "#1"}])
async def test_it_refuses_what_a_hub_refuses(arguments: dict[str, Any]) -> None:
    """So that a test fails where production would."""
    with pytest.raises(Problem):
        await FakeHub().publish(**arguments)


async def test_it_fails_when_it_is_told_to() -> None:
    """To see what a program does then; also in a thread."""
    hub = FakeHub(fails=Problem(503, "away"))
    with pytest.raises(Problem, match="away"):
        await hub.publish(TOPIC)
    with pytest.raises(Problem, match="away"):
        await asyncio.to_thread(lambda: hub.publish_threadsafe(TOPIC).result())
    hub.fails = None
    assert await asyncio.to_thread(lambda: hub.publish_threadsafe(TOPIC).result()) == hub.published[0].id


def test_the_fixture(mercure_hub: RunningHub) -> None:
    """A real hub: it stores, with the key that it names."""
    form = {"topic": TOPIC, "data": "x"}
    answer = httpx.post(mercure_hub.url, data=form, headers=bearer(token(publish=["*"])), trust_env=False)
    assert answer.status_code == 200
