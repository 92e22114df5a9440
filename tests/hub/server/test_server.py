"""The server half: bounded request heads, connections that are taken over, and the end."""

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator

import pytest

from hub.auth.keys import sign
from hub.cli.minting import Grant, of_1_0
from hub.config.values import seconds
from hub.fanout.wire import CHATTER
from hub.server import head
from hub.server.head import MAX_HEAD
from hub.server.sockets import SILENCE, bind
from tests.hub.serving import DEADLINE, KEY, PUBLISHER, TOPIC, WIRES, Served, bearer, serving, token, until
from transports import Receipt, Update
from transports.memory import MemoryTransport

GET = f"GET /.well-known/mercure?topic={TOPIC} HTTP/1.1\r\nHost: hub\r\n".encode()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Everything until the hub closes the connection."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_a_huge_head_is_refused(served: Served) -> None:
    """2 MB of header end in a 431 or a closed connection, and are never kept."""
    reader, writer = await served.raw(GET + b"X: ")
    for _ in range(2 * 1024 * 1024 // 8192):
        writer.write(b"x" * 8192)
        if writer.is_closing():
            break
    assert (await answer(reader)).split(b"\r\n")[0] in (b"HTTP/1.1 431 Request Header Fields Too Large", b"")
    writer.close()


async def test_a_long_query_is_served(served: Served) -> None:
    """What fits in the bound is no problem: hundreds of topics in one query."""
    query = "&".join(f"topic=https://example.com/books/{number}" for number in range(900))
    assert len(query) < MAX_HEAD
    head = await served.client.head(f"{served.url}?{query}")
    assert head.status_code == 200


async def test_half_a_request_does_not_wait_for_ever(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that never ends, and a connection that never begins one, are closed."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT", 0.1)
    for half in (b"", GET):
        reader, writer = await served.raw(half)
        assert await answer(reader) == b""
        writer.close()


async def test_half_a_body_does_not_wait_for_ever(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never ends is a 408."""
    monkeypatch.setattr("hub.web.forms.BODY_TIMEOUT", 0.1)
    head = f"POST /.well-known/mercure HTTP/1.1\r\nHost: hub\r\nAuthorization: {PUBLISHER['Authorization']}\r\n"
    body = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntopic=a"
    reader, writer = await served.raw((head + body).encode())
    assert (await answer(reader)).startswith(b"HTTP/1.1 408")
    writer.close()


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\0", b"PRI * HTTP/2.0\r\n\r\n"]
)
async def test_garbage_is_refused(served: Served, garbage: bytes) -> None:
    """What is not HTTP/1 ends in a 400, a 505 where it is another version, or a closed connection."""
    reader, writer = await served.raw(garbage)
    writer.write_eof()
    first = (await answer(reader)).split(b"\r\n")[0]
    assert first == b"" or first.split()[1] in (b"400", b"505")
    writer.close()


async def test_an_early_answer_is_the_only_one(served: Served) -> None:
    """A body that arrives after its 401 is not taken for the head of another request."""
    head = "POST /.well-known/mercure HTTP/1.1\r\nHost: hub\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    reader, writer = await served.raw(f"{head}Content-Length: 3000000\r\n\r\n".encode())
    await reader.readuntil(b"401 Unauthorized")
    for _ in range(30):
        writer.write(b"x" * 100_000)
        await writer.drain()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
    rest = await answer(reader)
    assert b"431" not in rest
    assert b"200 OK" in rest


async def test_trailers_are_bounded(served: Served) -> None:
    """Header fields after a chunked body count like those before it."""
    _, writer = await served.raw(b"GET /healthz HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    await until(lambda: len(served.server.server_state.connections) == 1)
    for number in range(4000):
        writer.write(b"x%d: %s\r\n" % (number, b"v" * 40))
    await until(lambda: not served.server.server_state.connections)


async def test_pipelined_requests_are_bounded(served: Served) -> None:
    """A client that sends requests by the thousand without waiting is cut off."""
    reader, _ = await served.raw(b"GET /mercure/health/ready HTTP/1.1\r\nHost: hub\r\n\r\n" * 5000)
    assert (await answer(reader)).count(b"200 OK") < 1000


@pytest.mark.parametrize("rest", [b"\r\n", b"GET"])
async def test_a_kept_connection_does_not_dawdle(served: Served, rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that begin no request, or only half of one, do not keep an idle connection open."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT", 0.2)
    reader, writer = await served.raw(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
    await reader.readuntil(b'{"status":"ok"}')
    writer.write(rest)
    assert await answer(reader) == b""


async def test_http_1_0_gets_a_stream(served: Served) -> None:
    """An old proxy's request is served on the ASGI wire."""
    reader, writer = await served.raw(GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n")
    await served.live(1)
    await served.publish("x")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"data: x\n\n")
    writer.close()


async def test_a_pipelined_request_keeps_the_server(served: Served) -> None:
    """A connection with another request waiting can't be taken over, and streams all the same."""
    reader, writer = await served.raw((GET + b"\r\n") * 2)
    await served.live(1)
    await served.publish("x")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"data: x\n\n")
    writer.close()


@pytest.mark.parametrize("behind", [b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n", GET + b"\r\n"])
@pytest.mark.parametrize("later", [False, True])
async def test_a_client_that_leaves_with_a_request_waiting_is_gone(
    served: Served, behind: bytes, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream ends with its connection, also where another request waits behind it, whenever that has come."""
    if later:  # on a connection that was taken over, nothing waits
        monkeypatch.setattr("hub.server.http1.HubProtocol.take_over", lambda *_: None)
    stream = GET.replace(b" HTTP", b"&last_event_id=earliest HTTP") + b"\r\n"
    _, writer = await served.raw(stream + (b"" if later else behind))
    await served.live(1)
    if later:
        (connection,) = served.server.server_state.connections
        writer.write(behind)
        await until(lambda: bool(connection.pipeline))  # type: ignore[union-attr]
    writer.transport.abort()
    await until(lambda: not served.hub.streams.open)


async def test_the_hot_paths_go_past_asgi(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain publish and a plain subscription reach neither the router nor a task."""

    async def asgi(*_: object) -> None:
        raise AssertionError("called through ASGI")

    monkeypatch.setattr(served.server.config.app, "middleware_stack", asgi)
    async with served.subscribe() as stream:
        assert await served.publish("x") == (await stream.next()).id
    assert (await served.client.get(served.url)).status_code == 500, "and what is not plain does"


async def test_pipelined_publishes_are_answered_in_order(served: Served) -> None:
    """Whether a request waits for its body, its turn or the store: each is answered, in order, and stored once."""
    authorization = f"Authorization: {PUBLISHER['Authorization']}\r\n"
    requests = b""
    for number in range(12):
        body = f"topic={TOPIC}&id=id-{number}&data={'x' * 5000 * (number % 3)}"
        head = f"POST /.well-known/mercure HTTP/1.1\r\nHost: hub\r\n{authorization}Content-Length: {len(body)}\r\n"
        requests += f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode()
    reader, writer = await served.raw(b"")
    for start in range(0, len(requests), 7001):
        writer.write(requests[start : start + 7001])
        await asyncio.sleep(0)
    ids: list[str] = []
    for _ in range(12):
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"\r\n\r\n")
            ids.append((await reader.readexactly(len(f"id-{len(ids)}"))).decode())
    assert ids == [f"id-{number}" for number in range(12)]
    assert [entry.update.id for entry in await served.hub.transport.read(0, 20)] == ids
    writer.close()


async def test_a_proxys_word_on_the_scheme_counts_past_asgi_too() -> None:
    """A 1.0 token for the hub's http URL is none for its https URL, which the proxy says was asked."""
    issuer, now = "https://issuer.example", time.time()
    async with serving(trusted_issuers=(issuer,)) as running:
        claims = of_1_0(Grant(["*"], [], 60), now, issuer, running.url)
        headers = bearer(sign(claims, KEY, "HS256", type="at+jwt"))
        assert (await running.post({"topic": TOPIC}, headers=headers)).status_code == 200
        for proto, status in (("https", 401), ("http", 200)):
            answer = await running.post({"topic": TOPIC}, headers=headers | {"X-Forwarded-Proto": proto})
            assert answer.status_code == status


async def test_a_proxys_word_is_not_lost_in_the_next_request(served: Served) -> None:
    """A page of the hub's http URL may not publish with the cookie of its https URL, whatever follows the request."""
    cookie = f"mercureAuthorization={token(publish=['*'])}"
    head = f"Host: hub\r\nCookie: {cookie}\r\nOrigin: http://hub\r\nX-Forwarded-Proto: https\r\n"
    form = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(TOPIC) + 6}\r\n\r\ntopic={TOPIC}"
    reader, writer = await served.raw(f"POST /.well-known/mercure HTTP/1.1\r\n{head}{form}GET /".encode())
    async with asyncio.timeout(DEADLINE):
        assert b" 403 " in await reader.readline()
    writer.close()


async def test_a_subscriber_that_talks_is_closed(served: Served) -> None:
    """Bytes after the request are thrown away, and too many of them end the connection."""
    reader, writer = await served.raw(GET + b"\r\n")
    await served.live(1)
    writer.write(b"x" * 1000)
    await served.publish("still there")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"still there")
    writer.write(b"x" * (CHATTER + 1))
    await until(lambda: not served.hub.streams.open)
    writer.close()


async def test_a_client_that_closes_its_side_is_gone(served: Served) -> None:
    """A FIN ends the stream, of which nothing is left until its next heartbeat would be due."""
    _, writer = await served.raw(GET + b"\r\n")
    await served.live(1)
    writer.write_eof()
    await until(lambda: not served.hub.streams.open)
    assert not served.hub._wheel._slots
    writer.close()


async def test_nothing_of_the_request_is_kept(served: Served) -> None:
    """A taken-over connection costs neither a protocol object of the server nor a task; no collector is needed."""
    protocols: list[weakref.ref[object]] = []
    gc.disable()
    try:
        _, writer = await served.raw(GET)
        await until(lambda: len(served.server.server_state.connections) == 1)
        protocols += map(weakref.ref, served.server.server_state.connections)
        writer.write(b"\r\n")
        await served.live(1)
        await until(lambda: not served.server.server_state.tasks)
        assert [protocol() for protocol in protocols] == [None]
    finally:
        gc.enable()
    writer.close()


@pytest.mark.parametrize("wire", WIRES)
async def test_the_end_is_spread_and_proper(wire: str) -> None:
    """All streams end with their final chunk, between two events, within the drain."""
    async with serving(WIRES[wire], drain=0.5) as served:
        connections = [await served.raw(GET + b"\r\n") for _ in range(50)]
        await served.live(50)
        await served.publish("last")
        served.server.stopping.set()
        answers = await asyncio.gather(*(answer(reader) for reader, _ in connections))
        assert all(text.endswith(b"data: last\n\n\r\n0\r\n\r\n") for text in answers)
        for _, writer in connections:
            writer.close()


async def test_a_kept_alive_publisher_is_told_at_the_end() -> None:
    """After the signal a POST is a 503 that says when and asks for a new connection; the store is released first."""
    async with serving(drain=2.0) as served:
        await served.publish("x")
        await asyncio.gather(*(served.client.get("http://%s:%s/healthz" % served.address) for _ in range(4)))  # noqa: UP031
        _, reader = await served.raw(GET + b"\r\n")
        _, other = await served.raw(GET + b"\r\n")
        await served.live(2)
        served.hub.lifecycle.drain()
        response = await served.post({"topic": TOPIC})
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.headers["connection"] == "close"
        reader.close()
        other.close()


async def test_a_subscriber_at_the_end_is_sent_back() -> None:
    """EventSource gives up on an error: what can't be served is an empty stream that says when to come back."""
    async with serving() as served:
        served.hub.lifecycle.drain()
        response = await served.client.get(served.url, params={"topic": TOPIC})
        assert (response.status_code, response.text) == (200, "retry: 1000\n\n")
        assert response.headers["content-type"] == "text/event-stream"


async def test_requests_are_held_in_standby() -> None:
    """While the store is being opened, live is 200, ready 503, and publishers and subscribers wait."""
    release = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        opens_late(patch, release)
        async with serving() as served:
            base = "http://{}:{}/mercure/health".format(*served.address)
            assert (await served.client.get(f"{base}/live")).status_code == 200
            assert (await served.client.get(f"{base}/ready")).status_code == 503
            publishing = asyncio.ensure_future(served.post({"topic": TOPIC, "data": "x"}))
            await until(lambda: served.hub.lifecycle._held == 1)
            release.set()
            assert (await publishing).status_code == 200
            assert (await served.client.get(f"{base}/ready")).status_code == 200


async def test_a_held_publisher_asks_again() -> None:
    """The hub that has the store may not listen yet, or may be another by now; it answers for us."""
    release, asked = asyncio.Event(), list[Update]()

    async def forward_to_holder(_transport: MemoryTransport, update: Update) -> Receipt | None:
        asked.append(update)
        return Receipt(1, "elsewhere") if len(asked) == 3 else None

    with pytest.MonkeyPatch.context() as patch:
        opens_late(patch, release)
        patch.setattr(MemoryTransport, "forward_to_holder", forward_to_holder, raising=False)
        patch.setattr("hub.web.publish.ASK_AGAIN", 0.01)
        async with serving() as served:
            response = await served.post({"topic": TOPIC, "data": "x"}, headers=PUBLISHER | {"Idempotency-Key": "k"})
            assert (response.status_code, response.text) == (200, "elsewhere")
            assert served.hub.lifecycle._held == served.hub.lifecycle.publishing == 0
            release.set()
    assert len(set(asked)) == 1
    assert asked[0].idempotency_key == "k"


async def test_standby_has_so_many_places() -> None:
    """A publisher beyond them is sent away before its update is sent on; one whose wait is over, after it."""
    release = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        opens_late(patch, release)
        patch.setattr("hub.web.publish.HOLD", 0.01)
        patch.setattr("hub.web.publish.ASK_AGAIN", 0.01)
        async with serving() as served:
            assert (await served.post({"topic": TOPIC})).status_code == 503
            patch.setattr("hub.lifecycle.HELD", 0)
            patch.setattr(MemoryTransport, "forward_to_holder", None, raising=False)
            assert (await served.post({"topic": TOPIC})).status_code == 503
            release.set()


def opens_late(patch: pytest.MonkeyPatch, release: asyncio.Event) -> None:
    """The store opens when told: a lock that another process holds."""
    opened = MemoryTransport.open

    async def open_late(self: MemoryTransport) -> None:
        await release.wait()
        await opened(self)

    patch.setattr(MemoryTransport, "open", open_late)


async def test_who_leaves_is_not_held() -> None:
    """Clients that went away in standby do not take the places of others."""
    release = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        opens_late(patch, release)
        async with serving() as served:
            credentials = f"Authorization: {PUBLISHER['Authorization']}\r\n"
            form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\ntopic=x"
            post = f"POST /.well-known/mercure HTTP/1.1\r\nHost: hub\r\n{credentials}{form}".encode()
            held = [await served.stream() if n % 2 else await served.raw(post) for n in range(50)]
            await until(lambda: served.hub.lifecycle._held == 50)
            for _, writer in held:
                writer.transport.abort()
            await until(lambda: served.hub.lifecycle._held == 0)
            release.set()


def test_the_longest_dispatch_timeout() -> None:
    """Four times the longest that the settings take is more than the kernel counts to; it gets what it can count."""
    (listener,) = bind(("127.0.0.1", 0), SILENCE * seconds("366d"))
    with listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2**31 - 1
