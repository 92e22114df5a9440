"""Publishing within the application's own transaction, from psql, Django and Doctrine, to a browser that listens."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser.test_frameworks import running
from tests.e2e.browser import DEADLINE, Browser, chromium, until
from tests.e2e.processes import ROOT, free_port
from tests.e2e.test_browser import HubProcess
from tests.needs import needs
from tests.transports.postgresql import ROLE, Postgres

BOOK = "https://example.com/books/1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Postgres) -> Iterator[Browser]:
    """A page of a hub on that server, which keeps what it hears of a book in `heard`."""
    hub = HubProcess("--transport-url", server.url())
    hub.start()
    try:
        browser.open(hub.url.rpartition("/.well-known")[0])
        browser.run(
            "window.heard = []; window.source = new EventSource(arguments[0]);"
            "source.onmessage = (event) => heard.push(event.data)",
            f"{hub.url}?topic={BOOK}",
        )
        until(lambda: browser.run("return source.readyState"), lambda state: state == 1)
        yield browser
        browser.run("source.close()")
    finally:
        hub.stop()


def environment(server: Postgres) -> dict[str, str]:
    return {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": ROLE, "PGDATABASE": "postgres"}


def heard(page: Browser, last: str) -> list[str]:
    """All that came, once the last of it has."""
    return list(until(lambda: page.run("return heard"), lambda found: last in found))


def test_from_psql(page: Browser, server: Postgres) -> None:
    """A browser stays silent about what is rolled back, and hears what is committed, in its order."""
    needs("psql")
    call = f"SELECT mercure.publish('{BOOK}', '{{}}');"
    script = f"BEGIN; {call.format('never')} ROLLBACK; BEGIN; {call.format('one')} {call.format('two')} COMMIT;"
    subprocess.run(
        ["psql", "-q", "-c", script], env={**os.environ, **environment(server)}, check=True, timeout=DEADLINE
    )
    assert heard(page, "two") == ["one", "two"]


def test_from_django(page: Browser, server: Postgres, tmp_path: Path) -> None:
    """Within `transaction.atomic`."""
    port = free_port()
    serve = f"import app, werkzeug; werkzeug.run_simple('127.0.0.1', {port}, app.app, threaded=True)"
    with running("django-sql", tmp_path, "-c", serve, ready="Running on", **environment(server)):
        for query, title in (("?fail=1", "never"), ("", "saved")):
            url = f"http://127.0.0.1:{port}/books/1{query}"
            assert httpx.put(url, json={"title": title}, timeout=DEADLINE, trust_env=False).json() == {"title": title}
        assert heard(page, '{"title": "saved"}') == ['{"title": "saved"}']


def test_from_doctrine(page: Browser, server: Postgres) -> None:
    """Within `Connection::transactional`."""
    needs("php", "doctrine")

    def change(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["php", str(ROOT / "examples/doctrine/change.php"), "1", *arguments]
        return subprocess.run(
            command,
            env={**os.environ, **environment(server)},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )

    assert "can't be lent" in change("never", "fail").stderr
    done = change("lent")
    assert done.returncode == 0, done.stdout + done.stderr
    assert heard(page, '{"title":"lent"}') == ['{"title":"lent"}']
