"""What a process that waits for a directory's lock has the holder of it append."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transports import (
    Answer,
    IdempotencyConflict,
    Receipt,
    TransportClosed,
    TransportError,
    TransportFull,
    TransportUnavailable,
    Update,
)
from transports.lmdb import relay as relay_module
from transports.lmdb.relay import Relay, relay
from transports.lmdb.transport import LMDBTransport
from transports.testing.peer import Peer
from transports.testing.suite import an_update, collect, ids


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"lmdb://{tmp_path}/hub"


@asynccontextmanager
async def holder_of(url: str) -> AsyncIterator[LMDBTransport]:
    transport = LMDBTransport(url)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def answering(directory: Path, outcome: "Receipt | Exception | asyncio.Future[Receipt]") -> AsyncIterator[Relay]:
    """A holder that says the same to every update."""

    def submit(_update: Update, answer: Answer) -> None:
        if isinstance(outcome, asyncio.Future):
            outcome.add_done_callback(lambda done: answer(done.result()))
        else:
            answer(outcome)

    relay = await Relay.listen(directory, submit)
    yield relay
    await relay.close()


async def test_one_order(url: str) -> None:
    """What is relayed and what the holder appends make one log, with every field, and keys count in both."""
    standby = LMDBTransport(f"{url}?lock_timeout=60s")
    whole = Update("é\n", ("a", "b"), "x\n\u2028y", True, "t", 5, "key", "print")
    async with holder_of(url) as holder:
        receipts = [
            await each.append(an_update(n)) if each is holder else await standby.forward_to_holder(an_update(n))
            for n, each in enumerate([holder, standby, standby, holder])
        ]
        assert [each and each.position for each in receipts] == [1, 2, 3, 4]
        assert await standby.forward_to_holder(whole) == Receipt(5, whole.id)
        assert await standby.forward_to_holder(whole) == Receipt(5, whole.id, True)
        assert await holder.append(whole) == Receipt(5, whole.id, True)
        with pytest.raises(IdempotencyConflict):
            await standby.forward_to_holder(whole._replace(fingerprint="other"))
        entries = await collect(holder, 0, 5)
        assert ids(entries[:4]) == [an_update(n).id for n in range(4)]
        assert entries[4].update._replace(idempotency_key=None, fingerprint=None) == whole._replace(
            idempotency_key=None, fingerprint=None
        )


async def test_a_hand_over(url: str) -> None:
    """Whatever the holder's end meets, an update is answered and stored, or refused and not stored."""
    standby = LMDBTransport(f"{url}?lock_timeout=60s")
    taken: list[Receipt] = []
    refused: list[Update] = []

    async def publish(name: str) -> None:
        for number in range(10_000):
            update = an_update(f"{name}-{number}", data="d" * 20_000)
            receipt = await standby.forward_to_holder(update)
            if receipt is None:
                refused.append(update)
                break
            taken.append(receipt)

    async with holder_of(url) as holder:
        publishers = [asyncio.create_task(publish(str(n))) for n in range(50)]
        async with asyncio.timeout(30):
            while len(taken) < 200:
                await asyncio.sleep(0)
        await holder.close()
        await asyncio.gather(*publishers)
    await standby.open()
    stored = [(entry.position, entry.update.id) for entry in await collect(standby, 0, len(taken))]
    assert stored == sorted((each.position, each.id) for each in taken)
    assert (await standby.last())[0] == len(taken)
    assert len(refused) == 50
    await standby.close()


@pytest.mark.parametrize("kind", [IdempotencyConflict, TransportFull, TransportUnavailable])
async def test_the_holders_error(tmp_path: Path, kind: type[TransportError]) -> None:
    """It is raised where the publisher is."""
    async with answering(tmp_path, kind("why")):
        with pytest.raises(kind, match="why") as caught:
            await relay(tmp_path, an_update(1))
    assert caught.type is kind


async def test_a_holder_that_ends_with_work_under_way(tmp_path: Path) -> None:
    """Its `TransportClosed` does not say that nothing was stored."""
    async with answering(tmp_path, TransportClosed()):
        with pytest.raises(TransportUnavailable):
            await relay(tmp_path, an_update(1))


