"""Heads that repeat: what is known of them changes no answer, and what may not be known is not."""

import asyncio
import os
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.config.settings import Settings
from hub.fanout.dispatcher import Dispatcher
from hub.fanout.wire import Replies
from hub.lifecycle import State
from hub.server.head import HeadBounds
from hub.server.http1 import HubProtocol
from hub.web.publish import Accepted
from hub.web.repeats import MAX_HEADS, Repeats, head_of, is_plain
from tests.hub.server.test_http1 import exchange
from tests.hub.serving import DEADLINE, PUBLISHER, TOPIC, Served, serving, token, until
from transports import Answer, Entry, Receipt, Update
from transports.memory import MemoryTransport

PATH = "/.well-known/mercure"
SEQUENCES = int(os.environ.get("SEQUENCES", "300"))
"""Of the comparison; 20,000 take a few minutes."""
TOGETHER = 50
SEED = int(os.environ.get("SEED", "1"))
ENOUGH = f"Authorization: {PUBLISHER['Authorization']}"
FORM = "Content-Type: application/x-www-form-urlencoded"
CLOSE = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"


def post(body: str | bytes, *fields: str, length: str = "Content-Length: {}", host: str = "Host: hub") -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"POST {PATH} HTTP/1.1", host, *(fields or (ENOUGH, FORM)), length.format(len(body)), "", ""]
    return "\r\n".join(lines).encode() + body


def form(id: object, **fields: str) -> str:
    return "&".join([f"topic={TOPIC}", f"id={id}", *(f"{name}={value}" for name, value in fields.items())])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


def known(served: Served) -> int:
    return len(served.hub.asgi.repeats)


async def answers(served: Served, parts: list[bytes], pause: float = 0.0) -> bytes:
    """All that one connection gets for these segments until it is closed, without what is another each time."""
    said = await exchange(served, *parts, pause=pause)
    said = said.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")  # only if the body was not there yet
    said = re.sub(rb"date: [^\r]*", b"date: now", said)
    said = re.sub(rb"retry-after: \d+", b"retry-after: soon", said)
    # What is no request is judged by the segment that it stands in, as far as the parser had it.
    said = re.sub(rb"HTTP/1.1 (?:400|501) [^\r]*\r\ncontent-type: text/plain.*", b"rejected", said, flags=re.DOTALL)
    return re.sub(rb"urn:uuid:[0-9a-f-]{36}", b"urn:uuid", said)


def ids(said: bytes) -> list[bytes]:
    return re.findall(rb"\r\n\r\n(\d+)", said)


HEADS = [
    (ENOUGH, FORM),
    (FORM, ENOUGH, "User-Agent: curl/7.88.1", "Accept: */*"),
    (ENOUGH, FORM, "Origin: https://page.example"),
    (ENOUGH, FORM, "Connection: keep-alive"),
    (ENOUGH, FORM, 'Idempotency-Key: "{}"'),
    (ENOUGH, FORM, "idempotency-key: {}"),
    (ENOUGH, FORM, "Idempotency-Key:{}"),
    (ENOUGH, FORM, "Connection: close"),
    (ENOUGH, FORM, "X-Forwarded-Proto: https", "X-Forwarded-For: 10.0.0.1"),
    (ENOUGH, FORM, "Expect: 100-continue"),
    (ENOUGH, FORM, "Cookie: a=b"),
    (ENOUGH, FORM, "X-Length: 3"),
    (ENOUGH, FORM, "Content-Length: 3"),
    (ENOUGH, FORM, "Upgrade: h2c", "Connection: upgrade"),
    (ENOUGH, "Content-Type: text/plain"),
    (FORM,),
    (f"Authorization: Bearer {token(publish=['urn:other'])}", FORM),
    (f"Authorization: Bearer {token(publish=['*'], exp=1)}", FORM),
]
LENGTHS = ["Content-Length: {}", "content-length: {}", "CONTENT-LENGTH: {}", "Content-Length:{}", "Content-Length: {} "]
BODIES = [
    form(1),
    form(2, data="x" * 300),
    form(3, private="on", data="%7B%22a%22%3A+1%7D"),
    form(4, type="t", retry="10"),
    f"topic={TOPIC}&data=%C3%A9%zz%",
    "data=no+topic",
    "topic=%ff",
    "topic=*",
    f"topic={PATH}",
    "",
    "topic=a&id=%0A",
    "GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
    f"{'topic=b&' * 1200}",
    form(5, data="y" * 20_000),
]


