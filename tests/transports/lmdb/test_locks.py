"""Who may open a directory, and what happens when somebody else has it or hangs."""

import asyncio
import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from transports import HistoryTrimmed, InvalidTransport, TransportUnavailable
from transports.lmdb.locks import Turnstile
from transports.lmdb.transport import LMDBTransport
from transports.testing.peer import Peer
from transports.testing.suite import an_update, collect, ids, waiting

DEADLINE = 30.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"lmdb://{tmp_path}/hub"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def refusal(url: str) -> str:
    with pytest.raises(InvalidTransport) as caught:
        await LMDBTransport(url).open()
    return str(caught.value)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [("", ""), ("?lock=shared", ""), ("", "?lock=shared")],
    ids=["both exclusive", "one shared", "the other shared"],
)
async def test_timeout(url: str, held: str, wanted: str, peers: list[Peer]) -> None:
    """Who doesn't get the lock in time is told in one line who has it, and the ways out."""
    peers.append(await Peer.start(url + held))
    began = time.monotonic()
    text = await refusal(url + (wanted or "?") + "&lock_timeout=200ms")
    assert time.monotonic() - began >= 0.2
    assert text.startswith(f'"{url}": invalid transport: timeout')
    assert f"host {socket.gethostname()}, pid {peers[0].process.pid} holds the lock" in text
    assert all(way in text for way in ("lock_timeout=60s", "lock=shared", "redis://"))
    assert "\n" not in text


async def test_the_process_ends_with_it(url: str, peers: list[Peer]) -> None:
    """A second process on an exclusive directory gets the same line within its second."""
    transport = LMDBTransport(url)
    await transport.open()
    peers.append(await Peer.start(url, ready=False))
    assert (await peers[0].answer()).startswith(f'"{url}": invalid transport: timeout: host')
    await transport.close()


async def test_standby(url: str, peers: list[Peer]) -> None:
    """A newcomer with a long lock_timeout waits without touching the data, and takes over with all of it."""
    first = await Peer.start(url)
    second = await Peer.start(f"{url}?lock_timeout=60s", ready=False)
    peers += [first, second]
    await until(lambda: "lock" in _files(second))
    assert "data.mdb" in _files(first)
    assert "data.mdb" not in _files(second)
    told = await first.ask("append", names=["a", "b"])
    assert await first.end() == 0
    assert await second.answer() == "open"
    assert await second.ask("tail", after=0, count=2) == [[r[0], r[1]] for r in told]


def _files(peer: Peer) -> set[str]:
    names = set()
    for file in Path(f"/proc/{peer.process.pid}/fd").iterdir():
        with suppress(OSError):
            names.add(file.readlink().name)
    return names


async def test_standby_after_kill(url: str, peers: list[Peer]) -> None:
    """kill -9 of the holder lets the one in standby in."""
    peers += [await Peer.start(url), await Peer.start(f"{url}?lock_timeout=60s", ready=False)]
    await peers[0].kill()
    assert await peers[1].answer() == "open"


