"""The load generator counts what it is sent, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench import load as load_module
from bench.load import STAMP, Load
from bench.servers import head, post
from tests.needs import needs


@pytest.fixture(autouse=True)
def _compiler(request: pytest.FixtureRequest) -> None:
    if "compiler" not in request.node.name:
        needs("cc")


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[str, int]]:
    """Whatever it answers, to each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the load ends with a reset
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[:2]


async def test_every_event_counts_once_wherever_the_bytes_are_cut() -> None:
    """Three events in pieces of every size are three events for each subscriber."""

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        whole = HEAD + b"".join(b"id: %d\ndata: %b...\n\n" % (number, STAMP.encode()) for number in range(3))
        for size in range(1, 24):
            rest = whole[len(HEAD) :] if size > 1 else whole
            for first in range(0, len(rest), size):
                writer.write(rest[first : first + size])
                await asyncio.sleep(0)
        await reader.read()

    async with server(stream) as address:
        with Load(address) as load:
            await asyncio.to_thread(load.open, 4, [head("GET", "/")], 3 * 23)
            await asyncio.to_thread(load.complete, 10.0)
            report = await asyncio.to_thread(load.report)
    assert report["events"] == 4 * 3 * 23
    assert report["refused"] == report["lost"] == 0


async def publish_to(load: Load, subscribers: int) -> None:
    """One publish begins once so many subscribers have their answer."""
    await asyncio.to_thread(load.pool, "publish", 1, post("/", STAMP))
    await asyncio.to_thread(load.open, subscribers, [head("GET", "/")])
    load.start("publish", 0, 1)


async def test_latency_is_the_time_since_an_event_was_due() -> None:
    """An update that arrives 50 ms after it was published is 50 ms late, or a little more."""
    streams: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET"):
            writer.write(HEAD)
            streams.append(writer)
            await reader.read()
            return
        data = await reader.readexactly(len(STAMP))
        await asyncio.sleep(0.05)
        streams[0].write(b"data: " + data + b"\n\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with server(echo) as address:
        with Load(address) as load:
            await publish_to(load, 1)
            assert await asyncio.to_thread(load.events, 1, 10.0)
            assert await asyncio.to_thread(load.answered, "publish", 10.0)
            report = await asyncio.to_thread(load.report)
    assert report["events"] == 1
    assert 49 <= report["latency"].p50 < 5000
    assert report["latency"].max >= 50
    assert report["publish"].number == 1


async def test_each_subscriber_sends_its_own_head() -> None:
    """The nth subscriber sends the nth request of the file."""
    seen: list[bytes] = []

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(HEAD)
        await reader.read()

    async with server(stream) as address:
        with Load(address) as load:
            await asyncio.to_thread(load.open, 6, [head("GET", f"/{number}") for number in range(3)])
    assert sorted(seen) == [b"/0", b"/0", b"/1", b"/1", b"/2", b"/2"]


async def test_a_pool_sends_its_requests_in_turn() -> None:
    """Requests of different lengths in one file go out whole, one after the other, and again from the first."""
    seen: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            fields = await reader.readuntil(b"\r\n\r\n")
            seen.append(await reader.readexactly(int(fields.rpartition(b":")[2])))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    bodies = ["one", "", STAMP, "four and " + STAMP]
    async with server(take) as address:
        with Load(address) as load:
            await asyncio.to_thread(load.pool, "publish", 1, b"".join(post("/", body) for body in bodies))
            load.start("publish", 0, 6)
            assert await asyncio.to_thread(load.answered, "publish", 10.0)
    assert [len(body) for body in seen] == [3, 0, 17, 26, 3, 0]
    assert all(seen[place][-16:].isalnum() and int(seen[place][-16:], 16) for place in (2, 3)), "each has its own time"


async def test_what_is_refused_is_reported() -> None:
    """A 401 is no subscriber, a 503 no publish."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with server(refuse) as address:
        with Load(address) as load:
            await publish_to(load, 2)
            assert await asyncio.to_thread(load.answered, "publish", 10.0)
            load.start("publish", 0, 0)
            report = await asyncio.to_thread(load.report)
    assert report["refused"] == 2
    assert report["publish failed"] == 1, "also after the pool was told to stop"


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a compiler gets a sentence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    load_module.compiled.cache_clear()
    with pytest.raises(load_module.NoCompiler, match="gcc"):
        load_module.compiled("load")
