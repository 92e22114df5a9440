"""The pages in a real browser: every panel of the debugger, on both generations and two stores, and how they look."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_core_python
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.client.sse_parser import Parser
from hub.generations import PATH
from tests.e2e.browser import DEADLINE, Browser, chromium, until
from tests.e2e.processes import ROOT, free_port
from tests.e2e.test_browser import TRICKY, HubProcess
from tests.hub.serving import KEY, TOPIC
from tests.needs import needs
from transports import Update, open_transport

AXE = (Path(axe_core_python.__file__).with_name("axe.min.js")).read_text()
PAGES = ROOT / "hub" / "web" / "pages"
PANELS = ("subscribe", "publish", "token", "presence", "settings")
MOST = 10_000
"""Rows that the log keeps."""
ARROW_RIGHT, END = "\ue014", "\ue010"
COPY = "navigator.clipboard.writeText = async (text) => { window.copied = text; }"
"""A headless window without a focus may not write to the clipboard."""


class DebuggedHub(HubProcess):
    """A hub to debug, which keeps its address over a restart."""

    def __init__(self, directory: Path, *flags: str) -> None:
        super().__init__("--subscriptions", "--drain", "100ms", *flags, folder=directory)
        self.address = f"127.0.0.1:{free_port()}"

    def start(self, address: str = "") -> None:
        super().start(address or self.address)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        browser.command("window/rect", {"width": 1280, "height": 900})
        yield browser


@pytest.fixture(scope="module", params=["memory://", "lmdb://store"], ids=["memory", "lmdb"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebuggedHub]:
    """One for all tests of a store: a page begins with what is new, and its log is empty."""
    hub = DebuggedHub(tmp_path_factory.mktemp("hub"), "--transport-url", request.param)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


def opened(browser: Browser, hub: DebuggedHub) -> None:
    """The page, with the token that it has minted for itself."""
    browser.open(f"{hub.url}/debug/")
    browser.text("#grants", lambda text: "it may publish to *" in text)
    browser.run(COPY)


def subscribe(browser: Browser) -> None:
    browser.click("#tab-subscribe")
    browser.click("#connect")
    assert browser.text("#state", lambda text: text == "live") == "live"


def use_only(browser: Browser, type: str, pattern: str) -> None:
    """Take the chips away, and put this one there."""
    browser.click("#tab-subscribe")
    while browser.run("return document.querySelectorAll('#matchers li').length"):
        browser.click("#matchers button")
    browser.run("document.getElementById('matcher-type').value = arguments[0]", type)
    browser.fill("#matcher", pattern)
    browser.click("#matcher-form button")
    assert browser.text("#matchers li span") == f"{type} {pattern}"


def rows(browser: Browser, count: int) -> list[list[str]]:
    """Type, data and id of what the log shows, the newest first, once there are so many."""
    look = """return [...document.querySelectorAll('#log details:not([hidden])')].map((row) =>
        ['.type', '.data', '.id'].map((part) => row.querySelector(part).textContent))"""
    return [list(map(str, row)) for row in until(lambda: browser.run(look), lambda found: len(found) >= count)]


def shows(browser: Browser, *row: str) -> bool:
    """Whether such a row comes; a subscription to everything hears of itself too."""
    return list(row) in until(lambda: rows(browser, 0), lambda found: list(row) in found)


def left(browser: Browser, *data: str) -> bool:
    """Whether a search leaves just these, the newest first."""
    found = until(lambda: rows(browser, 0), lambda found: [row[1] for row in found] == [*data])
    return [row[1] for row in found] == [*data]


def notes(browser: Browser, wanted: str) -> list[str]:
    """The log's lines about the connection, without their times, once one of them says that."""
    look = "return [...document.querySelectorAll('#log p.entry')].map((each) => each.textContent.slice(13))"
    return list(until(lambda: browser.run(look), lambda found: any(wanted in each for each in found)))


