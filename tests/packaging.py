"""``python -m tests.packaging``: wheel and sdist, built and installed into fresh environments, and used there.

On the oldest and the newest Python that are found. It takes the packages that the hub depends on from an index.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.processes import free_port
from tests.e2e.test_docs import blocks

ROOT = Path(__file__).parents[1]
KNOWN = tuple(f"python3.{minor}" for minor in range(11, 16))
DEADLINE = 30.0
"""Seconds until what was started must answer."""

USER = """\
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub.client import AsyncClient, Client, Event, Gap, Key, Refused, Unreachable, Update
from hub.testing import FakeHub
from mercure_hub import Grants, HistoryLost, Hub, Problem, Settings, create_app
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

SETTINGS = Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://")
hub: Hub = Hub(SETTINGS)
other = create_app(SETTINGS)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub.running() as running:
        assert running is hub
        yield


app = Starlette(routes=[Mount("/", hub.asgi)], lifespan=lifespan)


async def follow(last_event_id: str | None) -> list[str]:
    seen: list[str] = []
    try:
        async for event in hub.subscribe("https://example.com/{id}", last_event_id=last_event_id):
            seen.append(f"{event.id} {event.type} {event.data}")
            if len(seen) == 2:
                break
    except HistoryLost:
        seen.append("lost")
    return seen


async def by_session(request: HTTPConnection) -> Grants | None:
    return Grants.to(subscribe=["*"], subject="kim") if "session" in request.cookies else None


async def outside(url: str) -> list[str]:
    found: list[str] = []
    async with AsyncClient(url, token=Key("a-secret", publish=["*"]), patience=0.1) as client:
        try:
            ids: list[str] = await client.publish_many([Update("https://example.com/1", "x")])
            async for each in client.subscribe(["*"], last_event_id=ids[0]):
                match each:
                    case Event(id=event_id):
                        found.append(event_id)
                    case Gap(asked=asked):
                        found.append(asked)
        except (Refused, Unreachable) as error:
            found.append(type(error).__name__)
    return found


def blocking(url: str) -> str:
    with Client(url, token=lambda: "token", patience=0.1) as client:
        return client.publish(["https://example.com/1"], "x", private=True)


async def main() -> None:
    Hub(SETTINGS, authorize=by_session)
    assert await outside("http://127.0.0.1:9/.well-known/mercure") == ["Unreachable"]
    fake = FakeHub()
    await fake.publish("https://example.com/1", {"a": 1})
    assert [each.json for each in fake.to("https://example.com/{x}")] == [{"a": 1}]
    async with hub.running():
        first: str = await hub.publish("https://example.com/1", {"a": 1}, private=True, type="t", retry=100)
        second: str = await asyncio.to_thread(lambda: hub.publish_threadsafe(["https://example.com/2"], "b").result(5))
        assert await follow("earliest") == [f'{first} t {{"a": 1}}', f"{second} message b"]
        assert await follow("urn:gone") == ["lost"]
        documents: list[dict[str, object]] = await hub.subscriptions()
        assert documents == []
        try:
            await hub.publish("*")
        except Problem as problem:
            assert problem.status == 400 and "reserved" in problem.detail


if __name__ == "__main__":
    asyncio.run(main())
    print("as expected")
"""
"""A program of a user's, which type checkers look at too."""


def interpreters() -> list[str]:
    """The oldest and the newest that can make an environment; one, where there is one."""
    works = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    found = [
        each
        for each in KNOWN
        if shutil.which(each) and subprocess.run([each, "-c", works], capture_output=True, check=False).returncode == 0
    ]
    return list(dict.fromkeys((found[0], found[-1])))


def run(*command: str | Path, cwd: Path) -> str:
    """What it prints. Raises `subprocess.CalledProcessError`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MERCURE_", "PYTHONPATH"))}
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    return done.stdout


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def check(interpreter: str, package: Path, folder: Path) -> None:
    """Install it, and use it as its users do."""
    run(interpreter, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"{package}[redis,postgres,client]",
        cwd=folder,
    )
    run(python, "-m", "pip", "check", cwd=folder)
    version = run(python, "-m", "hub", "--version", cwd=folder)
    assert version == run(folder / "venv" / "bin" / "mercure-hub", "--version", cwd=folder)
    (folder / "program.py").write_text(USER)
    assert run(python, "program.py", cwd=folder) == "as expected\n"
    run(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py", cwd=folder)
    check_foreign_packages(python, folder)
    check_serving(python, folder)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "fastapi", cwd=folder)
    (folder / "app.py").write_text(blocks(ROOT / "README.md", "python")[0])
    run(python, "-c", "import app", cwd=folder)


def check_foreign_packages(python: Path, folder: Path) -> None:
    """Somebody else's `hub` or `transports` before ours is named, with its place."""
    for name, statement in (("hub", "import mercure_hub"), ("transports", "from hub import Hub")):
        there = folder / f"foreign-{name}"
        there.mkdir()
        (there / f"{name}.py").write_text("")
        done = subprocess.run([str(python), "-c", statement], cwd=there, check=False, capture_output=True, text=True)
        assert f"'import {name}' finds {there / name}.py, which is not mercure-hub's" in done.stderr, done.stderr


def check_serving(python: Path, folder: Path) -> None:
    """With the store that is the default, and its pages."""
    address = f"127.0.0.1:{free_port()}"
    hub = [str(python), "-m", "hub"]
    with subprocess.Popen(
        [*hub, "serve", "--dev", "--listen", address], cwd=folder, stdout=subprocess.DEVNULL
    ) as serving:
        try:
            end = time.monotonic() + DEADLINE
            while subprocess.run([*hub, "health", "--listen", address], check=False, capture_output=True).returncode:
                assert time.monotonic() < end
            there = ["--url", f"http://{address}/.well-known/mercure"]
            topic = ["--topic", "https://example.com/books/1"]
            identifier = run(*hub, "publish", "--dev", *there, *topic, "--data", "x", cwd=folder)
            seen = run(*hub, "subscribe", *there, *topic, "--last-event-id", "earliest", "--count", "1", cwd=folder)
            assert f"id: {identifier}" in seen
            fetched = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).status)"
            for page in ("/", "/.well-known/mercure/debug/", "/.well-known/mercure/pages/debugger.js"):
                assert run(python, "-c", fetched, f"http://{address}{page}", cwd=folder) == "200\n"
        finally:
            serving.terminate()
            assert serving.wait(DEADLINE) == 0


def main() -> int:
    with TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = built(folder / "dist")
        oldest, *newest = interpreters()
        for interpreter, package in ((oldest, wheel), (newest[-1] if newest else oldest, sdist)):
            place = folder / f"{interpreter}-{package.suffix}"
            place.mkdir()
            check(interpreter, package, place)
            sys.stdout.write(f"{package.name} on {interpreter}: installed, imported, typed, served\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
