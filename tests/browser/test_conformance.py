"""A browser publishes and subscribes on a hub's own origin: what the protocol promises to pages.

``make conformance`` runs it on a hub of its own; with CONFORMANCE_URL=http://host/.well-known/mercure on any hub that
takes the documentation's key (Mercure 1.0, and 0.x where it is served).
"""

import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from hub.auth.keys import sign
from hub.cli.minting import Grant, of_1_0
from tests.e2e.browser import Browser, chromium
from tests.e2e.processes import Hubs, free_port
from tests.hub.serving import KEY, token

MARKER = "https://example.com/marker"
"""Every subscription has it too, and it is published last: what has not come before it does not come."""
BOOK = "https://example.com/books/1"

LISTEN = """
const [query, types] = arguments;
window.events = [];
window.source = new EventSource(`/.well-known/mercure?${query}`, { withCredentials: true });
for (const type of types)
  source.addEventListener(type, (event) => events.push([event.type, event.lastEventId, JSON.stringify(event.data)]));
return new Promise((resolve) => { source.onopen = () => resolve("open"); source.onerror = () => resolve("error"); });
"""
PUBLISH = """
const form = new URLSearchParams(arguments[0]);
return fetch("/.well-known/mercure", { method: "POST", body: form, headers: arguments[1] })
  .then((response) => response.text().then((text) => [response.status, text]));
"""


class Case(NamedTuple):
    """``query``: name and value of each parameter. ``arrives``: whether the page gets an update of these topics."""

    query: list[tuple[str, str]]
    topics: list[str]
    arrives: bool
    private: bool = False
    reads: str = ""
    """The generation of the cookie that lets it read private updates of `BOOK`."""


PATTERN, TEMPLATE = "https://example.com/books/:id", "https://example.com/books/{id}"
CASES = {
    "a word as a topic": Case([("match", "stock")], ["stock"], arrives=True),
    "the explicit name of exact": Case([("match_exact", "stock")], ["stock"], arrives=True),
    "a topic of 0.x": Case([("topic", "stock")], ["stock"], arrives=True),
    "one of several matchers": Case([("match", "other"), ("match", "stock")], ["stock"], arrives=True),
    "matchers of both kinds": Case([("match", "other"), ("match_urlpattern", PATTERN)], [BOOK], arrives=True),
    "a URL": Case([("match", BOOK)], [BOOK], arrives=True),
    "a URL Pattern": Case([("match_urlpattern", PATTERN)], [BOOK], arrives=True),
    "a URI Template": Case([("topic", TEMPLATE)], [BOOK], arrives=True),
    "the wildcard": Case([("match", "*")], ["anything"], arrives=True),
    "an alternate topic": Case([("match", "alternate")], [BOOK, "alternate"], arrives=True),
    "characters that a query escapes": Case([("match", "a&b=c d+é%😀")], ["a&b=c d+é%😀"], arrives=True),
    "another word": Case([("match", "stock")], ["stocks"], arrives=False),
    "another case": Case([("match", "stock")], ["Stock"], arrives=False),
    "another URL": Case([("match", BOOK)], [f"{BOOK}/"], arrives=False),
    "beside a URL Pattern": Case([("match_urlpattern", PATTERN)], [f"{BOOK}/pages/1"], arrives=False),
    "beside a URI Template": Case([("topic", TEMPLATE)], ["https://example.com/authors/1"], arrives=False),
    "a pattern that is taken literally": Case([("match", PATTERN)], [BOOK], arrives=False),
    "private, without a token": Case([("match", BOOK)], [BOOK], arrives=False, private=True),
    "private, by pattern, without a token": Case([("match_urlpattern", PATTERN)], [BOOK], arrives=False, private=True),
    "private, by wildcard, without a token": Case([("match", "*")], [BOOK], arrives=False, private=True),
    "private, with a cookie of 1.0": Case([("match", BOOK)], [BOOK], arrives=True, private=True, reads="1.0"),
    "private, with a cookie of 0.x": Case([("topic", BOOK)], [BOOK], arrives=True, private=True, reads="0.x"),
    "private, for another topic": Case([("match", "*")], ["other"], arrives=False, private=True, reads="1.0"),
}


