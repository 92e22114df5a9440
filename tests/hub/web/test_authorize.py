"""An application's own word: its session decides what a request may do, where it has something to say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from hub import Grants, Hub, Settings
from hub.server.http1 import HubProtocol
from tests.hub import serving as served_by
from tests.hub.serving import KEY, PUBLISHER, TOPIC, Served, bearer, problem, serving, token

SESSIONS = {
    "kim": Grants.to(publish=["https://example.com/kim/{x}"], subscribe=["*"], payload={"name": "Kim"}, subject="kim")
}


async def by_session(request: HTTPConnection) -> Grants | None:
    """Who is logged in, by the cookie of the application."""
    return SESSIONS.get(request.cookies.get("session", ""))


@asynccontextmanager
async def asking(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> AsyncIterator[Served]:
    monkeypatch.setattr(served_by, "Hub", lambda settings: Hub(settings, authorize=by_session))
    async with serving(HubProtocol, anonymous=False, subscriptions=True, **changes) as served:
        yield served


async def test_the_session_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Private updates, publishing to its own topics and no others, the list of subscriptions with its payload."""
    async with asking(monkeypatch) as served:
        logged_in = {"Cookie": "session=kim"}
        own = {**logged_in, "Origin": f"http://{served.address[0]}:{served.address[1]}"}
        async with served.subscribe(logged_in, topic="https://example.com/kim/{x}") as stream:
            form = {"topic": "https://example.com/kim/1", "data": "mine", "private": "on"}
            assert (await served.post(form, headers=own)).status_code == 200
            assert (await stream.next()).data == "mine"
            listed = await served.client.get(f"{served.url}/subscriptions", headers=logged_in)
            assert [each["payload"] for each in listed.json()["subscriptions"]] == [{"name": "Kim"}]
        assert problem(await served.post({"topic": TOPIC}, headers=own))["status"] == 403


async def test_only_the_applications_own_pages_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's cookie is sent by every page: of a foreign one the update is refused."""
    async with asking(monkeypatch) as served:
        for origin in ({}, {"Origin": "https://evil.example"}):
            answer = await served.post(
                {"topic": "https://example.com/kim/1"}, headers={"Cookie": "session=kim", **origin}
            )
            assert problem(answer)["status"] == 403


async def test_without_a_word_the_token_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a hub that asks nobody."""
    async with asking(monkeypatch) as served:
        assert (await served.post({"topic": TOPIC}, headers=PUBLISHER)).status_code == 200
        assert (await served.post({"topic": TOPIC}, headers={})).status_code == 401
        assert (await served.client.get(served.url, params={"topic": TOPIC})).status_code == 401
        async with served.subscribe(bearer(token(subscribe=["*"])), topic=TOPIC) as stream:
            assert stream.response.status_code == 200


def test_grants_are_public() -> None:
    """Written without a matcher in sight."""
    hub = Hub(Settings(publisher_jwt_key=KEY, transport_url="memory://", anonymous=True), authorize=by_session)
    assert hub.matching.any(SESSIONS["kim"].publish, ("https://example.com/kim/1",))
    assert not hub.matching.any(SESSIONS["kim"].publish, (TOPIC,))