def sequence(number: int) -> list[bytes]:
    """Requests on one connection, some spoiled, in segments of any size; idempotency keys are its own."""
    chance, whole = random.Random(SEED * 1_000_000 + number), b""
    for _ in range(chance.randint(1, 8)):
        if chance.random() < 0.1:
            whole += chance.choice([CLOSE.replace(b"close", b"keep-alive"), b"\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n"])
            continue
        at = chance.choice([0, 0, 0, 1, 2, 3, 4, 5]) if chance.random() < 0.8 else chance.randrange(len(HEADS))
        fields = [field.replace("{}", f"{number}-{chance.randrange(3)}") for field in HEADS[at]]
        length = chance.choice(LENGTHS) if chance.random() < 0.2 else LENGTHS[0]
        request = post(chance.choice(BODIES[:4] if chance.random() < 0.7 else BODIES), *fields, length=length)
        if chance.random() < 0.1:
            at = chance.randrange(len(request))
            spoiled = chance.choice([b"", b"\r", b"\n", b"\0", b"x", b"9", b":", b" ", request[at : at + 1] * 2])
            request = request[:at] + spoiled + request[at + 1 :]
        whole += request
    whole += CLOSE if chance.random() < 0.7 else b""
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.choice([0, 0, 1, 2, 6])))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]


@pytest.mark.timeout(60 + SEQUENCES / 10)
async def test_the_short_way_answers_as_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, over sequences that the seed makes, on one connection each."""
    limits = {"server.head.HEAD_TIMEOUT": 1.2, "server.http1.BODY_WAIT": 0.2, "web.forms.BODY_TIMEOUT": 0.8}
    for name, seconds in limits.items():
        monkeypatch.setattr(f"hub.{name}", seconds)

    async with AsyncExitStack() as stack:
        short, long = [
            await stack.enter_async_context(serving(cors_origins=("https://page.example",), transport_url="memory://"))
            for _ in range(2)
        ]
        for each in (short, long):
            each.server.config.timeout_keep_alive = 1
        long.hub.asgi.repeats = None  # type: ignore[assignment]

        async def is_same(number: int) -> bool:
            parts = sequence(number)
            pause = 0.0 if number % 10 else 0.002
            try:
                said, meant = await asyncio.gather(answers(short, parts, pause), answers(long, parts, pause))
            except TimeoutError:
                raise AssertionError((number, parts)) from None
            except (ConnectionResetError, RuntimeError):  # the latter is uvloop's word for it
                return False  # a connection that ended with bytes unread: what it said last is lost on the way
            assert said == meant, (number, parts)
            return True

        compared = 0
        for begin in range(0, SEQUENCES, TOGETHER):
            together = range(begin, min(begin + TOGETHER, SEQUENCES))
            compared += sum(await asyncio.gather(*map(is_same, together)))
        assert known(short) > 3
        assert compared > 0.8 * SEQUENCES


async def test_a_key_is_read_as_the_parser_reads_it(served: Served) -> None:
    """Whatever byte stands in the key of a head that is known, at its end too: the answer is the long way's."""
    await answers(served, [post(form(1), ENOUGH, FORM, "Idempotency-Key: known"), CLOSE])
    assert known(served) == 1
    async with serving() as long:
        long.hub.asgi.repeats = None  # type: ignore[assignment]
        for value in range(256):
            for key in (b"a%cb", b"a%c", b"%cb"):
                request = post(form(2), ENOUGH, FORM, "Idempotency-Key: HERE").replace(b"HERE", key % value)
                said, meant = await asyncio.gather(answers(served, [request + CLOSE]), answers(long, [request + CLOSE]))
                assert said == meant, key % value


