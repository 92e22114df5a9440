"""A program in the same process: it publishes and subscribes without HTTP, and gets what a client would get."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub import HistoryLost, Hub, Problem, Settings
from hub.client.sse_parser import Event
from hub.generations import PATH
from tests.e2e.processes import ROOT, free_port
from tests.hub.serving import DEADLINE, KEY, TOPIC, serving, until


def settings(**changes: Any) -> Settings:
    return Settings(publisher_jwt_key=KEY, subscriber_jwt_key=KEY, transport_url="memory://", drain=0.1, **changes)


async def test_what_is_published_reaches_both() -> None:
    """A client over HTTP and the program itself get the same update, with all of its fields; also as JSON."""
    async with serving() as served, served.subscribe(topic=TOPIC) as client:
        events = served.hub.subscribe(TOPIC)
        first = asyncio.ensure_future(anext(events))
        await until(lambda: len(served.hub.streams.open) == 2)
        assert await served.hub.publish(TOPIC, {"a": "é"}, id="urn:a", type="book", retry=1500) == "urn:a"
        event = await client.next()
        assert (event.id, event.event, event.data, event.retry) == ("urn:a", "book", '{"a": "é"}', 1500)
        assert await first == Event("urn:a", "book", '{"a": "é"}')
        await events.aclose()  # type: ignore[attr-defined]
        assert len(served.hub.streams.open) == 1


async def test_private_updates_are_its_own() -> None:
    """The program receives what a client without a token does not."""
    async with serving() as served, served.subscribe(topic=TOPIC) as client:
        await served.hub.publish([TOPIC, "https://example.com/a"], "secret", private=True)
        await served.hub.publish(TOPIC, "open")
        assert (await client.next()).data == "open"
        found = served.hub.subscribe("https://example.com/{x}", last_event_id="earliest")
        assert (await anext(found)).data == "secret"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"topic": []}, 400),
        ({"topic": "*"}, 400),
        ({"topic": "x", "type": "mercure"}, 400),
        ({"topic": "x", "id": "#1"}, 400),
        ({"topic": "x", "retry": -1}, 400),
        ({"topic": ["x"] * 1001}, 413),
        ({"topic": "x", "idempotency_key": "é"}, 400),
    ],
)
async def test_the_same_validation(arguments: dict[str, Any], status: int) -> None:
    """What a request may not say, a program may not either; it is told the same."""
    async with Hub(settings()).running() as hub:
        with pytest.raises(Problem) as caught:
            await hub.publish(**arguments)
        assert caught.value.status == status


async def test_an_idempotency_key() -> None:
    """The same update twice is stored once; another one under its key is a 422."""
    async with Hub(settings()).running() as hub:
        first = await hub.publish(TOPIC, "a", idempotency_key="k")
        assert await hub.publish(TOPIC, "a", idempotency_key="k") == first
        with pytest.raises(Problem) as caught:
            await hub.publish(TOPIC, "b", idempotency_key="k")
        assert caught.value.status == 422


async def test_from_a_thread() -> None:
    """A thread without an event loop publishes too; before the hub is open it is told what to do."""
    hub = Hub(settings())
    with pytest.raises(RuntimeError, match="not open"):
        hub.publish_threadsafe(TOPIC)
    async with hub.running():
        identifier = await asyncio.to_thread(lambda: hub.publish_threadsafe(TOPIC, "x", private=True).result(DEADLINE))
        events = hub.subscribe(TOPIC, last_event_id="earliest")
        assert (await anext(events)).id == identifier
        with pytest.raises(RuntimeError, match="event loop"):
            hub.publish_threadsafe(TOPIC)


async def test_a_slow_program_loses_nothing() -> None:
    """One that takes nothing for longer than a client may goes on where it stands, once and in order."""
    async with Hub(settings(dispatch_timeout=0.05)).running() as hub:
        events = hub.subscribe(TOPIC)
        first = asyncio.ensure_future(anext(events))
        await until(lambda: hub.streams.live == 1)
        await hub.publish(TOPIC, "0" * 1000)
        assert (await first).data[0] == "0"
        for number in range(1, 500):
            await hub.publish(TOPIC, str(number).ljust(1000))
        await until(lambda: not hub.streams.live)
        found = [int((await anext(events)).data) for _ in range(499)]
        assert found == list(range(1, 500))


async def test_lost_history_is_an_error() -> None:
    """Where the log no longer has what comes after an event, the program is told, and may begin with the earliest."""
    async with Hub(settings()).running() as hub:
        await hub.publish(TOPIC, "kept")
        with pytest.raises(HistoryLost, match="urn:gone"):
            await anext(hub.subscribe(TOPIC, last_event_id="urn:gone"))


async def test_it_ends_with_the_hub() -> None:
    """The loop over events is over when the hub is; a matcher that is none is told at the first step."""
    hub = Hub(settings())

    async def collect() -> list[str]:
        return [event.data async for event in hub.subscribe("https://example.com/:id", type="urlpattern")]

    async with hub.running():
        with pytest.raises(Problem):
            await anext(hub.subscribe("https://example.com/(", type="urlpattern"))
        collecting = asyncio.ensure_future(collect())
        await until(lambda: hub.streams.live == 1)
        await hub.publish("https://example.com/1", "one")
    async with asyncio.timeout(DEADLINE):
        assert await collecting == ["one"]


async def test_who_is_there() -> None:
    """The documents of active subscriptions; the program's own is one of them."""
    async with Hub(settings(subscriptions=True)).running() as hub:
        assert await hub.subscriptions() == []
        step = asyncio.ensure_future(anext(hub.subscribe(TOPIC)))
        while not (found := await hub.subscriptions()):
            await asyncio.sleep(0.01)
        assert [each["topic"] for each in found] == [TOPIC]
        step.cancel()


def test_a_hub_that_nobody_opened() -> None:
    """Says so at the first request, and at the first publication; so does one from another event loop or process."""

    async def ask(hub: Hub) -> int:
        transport = httpx.ASGITransport(hub.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://a.example") as client:
            return (await client.get(PATH, params={"topic": TOPIC})).status_code

    async def elsewhere(hub: Hub) -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await hub.publish(TOPIC)

    hub = Hub(settings())
    assert asyncio.run(ask(hub)) == 503
    with pytest.raises(RuntimeError, match="not open"):
        asyncio.run(hub.publish(TOPIC))

    async def opened(hub: Hub) -> None:
        async with hub.running():
            await asyncio.to_thread(asyncio.run, elsewhere(hub))
            child = os.fork()
            if child == 0:
                try:
                    hub._check_place()
                except RuntimeError as error:
                    os._exit(17 if "fork" in str(error) else 1)
                os._exit(2)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 17

    asyncio.run(opened(Hub(settings())))


APPLICATION = """
from hub import Hub, Settings
hub = Hub(Settings(publisher_jwt_key="a secret of thirty-two characters", anonymous=True, transport_url="memory://"))
hub.asgi.router.lifespan_context = hub.lifespan
app = hub.asgi
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_do_not_hear_of_each_other(tmp_path: Path, workers: int) -> None:
    """memory:// under `uvicorn --workers 2` is warned of, with the cure; one worker is not."""
    (tmp_path / "app.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(free_port()), "--workers", str(workers)]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as server:
        assert server.stderr is not None
        started, said = 0, ""
        while started < workers:
            line = server.stderr.readline()
            assert line, said
            started, said = started + ("Application startup complete" in line), said + line
        server.terminate()
        said += server.stderr.read()
    assert ("memory:// is this process's own" in said) is (workers > 1)
