"""The client: server-sent events out of any portions of bytes, and a stream that comes back where it broke off."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.client.client import fetch, publish, subscribe
from hub.client.protocol import Refused, Unreachable, wait_before
from hub.client.sse_parser import Event, Parser


def parsed(*chunks: bytes, cursor: str = "") -> list[Event]:
    parser = Parser(cursor)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@dataclass
class Oracle:
    """The algorithm of WHATWG HTML section 9.2.6, one character at a time, with nothing to save."""

    events: list[Event] = field(default_factory=list)
    data: str = ""
    type: str = ""
    id: str = ""
    last_event_id: str = ""
    retry: float | None = None

    def run(self, stream: bytes) -> "Oracle":
        text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
        for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
            self.line(line)
        return self

    def line(self, line: str) -> None:
        if line == "":
            self.last_event_id = self.id
            if self.data:
                self.events.append(Event(self.id, self.type or "message", self.data[:-1]))
            self.data = self.type = ""
            return
        name, colon, value = line.partition(":")
        if name or not colon:
            self.field(name, value.removeprefix(" "))

    def field(self, name: str, value: str) -> None:
        if name == "data":
            self.data += value + "\n"
        elif name == "event":
            self.type = value
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and value and all(character in "0123456789" for character in value):
            self.retry = int(value) / 1000


TEXTS = ["\ufeff", "\u2028", "é", "😀", "\x85", "٣", "data", "id", "event", "retry", ":", " ", "\0", "x", "12"]
BYTES = [b"\n", b"\r", b"\r\n", b"\n\n", b"\xf0\x9f", b"\xff", b"data: a\n\n", b"id: 7\n", b"id\n", b"data\n"]
STREAMS = st.lists(st.sampled_from([*(text.encode() for text in TEXTS), *BYTES])).map(b"".join)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200)))
def test_any_portions_are_one_stream(stream: bytes, cuts: list[int]) -> None:
    """Wherever the network cuts, the events, the cursor and the retry are those of the whole; as the standard says."""
    edges = [0, *sorted(cuts), len(stream)]
    parser = Parser()
    events = [event for begin, end in pairwise(edges) for event in parser.feed(stream[begin:end])]
    oracle = Oracle().run(stream)
    assert (events, parser.last_event_id, parser.retry) == (oracle.events, oracle.last_event_id, oracle.retry)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\ndata: b\n\n", [("", "message", "a\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "message", "a")]),
        (b"data:a\rdata:  b\r\r", [("", "message", "a\n b")]),
        (b"id: 1\nevent: x\ndata\n\n", [("1", "x", "")]),
        (b"event: x\n\ndata: a\n\n", [("", "message", "a")]),
        (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [("1", "message", "a"), ("1", "message", "b")]),
        (b": comment\ndata: a\n\n: more\n\n", [("", "message", "a")]),
        (b"data: a\n", []),
        ("data: a\u2028b\x85c\n\n".encode(), [("", "message", "a\u2028b\x85c")]),
    ],
)
def test_the_standard_by_example(stream: bytes, events: list[tuple[str, str, str]]) -> None:
    """BOM, CR, CRLF, several data lines, an id with NUL, comments, no data line, no blank line."""
    assert parsed(stream) == events


def test_an_event_is_there_with_its_last_byte() -> None:
    """A CR that ends an event counts at once; the LF that follows later adds nothing."""
    assert parsed(b"data: a\r\r") == parsed(b"data: a\r\n\r", b"\n") == [("", "message", "a")]


def test_a_broken_off_event_does_not_move_the_cursor() -> None:
    """Its id must not be asked for: the event itself never arrived."""
    parser = Parser("1")
    assert list(parser.feed(b"id: 2\ndata: a\n")) == []
    assert parser.last_event_id == "1"


def test_a_heartbeat_keeps_the_cursor() -> None:
    """A comment between blank lines on a fresh connection does not forget where the last one stood."""
    parser = Parser("1")
    assert list(parser.feed(b":\n")) == []
    assert parser.last_event_id == "1"


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"1500", 1.5), (b"0", 0), (b"-1", None), ("٣".encode(), None), (b"", None), (b"1.5", None)]
)
def test_retry_is_digits(value: bytes, seconds: float | None) -> None:
    """Only ASCII digits count."""
    parser = Parser()
    list(parser.feed(b"retry: " + value + b"\n"))
    assert parser.retry == seconds


def test_a_retry_of_ten_thousand_digits_is_long() -> None:
    """It is no reason to fail."""
    parser = Parser()
    list(parser.feed(b"retry: " + b"9" * 10_000 + b"\n"))
    assert parser.retry is not None
    assert parser.retry > 10**9


def test_an_event_prints_as_it_stood_in_the_stream() -> None:
    """What is printed can be parsed again."""
    event = Event("1", "x", "a\n b\n")
    assert parsed((str(event) + "\n").encode()) == [event]


@given(
    failures=st.integers(0, 10**6),
    retry=st.none() | st.floats(0, 10**12),
    asked=st.floats(0, 10**6),
    chance=st.floats(0, 1),
)
def test_the_wait_is_bounded(failures: int, retry: float | None, asked: float, chance: float) -> None:
    """At least what the hub asked for (up to ten minutes), at most a quarter of an hour; never 0 after a failure."""
    wait = wait_before(failures, retry, asked, chance)
    assert min(max(retry or 0, asked), 600) <= wait <= 900
    assert wait > 0 or failures == 0


def test_the_wait_grows_and_spreads() -> None:
    """It doubles up to half a minute, and chance lengthens it, so that clients that were lost together come apart."""
    assert [wait_before(failures, None, 0, 0) for failures in range(8)] == [1, 1, 2, 4, 8, 16, 30, 30]
    assert wait_before(3, None, 0, 1) == 6
    assert wait_before(0, 0.0, 0, 1) == 0


class Hub:
    """A hub that answers what a test says, one answer a request, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: Iterator[tuple[int, dict[str, str], bytes]] = iter(())
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.requests.append((request.path, dict(request.headers), body))
        status, headers, content = next(self.answers)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_POST = do_GET  # noqa: N815 - as above

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}/.well-known/mercure"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def stream(content: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return 200, {"Content-Type": "text/event-stream; charset=utf-8", **named}, content