async def test_a_head_is_known_once_it_was_accepted(served: Served) -> None:
    """With a body of any length and any key, and not before; a request without a grant changes nothing."""
    await answers(served, [post("topic=urn:x", "Authorization: Bearer x", FORM), CLOSE])
    await answers(served, [post("data=no+topic"), CLOSE])
    assert known(served) == 0
    for length in (1, 10, 1000):
        await answers(served, [post(form(length, data="x" * length)), CLOSE])
        assert known(served) == 1
    for key in ("a", '"b"'):
        await answers(served, [post(form(key), ENOUGH, FORM, f"Idempotency-Key: {key}"), CLOSE])
        assert known(served) == 2


@pytest.mark.parametrize(
    "fields",
    [
        (ENOUGH, FORM, "Expect: 100-continue"),
        (ENOUGH, FORM, "Cookie: a=b"),
        (ENOUGH, FORM, "X-Forwarded-For: 10.0.0.1"),
        (ENOUGH, FORM, "Forwarded: for=10.0.0.1"),
        (ENOUGH, FORM, "Connection: close"),
        (ENOUGH, FORM, "X-Filler: " + "x" * 4096),
    ],
)
async def test_what_is_never_known(served: Served, fields: tuple[str, ...]) -> None:
    """Heads that mean something else from elsewhere, at another time, or with another body; and long ones."""
    end = [] if "Connection: close" in fields else [CLOSE]
    assert b" 200 " in await answers(served, [post(form(1), *fields), *end])
    assert known(served) == 0


async def test_keys_that_are_read_again_empty_it(served: Served) -> None:
    """And a token that the new ones would not verify is refused at its next request on the same connection."""
    reader, writer = await served.raw(post(form(1)))
    await reader.readuntil(b"\r\n\r\n1")
    writer.write(post(form(2)))  # the connection knows it now, too
    await reader.readuntil(b"\r\n\r\n2")
    assert known(served) == 1
    await served.hub.reload(Settings(publisher_jwt_key="x" * 40, anonymous=True, transport_url="memory://"))
    assert known(served) == 0
    writer.write(post(form(3)))
    assert b" 401 " in await reader.readline()


