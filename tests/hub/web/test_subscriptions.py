"""The subscription API and events, over HTTP, in both generations of the protocol."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

import httpx
import jwt
import pytest
from starlette.requests import Request

from hub.generations import PATH
from hub.presence.documents import ROOT
from hub.web.subscriptions import segments_of
from tests.hub.serving import DEADLINE, KEY, TOPIC, WIRES, Served, bearer, problem, serving, token

ISSUER = "https://issuer.example"
HUB = "https://hub.example/.well-known/mercure"
ENCODED = quote(TOPIC, safe="")
ALL = bearer(token(subscribe=["*"]))


def access_token(*details: dict[str, Any]) -> dict[str, str]:
    """A 1.0 token that grants subscribing."""
    claims = {
        "iss": ISSUER,
        "aud": HUB,
        "exp": int(time.time()) + 3600,  # parametrized tests make theirs when they are collected
        "authorization_details": [
            {"type": "https://mercure.rocks/authorization-detail", "actions": ["subscribe"], **detail}
            for detail in details
        ],
    }
    return bearer(jwt.encode(claims, KEY, "HS256", headers={"typ": "at+jwt"}))


def granting(*topics: str, kind: str = "exact") -> dict[str, str]:
    return access_token({"topics": [{"match": topic, "match_type": kind} for topic in topics]})


@pytest.fixture(params=WIRES)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    settings: dict[str, Any] = {"subscriptions": True, "trusted_issuers": (ISSUER,), "resource_identifier": HUB}
    async with serving(WIRES[request.param], **settings) as running:
        yield running


async def listed(served: Served, path: str = ROOT, headers: dict[str, str] = ALL) -> httpx.Response:
    return await served.client.get(served.url.replace(PATH, path), headers=headers)


async def until_listed(served: Served, count: int) -> None:
    """Wait until so many subscriptions are active."""
    async with asyncio.timeout(DEADLINE):
        while len(await served.hub.transport.presence.all()) != count:
            await asyncio.sleep(0.005)


async def test_events_of_1_0(served: Served) -> None:
    """A subscriber with the grant sees each matcher of another begin and end, as events of the type mercure."""
    watching = {"match_urlpattern": f"{ROOT}/exact/:match/:subscriber"}
    payload = access_token({"topics": [{"match": "*"}], "payload": {"name": "Ada"}})
    async with served.subscribe(granting(f"{ROOT}/*", kind="urlpattern"), **watching) as watcher:
        async with served.subscribe(payload, match=[TOPIC, "b"]):
            begun = [await watcher.next(), await watcher.next()]
        ended = [await watcher.next(), await watcher.next()]
    assert {event.event for event in begun + ended} == {"mercure"}
    documents = [json.loads(event.data) for event in begun]
    assert [document["match"] for document in documents] == [TOPIC, "b"]
    assert {document["subscriber"] for document in documents} == {documents[0]["subscriber"]}
    assert all(document["payload"] == {"name": "Ada"} for document in documents)
    assert [json.loads(event.data) for event in ended] == [{**document, "active": False} for document in documents]


async def test_events_of_0_x(served: Served) -> None:
    """A URI Template over the events' topics; the token's payload is in each."""
    with_payload = bearer(jwt.encode({"mercure": {"payload": {"user": 1}}}, KEY, "HS256"))
    async with served.subscribe(ALL, topic=f"{ROOT}/{{topic}}/{{subscriber}}") as watcher:
        await watcher.next()  # its own
        async with served.subscribe(with_payload):
            begun = await watcher.next()
        ended = await watcher.next()
    document = json.loads(begun.data)
    assert (document["topic"], document["payload"], document["active"]) == (TOPIC, {"user": 1}, True)
    assert begun.event == "message"
    assert json.loads(ended.data) == {**document, "active": False}


async def test_events_are_private(served: Served) -> None:
    """Without a grant for their topics nobody gets them, even with a matcher for everything."""
    async with served.subscribe(topic="*") as stream:
        async with served.subscribe():
            await until_listed(served, 2)
        await until_listed(served, 1)
        await served.publish("after")
        assert (await stream.next()).data == "after"


async def test_the_collection_of_0_x(served: Served) -> None:
    """JSON-LD with the last event id in the document."""
    async with served.subscribe():
        await until_listed(served, 1)
        response = await listed(served)
        one = await listed(served, f"{ROOT}/{ENCODED}")
        document = response.json()["subscriptions"][0]
        single = await listed(served, document["id"])
    assert response.headers["content-type"] == "application/ld+json"
    assert response.json()["type"] == "Subscriptions"
    assert response.json()["lastEventID"].startswith("urn:uuid:")
    assert one.json()["subscriptions"] == [document]
    assert one.json()["id"] == f"{ROOT}/{ENCODED}"
    assert single.json() == {**document, "lastEventID": response.json()["lastEventID"]}


async def test_the_collection_of_1_0(served: Served) -> None:
    """JSON with the last event id in the Link header, which also says where to follow."""
    reader = granting(f"{ROOT}*", kind="urlpattern")
    async with served.subscribe(match=TOPIC), served.subscribe(match="b"):
        await until_listed(served, 2)
        response = await listed(served, ROOT, reader)
        one = await listed(served, f"{ROOT}/exact/{ENCODED}", reader)
        single = await listed(served, one.json()["subscriptions"][0]["id"], reader)
        last = (await served.hub.transport.last())[1]
    assert response.headers["content-type"] == "application/json"
    assert response.json()["type"] == "subscriptions"
    assert {document["match"] for document in response.json()["subscriptions"]} == {TOPIC, "b"}
    assert [document["match"] for document in one.json()["subscriptions"]] == [TOPIC]
    assert single.json() == one.json()["subscriptions"][0]
    for each in (response, one, single):
        assert each.headers["link"] == (
            f'<{served.url}>; rel="mercure"; last-event-id="{last}"; type="mercure"; content-type="application/json"'
        )


async def test_following_the_list_misses_nothing(served: Served) -> None:
    """From the last event id of a list on, the events tell what has changed since."""
    last = (await listed(served)).json()["lastEventID"]
    assert last == "earliest"
    async with served.subscribe():
        await until_listed(served, 1)
    query = {"topic": f"{ROOT}/{{topic}}/{{subscriber}}", "lastEventID": last}
    async with served.subscribe(ALL, **query) as stream:
        assert [json.loads(event.data)["active"] for event in await stream.take(2)] == [True, False]


async def test_caching(served: Served) -> None:
    """The same list is a 304 for a client that has it; a changed one is not."""
    async with served.subscribe():
        await until_listed(served, 1)
        first = await listed(served)
        again = await listed(served, ROOT, {**ALL, "If-None-Match": f'"x", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        await served.publish("a change of the last event id")
        assert (await listed(served, ROOT, {**ALL, "If-None-Match": first.headers["etag"]})).status_code == 200
    assert first.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, ROOT, 401),
        (bearer("nonsense"), ROOT, 401),
        (bearer(token(subscribe=["https://example.com/{x}"])), ROOT, 403),
        (bearer(token(subscribe=[ROOT])), f"{ROOT}/a", 403),
        (granting(f"{ROOT}/exact/a"), f"{ROOT}/exact/b", 403),
        (ALL, f"{ROOT}/exact/a/urn:uuid:1", 404),
        (ALL, f"{ROOT}/a/urn:uuid:1", 404),
        (ALL, f"{ROOT}/regexp/a/urn:uuid:1", 404),
        (ALL, f"{ROOT}/%FF", 404),
        (ALL, f"{ROOT}/", 404),
        (ALL, f"{ROOT}/a/b/c/d", 404),
    ],
)
async def test_refused(headers: dict[str, str], path: str, status: int) -> None:
    """401 without a token that holds, 403 without a grant for the URL's own path, 404 for what is not there."""
    settings: dict[str, Any] = {"subscriptions": True, "trusted_issuers": (ISSUER,), "resource_identifier": HUB}
    async with serving(**settings) as served:
        response = await listed(served, path, headers)
        assert response.status_code == status
        assert problem(response)["detail"]


