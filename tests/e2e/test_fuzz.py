"""Mutations of valid requests, as clients, proxies and attackers send them: seeded, so that a failure comes again."""

import asyncio
import os
import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

import pytest

from hub.generations import PATH
from tests.e2e.processes import LOST, Address, Connection, Hubs, subscribed, until
from tests.hub.serving import PUBLISHER, TOPIC

MUTATIONS = 2500
AT_ONCE = 16
PATIENCE = 0.1
"""Seconds until an answer that does not end is taken for a stream, or for a request that the hub waits for."""
ALLOWED = {501, 503, 505}
CREDENTIALS = f"Authorization: {PUBLISHER['Authorization']}\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


def request(line: str, header: str = "", body: str = "") -> bytes:
    size = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\nHost: hub\r\n{header}{size}\r\n{body}".encode()


SEEDS = [
    request(f"POST {PATH}", CREDENTIALS + FORM, f"topic={TOPIC}&data=x&private=on&type=t&retry=1&id=urn:x"),
    request(
        f"POST {PATH}", CREDENTIALS + FORM + 'Idempotency-Key: "k"\r\n', f"topic={TOPIC}&topic=b&data=%F0%9F%98%80"
    ),
    f"POST {PATH} HTTP/1.1\r\nHost: hub\r\n{CREDENTIALS}{FORM}Transfer-Encoding: chunked\r\n\r\n"
    "7\r\ntopic=a\r\n0\r\nTrailer: x\r\n\r\n".encode(),
    request(f"GET {PATH}?topic={TOPIC}&lastEventID=x", "Last-Event-ID: earliest\r\nOrigin: http://localhost\r\n"),
    request(f"GET {PATH}?match_urlpattern=https://example.com/:id&match=a&last_event_id=earliest"),
    request(f"GET {PATH}?topic=https://example.com/%7Bid%7D", "Cookie: a=b; mercureAuthorization=x.y.z\r\n"),
    request(f"QUERY {PATH}?match=a", FORM, "match=b&last_event_id=x"),
    request(f"GET {PATH}/subscriptions/exact/a/b", CREDENTIALS),
    request(f"OPTIONS {PATH}", "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n"),
    request("OPTIONS *"),
    request("GET http://hub/mercure/health/ready"),
    request("GET /.well-known/oauth-protected-resource/.well-known/mercure", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    request("HEAD /", "Expect: 100-continue\r\n"),
]
PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%", b"%00", b"%ff", b"%F0%9F", b"\xff", b"&", b"=", b"{"),
    *(b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Host: b\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: x\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Authorization: Basic YTpi\r\n", b"Expect: 100-continue\r\n"),
    b"X: " + b"y" * 70_000,
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"topic[]=a", b"match_x=1", b"{+id}{?q*}", b"*", b"9" * 20, b"(" * 50),
]


def cut(seed: bytes, chance: random.Random) -> bytes:
    return seed[: chance.randrange(len(seed))]


def drop(seed: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(seed))
    return seed[:begin] + seed[begin + chance.randrange(1, 20) :]


def insert(seed: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(seed))
    return seed[:at] + chance.choice(PIECES) + seed[at:]


def flip(seed: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(seed))
    return seed[:at] + bytes([chance.randrange(256)]) + seed[at + 1 :]


def repeat(seed: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(seed))
    part = seed[begin : begin + chance.randrange(1, 60)]
    return seed[:begin] + part * chance.choice((2, 3, 50)) + seed[begin:]


def splice(seed: bytes, chance: random.Random) -> bytes:
    other = chance.choice(SEEDS)
    return seed[: chance.randrange(len(seed))] + other[chance.randrange(len(other)) :]


def pipeline(seed: bytes, chance: random.Random) -> bytes:
    return seed + chance.choice(SEEDS) * chance.choice((1, 2, 20))


MUTATORS: Sequence[Callable[[bytes, random.Random], bytes]] = (
    cut,
    drop,
    insert,
    insert,
    flip,
    repeat,
    splice,
    pipeline,
)


def mutated(chance: random.Random) -> bytes:
    text = chance.choice(SEEDS)
    for _ in range(chance.choice((1, 1, 2, 4))):
        text = chance.choice(MUTATORS)(text or b"x", chance)
    return text[:200_000]


async def answer_to(address: Address, text: bytes, at: int) -> bytes:
    """What comes back to a request that is sent in two segments, as far as it comes at once."""
    reader, writer = await asyncio.open_connection(*address)
    answer = b""
    with suppress(*LOST, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            writer.write(text[:at])
            await asyncio.sleep(0)
            writer.write(text[at:])
            while part := await reader.read(65536):
                answer += part
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
    return answer


@pytest.mark.parametrize("seed", [os.environ.get("FUZZ_SEED", "1")])
async def test_mutated_requests_harm_nothing(hubs: Hubs, seed: str) -> None:
    """No 5xx but 501, 503 and 505, no traceback, all descriptors come back, and a canary update still arrives."""
    hub = hubs.start("memory://?max_bytes=20MB", "--subscriptions", "--dispatch-timeout", "1s")
    address = await hub.listening()
    chance = random.Random(seed)
    requests = iter([(mutated(chance), chance.random()) for _ in range(MUTATIONS)])
    before = descriptors(hub.process.pid)
    harmful: list[tuple[bytes, bytes]] = []
    answered = 0

    async def send() -> None:
        nonlocal answered
        for text, at in requests:
            answer = await answer_to(address, text, int(at * len(text)))
            found = {int(status) for status in re.findall(rb"(?:^|\r\n|[^\r\n])HTTP/1\.1 (\d{3}) ", answer)}
            answered += bool(found)
            if any(status >= 500 and status not in ALLOWED for status in found):
                harmful.append((text, answer[:200]))

    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    assert harmful == []
    assert answered > MUTATIONS / 20
    await until(lambda: descriptors(hub.process.pid) <= before)
    canary = "https://example.com/canary"
    async with subscribed(1, [address]) as [witness], Connection.to(address) as publisher:
        assert (await publisher.publish(canary)).status == 200
        await until(lambda: witness.data == [canary])
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    assert hub.stderr == ""


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