@pytest.mark.parametrize(
    ("type", "pattern"),
    [
        ("topic", "https://example.com/books/{id}"),
        ("topic", "*"),
        ("match", TOPIC),
        ("match_exact", TOPIC),
        ("match_urlpattern", "https://example.com/books/:id"),
    ],
)
def test_every_matcher(browser: Browser, hub: DebuggedHub, type: str, pattern: str) -> None:
    """Chips of both generations' types; private updates come with the token that the page has."""
    opened(browser, hub)
    use_only(browser, type, pattern)
    subscribe(browser)
    event_id = hub.publish('{"title": "one"}', private="on", type="book")
    assert shows(browser, "book", '{"title": "one"}', event_id)
    browser.fill("#search", event_id)
    browser.click("#log details:not([hidden]) summary")
    assert browser.text("#log details pre") == '{\n  "title": "one"\n}'
    assert f"subscribed with {type} {pattern}" in browser.text("#log details .more p")


@pytest.mark.parametrize("way", ["header", "cookie", "query"])
@pytest.mark.parametrize("generation", ["0.x", "1.0"])
def test_every_way_to_send_the_token(browser: Browser, hub: DebuggedHub, way: str, generation: str) -> None:
    """By header with fetch, by cookie and in the query with EventSource; a 1.0 token may not be in the query."""
    opened(browser, hub)
    browser.click("#tab-token")
    browser.run("document.getElementById('generation').value = arguments[0]", generation)
    browser.click("#mint-form .act")
    assert browser.text("#grants", lambda text: f"of {generation}" in text)
    use_only(browser, "topic", "*")
    browser.click(f"input[value={way}]")
    if (way, generation) == ("query", "1.0"):
        browser.click("#connect")
        assert "refused" in browser.text("#state", lambda text: "refused" in text)
        return
    subscribe(browser)
    event_id = hub.publish("for you alone", private="on")
    assert shows(browser, "message", "for you alone", event_id)


def test_what_is_asked_as_curl(browser: Browser, hub: DebuggedHub) -> None:
    """The command that is copied gets the same: history from the earliest on, private updates too."""
    needs("curl")
    event_id = hub.publish("kept", private="on")
    opened(browser, hub)
    use_only(browser, "topic", "https://example.com/books/{id}")
    browser.click("#earliest")
    for way in ("header", "cookie", "query"):
        browser.click(f"input[value={way}]")
        browser.run("delete window.copied")
        browser.click("#copy-subscription")
        command = until(lambda: browser.run("return window.copied ?? ''"), bool)
        done = subprocess.run(f"{command} -s --max-time 0.5", shell=True, capture_output=True, text=True, check=False)
        assert f"id: {event_id}\ndata: kept\n" in done.stdout, command


def test_a_hub_that_was_away(browser: Browser, tmp_path: Path) -> None:
    """The stream reconnects after its last event, says from where it goes on, and gets what was missed."""
    hub = DebuggedHub(tmp_path, "--transport-url", "lmdb://store")
    hub.start()
    try:
        opened(browser, hub)
        use_only(browser, "topic", TOPIC)
        subscribe(browser)
        first = hub.publish("before")
        rows(browser, 1)
        hub.stop()
        assert "waiting to reconnect" in browser.text("#state", lambda text: "waiting" in text)
        hub.start()
        hub.publish("after")
        assert [data for _, data, _ in rows(browser, 2)] == ["after", "before"]
        assert f"connected after {first}; the hub goes on after it" in notes(browser, "connected after")
        assert any(each.startswith("replayed: ") for each in notes(browser, "replayed"))
        assert "1 reconnects" in browser.text("#numbers", lambda text: "1 reconnects" in text)
    finally:
        hub.stop()


def test_lost_history_is_seen(browser: Browser, hub: DebuggedHub) -> None:
    """An id that the hub does not know: the log says from where it goes on instead."""
    hub.publish("what is left")
    opened(browser, hub)
    browser.fill("#last-event-id", "urn:example:gone")
    subscribe(browser)
    (line,) = (each for each in notes(browser, "no longer") if "no longer" in each)
    assert line == "connected after urn:example:gone; the hub no longer has it and goes on after earliest"


