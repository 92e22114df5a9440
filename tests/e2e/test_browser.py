"""A browser's own `EventSource` on a page of another origin, and the hub as a process on LMDB."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser import DEADLINE, Browser, Site, chromium, said, site, until
from tests.e2e.processes import ROOT, free_port
from tests.hub.serving import PUBLISHER, TOPIC, token

COMMAND = [sys.executable, "-c", "from hub.cli.commands import main; main()", "serve", "--dev"]
BOOKS = "https://example.com/books/{id}"
QUERY = f"topic={TOPIC}"
TRICKY = [
    "one\ntwo\n\nfour",
    "one\r\ntwo\rthree\n\rfour",
    "\n\nmiddle\r\n",
    "\n",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven\x1eeight",
    "😀 👩‍👩‍👧‍👦 🇪🇺 é e\u0301",
    "  one\n two\n\tthree",
    "\ufeffone\n\ufeff",
    "",
    "\x00one\x00\n\x00",
    "data: one\nid: two\n\nevent: three\n\n: four",
    '{"quoted": "\\"\\\\", "less": "</script>"}',
    "\ufffe\uffff\U0010ffff\ufffd",
]


class HubProcess:
    """A hub to try, with flags of a test's own; what it stores outlives it."""

    def __init__(self, *flags: str, folder: Path | None = None) -> None:
        self._flags, self._folder = flags, folder
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, address: str = "127.0.0.1:0") -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MERCURE_", "SERVER_"))
        }
        command = [*COMMAND, "--listen", address, *self._flags]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
        )
        self.url = said(self._process, r"listening on (http://\S+)")

    def stop(self) -> None:
        """SIGTERM; it ends properly."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.terminate()
                assert process.wait(DEADLINE) == 0

    def publish(self, data: str, **fields: str) -> str:
        form = {"topic": TOPIC, "data": data, **fields}
        response = httpx.post(self.url, data=form, headers=PUBLISHER, timeout=DEADLINE, trust_env=False)
        assert response.status_code == 200, response.text
        return response.text


def for_pages_of(origin: str, directory: Path) -> HubProcess:
    """A hub on LMDB for pages of one origin."""
    return HubProcess("--transport-url", f"lmdb://{directory}", "--cors-origins", origin)


@pytest.fixture(scope="module")
def listed() -> Iterator[Site]:
    with site() as server:
        yield server


@pytest.fixture(scope="module")
def unlisted() -> Iterator[Site]:
    with site() as server:
        yield server


@pytest.fixture(scope="module")
def browser(listed: Site, unlisted: Site) -> Iterator[Browser]:
    """It ends before the sites do, which wait for the connections that it holds in reserve."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def hub(tmp_path: Path, listed: Site, unlisted: Site) -> Iterator[HubProcess]:
    """A hub that lists one site, and that both name to their visitors, with a cookie for private books."""
    hub = for_pages_of(listed.origin, tmp_path / "hub")
    try:
        hub.start()
        for each in (listed, unlisted):
            each.hub, each.cookie = hub.url, token(subscribe=[BOOKS])
        yield hub
    finally:
        hub.stop()


def listen(browser: Browser, page: str, query: str = QUERY, *types: str) -> None:
    """Open the page; its source is live when this returns."""
    browser.open(page)
    browser.run("return listen(...arguments)", query, types or ["message"])
    assert browser.states(bool) == ["open"]


def received(browser: Browser, count: int) -> list[str]:
    return [data for _type, _id, data in browser.events(count)]


def test_a_private_update_arrives(browser: Browser, hub: HubProcess, listed: Site) -> None:
    """A cookie that no script can read lets a page of another, listed origin receive private updates."""
    listen(browser, f"{listed.origin}/in")
    event_id = hub.publish("for you", private="on")
    assert browser.events(1) == [("message", event_id, "for you")]
    assert browser.run("return document.cookie") == ""
    assert not hub.url.startswith(listed.origin)


def test_without_the_cookie_only_public_updates_arrive(browser: Browser, hub: HubProcess, listed: Site) -> None:
    """A private update passes by who has no cookie; the public one behind it arrives."""
    listen(browser, f"{listed.origin}/out")
    hub.publish("for others", private="on")
    hub.publish("for all")
    assert received(browser, 1) == ["for all"]