def no_wait(_seconds: float) -> None: ...


def test_publish_posts_a_form(hub: Hub) -> None:
    """Fields by the protocol's names, in order, absent ones left out; the id comes back."""
    hub.answers = iter([(200, {}, b"urn:uuid:1\n")])
    id = publish(hub.url, ["a", "b"], "x&y\r\nü", private=True, retry=5, token="t", idempotency_key="k")
    (path, headers, body) = hub.requests[0]
    assert id == "urn:uuid:1"
    assert (path, headers["Authorization"], headers["Idempotency-Key"]) == ("/.well-known/mercure", "Bearer t", "k")
    assert body == b"topic=a&topic=b&retry=5&private=on&data=x%26y%0D%0A%C3%BC"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((403, {}, json.dumps({"detail": "no grant for topic a"}).encode()), "403: no grant for topic a"),
        ((404, {}, b"nothing\nhere"), "404: nothing"),
        ((401, {}, b""), "401: Unauthorized"),
        ((400, {}, b"[1]"), "400: [1]"),
        ((301, {"Location": "/x"}, b""), "301: Moved Permanently"),
    ],
)
def test_a_refusal_is_the_hubs_own_sentence(hub: Hub, answer: tuple[int, dict[str, str], bytes], sentence: str) -> None:
    """The problem's detail, else the first line, else what the status is called."""
    hub.answers = iter([answer])
    with pytest.raises(Refused, match="^" + sentence.replace("[", r"\[") + "$"):
        publish(hub.url, ["a"])


def test_a_failure_of_the_hub_is_no_refusal(hub: Hub) -> None:
    """A 5xx may be better in a while, and Retry-After says in which."""
    hub.answers = iter([(503, {"Retry-After": "7"}, b'{"detail": "the store is full"}')])
    with pytest.raises(Unreachable, match="503: the store is full") as caught:
        publish(hub.url, ["a"])
    assert caught.value.retry_after == 7


def test_nobody_there_is_unreachable(hub: Hub) -> None:
    """The error names the hub and the system's reason."""
    with serving() as gone:
        url = gone.url
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:\d+ does not answer \(Connection refused\)"):
        fetch(url)


@pytest.mark.parametrize("url", ["", "hub.example", "ftp://hub.example/", "http://", "http://a b/", "http://a:port/"])
def test_what_is_no_url_is_told(url: str) -> None:
    """A ValueError before anything is sent."""
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        publish(url, ["a"])


def test_a_broken_token_is_not_shown() -> None:
    """A token with a line break in it never reaches the wire, nor the error."""
    with pytest.raises(ValueError, match=r"^the token contains characters that no token has$"):
        publish("http://127.0.0.1:9/", ["a"], token="hunter2\r\nX: y")