async def test_a_token_that_expires_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the request after its end, though its head is known."""
    fields = (f"Authorization: Bearer {token(publish=['*'], exp=int(time.time()) + 100)}", FORM)
    assert b" 200 " in await answers(served, [post(form(1), *fields), CLOSE])
    assert known(served) == 1
    later = time.time() + 101
    monkeypatch.setattr("hub.web.publish.time", lambda: later)
    monkeypatch.setattr("hub.auth.authorization.time.time", lambda: later)
    assert b" 401 " in await answers(served, [post(form(2), *fields), CLOSE])


async def test_a_drain_is_not_outlived(served: Served) -> None:
    """Once the end has begun, a known head gets its 503 as any other."""
    await answers(served, [post(form(1)), CLOSE])
    served.hub.lifecycle.move(State.DRAINING)
    assert b" 503 " in await answers(served, [post(form(2))])


async def test_many_at_once_on_one_connection(served: Served) -> None:
    """Hundreds of pipelined publications are answered in their order, also where their head was not known before."""
    count = 600
    said = await answers(served, [b"".join(post(form(number)) for number in range(count)), CLOSE])
    assert ids(said) == [b"%d" % number for number in range(count)]
    assert said.count(b" 200 OK") == count + 1


async def test_a_publisher_that_reads_no_answers(served: Served) -> None:
    """Gets no more of them than fit into its socket and a buffer; the rest of its requests wait until it reads."""
    count, chunk = 20_000, b"".join(post(form(number)) for number in range(200))
    reader, writer = await served.narrow()

    async def write() -> None:
        for _ in range(count // 200):
            writer.write(chunk)
            await writer.drain()

    writing = asyncio.create_task(write())
    await until(lambda: bool(served.server.server_state.connections))
    (protocol,) = served.server.server_state.connections
    assert isinstance(protocol, HubProtocol)
    await until(lambda: protocol.flow.write_paused and protocol.flow.read_paused)
    assert protocol.transport.get_write_buffer_size() < 256 * 1024
    stored = (await served.hub.transport.last())[0]
    assert stored < count
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    seen = 0
    async with asyncio.timeout(60):
        while seen < count:
            seen += (await reader.readuntil(b" 200 OK")).count(b" 200 OK")
    await writing
    writer.close()


async def test_they_are_stored_together(tmp_path: Path) -> None:
    """A store that commits groups gets what a connection has sent at once, and a later answer waits for an earlier."""
    async with serving(transport_url=f"lmdb://{tmp_path}/store?size=1000") as served:
        await answers(served, [post(form(0)), CLOSE])
        count = 200
        burst = b"".join(post(form(number)) for number in range(count)) + post("data=no+topic") + post(form("7777"))
        said = await answers(served, [burst, CLOSE])
        assert ids(said) == [*(b"%d" % number for number in range(count)), b"7777"]
        assert said.index(b" 400 ") > said.index(b"\r\n\r\n199")
        assert [entry.update.id for entry in await served.hub.transport.read(1, 500)][-1] == "7777"


async def test_a_body_that_comes_later(served: Served) -> None:
    """In a segment of its own, or never: a client that leaves in the middle has published nothing."""
    whole = post(form(1))
    await answers(served, [whole + CLOSE])
    for cut in (len(whole) - 1, whole.index(b"\r\n\r\n") + 4, whole.index(b"\r\n\r\n") + 2, 30):
        assert ids(await answers(served, [whole[:cut], whole[cut:] + CLOSE], 0.01)) == [b"1"]
    before = await served.hub.transport.last()
    _, writer = await served.raw(whole[:-1])
    await asyncio.sleep(0)
    writer.transport.abort()
    await until(lambda: not served.server.server_state.connections)
    assert await served.hub.transport.last() == before


async def test_a_body_that_is_slow_goes_the_long_way(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a moment, and then read as any other, which says that it came incomplete."""
    monkeypatch.setattr("hub.server.http1.BODY_WAIT", 0.01)
    whole = post(form(1))
    await answers(served, [whole + CLOSE])
    reader, writer = await served.raw(whole[:-1])
    await asyncio.sleep(0.05)
    writer.write(whole[-1:])
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"\r\n\r\n1")


async def test_the_end_waits_for_what_is_owed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends answers what is under way, in its order, and says in the last that the connection ends."""
    await answers(served, [post(form(0)), CLOSE])
    owed: list[tuple[Update, Answer]] = []
    monkeypatch.setattr(MemoryTransport, "submit", lambda _self, update, answer: owed.append((update, answer)))
    reader, writer = await served.raw(post(form(1)) + post(form(2)))
    await until(lambda: len(owed) == 2)
    (protocol,) = served.server.server_state.connections
    protocol.shutdown()
    for update, answer in reversed(owed):
        answer(Receipt(1, update.id))
    async with asyncio.timeout(DEADLINE):
        said = await reader.read()
    assert ids(said) == [b"1", b"2"]
    assert said.lower().count(b"connection: close") == 1
    writer.close()


async def test_a_slow_store_ends_no_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a kept connection has begins with its last answer: what is under way may take longer."""
    await answers(served, [post(form(0)), CLOSE])
    owed: list[tuple[Update, Answer]] = []
    monkeypatch.setattr(MemoryTransport, "submit", lambda _self, update, answer: owed.append((update, answer)))
    monkeypatch.setattr("hub.server.head.HEAD_TIMEOUT", 0.01)
    monkeypatch.setattr("hub.server.head.LOOK_AGAIN", 0.01)
    look, looks = HeadBounds._look, []

    def looked(bounds: HeadBounds) -> None:
        looks.append(bounds)
        look(bounds)

    monkeypatch.setattr(HeadBounds, "_look", looked)
    reader, writer = await served.raw(post(form(1)))
    await until(lambda: len(looks) > 2)
    ((update, answer),) = owed
    answer(Receipt(1, update.id))
    async with asyncio.timeout(DEADLINE):
        assert await reader.readuntil(b"\r\n\r\n1")
    writer.close()


