"""Live says that the loop turns; ready says that an update would be stored now."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.hub.serving import Served, serving
from transports import TransportUnavailable


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def ask(served: Served, path: str) -> httpx.Response:
    host, port = served.address
    return await served.client.get(f"http://{host}:{port}{path}")


async def test_a_serving_hub_is_live_and_ready(served: Served) -> None:
    """Paths and body are the Go hub's; a hub of another name is not here."""
    for path in ("live", "ready", "default/live", "default/ready"):
        response = await ask(served, f"/mercure/health/{path}")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await ask(served, "/healthz")).status_code == 200
    assert (await ask(served, "/mercure/health/other/live")).status_code == 404


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
    assert response.json() == {"status": "error", "error": "the store does not answer"}
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
    assert (await ask(served, "/mercure/health/ready")).status_code == 503
