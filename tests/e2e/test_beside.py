"""`serve --app`: an application of the operator's own on the hub's port, with its lifespan."""

from signal import SIGTERM

import pytest

from hub.generations import PATH
from tests.e2e.processes import Connection, Hubs, get, subscribed, until

APPLICATION = """
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(app):
    if Path("fail").exists():
        raise RuntimeError("no database")
    with open("lived", "a") as lived:
        lived.write("begun\\n")
    yield
    with open("lived", "a") as lived:
        lived.write("ended\\n")


async def hello(request):
    return PlainTextResponse("from " + request.url.path)


app = Starlette(routes=[Route("/", hello), Route("/hello", hello, methods=["GET", "POST"])], lifespan=lifespan)
"""


@pytest.mark.parametrize(("url", "workers"), [("memory://", 1), ("lmdb://store?lock=shared", 2)])
async def test_both_on_one_port(hubs: Hubs, url: str, workers: int) -> None:
    """The hub's paths are the hub's, all others the application's, its root too; its lifespan begins and ends."""
    (hubs.directory / "app.py").write_text(APPLICATION)
    hub = hubs.start(url, "--app", "app:app", "--workers", str(workers), "--cors-origins", "https://a.example")
    address = await hub.listening()
    for path in ("/", "/hello"):
        assert (await get(address, path)).body == f"from {path}"
    assert (await get(address, "/nothing")).status == 404
    async with Connection.to(address) as connection:
        answer = await connection.request("GET", "/hello", {"Origin": "https://a.example"})
        assert "access-control-allow-origin" not in answer.headers
        answer = await connection.request("GET", "/mercure/health/live", {"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert (await get(address, PATH)).status == 400
    async with subscribed(1, [address]) as [reader], Connection.to(address) as connection:
        assert (await connection.publish("x")).status == 200
        await until(lambda: reader.data == ["x"])
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    assert sorted((hubs.directory / "lived").read_text().split()) == ["begun"] * workers + ["ended"] * workers


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing:app", 'Could not import module "nothing"'), ("app:nothing", 'Attribute "nothing" not found')],
)
async def test_an_application_that_is_not_there(hubs: Hubs, name: str, said: str) -> None:
    """Ends the start with one line."""
    (hubs.directory / "app.py").write_text(APPLICATION)
    hub = hubs.start("memory://", "--app", name)
    assert await hub.ended() == 2
    assert said in hub.stderr
    assert hub.stderr.count("\n") == 1


async def test_an_application_that_cannot_start(hubs: Hubs) -> None:
    """Its own exception is told, and the hub ends instead of serving half of what was asked for."""
    (hubs.directory / "app.py").write_text(APPLICATION)
    (hubs.directory / "fail").write_text("")
    hub = hubs.start("memory://", "--app", "app:app")
    assert await hub.ended() == 1
    assert "no database" in hub.stderr
