"""The programs of the how-to pages, each served as its page says, and used through HTTP as a page would."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import jwt
import pytest

from hub.client.sse_parser import Event, Parser
from hub.generations import PATH
from tests.e2e.processes import DEADLINE, ROOT, free_port
from tests.e2e.test_browser import HubProcess
from tests.hub.serving import KEY
from tests.transports.valkey import Valkey

KIM, ZOE = "https://example.com/users/kim", "https://example.com/users/zoe"


@contextmanager
def running(name: str, folder: Path, *command: str, ready: str, **variables: str) -> Iterator[None]:
    """A program of `examples`, begun with this command in a folder of its own, from the line that has ``ready`` on."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'examples' / name}", **variables}
    with subprocess.Popen(
        [sys.executable, *command], cwd=folder, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        try:
            while ready not in (line := process.stderr.readline()):
                assert line, f"{name} has ended with {process.wait()}"
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert "Traceback" not in process.stderr.read()


@contextmanager
def served(name: str, folder: Path) -> Iterator[str]:
    """An application of ASGI, as its page says."""
    port = free_port()
    command = ("-m", "uvicorn", "app:app", "--port", str(port), "--timeout-graceful-shutdown", "1")
    with running(name, folder, *command, ready="running on"):
        yield f"http://127.0.0.1:{port}"


def received(client: httpx.Client, hub: str, topics: Sequence[str], count: int) -> list[Event]:
    """The first events of these topics that history has for this client."""
    parser, found = Parser(""), list[Event]()
    query = {"topic": topics, "lastEventID": "earliest"}
    with client.stream("GET", hub, params=query, timeout=DEADLINE) as response:
        for chunk in response.iter_bytes():
            found += parser.feed(chunk)
            if len(found) >= count:
                return found
    raise AssertionError(f"the stream ended after {found}")


def browser_of(stack: ExitStack, base: str) -> httpx.Client:
    """What keeps cookies as a browser does."""
    return stack.enter_context(httpx.Client(base_url=base, trust_env=False))


def hub_beside(stack: ExitStack) -> HubProcess:
    """A hub of its own."""
    hub = HubProcess("--transport-url", "memory://")
    stack.callback(hub.stop)
    hub.start()
    return hub


@pytest.mark.parametrize("name", ["fastapi", "litestar", "quart", "django"])
def test_the_hub_inside(name: str, tmp_path: Path) -> None:
    """What a route publishes is received, and what is private by whom the application's own session names alone."""
    with ExitStack() as stack:
        base = stack.enter_context(served(name, tmp_path))
        kim, stranger = browser_of(stack, base), browser_of(stack, base)
        assert kim.post("/log-in/kim").is_success
        assert kim.post("/messages/zoe", json={"text": "for Zoë"}).is_success
        assert kim.post("/messages/kim", json={"text": "for Kim"}).is_success
        answer = kim.put("/books/1", json={"title": "one"})
        assert answer.is_success
        topics = [KIM, ZOE, "https://example.com/books/1"]
        assert [each.data for each in received(kim, PATH, topics, 2)] == ['{"text": "for Kim"}', '{"title": "one"}']
        (told,) = received(stranger, PATH, topics, 1)
        assert told.data == '{"title": "one"}'
        if name != "django":
            assert told.id == answer.json()["published"]
        token = jwt.encode({"mercure": {"publish": ["*"]}}, "a-secret-of-32-characters-at-least")
        by_token = {"Authorization": f"Bearer {token}"}
        assert stranger.post(PATH, data={"topic": "urn:a", "data": "by its token"}, headers=by_token).is_success
        assert stranger.post(PATH, data={"topic": "urn:a"}).status_code == 401


def test_what_is_rolled_back_in_django(tmp_path: Path) -> None:
    """Is told to nobody; what is committed is, from a view's thread."""
    with ExitStack() as stack:
        client = browser_of(stack, stack.enter_context(served("django", tmp_path)))
        for query, title in (("?fail=1", "never"), ("", "saved")):
            assert client.put(f"/books/1{query}", json={"title": title}).json() == {"title": title}
        assert received(client, PATH, ["*"], 1)[0].data == '{"title": "saved"}'


def test_django_under_wsgi(tmp_path: Path) -> None:
    """The same with the client and a hub of its own; a hub that is away costs an update and no book."""
    port = free_port()
    serve = f"import app, werkzeug; werkzeug.run_simple('127.0.0.1', {port}, app.app, threaded=True)"
    with ExitStack() as stack:
        hub = hub_beside(stack)
        variables = {"HUB": hub.url, "MERCURE_PUBLISHER_JWT_KEY": KEY}
        stack.enter_context(running("django-wsgi", tmp_path, "-c", serve, ready="Running on", **variables))
        client = browser_of(stack, f"http://127.0.0.1:{port}")
        for query, title in (("?fail=1", "never"), ("", "saved")):
            assert client.put(f"/books/1{query}", json={"title": title}, timeout=DEADLINE).json() == {"title": title}
        assert received(client, hub.url, ["*"], 1)[0].data == '{"title": "saved"}'


def test_flask_and_celery(tmp_path: Path) -> None:
    """A report's progress, from a worker, in its order, also to whoever asks after it has begun."""
    port, broker = free_port(), free_port()
    with ExitStack() as stack:
        stack.enter_context(Valkey(port=broker))
        hub = hub_beside(stack)
        variables = {"HUB": hub.url, "MERCURE_PUBLISHER_JWT_KEY": KEY, "BROKER": f"redis://127.0.0.1:{broker}/0"}
        work = ("-m", "celery", "--app", "app:celery", "worker", "--loglevel", "info", "--concurrency", "1")
        stack.enter_context(running("flask", tmp_path, *work, ready="ready.", **variables))
        serve = ("-m", "flask", "--app", "app", "run", "--port", str(port))
        stack.enter_context(running("flask", tmp_path, *serve, ready="Running on", **variables))
        client = browser_of(stack, f"http://127.0.0.1:{port}")
        answer = client.post("/reports")
        assert answer.status_code == 202
        events = received(client, hub.url, [answer.json()["topic"]], 5)
        assert [each.data for each in events] == ["0", "25", "50", "75", "100"]