async def test_cancelled_standby(url: str) -> None:
    """A cancelled `open` takes no lock with it, and the loop goes on while it waits."""
    holder, waiter = LMDBTransport(url), LMDBTransport(f"{url}?lock_timeout=60s")
    await holder.open()
    task = asyncio.create_task(waiter.open())
    await asyncio.sleep(0)
    await holder.append(an_update(1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await holder.close()
    await holder.open()
    await holder.close()


@pytest.mark.parametrize("turns", range(1, 6))
async def test_cancelled_open(url: str, turns: int) -> None:
    """An `open` that is cancelled at any point leaves the directory free."""
    task = asyncio.create_task(LMDBTransport(url).open())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    transport = LMDBTransport(f"{url}?lock_timeout=0")
    await transport.open() if task.cancelled() else None
    await transport.close()


async def test_twice_in_one_process(url: str) -> None:
    """LMDB can't open a directory twice in a process; the second transport is told so."""
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    await transport.open()
    assert "already open in this process" in await refusal(f"{url}?lock=shared")
    await transport.append(an_update(1))
    await transport.close()


def test_readers_do_not_starve_a_writer(tmp_path: Path) -> None:
    """A writer that waits for the reader inside lets no other reader pass it."""
    order: list[str] = []

    def use(name: str, write: bool) -> None:
        with closing(Turnstile(tmp_path)) as turnstile, turnstile.transaction(write):
            order.append(name)

    writer = threading.Thread(target=use, args=("writer", True))
    reader = threading.Thread(target=use, args=("reader", False))
    with closing(Turnstile(tmp_path)) as turnstile, turnstile.transaction(False):
        writer.start()
        deadline = time.monotonic() + DEADLINE
        while not _held(tmp_path / "lock.gate"):
            assert time.monotonic() < deadline
        reader.start()
        assert order == []
    writer.join()
    reader.join()
    assert order == ["writer", "reader"]


def _held(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_writer_is_alone(tmp_path: Path) -> None:
    """Readers are inside together, a writer by itself."""
    done = threading.Event()
    together = threading.Barrier(5)
    inside: set[int] = set()

    def read() -> None:
        with closing(Turnstile(tmp_path)) as turnstile:
            with turnstile.transaction(False):
                together.wait(DEADLINE)
            while not done.is_set():
                with turnstile.transaction(False):
                    inside.add(threading.get_ident())
                    os.sched_yield()
                    inside.discard(threading.get_ident())

    readers = [threading.Thread(target=read) for _ in range(4)]
    with closing(Turnstile(tmp_path)) as turnstile, ExitStack() as end:
        for reader in readers:
            reader.start()
            end.callback(reader.join)
        end.callback(done.set)
        together.wait(DEADLINE)
        for _ in range(50):
            with turnstile.transaction(True):
                assert not inside


async def test_a_stopped_peer(url: str, peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a peer is stopped inside a transaction, callers are refused in bounded time; then all goes on."""
    monkeypatch.setattr("transports.lmdb.thread.PATIENCE", 0.3)
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    peers.append(await Peer.start(f"{url}?lock=shared"))
    assert await peers[0].ask("stop_inside") == "inside"
    async with asyncio.timeout(DEADLINE):
        for use in (transport.append(an_update("lost")), transport.last(), transport.check()):
            with pytest.raises(TransportUnavailable):
                await use
            monkeypatch.setattr("transports.lmdb.thread.PATIENCE", 3600)  # from now on nobody waits
    peers[0].signal(signal.SIGCONT)
    await peers[0].answer()
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await transport.append(an_update("kept"))
                break
            except TransportUnavailable:
                await asyncio.sleep(0.01)
    assert ids(await transport.read(0, 10))[-1] == "urn:uuid:kept"
    await transport.close()


async def test_close_beside_a_stopped_peer(url: str, peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` does not wait for ever for a stopped peer, and callers that still wait are answered."""
    monkeypatch.setattr("transports.lmdb.thread.PATIENCE", 0.3)
    before = set(threading.enumerate())
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    (thread,) = set(threading.enumerate()) - before
    peers.append(await Peer.start(f"{url}?lock=shared"))
    await peers[0].ask("stop_inside")
    task = await _begun(transport)
    async with asyncio.timeout(DEADLINE):
        await transport.close()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], Exception)
    await peers[0].kill()
    thread.join(DEADLINE)
    assert not thread.is_alive()


async def _begun(transport: LMDBTransport) -> "asyncio.Task[object]":
    task: asyncio.Task[object] = asyncio.create_task(transport.append(an_update(1)))
    await asyncio.sleep(0)
    return task


async def test_open_beside_a_stopped_peer(url: str, peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer that can't get at the store because a peer is stopped ends with a clear error."""
    peers.append(await Peer.start(f"{url}?lock=shared"))
    await peers[0].ask("stop_inside")
    monkeypatch.setattr("transports.lmdb.thread.PATIENCE", 0.3)
    before = set(threading.enumerate())
    assert "is another process stopped?" in await refusal(f"{url}?lock=shared")
    await peers[0].kill()
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)


@pytest.mark.parametrize("depth", [0, 3], ids=["short", "longer than an AF_UNIX address"])
async def test_wake_up(tmp_path: Path, depth: int, peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """An append in one process wakes the tails of the other, without a poll; on asyncio's loop and on uvloop's."""
    monkeypatch.setattr("transports.lmdb.transport.POLL", 3600)
    parent = tmp_path.joinpath(*["x" * 60] * depth)
    parent.mkdir(parents=True, exist_ok=True)
    url = f"lmdb://{parent}/hub?lock=shared"
    transport = LMDBTransport(url)
    await transport.open()
    peers.append(await Peer.start(url, poll=3600))
    task = await waiting(transport, 0)
    ((position, _, _),) = await peers[0].ask("append", names=["there"])
    async with asyncio.timeout(DEADLINE):
        await task
    await peers[0].send("tail", after=position, count=3)
    for name in "abc":
        await transport.append(an_update(name))
    assert len(await peers[0].answer()) == 3
    await transport.close()


async def test_a_tail_of_its_own_entries_hears_of_others(
    url: str, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Level with what this process appends, which it does not read back, it gets what another does."""
    monkeypatch.setattr("transports.lmdb.transport.POLL", 3600)
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    peers.append(await Peer.start(f"{url}?lock=shared", poll=3600))
    names = [f"{whose}{number}" for number in range(6) for whose in ("ours", "ours again", "theirs")]
    reader = asyncio.create_task(collect(transport, 0, len(names)))
    for name in names:
        if name.startswith("theirs"):
            await peers[0].ask("append", names=[name])
        else:
            await transport.append(an_update(name))
    async with asyncio.timeout(DEADLINE):
        assert ids(await reader) == [f"urn:uuid:{name}" for name in names]
    await transport.close()


async def test_poll(url: str, peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a wake-up gets lost, a tail looks for itself."""
    monkeypatch.setattr("transports.lmdb.transport.POLL", 0.05)
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    for name in os.listdir(transport._parameters.directory / "peers"):
        os.unlink(transport._parameters.directory / "peers" / name)
    reader = asyncio.create_task(collect(transport, 0, 1))
    peers.append(await Peer.start(f"{url}?lock=shared"))
    await peers[0].ask("append", names=["there"])
    assert ids(await reader) == ["urn:uuid:there"]
    await transport.close()


async def test_stale_sockets(url: str, peers: list[Peer]) -> None:
    """The socket of a killed process goes at the next commit, a closed one's at once."""
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    directory = transport._parameters.directory / "peers"
    own = os.listdir(directory)
    peers.append(await Peer.start(f"{url}?lock=shared"))
    assert len(os.listdir(directory)) == 2
    await peers[0].kill()
    await transport.append(an_update(1))
    await until(lambda: os.listdir(directory) == own)
    await transport.close()
    assert os.listdir(directory) == []


async def test_a_tail_that_a_peer_overtakes(url: str, peers: list[Peer]) -> None:
    """A tail that waits in the empty log is told when a peer's appends were trimmed before it saw them."""
    url += "?lock=shared&size=3"
    transport = LMDBTransport(url)
    await transport.open()
    task = await waiting(transport, 0)
    peers.append(await Peer.start(url))
    await peers[0].ask("append", names=[str(n) for n in range(10)])
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(HistoryTrimmed):
            await task
    await transport.close()


async def test_what_is_no_socket_is_left_alone(url: str) -> None:
    """Somebody's own files beside the wake-up sockets are not dead peers."""
    transport = LMDBTransport(f"{url}?lock=shared")
    await transport.open()
    mine = transport._parameters.directory / "peers" / "customers.csv"
    mine.write_text("alice")
    await transport.append(an_update(1))
    await transport.close()
    assert mine.read_text() == "alice"
