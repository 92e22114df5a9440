"""The examples, each started by its one command and used in a real browser as its README says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser import DEADLINE, Browser, chromium, until
from tests.e2e.processes import ROOT, free_port

EXAMPLES = ROOT / "examples"


@contextmanager
def started(name: str) -> Iterator[str]:
    """Its URL, once it answers; it ends properly."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, f"examples/{name}/app.py"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: process.poll() is not None or answers(url), bool)
        yield url
    finally:
        process.terminate()
        _, said = process.communicate(timeout=DEADLINE)
        assert "Traceback" not in said, said


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def picture(browser: Browser, name: str) -> None:
    """As its README shows it, where pictures are asked for."""
    if folder := os.environ.get("SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(browser.screenshot(760, 620))


def test_chat(browser: Browser) -> None:
    """Two people see each other come and go, and what both say, each under the name of its own token."""
    with started("chat") as url:
        with chromium() as another:
            for window, name in ((browser, "Kim"), (another, "Zoë")):
                window.open(url)
                window.fill("input[name=name]", name)
                window.click("#enter button")
            assert browser.text("#people", lambda text: text == "KimZoë") == "KimZoë"
            another.fill("#text", "Hello!")
            another.click("#say button")
            assert browser.text("#messages", lambda text: "Hello!" in text) == "Zoë: Hello!"
            browser.fill("#text", "<b>Hi</b>")
            browser.click("#say button")
            assert another.text("#messages li:last-child", lambda text: "Hi" in text) == "Kim: <b>Hi</b>"
            assert browser.run("return document.getElementById('enter').offsetParent") is None
            picture(browser, "chat")
        assert browser.text("#people", lambda text: text == "Kim") == "Kim"


def test_live_table(browser: Browser) -> None:
    """The page's table stays the server's: after some changes both are the same."""
    with started("live-table") as url:
        browser.open(url)
        assert int(browser.text("#count", lambda text: int(text or 0) >= 5)) >= 5
        picture(browser, "live-table")

        def both() -> bool:
            rows = browser.run(
                "return [...document.querySelectorAll('#rows tr')].map((row) => row.innerText.split('\\t'))"
            )
            return {name: int(left) for name, left in rows} == dict(
                httpx.get(f"{url}/stocks.json", trust_env=False).json()
            )

        assert until(both, bool)


def test_progress_bar(browser: Browser) -> None:
    """The bar goes from the first step to the last, though the job did not wait for the page."""
    with started("progress-bar") as url:
        browser.open(url)
        browser.click("#start")
        assert browser.text("#said", lambda text: text >= "20 of") != "Done."
        picture(browser, "progress-bar")
        assert browser.text("#said", lambda text: text == "Done.") == "Done."
        assert browser.run("return document.getElementById('bar').value") == 1


def test_turbo(browser: Browser) -> None:
    """What one window does is in the other too, and in a page that is opened later; markup of a user stays text."""
    with started("turbo") as url, chromium() as another:
        for window in (browser, another):
            window.open(url)
        for task in ("Write it", "<i>Test it</i>"):
            browser.fill("input[name=task]", task)
            browser.click("#add button")
            assert task in another.text("#tasks", lambda text, task=task: task in text)  # type: ignore[misc]
        picture(browser, "turbo")
        another.click("#tasks li button")
        assert browser.text("#tasks", lambda text: "Write" not in text) == "<i>Test it</i>Done"
        another.open(url)
        assert another.text("#tasks") == "<i>Test it</i>Done"


def test_session(browser: Browser) -> None:
    """Each user receives what is for them, and nobody else's; a session is all that it takes."""
    with started("session") as url, chromium() as another:
        for window, name in ((browser, "kim"), (another, "zoe")):
            window.open(url)
            window.fill("#log-in input", name)
            window.click("#log-in button")
            assert window.text("#user", lambda text, name=name: text == name) == name  # type: ignore[misc]
        for text, to in (("for Kim", "kim"), ("for Zoe", "zoe")):
            browser.fill("input[name=to]", to)
            browser.fill("input[name=text]", text)
            browser.click("#write button")
        assert another.text("#messages", bool) == "for Zoe"
        assert browser.text("#messages", bool) == "for Kim"
        picture(browser, "session")


def test_each_example_is_told_of() -> None:
    """In the list, with a page and a picture of its own."""
    found = {each.name for each in EXAMPLES.iterdir() if (each / "README.md").exists()}
    assert found == set(re.findall(r"^\| \[([a-z-]+)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    for name in found:
        assert (EXAMPLES / name / "screenshot.png").read_bytes().startswith(b"\x89PNG")
        assert f"python examples/{name}/app.py" in (EXAMPLES / name / "README.md").read_text()
