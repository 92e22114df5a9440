"""What is added for pages of other origins: past the middleware as in it, and the answers to preflights."""

from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from hub.fanout.wire import RawHeaders
from hub.web.cors import Cors
from tests.hub.serving import PUBLISHER, TOPIC, Served, serving

ORIGINS = ["https://a.example", "https://b.example", "null"]
PAGE = "https://app.example"


async def _plain(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _added_by_the_middleware(cors: Cors, scope: Scope) -> RawHeaders:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await cors.around(_plain)(scope, None, send)  # type: ignore[arg-type]
    return list(sent[0]["headers"])


@given(
    st.lists(st.sampled_from(ORIGINS), unique=True) | st.just(["*"]),
    st.none() | st.sampled_from([*ORIGINS, "https://evil.example", "*", ""]),
)
async def test_both_ways_add_the_same(allowed: list[str], origin: str | None) -> None:
    """A response that bypasses the middleware has the headers that it adds, for every origin and setting."""
    cors = Cors(allowed)
    headers = [(b"host", b"hub")] + ([] if origin is None else [(b"origin", origin.encode())])
    scope: Scope = {"type": "http", "method": "GET", "headers": headers}
    found = cors.headers(scope)
    assert [(name.lower(), value) for name, value in await _added_by_the_middleware(cors, scope)] == found
    readable = origin is not None and (origin in allowed or "*" in allowed)
    assert any(name == b"access-control-allow-origin" for name, _ in found) == readable
    assert ((b"access-control-allow-credentials", b"true") in found) == (readable and "*" not in allowed)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(cors_origins=(PAGE,)) as running:
        yield running


async def preflight(served: Served, origin: str = PAGE, method: str = "QUERY", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = {"Origin": origin, "Access-Control-Request-Method": method, **named}
    return await served.client.options(served.url, headers=asked)


async def test_a_preflight_may_ask_for_any_header(served: Served) -> None:
    """Tracing and libraries add their own; the methods of the protocol may be used, and the answer is remembered."""
    names = "authorization, traceparent,baggage,sentry-trace , x-requested-with,Idempotency-Key"
    answer = await preflight(served, Access_Control_Request_Headers=names)
    assert answer.status_code == 204
    allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert allowed == {name.strip() for name in names.split(",")}
    assert {"GET", "HEAD", "POST", "QUERY"} == set(answer.headers["access-control-allow-methods"].split(", "))
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert int(answer.headers["access-control-max-age"]) > 600
    assert {"Origin", "Access-Control-Request-Headers"} <= set(answer.headers["vary"].split(", "))


@pytest.mark.parametrize("names", ["a b", "a,,b", "x" * 129, ",".join(f"x{n}" for n in range(65)), "a b;c", "a:b"])
async def test_names_that_are_none_are_refused(served: Served, names: str) -> None:
    """Syntax and number are checked, and what was asked is not sent back."""
    answer = await preflight(served, Access_Control_Request_Headers=names)
    assert answer.status_code == 400
    assert "access-control-allow-headers" not in answer.headers


async def test_a_private_network_is_opened_for_allowed_origins_alone(served: Served) -> None:
    """A public page asks before it reaches a hub on a private network (Private Network Access)."""
    asked = {"Access_Control_Request_Private_Network": "true"}
    assert (await preflight(served, **asked)).headers["access-control-allow-private-network"] == "true"
    foreign = await preflight(served, "https://evil.example", **asked)
    assert not any(name.startswith("access-control") for name in foreign.headers)
    assert foreign.headers["allow"]
    assert "access-control-allow-private-network" not in (await preflight(served)).headers


@pytest.mark.parametrize("body", ["plain", "problem"])
async def test_a_page_may_read_every_answer(served: Served, body: str) -> None:
    """Problems as well as results, on the fast path and off it; a foreign page none."""
    for extra in ({}, {"Expect": "100-continue"}):
        headers = {**PUBLISHER, **extra, "Origin": PAGE} if body == "plain" else {**extra, "Origin": PAGE}
        answer = await served.post({"topic": TOPIC}, headers=headers)
        assert answer.headers["access-control-allow-origin"] == PAGE
        foreign = await served.post({"topic": TOPIC}, headers={**headers, "Origin": "https://evil.example"})
        assert not any(name.startswith("access-control") for name in foreign.headers)