async def test_answers_are_written_when_all_was_read_and_before_it_is_pushed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of one turn of the event loop go out together, and no publisher waits for a push to thousands."""
    connections = [await served.raw(post(form(1))) for _ in range(2)]
    for reader, _ in connections:
        await reader.readuntil(b"\r\n\r\n1")
    order: list[str] = []
    take, write, fan_out = Accepted.__call__, HubProtocol.write_owed, Dispatcher.fan_out

    def taken(accepted: Accepted, body: bytes, key: bytes | None, replies: Replies) -> bool:
        order.append("taken")
        return take(accepted, body, key, replies)

    def written(protocol: HubProtocol) -> None:
        order.append("answered")
        write(protocol)

    async def pushed(dispatcher: Dispatcher, batch: Sequence[Entry]) -> None:
        order.append("pushed")
        await fan_out(dispatcher, batch)

    monkeypatch.setattr(Accepted, "__call__", taken)
    monkeypatch.setattr(HubProtocol, "write_owed", written)
    monkeypatch.setattr(Dispatcher, "fan_out", pushed)
    for _, writer in connections:
        writer.write(post(form(2)))
    for reader, _ in connections:
        await reader.readuntil(b"\r\n\r\n2")
    await until(lambda: "pushed" in order)
    assert order == ["taken", "taken", "answered", "answered", "pushed"]


def again(body: bytes, idempotency_key: bytes | None, replies: object) -> bool:
    return bool(body or idempotency_key or replies)


@settings(max_examples=1000)
@given(
    body=st.sampled_from(BODIES[:4]),
    cut=st.tuples(
        st.integers(0, 400), st.integers(0, 3), st.sampled_from([b"", b"0", b"12", b" ", b"\r", b"\r\n", b"x"])
    ),
)
def test_the_usual_head_is_compared_as_it_is(body: str, cut: tuple[int, int, bytes]) -> None:
    """What a connection takes for the head it had last is one that is known by the same bytes, with that body."""
    first = post("data=x")
    head = head_of(first)
    assert head is not None
    usual = Repeats().usual(first, head, again)
    assert usual is not None
    at, length, put = cut
    sent = post(body)
    sent = sent[:at] + put + sent[at + length :]
    found = head_of(sent)
    here = None if found is None or found.same != head.same else (again, None, found.end, found.end + found.length)
    assert usual.request_in(sent) == here


def test_a_head_with_a_key_of_its_own_is_not_usual() -> None:
    """The next one has another."""
    first = post("", ENOUGH, "Idempotency-Key: a")
    head = head_of(first)
    assert head is not None
    assert Repeats().usual(first, head, again) is None


def test_it_is_bounded() -> None:
    """The head that came first goes first."""
    repeats = Repeats()
    heads = [head_of(post("", ENOUGH, f"X-Number: {number}")) for number in range(MAX_HEADS + 5)]
    for head in heads:
        assert head is not None
        repeats.remember("http", head, again)
    assert len(repeats) == MAX_HEADS
    assert heads[0] is not None
    assert heads[-1] is not None
    assert repeats.get("http", heads[0]) is None
    assert repeats.get("http", heads[-1]) is again
    assert repeats.get("https", heads[-1]) is None


@pytest.mark.parametrize(
    "request_",
    [
        post("", ENOUGH, "X-Length: 3"),
        post("", "Content-Length: 3"),
        post("", "Idempotency-Key: a", "Idempotency-Key: b"),
        post("", "X-Idempotency-Key: a"),
        post("", "Idempotency-Keys: a"),
        post("", "Idempotency-Key:a"),
        post("").replace(b"\r\nHost", b"\nHost"),
        post("").replace(b"\r\nHost", b"\r\nX: \rHost"),
        post("", "Transfer-Encoding: chunked"),
        post("").replace(b"Length: 0", b"Length: +0"),
        post("").replace(b"Length: 0", b"Length: 0000000"),
        post("").replace(b"Length: 0", b"Length: 0 "),
        post("").replace(b"Length: 0", b"Length: 0, 0"),
        b"GET / HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways(request_: bytes) -> None:
    """Is not known."""
    head = head_of(request_)
    assert head is None or not is_plain(head)
