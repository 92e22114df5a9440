"""HTTP/1.1 as RFC 9112 and RFC 9110 have it, on the connection itself."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from hub.observe.counts import Ended
from tests.hub.serving import DEADLINE, PUBLISHER, TOPIC, Served, serving, until

PATH = "/.well-known/mercure"
CREDENTIALS = f"Authorization: {PUBLISHER['Authorization']}\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def exchange(served: Served, *parts: bytes, pause: float = 0.0) -> bytes:
    """Everything that the hub answers to these segments until it closes the connection."""
    reader, writer = await served.raw(b"")
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(pause)
    async with asyncio.timeout(DEADLINE):
        try:
            return await reader.read()
        finally:
            writer.close()


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def publish(id: str, header: str = "", *, chunked: bool = False, version: str = "1.1") -> bytes:
    body = f"topic={TOPIC}&id={id}&data=GET / HTTP/1.1"
    if chunked:
        size, body = "Transfer-Encoding: chunked\r\n", f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    else:
        size = f"Content-Length: {len(body)}\r\n"
    return f"POST {PATH} HTTP/{version}\r\nHost: hub\r\n{CREDENTIALS}{FORM}{size}{header}\r\n{body}".encode()


UPGRADES = ["h2c", "websocket", "TLS/1.2", "a, b/1", ""]


@pytest.mark.parametrize("protocol", UPGRADES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upgrade_is_ignored(served: Served, protocol: str, chunked: bool) -> None:
    """The request is served with its body, in however many segments, and the connection goes on (RFC 9110 7.8)."""
    asks = f"Upgrade: {protocol}\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
    whole = publish("one", asks, chunked=chunked) + publish("two", asks, chunked=chunked) + HEALTH
    for size in (len(whole), 1, 7, 200):
        answer = await exchange(served, *(whole[at : at + size] for at in range(0, len(whole), size)))
        assert statuses(answer) == [200, 200, 200]
        assert re.findall(rb"\r\n\r\n(one|two|\{)", answer) == [b"one", b"two", b"{"]


async def test_a_body_in_a_later_segment_is_no_request(served: Served) -> None:
    """What follows a head with an upgrade is its body, whatever it looks like: not another request."""
    body = b"topic=x&data=" + HEALTH
    head = f"POST {PATH} HTTP/1.1\r\nHost: hub\r\n{CREDENTIALS}{FORM}Content-Length: {len(body)}\r\n"
    asks = "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer = await exchange(served, (head + asks).encode(), body, HEALTH, pause=0.05)
    assert statuses(answer) == [200, 200]


@pytest.mark.parametrize("method", ["GET", "QUERY"])
async def test_a_subscription_with_an_upgrade_is_a_stream(served: Served, method: str) -> None:
    """curl --http2 and Java's HttpClient ask for HTTP/2 on the first request of every connection."""
    asks = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    body = f"topic={TOPIC}" if method == "QUERY" else ""
    target = PATH if body else f"{PATH}?topic={TOPIC}"
    size = f"{FORM}Content-Length: {len(body)}\r\n" if body else ""
    reader, _ = await served.raw(f"{method} {target} HTTP/1.1\r\nHost: hub\r\n{asks}{size}\r\n{body}".encode())
    await served.live(1)
    await served.publish("x")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"data: x\n\n")


async def test_an_upgrade_counts_towards_the_bounds(served: Served) -> None:
    """A head that is read twice is bounded like any other, and so are requests without end."""
    ask = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert len(statuses(await exchange(served, ask * 5000))) < 1000
    huge = ask[:-2] + b"X: " + b"x" * 100_000
    assert statuses(await exchange(served, huge[:60_000], huge[60_000:], b"\r\n\r\n", pause=0.05)) in ([431], [])