@pytest.fixture(scope="module")
def hub_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("CONFORMANCE_URL")
    if given:
        yield given
        return
    with Hubs(tmp_path_factory.mktemp("conformance")) as hubs:
        # Its issuer and its identifier hold the port, which is therefore not left to the kernel.
        hub = hubs.start("memory://", listen=f"127.0.0.1:{free_port()}")
        deadline = time.monotonic() + 10
        while "listening on" not in hub.stdout:
            assert hub.running, hub.stderr
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield next(word for word in hub.stdout.split() if word.startswith("http://"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, hub_url: str) -> Browser:
    """A page of the hub's own origin, without cookies."""
    parts = urlsplit(hub_url)
    browser.open(f"{parts.scheme}://{parts.netloc}/")
    browser.delete_cookies()
    return browser


def cookie(generation: str, hub_url: str) -> tuple[str, str]:
    if generation == "0.x":
        return "mercureAuthorization", token(subscribe=[BOOK])
    now, origin = time.time(), hub_url.removesuffix("/.well-known/mercure")
    claims = of_1_0(Grant([], [BOOK], 60), now, origin, hub_url)
    return "mercure_access_token", sign(claims, KEY, "HS256", type="at+jwt")


def publish(page: Browser, topics: list[str], data: str = "", **fields: str) -> str:
    form = [*(["topic", topic] for topic in topics), ["data", data], *map(list, fields.items())]
    status, text = page.run(PUBLISH, form, {"Authorization": f"Bearer {token(publish=['*'])}"})
    assert status == 200, text
    return str(text)


def listen(page: Browser, query: list[tuple[str, str]], *types: str) -> str:
    pairs = [[name, value] for name, value in [*query, ("match", MARKER)]]
    encoded = page.run("return new URLSearchParams(arguments[0]).toString()", pairs)
    return str(page.run(LISTEN, encoded, ["message", *types]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_update_reaches_whom_it_is_for(page: Browser, hub_url: str, case: Case) -> None:
    """By its topics and its privacy, and nobody else."""
    if case.reads:
        page.set_cookie(*cookie(case.reads, hub_url))
    assert listen(page, case.query) == "open"
    fields = {"private": "on"} if case.private else {}
    event_id = publish(page, case.topics, "for you", **fields)
    marker_id = publish(page, [MARKER], "marker")
    expected: list[Any] = [("message", event_id, "for you")] if case.arrives else []
    assert page.events(len(expected) + 1) == [*expected, ("message", marker_id, "marker")]


def test_an_update_is_as_it_was_published(page: Browser) -> None:
    """Its id, its type and all lines of its data."""
    data = 'first\n\n  third: {"a": [1, 2]}\ndata: not a field\n'
    assert listen(page, [("match", BOOK)], "price") == "open"
    assert publish(page, [BOOK], data, id="urn:example:1", type="price", retry="2000") == "urn:example:1"
    assert page.events(1) == [("price", "urn:example:1", data)]


def test_a_page_catches_up(page: Browser) -> None:
    """`last_event_id` starts behind that event, `earliest` with all there is; then it goes on live."""
    topic = f"https://example.com/catching-up/{time.time()}"
    ids = [publish(page, [topic], str(number)) for number in range(3)]
    for cursor, expected in ((ids[1], ["2", "3"]), ("earliest", ["0", "1", "2", "3", "4"])):
        listening = [("match", topic), ("last_event_id", cursor)]
        pairs = page.run("return new URLSearchParams(arguments[0]).toString()", [list(each) for each in listening])
        assert page.run(LISTEN, pairs, ["message"]) == "open"
        publish(page, [topic], expected[-1])
        assert [data for _, _, data in page.events(len(expected))] == expected
        page.run("source.close()")


def test_a_page_publishes_with_its_cookie(page: Browser) -> None:
    """From the hub's own origin; without the cookie it is refused."""
    page.set_cookie("mercureAuthorization", token(publish=["*"]))
    assert listen(page, []) == "open"
    status, event_id = page.run(PUBLISH, [["topic", MARKER], ["data", "with a cookie"]], {})
    assert status == 200
    assert page.events(1) == [("message", event_id, "with a cookie")]
    page.delete_cookies()
    assert page.run(PUBLISH, [["topic", MARKER]], {})[0] == 401


@pytest.mark.parametrize("query", [[("match_regex", "a")], [("match_urlpattern", "https://[")], [("Match", "a")]])
def test_a_wrong_matcher_is_an_error_for_good(page: Browser, query: list[tuple[str, str]]) -> None:
    """A name that is reserved, and a pattern that is none, end the source instead of listening to nothing."""
    assert listen(page, query) == "error"
    assert page.run("return source.readyState") == 2