def test_the_log_is_searched_paused_and_cleared(browser: Browser, hub: DebuggedHub) -> None:
    """What is looked for is left; while it is paused nothing moves, and nothing is lost; then it is empty."""
    opened(browser, hub)
    use_only(browser, "topic", TOPIC)
    subscribe(browser)
    hub.publish("apples")
    hub.publish("pears")
    rows(browser, 2)
    browser.fill("#search", "PEAR")
    assert left(browser, "pears")
    browser.fill("#search", "x")
    browser.press("\ue003")  # Backspace
    assert left(browser, "pears", "apples")
    browser.click("#pause")
    hub.publish("plums")
    assert browser.text("#pause", lambda text: "1 wait" in text) == "Go on (1 wait)"
    assert len(rows(browser, 2)) == 2
    browser.click("#pause")
    assert [data for _, data, _ in rows(browser, 3)] == ["plums", "pears", "apples"]
    browser.click("#clear")
    assert browser.run("return document.querySelectorAll('#log details').length") == 0
    browser.click("#disconnect")
    assert browser.text("#state", lambda text: text == "not connected") == "not connected"


def test_publishing(browser: Browser, hub: DebuggedHub) -> None:
    """All fields arrive; the answer is shown with its time; the same key is stored once; an error has its sentence."""
    opened(browser, hub)
    use_only(browser, "topic", TOPIC)
    subscribe(browser)
    browser.click("#tab-publish")
    browser.fill("#data", '{"broken": ')
    assert browser.text("#json-check", lambda text: "not JSON" in text).startswith("not JSON: ")
    browser.fill("#data", '{"sound": true}')
    assert browser.text("#json-check", lambda text: text == "valid JSON")
    browser.click("#private")
    for name, value in (("id", "urn:example:1"), ("type", "book"), ("retry", "1500")):
        browser.fill(f"#{name}", value)
    browser.click("#new-key")
    for _ in range(2):
        browser.click("#publish-form .act")
        answer = browser.text("#answer", lambda text: "urn:example:1" in text)
        assert answer.startswith("200 in ")
        assert answer.endswith(" ms: urn:example:1")
    hub.publish("the end")
    assert [row[:2] for row in rows(browser, 2)] == [["message", "the end"], ["book", '{"sound": true}']]
    browser.fill("#retry", "soon")
    browser.click("#publish-form .act")
    assert "the field 'retry' is a number of milliseconds" in browser.text("#answer", lambda text: "400" in text)


