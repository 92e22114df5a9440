"""Live says that the loop turns; ready says that an update would be stored now."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.hub.serving import Served, problem, serving
from transports import TransportUnavailable


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def ask(served: Served, path: str) -> httpx.Response:
    host, port = served.address
    return await served.client.get(f"http://{host}:{port}{path}")


async def test_a_serving_hub_is_live_and_ready(served: Served) -> None:
    """All three addresses answer 200."""
    for path in ("/mercure/health/live", "/mercure/health/ready", "/healthz"):
        assert (await ask(served, path)).status_code == 200


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_store_that_fails_is_not_ready_but_live(
    served: Served, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the store fails or hangs, ready is a 503 within 2 s and live stays 200."""

    async def check() -> None:
        if hangs:
            await asyncio.Event().wait()
        raise TransportUnavailable("gone")

    monkeypatch.setattr(served.hub.transport, "check", check)
    began = asyncio.get_running_loop().time()
    response = await ask(served, "/mercure/health/ready")
    assert problem(response)["detail"] == "the store does not answer"
    assert asyncio.get_running_loop().time() - began < 2
    assert (await ask(served, "/mercure/health/live")).status_code == 200


async def test_probing_does_not_wear_the_store_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, the store is written to about once a second."""
    checks = 0

    async def check() -> None:
        nonlocal checks
        checks += 1

    monkeypatch.setattr(served.hub.transport, "check", check)
    await asyncio.gather(*(ask(served, "/mercure/health/ready") for _ in range(20)))
    assert checks <= 2


async def test_a_draining_hub_is_not_ready(served: Served) -> None:
    """From the signal on nothing new shall be sent here."""
    served.hub.lifecycle.drain()
    assert problem(await ask(served, "/mercure/health/ready"))["status"] == 503