def get(*lines: str, version: str = "HTTP/1.1", target: str = "/healthz", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} {version}".strip(), *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        # Host (RFC 9112 section 3.2)
        (get("Connection: close"), 400),
        (get("Host: hub", "Host: hub"), 400),
        (get("Host: hub", "Host: other"), 400),
        (get("Host:"), 400),
        (get("Host: two words"), 400),
        (get("Host: hub/path"), 400),
        (get("Host: user@hub"), 400),
        (get("Host: hub:port"), 400),
        (get("Host: h\0b"), 400),
        (get("Host: [::1", "Connection: close"), 400),
        (get("Host: [::1]:80", "Connection: close"), 200),
        (get("Host: hub.example:443", "Connection: close"), 200),
        (get("Host: xn--bcher-kva.example", "Connection: close"), 200),
        (get(version="HTTP/1.0"), 200),
        (get("Host: hub", "Host: hub", version="HTTP/1.0"), 400),
        # versions (section 2.3)
        (get("Host: hub", version="HTTP/2.0"), 505),
        (get("Host: hub", version="HTTP/9.9"), 505),
        (get("Host: hub", version="HTTP/1.2"), 505),
        (get("Host: hub", version=""), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        # methods (RFC 9110 section 9.1)
        (get("Host: hub", "Connection: close", method="PATCH"), 405),
        (get("Host: hub", method="FROBNICATE"), 501),
        (get("Host: hub", method="get"), 501),
        (get("Host: hub:1", method="CONNECT", target="hub:1"), 501),
        # targets (RFC 9112 section 3.2)
        (get("Host: hub", "Connection: close", target="http://hub/healthz"), 200),
        (get("Host: hub", target="*"), 400),
        (get("Host: hub", target="healthz"), 400),
        # fields and bodies (sections 5 and 6)
        (get("Host: hub", " folded"), 400),
        (get("Host : hub"), 400),
        (get("Host: hub", "Bad Name: x"), 400),
        (get("Host: hub", "Content-Length: x"), 400),
        (get("Host: hub", "Content-Length: 5", "Content-Length: 6"), 400),
        (get("Host: hub", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (get("Host: hub", "Transfer-Encoding: chunked, gzip"), 400),
        (get("Host: hub", "Transfer-Encoding: nonsense"), 400),
        (get("Host: hub", "Transfer-Encoding: chunked", version="HTTP/1.0") + b"0\r\n\r\n", 400),
        (get("Host: hub", "Transfer-Encoding: chunked", method="POST", target=PATH) + b"Z\r\nx\r\n0\r\n\r\n", 400),
        (get("Host: hub", "Transfer-Encoding: chunked", method="POST", target=PATH) + b"5\r\nhello0\r\n\r\n", 400),
    ],
)
async def test_a_message_is_judged_as_the_rfc_says(served: Served, request_: bytes, status: int) -> None:
    """One answer, with a sentence and a length, and the end of the connection; nothing behind it is served."""
    answer = await exchange(served, request_)
    assert statuses(answer) == [status]
    assert b"content-length: " in answer.lower()
    if status != 200:
        assert statuses(await exchange(served, request_ + HEALTH)) in ([status], [405, 200])


async def test_a_request_before_a_malformed_one_is_answered(served: Served) -> None:
    """In its place and as it would be alone; the malformed one then gets its own, and the end of the connection."""
    answer = await exchange(served, publish("one") + get("Host: hub", version="HTTP/9.9"))
    assert statuses(answer) == [200, 505]
    first, second = answer.lower().split(b"http/1.1 505")
    assert first.endswith(b"one")
    assert b"connection: close" not in first
    assert b"connection: close" in second


async def test_a_stream_before_a_malformed_request_ends_with_its_client(served: Served) -> None:
    """The stream goes on, as the request before; a client that leaves is noticed before the next heartbeat."""
    stream = get("Host: hub", target=f"{PATH}?topic={TOPIC}")
    reader, writer = await served.raw(stream + HEALTH * 30)
    await served.live(1)
    await served.publish("x")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"data: x\n\n")
    writer.transport.abort()
    await until(lambda: not served.hub.streams.open)


async def test_the_authority_of_an_absolute_target_counts(served: Served) -> None:
    """Whatever Host says (RFC 9112 section 3.2.2)."""
    answer = await exchange(served, get("Host: other", "Connection: close", target="http://hub.example:81/"))
    assert b"http://hub.example:81/.well-known/mercure" in answer


async def test_a_client_of_http_1_0_is_never_chunked(served: Served) -> None:
    """Its stream ends with the connection; so does its publish, which has a length (RFC 9112 section 6.1)."""
    reader, _ = await served.raw(get(version="HTTP/1.0", target=f"{PATH}?topic={TOPIC}"))
    await served.live(1)
    event_id = await served.publish("x")
    for stream in list(served.hub.streams.open):
        stream.finish(Ended.DRAIN)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == f":\nid: {event_id}\ndata: x\n\n".encode()
    answer = await exchange(served, publish("two", version="1.0"))
    assert answer.endswith(b"\r\n\r\ntwo")
    assert b"content-length: 3\r\n" in answer


async def test_http_1_0_expects_no_interim_answer(served: Served) -> None:
    """An HTTP/1.0 client does not know 100 Continue (RFC 9110 section 10.1.1)."""
    answer = await exchange(served, publish("one", "Expect: 100-continue\r\n", version="1.0"))
    assert statuses(answer) == [200]