async def test_the_end_of_the_holder(tmp_path: Path) -> None:
    """It waits for what is being appended, refuses what has not come whole, and takes nothing new."""
    appending: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
    async with answering(tmp_path, appending) as holder:
        whole = asyncio.create_task(relay(tmp_path, an_update(1)))
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "relay"))
        assert await reader.readline() == b"ready\n"
        writer.write(an_update(2).to_json())
        while sum(bool(each._line) for each in holder.connections) < 2:
            await asyncio.sleep(0)
        closing = asyncio.create_task(holder.close())
        assert await reader.readline() == b"{}\n"
        writer.write(b"\n")
        writer.close()
        await writer.wait_closed()
        assert await relay(tmp_path, an_update(3)) is None
        assert not closing.done()
        appending.set_result(Receipt(7, "seven"))
        assert await whole == Receipt(7, "seven")
        await closing
        assert not (tmp_path / "relay").exists()


async def test_nobody_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory, no socket, one that nobody listens on, one whose process is stopped: nothing is sent."""
    monkeypatch.setattr(relay_module, "GREETING", 0.01)
    assert await relay(tmp_path / "missing", an_update(1)) is None
    assert await relay(tmp_path, an_update(1)) is None
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "relay"))
        assert await relay(tmp_path, an_update(1)) is None
        stopped.listen()
        assert await relay(tmp_path, an_update(1)) is None
        accepted, _ = stopped.accept()
        with accepted:
            assert await asyncio.to_thread(accepted.recv, 1) == b""


async def test_an_update_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent, and a holder that is sent one all the same refuses it."""
    async with answering(tmp_path, Receipt(1, "one")):
        monkeypatch.setattr(relay_module, "LONGEST", 1000)
        assert await relay(tmp_path, an_update(1, data="x" * 1000)) is None
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "relay"))
        writer.write(b"x" * 1001)
        assert await reader.readexactly(9) == b"ready\n{}\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("answer", [b"", b'{"receipt": [1, "one"'])
async def test_a_lost_answer(tmp_path: Path, answer: bytes) -> None:
    """The publisher is told that the update may be stored."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ready\n")
        await reader.readline()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(die, tmp_path / "relay"):
        with pytest.raises(TransportUnavailable, match="may be stored"):
            await relay(tmp_path, an_update(1))


@given(line=st.binary().filter(lambda line: b"\n" not in line) | st.sampled_from([b"[]", b"{}", b'{"topics":1}', b"1"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_update(tmp_path: Path, line: bytes) -> None:
    """Whatever else is sent is refused."""

    async def ask() -> bytes:
        async with answering(tmp_path, Receipt(1, "one")):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "relay"))
            writer.write(line + b"\n")
            await reader.readline()
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return answer

    assert asyncio.run(ask()) == b"{}\n"


async def test_a_long_path(tmp_path: Path) -> None:
    """A directory whose path does not fit into a socket's address can be relayed to; only its owner may."""
    directory = tmp_path / ("x" * 100)
    standby = LMDBTransport(f"lmdb://{directory}?lock_timeout=60s")
    async with holder_of(f"lmdb://{directory}"):
        mode = (directory / "relay").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert await standby.forward_to_holder(an_update(1)) == Receipt(1, an_update(1).id)


async def test_no_socket_can_be_bound(url: str, tmp_path: Path) -> None:
    """A holder serves without a relay, and leaves alone what has taken its name."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "relay").write_text("mine")
    async with holder_of(url) as holder:
        assert await LMDBTransport(url).forward_to_holder(an_update(1)) is None
        assert (await holder.append(an_update(1))).position == 1
    assert (tmp_path / "hub" / "relay").read_text() == "mine"


async def test_a_killed_holder(url: str, tmp_path: Path, peers: list[Peer]) -> None:
    """The socket that it leaves behind is replaced by the next holder's."""
    standby = LMDBTransport(url)
    peers.append(await Peer.start(url))
    assert await standby.forward_to_holder(an_update(1)) == Receipt(1, an_update(1).id)
    await peers[0].kill()
    assert (tmp_path / "hub" / "relay").is_socket()
    assert await standby.forward_to_holder(an_update(2)) is None
    peers.append(await Peer.start(url))
    assert await standby.forward_to_holder(an_update(2)) == Receipt(2, an_update(2).id)
    assert await peers[1].end() == 0
    assert not (tmp_path / "hub" / "relay").exists()