@pytest.mark.parametrize(
    ("language", "command"),
    [("curl", ["sh"]), ("python", [sys.executable, "-"]), ("php", ["php"]), ("javascript", [])],
)
def test_the_same_from_a_program(browser: Browser, hub: DebuggedHub, language: str, command: list[str]) -> None:
    """What is copied runs as it is, whatever stands in the fields."""
    needs(*{"curl": ["curl"], "php": ["php"]}.get(language, []))
    opened(browser, hub)
    use_only(browser, "topic", TOPIC)
    subscribe(browser)
    browser.click("#tab-publish")
    tricky = 'it\'s "quoted" \\ $HOME `ls` \n& <b>é</b>'
    browser.run("document.getElementById('data').value = arguments[0]", tricky)
    browser.fill("#type", "tricky")
    browser.fill("#key", f'"{language}"')
    browser.run("document.getElementById('language').value = arguments[0]", language)
    browser.run("document.getElementById('language').dispatchEvent(new Event('change'))")
    browser.click("#copy-snippet")
    program = until(lambda: browser.run("return window.copied ?? ''"), bool)
    if command:
        done = subprocess.run(command, input=program, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, (program, done.stderr)
    else:
        browser.run(f"return (async () => {{ {program} }})()")
    rows(browser, 1)
    assert browser.run("return document.querySelector('#log details').entry.data") == tricky


def test_tokens(browser: Browser, hub: DebuggedHub) -> None:
    """Header and claims are shown, what they grant, and the hub's own verdict, with the reason where it refuses."""
    opened(browser, hub)
    browser.click("#tab-token")
    browser.fill("#jwt", jwt.encode({"mercure": {"subscribe": ["a"]}, "exp": 1}, KEY, "HS256"))
    grants = browser.text("#grants", lambda text: "it ended" in text)
    assert grants.startswith("A token of 0.x: it may publish to nothing, may receive a; it ended ")
    assert json.loads(browser.text("#claims"))["claims"]["mercure"] == {"subscribe": ["a"]}
    browser.click("#ask-subscriber")
    assert "refused: expired: " in browser.text("#verdict", lambda text: "refused" in text)
    browser.fill("#jwt", "no.token.here")
    assert browser.text("#grants", lambda text: "no token" in text).startswith("It is no token")


@pytest.mark.parametrize("generation", ["0.x", "1.0"])
def test_minting(browser: Browser, hub: DebuggedHub, generation: str) -> None:
    """In the page, in both generations; the hub accepts it for what it grants, and says so."""
    opened(browser, hub)
    browser.click("#tab-token")
    browser.run("document.getElementById('generation').value = arguments[0]", generation)
    browser.run("document.getElementById('generation').dispatchEvent(new Event('change'))")
    browser.fill("#may-publish", "https://example.com/a")
    browser.fill("#payload", '{"name": "Kim"}')
    browser.click("#mint-form .act")
    assert browser.text("#minted") == "It is in use now."
    browser.click("#ask-publisher")
    verdict = browser.text("#verdict", lambda text: "accepted" in text)
    assert f"a token of {generation}" in verdict
    assert "may publish to: https://example.com/a" in verdict


def test_minting_with_a_private_key(browser: Browser, hub: DebuggedHub) -> None:
    """A PEM of PKCS #8 signs ES256; a key that is none is told, and nothing of it leaves the page."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    opened(browser, hub)
    browser.click("#tab-token")
    browser.run("document.getElementById('algorithm').value = 'ES256'")
    browser.fill("#signing-key", "hunter2")
    browser.click("#mint-form .act")
    assert "no PEM text" in browser.text("#minted", lambda text: "can't" in text)
    browser.fill("#signing-key", pem)
    browser.click("#mint-form .act")
    assert browser.text("#minted", lambda text: text == "It is in use now.")
    token = browser.run("return document.getElementById('jwt').value")
    assert jwt.decode(token, private.public_key(), ["ES256"])["mercure"] == {"publish": ["*"], "subscribe": ["*"]}


@pytest.mark.parametrize("generation", ["0.x", "1.0"])
def test_who_is_there(browser: Browser, hub: DebuggedHub, generation: str) -> None:
    """The list, and what changes in it: a subscription of either generation begins, and ends."""
    opened(browser, hub)
    browser.click("#tab-token")
    browser.run("document.getElementById('generation').value = arguments[0]", generation)
    browser.click("#mint-form .act")
    assert browser.text("#grants", lambda text: f"of {generation}" in text)
    browser.click("#tab-presence")
    browser.click("#follow")
    browser.text("#presence-state", lambda text: "kept up to date" in text)
    wanted = {"0.x": ({"topic": TOPIC}, TOPIC), "1.0": ({"match_exact": TOPIC}, f"exact {TOPIC}")}
    query, shown = wanted[generation]

    def listed() -> Any:
        return browser.run("return [...document.querySelectorAll('#present td:first-child')].map((e) => e.textContent)")

    with httpx.stream("GET", hub.url, params=query, timeout=DEADLINE, trust_env=False) as other:
        assert other.status_code == 200
        assert shown in until(listed, lambda topics: shown in topics)
    assert shown not in until(listed, lambda topics: shown not in topics)


def test_another_hub(browser: Browser, hub: DebuggedHub, tmp_path: Path) -> None:
    """Any hub that lets this page read its answers; its URL is remembered, a token is not."""
    other = DebuggedHub(tmp_path, "--transport-url", "memory://", "--cors-origins", f"http://{hub.address}")
    other.start()
    try:
        opened(browser, hub)
        browser.click("#tab-settings")
        browser.fill("#hub-url", other.url)
        browser.click("#settings-form .act")
        assert browser.text("#hub-shown", lambda text: text == other.url)
        subscribe(browser)
        event_id = other.publish("from there", private="on")
        assert shows(browser, "message", "from there", event_id)
        browser.open(f"{hub.url}/debug/")
        assert browser.text("#hub-shown") == other.url
        assert browser.run("return Object.entries({...localStorage})") == [["mercure-debugger-hub", other.url]]
        browser.click("#tab-settings")
        browser.click("#own-hub")
        assert browser.text("#hub-shown", lambda text: text == hub.url) == hub.url
        assert browser.run("return localStorage.length") == 0
    finally:
        other.stop()


@pytest.mark.parametrize(("protocol", "types"), [("1.0", 3), ("0.x", 1)])
def test_a_hub_of_one_generation(browser: Browser, tmp_path: Path, protocol: str, types: int) -> None:
    """Only its matchers and its tokens are offered, and they work."""
    hub = DebuggedHub(tmp_path, "--transport-url", "memory://", "--protocol", protocol)
    hub.start()
    try:
        opened(browser, hub)
        assert browser.run("return document.getElementById('matcher-type').length") == types
        subscribe(browser)
        browser.click("#tab-publish")
        browser.click("#private")
        browser.click("#publish-form .act")
        browser.text("#answer", lambda text: text.startswith("200"))
        event_id = browser.text("#answer").rpartition(" ")[2]
        assert shows(browser, "message", '{"status": "available"}', event_id)
    finally:
        hub.stop()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[DebuggedHub]:
    """A hub in memory whose debugger is open and has shown something."""
    hub = DebuggedHub(tmp_path, "--transport-url", "memory://")
    hub.start()
    try:
        opened(browser, hub)
        subscribe(browser)
        for number in range(12):
            hub.publish(json.dumps({"status": "available", "copies": number}), type="book" if number % 3 else "")
        rows(browser, 12)
        yield hub
    finally:
        hub.stop()


def test_by_keyboard_alone(browser: Browser, shown: DebuggedHub) -> None:
    """Arrows and End move between the panels, Enter in a field does what its form does."""
    browser.run("document.getElementById('tab-subscribe').focus()")
    browser.press(ARROW_RIGHT)
    assert browser.run("return document.activeElement.id") == "tab-publish"
    assert browser.run("return document.getElementById('publish').hidden") is False
    browser.press(END)
    assert browser.run("return document.activeElement.id") == "tab-settings"
    browser.press(ARROW_RIGHT)
    assert browser.run("return document.activeElement.id") == "tab-subscribe"
    browser.run("document.getElementById('matcher').focus()")
    for key in "books\ue007":
        browser.press(key)
    assert browser.text("#matchers li:last-child span") == "topic books"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_in_the_way_of_a_screen_reader(browser: Browser, shown: DebuggedHub, dark: bool) -> None:
    """axe-core, over each panel and the landing page, finds nothing."""
    browser.screenshot(1280, 900, dark=dark)
    browser.click("#log details summary")
    found = []
    for panel in PANELS:
        browser.click(f"#tab-{panel}")
        found += violations(browser)
    browser.open(shown.url.removesuffix(PATH))
    found += violations(browser)
    assert found == []


def violations(browser: Browser) -> list[str]:
    browser.run(AXE)
    results = browser.run("return axe.run()")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in results["violations"]]


def test_how_it_looks(browser: Browser, shown: DebuggedHub, tmp_path: Path) -> None:
    """Each panel and the landing page, on a desk, in the dark and on a phone; nothing is wider than its window."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    for name, width, height, dark in (
        ("desk", 1280, 800, False),
        ("dark", 1280, 800, True),
        ("phone", 500, 800, False),
    ):
        for panel in PANELS:
            browser.click(f"#tab-{panel}")
            (folder / f"{panel}-{name}.png").write_bytes(browser.screenshot(width, height, dark=dark))
            assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), (panel, name)
    browser.open(shown.url.removesuffix(PATH))
    for name, width, height, dark in (
        ("desk", 1280, 800, False),
        ("dark", 1280, 800, True),
        ("phone", 500, 800, False),
    ):
        (folder / f"landing-{name}.png").write_bytes(browser.screenshot(width, height, dark=dark))
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), name
    browser.screenshot(1280, 900)