def test_a_page_of_another_origin_receives_nothing(
    browser: Browser, hub: HubProcess, listed: Site, unlisted: Site
) -> None:
    """A page whose origin is not listed gets an error for good, though its visitor's cookie goes along."""
    hub.publish("before", private="on")
    browser.open(f"{unlisted.origin}/in")
    query = f"{QUERY}&last_event_id=earliest"
    browser.run("return listen(arguments[0])", query)
    assert browser.states(bool) == ["closed"]
    hub.publish("after", private="on")
    assert browser.events(0) == []
    listen(browser, f"{listed.origin}/in", query)
    assert received(browser, 2) == ["before", "after"]


def test_a_restart_loses_and_repeats_nothing(browser: Browser, hub: HubProcess, listed: Site) -> None:
    """`EventSource` comes back by itself, after the last id that it saw, and gets what it was away for, once."""
    address = hub.url.split("/")[2]
    listen(browser, f"{listed.origin}/in")
    hub.publish("1", private="on", retry="200")
    hub.publish("2", private="on", id="ü 😀")
    assert received(browser, 2) == ["1", "2"]
    hub.stop()
    hub.start()  # elsewhere: the browser cannot be there yet
    hub.publish("3", private="on")
    hub.publish("4", private="on")
    hub.stop()
    hub.start(address)
    hub.publish("5", private="on")
    states = browser.states(lambda states: states[-1] == "open" and len(states) > 1)
    hub.publish("6", private="on")
    assert received(browser, 6) == ["1", "2", "3", "4", "5", "6"]
    assert set(states[1:-1]) == {"connecting"}


def test_tricky_data_arrives_as_it_was(browser: Browser, hub: HubProcess, listed: Site) -> None:
    """Any text survives, but for its line breaks, which all become LF."""
    listen(browser, f"{listed.origin}/in")
    for data in TRICKY:
        hub.publish(data, private="on")
    expected = [data.replace("\r\n", "\n").replace("\r", "\n") for data in TRICKY]
    assert received(browser, len(TRICKY)) == expected


def test_patterns_and_types(browser: Browser, hub: HubProcess, listed: Site) -> None:
    """1.0's `match_urlpattern` selects, and an update's type selects its listeners."""
    pattern = "match_urlpattern=https%3A%2F%2Fexample.com%2Fbooks%2F%3Aid"
    listen(browser, f"{listed.origin}/in", pattern, "price", "message")
    hub.publish("elsewhere", topic="https://example.com/authors/1", type="price")
    hub.publish("unheard", type="stock")
    hub.publish("12 EUR", type="price", private="on")
    hub.publish("untyped", topic="https://example.com/books/2")
    found = [(kind, data) for kind, _id, data in browser.events(2)]
    assert found == [("price", "12 EUR"), ("message", "untyped")]


def test_one_stream_for_all_tabs(browser: Browser, tmp_path: Path) -> None:
    """The shared worker of the how-to page: two tabs get every update over one connection, also when one has gone."""
    port = free_port()
    hub = for_pages_of(f"http://127.0.0.1:{port}", tmp_path / "store")
    hub.start()
    for name in ("worker.js", "tab.js"):
        text = (ROOT / "examples/shared-worker" / name).read_text()
        text = text.replace("https://hub.example.com/.well-known/mercure", hub.url).replace("console.log(", "got.push(")
        (tmp_path / name).write_text(text)
    (tmp_path / "index.html").write_text(
        '<!doctype html><title>Tab</title><script>const got = [];</script><script src="tab.js"></script>'
    )
    serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(serve, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _answers(port), bool)
            first = browser.window()
            browser.open(f"http://127.0.0.1:{port}/")
            second = browser.new_window()
            browser.open(f"http://127.0.0.1:{port}/")
            published: list[str] = []
            for seen_by in ([first, second], [first, second]):
                published.append(hub.publish(f"number {len(published)}"))
                for window in seen_by:
                    browser.switch(window)
                    got = until(lambda: browser.run("return got"), lambda got: published[-1] in got)
                    assert got[::2][-1] == published[-1]
            browser.switch(second)
            browser.close_window()
            browser.switch(first)
            last = hub.publish("for the one that is left")
            assert last in until(lambda: browser.run("return got"), lambda got: last in got)
            assert browser.run("return got.length") == 6  # id and data of each, once
        finally:
            server.terminate()
            hub.stop()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