def test_a_stream_comes_back_with_its_cursor(hub: Hub) -> None:
    """Each reconnection asks for what follows the last whole event; a broken-off one is asked for again."""
    hub.answers = iter(
        [
            stream(b"id: 1\ndata: a\n\nid: 2\ndata: b"),
            (503, {}, b"standby"),
            stream(b"id: 2\ndata: b\n\n", Mercure_Last_Event_ID="1"),
            stream(b"id: 3\ndata: c\n\n", Mercure_Last_Event_ID="2"),
        ]
    )
    found = [event.data for event in islice(subscribe(hub.url, topics=["t"], sleep=no_wait), 3)]
    assert found == ["a", "b", "c"]
    assert [headers.get("Last-Event-ID") for _, headers, _ in hub.requests] == [None, "1", "1", "2"]


def test_a_stream_knows_its_place_before_the_first_event(hub: Hub) -> None:
    """What is published between two connections that were both silent is asked for all the same."""
    hub.answers = iter([stream(b":\n", Last_Event_ID="42"), stream(b"data: a\n\n", Last_Event_ID="42")])
    assert next(subscribe(hub.url, topics=["t"], sleep=no_wait)).data == "a"
    assert [headers.get("Last-Event-ID") for _, headers, _ in hub.requests] == [None, "42"]


def test_a_loss_is_told(hub: Hub) -> None:
    """When the stream starts elsewhere than asked for, a person hears of it."""
    hub.answers = iter([stream(b"data: a\n\n", Mercure_Last_Event_ID="earliest")])
    told: list[str] = []
    next(subscribe(hub.url, topics=["t"], last_event_id="7", report=told.append, sleep=no_wait))
    assert told == ["updates may be lost: '7' is not in history, the stream starts at 'earliest'"]


def test_an_id_may_be_any_text(hub: Hub) -> None:
    """It travels as UTF-8, both ways, and is not taken for another."""
    hub.answers = iter([stream("id: é/日\ndata: a\n\n".encode()), stream(b"data: b\n\n")])
    list(islice(subscribe(hub.url, topics=["t"], sleep=no_wait), 2))
    assert hub.requests[1][1]["Last-Event-ID"].encode("latin-1").decode() == "é/日"


def test_retry_is_honoured(hub: Hub) -> None:
    """The stream's own wish is how long it waits; Retry-After, where it is longer."""
    hub.answers = iter(
        [
            stream(b"retry: 20000\n\ndata: a\n\n"),
            (503, {"Retry-After": "100"}, b""),
            stream(b"data: b\n\n"),
        ]
    )
    waits: list[float] = []
    list(islice(subscribe(hub.url, topics=["t"], sleep=waits.append), 2))
    assert 20 <= waits[0] <= 25
    assert 100 <= waits[1] <= 150


def test_all_matchers_are_asked_for(hub: Hub) -> None:
    """Topics, matches and patterns by their names, beside what the URL has."""
    hub.answers = iter([stream(b"data: a\n\n")])
    next(subscribe(hub.url + "?x=1", topics=["a&b"], matches=["*"], patterns=["/:id"], sleep=no_wait))
    assert hub.requests[0][0] == "/.well-known/mercure?x=1&topic=a%26b&match=%2A&match_urlpattern=%2F%3Aid"


@pytest.mark.parametrize("answer", [(401, {}, b""), (204, {}, b""), (200, {"Content-Type": "text/html"}, b"<p>")])
def test_an_answer_that_is_no_stream_ends_it(hub: Hub, answer: tuple[int, dict[str, str], bytes]) -> None:
    """A refusal, nothing at all and a web page would be the same the next time: no reconnection."""
    hub.answers = iter([answer])
    with pytest.raises(Refused):
        next(subscribe(hub.url, topics=["t"], sleep=no_wait))
    assert len(hub.requests) == 1


def test_a_chunked_stream_that_breaks_off_is_lost(hub: Hub) -> None:
    """A chunk without its end is a broken connection, not the end of the stream: what was whole counts."""
    chunk = b"id: 1\ndata: a\n\n"
    broken = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\nff\r\ndata: b\n"

    def answers() -> Iterator[tuple[int, dict[str, str], bytes]]:
        yield stream(broken, Transfer_Encoding="chunked")
        yield stream(b"data: b\n\n")

    hub.answers = answers()
    told: list[str] = []
    report: Callable[[str], None] = told.append
    assert [event.data for event in islice(subscribe(hub.url, topics=["t"], report=report, sleep=no_wait), 2)] == [
        "a",
        "b",
    ]