def test_it_is_small_and_whole_at_once(browser: Browser, shown: DebuggedHub) -> None:
    """Under 150 KB; the page names every file that it needs, so that there is one round of requests after it."""
    assert sum(each.stat().st_size for each in PAGES.iterdir() if each.suffix != ".py" and each.is_file()) < 150_000
    html = httpx.get(f"{shown.url}/debug/", trust_env=False).text
    look = "return performance.getEntriesByType('resource').map((each) => new URL(each.name).pathname)"
    loaded = {path for path in browser.run(look) if "/pages/" in path}
    assert len(loaded) == len([each for each in PAGES.iterdir() if each.suffix in (".js", ".css", ".svg")])
    assert all(path in html for path in loaded)


def test_ten_thousand_events(browser: Browser, tmp_path: Path) -> None:
    """The log keeps the newest 10,000 and goes on answering: no frame takes as long as a person would notice."""

    async def fill() -> None:
        store = open_transport(f"lmdb://{tmp_path}/store")
        await store.open()
        updates = (Update(id=f"urn:example:{number}", topics=(TOPIC,), data="x" * 100) for number in range(MOST + 200))
        await asyncio.gather(*map(store.append, updates))
        await store.close()

    asyncio.run(fill())
    hub = DebuggedHub(tmp_path, "--transport-url", "lmdb://store")
    hub.start()
    try:
        opened(browser, hub)
        use_only(browser, "topic", TOPIC)
        browser.click("#earliest")
        browser.run(
            """window.longest = 0; let before = performance.now();
            const look = () => {
              const now = performance.now(); longest = Math.max(longest, now - before); before = now;
              requestAnimationFrame(look);
            };
            look()"""
        )
        subscribe(browser)
        count = "return document.querySelectorAll('#log .entry').length"
        newest = f"urn:example:{MOST + 199}"
        assert until(lambda: browser.text("#log .id"), lambda text: text == newest) == newest
        assert MOST - 100 < browser.run(count) <= MOST
        hub.publish("the newest")
        assert until(lambda: browser.text("#log details .data"), lambda text: text == "the newest") == "the newest"
        arriving = browser.run("const found = longest; longest = 0; return found")
        browser.fill("#search", "newest")
        assert left(browser, "the newest")
        searching = browser.run("return longest")
        sys.stdout.write(f"\nthe longest frame: {arriving:.0f} ms arriving, {searching:.0f} ms searching\n")
        assert max(arriving, searching) < 2_000
    finally:
        hub.stop()


