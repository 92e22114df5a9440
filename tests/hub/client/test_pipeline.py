"""`Pipeline` against servers that answer as hubs and proxies may: what each request gets, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from hub.client.pipeline import LARGEST_ANSWER, Pipeline, goes_direct
from hub.client.protocol import Answer, NoAnswer, Outcome, Request

POST = Request("POST", "http://hub/.well-known/mercure?a=b", {"X-A": "é"}, b"data=x")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@asynccontextmanager
async def asked(answer: Callable[[int], bytes], *, ends: bool = False, timeout: float = 5.0) -> AsyncIterator[Pipeline]:
    """A pipeline to a server that answers request ``n`` of a connection so; an empty answer is none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(6)
                writer.write(answer(number))
                await writer.drain()
                number += 1
                if ends:
                    break
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        pipeline = Pipeline(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout)
        try:
            yield pipeline
        finally:
            await pipeline.close()


async def outcomes(pipeline: Pipeline, count: int) -> list[Outcome]:
    return list(await asyncio.gather(*(pipeline.send(POST) for _ in range(count))))


async def test_answers_belong_to_requests_in_their_order() -> None:
    """Many at once on one connection, with interim responses between."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with asked(lambda number: early + OK + b"%02d" % number) as pipeline:
        got = await outcomes(pipeline, 50)
        assert [each.text for each in got if isinstance(each, Answer)] == [f"{number:02d}" for number in range(50)]
        assert isinstance(got[0], Answer)
        assert (got[0].status, got[0].reason, got[0].headers["content-length"]) == (200, "OK", "2")


async def test_a_connection_that_ends_is_replaced() -> None:
    """Requests without an answer are told that they may have been acted on; the next one has a new connection."""
    async with asked(lambda _: OK + b"ab", ends=True) as pipeline:
        first, *others = await outcomes(pipeline, 5)
        assert isinstance(first, Answer)
        assert all(isinstance(each, NoAnswer) and each.sent for each in others)
        assert isinstance(await pipeline.send(POST), Answer)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "ab"),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", "up to the end"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: 3\r\nConnection: close\r\n\r\n", ""),
    ],
)
async def test_every_framing(answer: bytes, text: str) -> None:
    """A body in chunks, one that ends with the connection, none."""
    async with asked(lambda _: answer, ends=True) as pipeline:
        got = await pipeline.send(POST)
        assert isinstance(got, Answer)
        assert got.text == text
        assert got.headers.get("Retry-After") == ("3" if got.status == 503 else None)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * (LARGEST_ANSWER + 1), "more than"),
        (b"", "within 0.2 s"),
    ],
)
async def test_what_is_no_answer(answer: bytes, why: str) -> None:
    """Another protocol, an answer of any length, and silence end the connection."""
    async with asked(lambda _: answer, timeout=0.2) as pipeline:
        got = await pipeline.send(POST)
        assert isinstance(got, NoAnswer)
        assert got.sent
        assert why in got.why


async def test_a_caller_that_is_cancelled_takes_nobodys_answer() -> None:
    """Those after it get their own."""
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(6)
        arrived.set()
        await release.wait()
        writer.write(OK + b"01" + OK + b"02")
        writer.close()

    async with await asyncio.start_server(slowly, "127.0.0.1", 0) as server:
        pipeline = Pipeline(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 5.0)
        first, second = asyncio.create_task(pipeline.send(POST)), asyncio.create_task(pipeline.send(POST))
        async with asyncio.timeout(10):
            await arrived.wait()
        first.cancel()
        release.set()
        got = await second
        assert isinstance(got, Answer)
        assert got.text == "02"
        await pipeline.close()


@pytest.mark.parametrize(
    ("url", "environment", "direct"),
    [
        ("http://hub/", {}, True),
        ("http://user:password@hub/", {}, False),
        ("http://hub/", {"http_proxy": "http://proxy"}, False),
        ("http://hub/", {"http_proxy": "http://proxy", "no_proxy": "hub"}, True),
        ("https://hub/", {"all_proxy": "http://proxy"}, False),
        ("http://bücher.example/", {}, False),
    ],
)
def test_what_goes_direct(monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], direct: bool) -> None:
    """Where anything stands between, httpx knows what to do."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert goes_direct(url) is direct
