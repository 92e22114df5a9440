"""Headless Chromium, driven by WebDriver's own HTTP (W3C WebDriver), and a web site for it to visit."""

import json
import re
import shutil
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.needs import needs

DEADLINE = 20.0
"""Seconds after which a test stops waiting; nothing here takes a fifth of it."""
PAUSE = 0.02
"""Seconds between two looks at something that another process does."""
HIDDEN = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
SILENT = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<title>Books</title>
<h1>What the hub says</h1>
<ol></ol>
<script>
  const events = [];
  const states = [];

  async function listen(query, types = ["message"]) {
    const link = (await fetch(location)).headers.get("Link");
    const hub = link.match(/<(.+)>; rel="mercure"/)[1];
    const source = new EventSource(`${hub}?${query}`, { withCredentials: true });
    source.onopen = () => states.push("open");
    source.onerror = () => states.push(["connecting", "open", "closed"][source.readyState]);
    types.forEach((type) => source.addEventListener(type, show));
  }

  function show(event) {
    const data = JSON.stringify(event.data);
    events.push([event.type, event.lastEventId, data]);
    const item = document.querySelector("ol").appendChild(document.createElement("li"));
    item.textContent = `${event.type} ${event.lastEventId}: ${data}`;
  }
</script>
"""


def until(look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """What there is to see once it is enough, or at the deadline: the assertion is the caller's."""
    deadline = time.monotonic() + DEADLINE
    while not enough(seen := look()) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    return seen


class Site(ThreadingHTTPServer):
    """An application of its own origin: each page names the hub, and `/in` and `/out` set and clear its cookie."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.hub = ""
        self.cookie = ""


class _Handler(BaseHTTPRequestHandler):
    server: Site
    timeout = DEADLINE

    def do_GET(self) -> None:
        if self.path not in ("/in", "/out"):
            self.send_error(404)  # a favicon, which must not clear the cookie
            return
        cookie = self.server.cookie if self.path == "/in" else "; Max-Age=0"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Link", f'<{self.server.hub}>; rel="mercure"')
        attributes = "Path=/.well-known/mercure; HttpOnly; SameSite=Strict"
        self.send_header("Set-Cookie", f"mercureAuthorization={cookie}; {attributes}")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": PAUSE})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Browser:
    """One window."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self._session = session

    def open(self, url: str) -> None:
        self.command("url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the function body returns; a promise is waited for."""
        return self.command("execute/sync", {"script": script, "args": arguments})

    def click(self, selector: str) -> None:
        """As a person would: what is hidden or covered can't be clicked."""
        self.command(f"element/{self._element(selector)}/click", {})

    def fill(self, selector: str, text: str) -> None:
        """Replace what stands in a field, key by key."""
        element = self._element(selector)
        self.command(f"element/{element}/clear", {})
        self.command(f"element/{element}/value", {"text": text})

    def press(self, key: str) -> None:
        """A key, where the focus is; those without a character as WebDriver numbers them."""
        strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.command("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def window(self) -> str:
        """The handle of the window that is driven."""
        return str(_answer(self._client.get(f"{self._session}/window")))

    def new_window(self) -> str:
        """Open another tab, and drive that one."""
        handle = str(self.command("window/new", {"type": "tab"})["handle"])
        self.switch(handle)
        return handle

    def switch(self, handle: str) -> None:
        """Drive that window from now on."""
        self.command("window", {"handle": handle})

    def close_window(self) -> None:
        """The one that is driven; then another has to be chosen."""
        _answer(self._client.delete(f"{self._session}/window"))

    def text(self, selector: str, enough: Callable[[str], bool] = bool) -> str:
        """What an element shows, once it is enough."""
        look = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return str(until(lambda: self.run(look, selector), enough))

    def screenshot(self, width: int, height: int, *, dark: bool = False) -> bytes:
        """A PNG of the window in that size, in the colours that the system asks for."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})
        self.command("window/rect", {"width": width, "height": height})
        return b64decode(_answer(self._client.get(f"{self._session}/screenshot")))

    def _element(self, selector: str) -> str:
        found = self.command("element", {"using": "css selector", "value": selector})
        return str(next(iter(found.values())))

    def command(self, name: str, body: dict[str, Any]) -> Any:
        return _answer(self._client.post(f"{self._session}/{name}", json=body))

    def set_cookie(self, name: str, value: str) -> None:
        """For the page's host, unseen by its scripts."""
        self.command("cookie", {"cookie": {"name": name, "value": value, "path": "/", "httpOnly": True}})

    def delete_cookies(self) -> None:
        _answer(self._client.delete(f"{self._session}/cookie"))

    def states(self, enough: Callable[[list[str]], bool]) -> list[str]:
        """`open` for each connection, `connecting` or `closed` for each error."""
        return list(until(lambda: self.run("return states"), enough))

    def events(self, count: int) -> list[tuple[str, str, str]]:
        """Type, id and data of everything that has arrived, once it is so many."""
        found = until(lambda: self.run("return events"), lambda events: len(events) >= count)
        return [(kind, event_id, json.loads(data)) for kind, event_id, data in found]


@contextmanager
def chromium() -> Iterator[Browser]:
    needs("chromium", "chromedriver")
    with ExitStack() as stack:
        port = stack.enter_context(_driver())
        profile = stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
        base = f"http://127.0.0.1:{port}"
        client = stack.enter_context(httpx.Client(base_url=base, timeout=DEADLINE, trust_env=False))
        flags = [*HIDDEN, *SILENT, "--no-first-run", f"--user-data-dir={profile}"]
        options = {"binary": shutil.which("chromium"), "args": flags}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = f"/session/{_answer(client.post('/session', json=wanted))['sessionId']}"
        stack.callback(client.delete, session)
        yield Browser(client, session)


@contextmanager
def _driver() -> Iterator[int]:
    """A driver's port."""
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(said(process, r"started successfully on port (\d+)"))
        finally:
            process.terminate()


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """The group of the first line on a process's standard output that the pattern is found in."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match[1]
    raise AssertionError(f"{process.args!r} ended without a line like {pattern!r}")


def _answer(response: httpx.Response) -> Any:
    value = response.json()["value"]
    assert response.status_code == 200, value
    return value