def test_the_parser_is_the_clients(browser: Browser, shown: DebuggedHub) -> None:
    """The page's parser makes of any stream, cut anywhere, what the Python client's makes of it."""
    chance = random.Random(1)
    pieces = [
        "data",
        "id",
        "event",
        "retry",
        ":",
        ": ",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\0",
        "1",
        "x",
        "é",
        "😀",
        *TRICKY,
    ]
    streams = ["".join(chance.choices(pieces, k=chance.randrange(1, 60))) + "\n\n" for _ in range(400)]
    cuts = [sorted(chance.choices(range(len(stream) + 1), k=3)) for stream in streams]
    script = """
        const {Parser} = await import("../pages/sse.js");
        return arguments[0].map(([stream, cuts]) => {
          const parser = new Parser("before"), found = [];
          let at = 0;
          for (const cut of [...cuts, stream.length]) {
            for (const event of parser.feed(stream.slice(at, cut))) found.push([event.id, event.type, event.data]);
            at = cut;
          }
          return [found, parser.lastEventId];
        })"""
    wanted = []
    for stream in streams:
        parser = Parser("before")
        events = [[event.id, event.type, event.data] for event in parser.feed(stream.encode())]
        wanted.append([events, parser.last_event_id])
    utf16 = [[_units(stream, cut) for cut in each] for stream, each in zip(streams, cuts, strict=True)]
    assert (
        browser.run(f"return (async () => {{{script}}}).apply(null, arguments)", list(zip(streams, utf16, strict=True)))
        == wanted
    )


def _units(text: str, at: int) -> int:
    """How many UTF-16 units come before a character; JavaScript counts in those."""
    return len(text[:at].encode("utf-16-le")) // 2