async def test_a_path_has_one_spelling(served: Served) -> None:
    """However its characters are encoded, the same grant opens the same resource."""
    reader = granting(f"{ROOT}/exact/{ENCODED}")
    async with served.subscribe(match=TOPIC):
        await until_listed(served, 1)
        for spelling in (ENCODED.lower().replace("%3a", "%3A"), ENCODED.replace("%3A", ":")):
            assert len((await listed(served, f"{ROOT}/exact/{spelling}", reader)).json()["subscriptions"]) == 1


async def test_a_topics_list_is_only_its_own(served: Served) -> None:
    """A grant for the lists of 0.x topics does not open those of 1.0 matchers, whose type looks like a topic."""
    reader = bearer(token(subscribe=[f"{ROOT}/{{topic}}"]))
    async with served.subscribe(match="a"), served.subscribe(topic="exact"):
        await until_listed(served, 2)
        assert (await listed(served, f"{ROOT}/exact/a", reader)).status_code == 403
        only = (await listed(served, f"{ROOT}/exact", reader)).json()["subscriptions"]
        assert [document.get("topic") for document in only] == ["exact"]


async def test_a_payload_that_is_no_text(served: Served) -> None:
    """Half a surrogate pair in a token's payload costs neither the hub nor its list."""
    odd = bearer(jwt.encode({"mercure": {"payload": "\ud83d"}}, KEY, "HS256"))
    async with served.subscribe(odd):
        await until_listed(served, 1)
        assert (await listed(served)).json()["subscriptions"][0]["payload"] == "?"


@pytest.mark.parametrize("root", ["", "/subscriptions", "/a/subscriptions"])
@pytest.mark.parametrize("spelling", [ROOT, ROOT.replace("sub", "s%75b")])
def test_the_resource_is_what_follows(root: str, spelling: str) -> None:
    """Where the hub is mounted, and how the fixed part of the path is spelled, does not change what it names."""
    for rest, segments in (("", []), ("/exact/a%2Fb", ["exact", "a%2Fb"]), ("/", [""])):
        sent = f"{root}{spelling}{rest}"
        scope = {"type": "http", "root_path": root, "path": unquote(sent), "raw_path": sent.encode()}
        assert segments_of(Request(scope)) == segments


async def test_off_by_default() -> None:
    """Without the setting there is no list, and nothing is announced."""
    async with serving() as served:
        async with served.subscribe():
            await served.live(1)
        assert (await listed(served)).status_code == 404
        assert await served.hub.transport.last() == (0, "earliest")
