"""What the LMDB log promises beyond the contract: one fsync for many, room, and a store that survives anything."""

import asyncio
import errno
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import lmdb
import pytest

from tests.volumes import fill_up, small_volume
from transports import (
    Entry,
    InvalidTransport,
    Receipt,
    TransportFull,
    TransportReplaced,
    TransportUnavailable,
    Update,
)
from transports.lmdb import file
from transports.lmdb.directory import unusable
from transports.lmdb.environment import Options
from transports.lmdb.store import Store
from transports.lmdb.transport import LMDBTransport, Recent, record_of
from transports.testing.peer import Peer
from transports.testing.suite import an_update, collect, fill, ids

MIB = 1 << 20


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"lmdb://{tmp_path}/hub"


@pytest.fixture
async def transport(url: str) -> AsyncIterator[LMDBTransport]:
    transport = LMDBTransport(url)
    await transport.open()
    yield transport
    await transport.close()


def data_file(url: str) -> Path:
    return Path(url.removeprefix("lmdb://"), "data.mdb")


async def commits(transport: LMDBTransport) -> int:
    return await transport._call(lambda store: store._environment.commits)


async def everything(transport: LMDBTransport) -> list[Entry]:
    entries: list[Entry] = []
    while page := await transport.read(entries[-1].position if entries else 0, 1000):
        entries += page
    return entries


async def refusal(url: str) -> str:
    with pytest.raises(InvalidTransport) as caught:
        await LMDBTransport(url).open()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def opened(directory: Path, **options: object) -> Store:
    directory.mkdir(exist_ok=True)
    store = Store(directory, Options(**options))  # type: ignore[arg-type]
    store.open()
    return store


def put(store: Store, *updates: Update) -> list[object]:
    return list(store.append([record_of(update) for update in updates]))


def rows(store: Store) -> dict[str, int]:
    """How many rows each table really has, counted one by one."""
    with store._environment.transaction(write=False) as txn:
        tables = {"updates", "ids", "keys", "meta"}
        return {name: sum(1 for _ in txn.cursor(getattr(store._environment.tables, name))) for name in tables}


@asynccontextmanager
async def busy(transport: LMDBTransport) -> AsyncIterator[None]:
    """The store is at work, so that everything in the body waits together."""
    begun, go = threading.Event(), threading.Event()

    def pause(store: Store) -> None:
        begun.set()
        go.wait()

    task = asyncio.create_task(transport._call(pause))
    await asyncio.to_thread(begun.wait)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        go.set()
        await task


async def test_group_commit(transport: LMDBTransport) -> None:
    """Appends that wait together share a commit: 1,024 of them take four."""
    before = await commits(transport)
    async with busy(transport):
        appends = [asyncio.create_task(transport.append(an_update(n))) for n in range(1024)]
    await asyncio.gather(*appends)
    assert await commits(transport) - before == 4


async def test_group_bytes(transport: LMDBTransport) -> None:
    """A commit of large updates is bounded by bytes: 24 MiB take three."""
    before = await commits(transport)
    async with busy(transport):
        appends = [asyncio.create_task(transport.append(an_update(n, data="x" * MIB))) for n in range(24)]
    await asyncio.gather(*appends)
    assert await commits(transport) - before == 3


async def test_one_by_one(transport: LMDBTransport) -> None:
    """An append that waits alone is committed alone, and nothing but appends commits."""
    before = await commits(transport)
    await fill(transport, range(5))
    await transport.read(0, 10)
    assert await commits(transport) - before == 5


async def test_reads_come_in_between(transport: LMDBTransport) -> None:
    """A read does not wait until all the appends before it are done."""
    async with busy(transport):
        appends = [asyncio.create_task(transport.append(an_update(n))) for n in range(3000)]
        read = asyncio.create_task(transport.last())
    assert (await read)[0] <= 512
    await asyncio.gather(*appends)


async def test_what_nobody_waits_for(transport: LMDBTransport) -> None:
    """An append that is cancelled while it waits is not carried out."""
    async with busy(transport):
        append = asyncio.create_task(transport.append(an_update(1)))
        await asyncio.sleep(0)
        append.cancel()
    assert (await transport.last())[0] == 0


async def test_the_interpreter_is_as_it_was(tmp_path: Path) -> None:
    """It switches threads more often while a store is open, and as before once the last one is closed."""
    before = sys.getswitchinterval()
    stores = [LMDBTransport(f"lmdb://{tmp_path}/{name}") for name in "ab"]
    for store in stores:
        await store.open()
    for store in stores:
        assert sys.getswitchinterval() < before
        await store.close()
    assert sys.getswitchinterval() == before


async def test_a_tail_that_keeps_up_reads_nothing_back(
    transport: LMDBTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process appends reaches it as it is: the store is asked at the beginning alone."""
    asked: list[int] = []
    read = Store.read

    def counted(self: Store, after: int, limit: int, *, from_start: bool = True) -> list[Entry]:
        asked.append(after)
        return read(self, after, limit, from_start=from_start)

    monkeypatch.setattr(Store, "read", counted)
    await transport.append(an_update(1))
    tail = transport.tail(0)
    assert [each.position for each in await anext(tail)] == [1]
    for number in range(2, 20):
        following = asyncio.ensure_future(anext(tail))
        await asyncio.sleep(0)
        await transport.append(an_update(number))
        assert [each.position for each in await following] == [number]
    assert asked == [0]
    await tail.aclose()  # type: ignore[attr-defined]


def test_recent() -> None:
    """A process's own entries are at hand as long as nobody's came in between, and within bounds."""
    recent = Recent()
    recent.add([Entry(n, an_update(n)) for n in (1, 2, 5)])
    assert not recent.after(0, 10)
    assert not recent.after(1, 10)
    assert recent.ends_at(5)
    assert not recent.ends_at(2)
    assert not Recent().ends_at(0)
    assert [entry.position for entry in recent.after(4, 10)] == [5]
    assert not recent.after(5, 10)
    recent.add([Entry(n, an_update(n)) for n in range(6, 5000)])
    assert not recent.after(4, 10)
    assert [entry.position for entry in recent.after(4990, 3)] == [4991, 4992, 4993]
    recent.add([Entry(n, an_update(n, data="x" * MIB)) for n in range(5000, 5010)])
    assert not recent.after(5000, 10)
    assert [entry.position for entry in recent.after(5006, 10)] == [5007, 5008, 5009]


async def test_a_page_is_bounded(transport: LMDBTransport) -> None:
    """A page of large entries ends early, and the next one goes on."""
    await asyncio.gather(*(transport.append(an_update(n, data="x" * MIB)) for n in range(10)))
    page = await transport.read(0, 1000)
    assert 0 < len(page) < 10
    assert len(await collect(transport, 0, 10)) == 10


async def test_relative_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lmdb://name is a directory in the working directory, for its owner only; %20 is a space."""
    monkeypatch.chdir(tmp_path)
    transport = LMDBTransport("lmdb://the%20hub")
    await transport.open()
    await transport.close()
    assert {file.name for file in (tmp_path / "the hub").iterdir()} == {"data.mdb", "lock"}
    assert (tmp_path / "the hub").stat().st_mode & 0o77 == 0


def test_trimming_by_size(tmp_path: Path) -> None:
    """Every row of a trimmed update goes: ids that were used again, keys, and nothing else."""
    with closing(opened(tmp_path, size=10)) as store:
        for n in range(50):
            put(store, an_update(n % 7, idempotency_key=f"k{n}" if n % 2 else None))
        left = store.read(0, 100)
        keys = sum(1 for entry in left if entry.update.idempotency_key)
        assert [entry.position for entry in left] == list(range(41, 51))
        assert rows(store) == {"updates": 10, "ids": 10, "keys": keys, "meta": 1}


def test_trimming_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update older than ``ttl`` goes with the next append or check; the newest stays however old it is."""
    now = [1000.0]
    monkeypatch.setattr("transports.lmdb.store.time.time", lambda: now[0])
    with closing(opened(tmp_path, ttl=60)) as store:
        put(store, an_update(1), an_update(2))
        now[0] += 59
        put(store, an_update(3))
        assert len(store.read(0, 10)) == 3
        now[0] += 2
        store.check()
        assert ids(store.read(0, 10)) == ["urn:uuid:3"]
        now[0] += 1000
        store.check()
        assert rows(store) == {"updates": 1, "ids": 1, "keys": 0, "meta": 2}


def test_trimming_is_bounded(tmp_path: Path) -> None:
    """A smaller ``size`` takes effect over several commits, so that none of them takes long."""
    with closing(opened(tmp_path)) as store:
        put(store, *(an_update(n) for n in range(500)))
    with closing(opened(tmp_path, size=1)) as store:
        put(store, an_update("new"))
        assert rows(store)["updates"] == 501 - 66
        while rows(store)["updates"] > 1:
            put(store, an_update("new"))


@pytest.mark.parametrize("length", [100, 3000, 50_000])
def test_a_map_that_fills(tmp_path: Path, length: int) -> None:
    """Without ``size``, what does not fit into the map pushes the oldest out, for ever; each append succeeds."""
    with closing(opened(tmp_path, map_size=MIB, sync=False)) as store:
        for n in range(0, 2 * MIB // length, 16):
            updates = [an_update(m, data="x" * length, idempotency_key=f"k{m}") for m in range(n, n + 16)]
            assert all(isinstance(result, Receipt) for result in put(store, *updates))
        left = store.read(0, 1 << 20)
        assert left[-1].position == store.last()[0]
        assert len(left) < store.last()[0]
        count = rows(store)
        assert count["updates"] == count["ids"] == count["keys"]
        assert os.path.getsize(tmp_path / "data.mdb") <= MIB


def test_too_large_for_the_map(tmp_path: Path) -> None:
    """An update that the map can never hold fails alone: not the ones beside it, and not history."""
    with closing(opened(tmp_path, map_size=MIB)) as store:
        put(store, *(an_update(n) for n in range(20)))
        huge = an_update("huge", data="x" * 2 * MIB)
        first, second, third = put(store, an_update("before"), huge, an_update("after"))
        assert isinstance(first, Receipt)
        assert isinstance(second, TransportFull)
        assert "x" * 10 not in str(second)
        assert isinstance(third, Receipt)
        assert len(store.read(0, 100)) == 22
        store.check()


def test_a_mixture_of_sizes(tmp_path: Path) -> None:
    """In a full map small and large updates follow each other; what can be held is."""
    with closing(opened(tmp_path, map_size=2 * MIB, sync=False)) as store:
        for n in range(300):
            results = put(store, an_update(n, data="x" * (200 if n % 5 else 120_000)))
            assert isinstance(results[0], Receipt), results
            assert store.last()[0] == n + 1


@pytest.mark.parametrize("length", [60_000, 20_000])
def test_many_large_updates_at_once(tmp_path: Path, length: int) -> None:
    """Far more than the map holds, in groups larger than its reserve: all succeed, and the store goes on."""
    with closing(opened(tmp_path, map_size=MIB, sync=False)) as store:
        put(store, *(an_update(n) for n in range(2000)))
        for turn in range(4):
            results = put(store, *(an_update(f"{turn}-{n}", data="x" * length) for n in range(64)))
            assert all(isinstance(result, Receipt) for result in results)
        assert isinstance(put(store, an_update("small"))[0], Receipt)
        store.check()


async def test_a_process_that_was_frozen_goes_on(transport: LMDBTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped for longer than callers wait, with an append under way: that one fails, and the next ones work."""
    monkeypatch.setattr("transports.lmdb.thread.PATIENCE", 0.1)
    await transport.append(an_update(1))
    frozen = asyncio.ensure_future(transport.append(an_update(2)))
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - the whole process stands still
    await asyncio.gather(frozen, return_exceptions=True)
    async with asyncio.timeout(10):
        while isinstance((await asyncio.gather(transport.append(an_update(3)), return_exceptions=True))[0], Exception):
            await asyncio.sleep(0.01)
    await transport.check()


async def test_what_is_late_and_here_at_once(transport: LMDBTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that goes on finds its timer over first, and then that all was done: it is not stuck for ever."""
    worker, done, take = transport._working(), threading.Event(), transport._working()._take

    def taken() -> bool:
        if transport_has_committed:
            done.set()  # the thread is through with the append, and waits for the next
        return take()

    transport_has_committed: list[bool] = []
    monkeypatch.setattr(worker, "_pushed", lambda: transport_has_committed.append(True))
    monkeypatch.setattr(worker, "_take", taken)
    monkeypatch.setattr("transports.lmdb.thread.PATIENCE", 0.0)
    late = asyncio.ensure_future(transport.append(an_update(1)))
    await asyncio.sleep(0)
    worker._hand_over()
    assert done.wait(10)
    worker._expire()
    with pytest.raises(TransportUnavailable):
        await late
    monkeypatch.undo()
    assert (await transport.append(an_update(2))).position == 2


def test_a_smaller_map_than_the_store(tmp_path: Path) -> None:
    """A store larger than ``map_size`` opens, with all that is in it, and takes appends."""
    with closing(opened(tmp_path, map_size=16 * MIB)) as store:
        put(store, *(an_update(n, data="x" * 10_000) for n in range(500)))
    with closing(opened(tmp_path, map_size=MIB)) as store:
        assert store.last() == (500, "urn:uuid:499")
        assert isinstance(put(store, an_update("new"))[0], Receipt)
        assert store.last() == (501, "urn:uuid:new")


async def test_a_map_that_another_process_grew(url: str, peers: list[Peer]) -> None:
    """A process whose map is too small for what another one wrote adopts the larger size."""
    transport = LMDBTransport(f"{url}?lock=shared&map_size=1MiB")
    await transport.open()
    peers.append(await Peer.start(f"{url}?lock=shared&map_size=32MiB"))
    await peers[0].ask("append", names=[str(n) for n in range(400)], data="x" * 10_000)
    assert len(await collect(transport, 0, 400)) == 400
    assert (await transport.append(an_update("new"))).position == 401
    await transport.close()


async def test_a_full_disk(url: str, peers: list[Peer]) -> None:
    """Without room on the disk an append fails and says so, reads go on; with room again so do appends."""
    peer = await Peer.start(url)
    peers.append(peer)
    await peer.ask("append", names=["before"])
    await peer.ask("limit_files", size=data_file(url).stat().st_size + 50_000)
    outcomes = await peer.ask("fail", names=["a", "b", "c"], data="x" * 200_000)
    assert set(outcomes) <= {"TransportFull", "TransportUnavailable"}
    assert await peer.ask("tail", after=0, count=1) == [[1, "urn:uuid:before"]]
    assert (await peer.ask("fail", names=["small"], data=""))[0] in ("urn:uuid:small", "TransportFull")
    await peer.ask("limit_files", size=-1)
    assert await peer.ask("fail", names=["after"], data="x" * 200_000) == ["urn:uuid:after"]
    assert await peer.end() == 0
    with closing(opened(data_file(url).parent)) as store:
        assert store.last()[1] == "urn:uuid:after"


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("query", ["", "?size=50"], ids=["", "trimming"])
async def test_kill_9(url: str, query: str, number: int, peers: list[Peer]) -> None:
    """kill -9 in the middle of appends loses nothing that was acknowledged; the next start needs no repair."""
    peers.append(await Peer.start(url + query))
    await peers[0].send("endless", data="x" * 1000)
    told = [Receipt(*receipt) for _ in range(20 + number * 7) for receipt in await peers[0].answer()]
    await peers[0].kill()
    transport = LMDBTransport(url)
    await transport.open()
    last, _ = await transport.last()
    left = {entry.position: entry.update.id for entry in await everything(transport)}
    assert list(left) == list(range(min(left), last + 1))
    assert all(left[receipt.position] == receipt.id for receipt in told if receipt.position >= min(left))
    assert last >= told[-1].position
    for position, event_id in left.items():
        assert await transport.position_of(event_id) == position
    await transport.append(an_update("new"))
    await transport.check()
    await transport.close()


class Panicking:
    """An environment whose last commit has failed in the file's head."""

    def __init__(self, env: lmdb.Environment) -> None:
        self.close, self.info = env.close, env.info

    def begin(self, **_: object) -> lmdb.Transaction:
        raise lmdb.PanicError("mdb_txn_begin", -30795)


def test_panic(tmp_path: Path) -> None:
    """When LMDB gives up an environment, the store goes on with a new one."""
    with closing(opened(tmp_path)) as store:
        put(store, an_update(1))
        store._environment._env = Panicking(store._environment._env)  # type: ignore[assignment,arg-type]
        assert put(store, an_update(2)) == [Receipt(2, "urn:uuid:2")]
        assert ids(store.read(0, 10)) == ["urn:uuid:1", "urn:uuid:2"]


def test_a_panic_that_stays(tmp_path: Path) -> None:
    """While the environment can't be opened again, everything is unavailable; afterwards it works."""
    with closing(opened(tmp_path)) as store:
        store._environment._env = Panicking(store._environment._env)  # type: ignore[assignment,arg-type]
        data = tmp_path / "data.mdb"
        data.rename(tmp_path / "away")
        data.write_bytes(b"garbage")
        with pytest.raises(TransportUnavailable):
            store.last()
        (tmp_path / "away").rename(data)
        assert store.last() == (0, "earliest")


async def test_a_damaged_entry(transport: LMDBTransport) -> None:
    """An entry that can't be read is named by its position, and appends go on."""
    await fill(transport, range(2))

    def damage(store: Store) -> None:
        with store._environment.transaction(write=True) as txn:
            txn.put((1).to_bytes(8), b"12345678{", db=store._environment.tables.updates)

    await transport._call(damage)
    with pytest.raises(TransportUnavailable, match="entry 1 is damaged"):
        await transport.read(0, 10)
    assert (await transport.append(an_update(3))).position == 3


async def test_a_file_that_was_replaced(transport: LMDBTransport, url: str) -> None:
    """A check notices that the file was removed: what is appended would be lost."""
    os.unlink(data_file(url))
    with pytest.raises(TransportReplaced, match="was removed or replaced"):
        await transport.check()


@pytest.mark.parametrize("lock", ["exclusive", "shared"])
@pytest.mark.parametrize("what", ["file", "directory", "another"])
async def test_nothing_is_acknowledged_into_a_file_without_a_name(
    tmp_path: Path, url: str, lock: str, what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the file is removed, moved away or replaced, appends fail within a second; one line in the log says so."""
    monkeypatch.setattr("transports.lmdb.store.IDENTITY", 0.05)
    transport = LMDBTransport(f"{url}?lock={lock}")
    await transport.open()
    await transport.append(an_update("before"))
    away = tmp_path / "away"
    match what:
        case "file":
            data_file(url).rename(away)
        case "directory":
            data_file(url).parent.rename(away)
        case "another":
            data_file(url).rename(away)
            data_file(url).write_bytes(away.read_bytes())
    await asyncio.sleep(0.06)
    for name in ("a", "b"):
        with pytest.raises(TransportReplaced):
            await transport.append(an_update(name))
    with pytest.raises(TransportReplaced):
        await transport.check()
    if what == "file":
        away.rename(data_file(url))
        assert (await transport.append(an_update("after"))).position == 2
    await transport.close()
    lines = [record.getMessage() for record in caplog.records]
    assert sum("was removed or replaced" in line for line in lines) == 1
    assert sum("is back" in line for line in lines) == (what == "file")


async def test_another_format(tmp_path: Path, url: str) -> None:
    """A store of another version of the hub is refused as such, and left alone."""
    with closing(opened(tmp_path / "hub")) as store, store._environment.transaction(write=True) as txn:
        txn.put(b"format", b"99", db=store._environment.tables.meta)
    assert "written by another version of the hub (format b'99'" in await refusal(url)


async def test_another_program(tmp_path: Path, url: str) -> None:
    """An LMDB file of another program is refused, and left alone."""
    with lmdb.open(str(tmp_path / "hub"), lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    assert "belongs to another program" in await refusal(url)
    with lmdb.open(str(tmp_path / "hub"), lock=False) as env, env.begin() as txn:
        assert list(txn.cursor()) == [(b"theirs", b"1")]


@pytest.mark.parametrize("content", [b"x", b"garbage " * 4096, bytes(8192)], ids=["short", "garbage", "zeros"])
async def test_not_lmdb(tmp_path: Path, url: str, content: bytes) -> None:
    """A data.mdb that is none is refused by name, and is still there."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "data.mdb").write_bytes(content)
    assert "data.mdb is not an LMDB file; move it away" in await refusal(url)
    assert (tmp_path / "hub" / "data.mdb").read_bytes() == content


async def test_bad_directories(tmp_path: Path) -> None:
    """A directory that can't be used is named, with the way out; after it nothing is held."""
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/missing does not exist; create it" in await refusal(f"lmdb://{tmp_path}/missing/hub")
    assert f"{tmp_path}/file is not a directory" in await refusal(f"lmdb://{tmp_path}/file")
    assert f"{tmp_path}/file/hub is not a directory" in await refusal(f"lmdb://{tmp_path}/file/hub")
    assert "File name too long" in await refusal(f"lmdb://{tmp_path}/{'x' * 300}")
    for name in ("lock", "data.mdb"):
        directory = tmp_path / f"with-{name}"
        (directory / name).mkdir(parents=True)
        assert f"{directory}/{name} is a directory where a file" in await refusal(f"lmdb://{directory}")


def filled(directory: Path) -> Path:
    """A closed store's file, with rows of all sizes in all tables."""
    with closing(opened(directory)) as store:
        for number in range(200):
            data = "x" * (20_000 if number % 10 == 0 else 100)
            put(store, an_update(str(number), data=data, idempotency_key=str(number)))
    return directory / "data.mdb"


@pytest.mark.parametrize("left", [0.9, 0.5, 0.1, 8192, 12288, 5000])
async def test_a_file_that_was_cut_short(tmp_path: Path, url: str, left: float) -> None:
    """It is refused with a sentence, where LMDB would end the process with SIGBUS at its first missing page."""
    path = filled(tmp_path / "hub")
    os.truncate(path, int(left if left > 1 else path.stat().st_size * left))
    said = await refusal(url)
    assert "data.mdb" in said
    assert "move it away" in said


async def test_a_file_whose_last_pages_are_not_needed(tmp_path: Path, url: str) -> None:
    """A page that was given back before it was written is missing rightly: what the trees need is there."""
    path = filled(tmp_path / "hub")
    with lmdb.open(str(path.parent), max_dbs=8, lock=False) as env:
        for _ in range(4):  # each commit gives back the pages of the one before, the last of the file among them
            with env.begin(write=True) as txn:
                for number in range(150, 201):
                    txn.delete(number.to_bytes(8), db=env.open_db(b"updates", txn=txn))
        last = env.info()["last_pgno"]
        used = max(pages_of(path))
    assert used < last
    os.truncate(path, (used + 1) * 4096)
    transport = LMDBTransport(url)
    await transport.open()
    assert len(await everything(transport)) == 149
    await transport.append(an_update("after"))
    await transport.close()


def pages_of(path: Path) -> set[int]:
    """Every page that the file's trees need."""
    found: set[int] = set()
    with path.open("rb") as data:
        _, _, _, _, free, main, _, _ = max(
            filter(None, map(file._meta_of, file._heads(data.fileno()))), key=lambda meta: meta[-1]
        )
        for tree in (free, main):
            found.update(file._pages(data.fileno(), 4096, file._TREE.unpack(tree)[-1], whole=True))
    return found


@pytest.mark.parametrize("page", ["main", "table"])
async def test_a_root_that_is_overwritten(tmp_path: Path, url: str, page: str) -> None:
    """A page of zeros where a root should be is told before LMDB asserts on it."""
    path = filled(tmp_path / "hub")
    with path.open("r+b") as data:
        main = max(filter(None, map(file._meta_of, file._heads(data.fileno()))), key=lambda meta: meta[-1])[5]
        root, *tables = file._pages(data.fileno(), 4096, file._TREE.unpack(main)[-1], whole=False)
        data.seek(4096 * (root if page == "main" else tables[0]))
        data.write(bytes(4096))
    assert "has something else where page" in await refusal(url)


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:30 / {directory} rw - {kind} server:/export rw
"""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "ext4"])
async def test_a_network_file_system(
    url: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning that names it; a shared lock is refused there, unless network_fs=yes asks for it."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(directory=str(tmp_path).replace(" ", "\\040"), kind=kind))
    monkeypatch.setattr("transports.lmdb.directory.MOUNTS", mounts)
    networked = kind != "ext4"
    for query in ("", "?lock=shared&network_fs=yes"):
        caplog.clear()
        transport = LMDBTransport(url + query)
        await transport.open()
        await transport.close()
        assert (f"is on {kind}, where neither" in caplog.text) == networked
    if networked:
        assert f"is on {kind}, where neither" in await refusal(f"{url}?lock=shared")


def test_the_mount_that_counts() -> None:
    """The deepest one whose name is a whole part of the path; of several at one point the last."""
    lines = "1 1 0:1 / / rw - ext4 a rw\n2 1 0:2 / /data rw shared:1 - nfs b rw\n3 1 0:3 / /data rw - xfs c rw\nx\n"
    lines += "4 1 0:4 / /with\\040blank rw - 9p d rw\n"
    cases = {"/data/hub": "xfs", "/data": "xfs", "/database": "ext4", "/with blank/x": "9p"}
    assert {path: file.file_system_of(Path(path), lines) for path in cases} == cases
    assert file.file_system_of(Path("/data"), "") == ""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with small_volume(tmp_path) as path:
        yield path


@pytest.mark.parametrize("length", [100, 20_000, 400_000])
async def test_a_volume_that_is_smaller_than_the_map(volume: Path, length: int) -> None:
    """History trims itself to what fits, as in a map that fills: no append fails, and the newest are there."""
    transport = LMDBTransport(f"lmdb://{volume}/hub")
    await transport.open()
    count = max(60, 24 * MIB // (length + 400))
    for start in range(0, count, 50):
        updates = [an_update(str(n), data="x" * length) for n in range(start, min(start + 50, count))]
        await asyncio.gather(*map(transport.append, updates))
        await transport.check()
    entries = await everything(transport)
    assert 1 < len(entries) < count
    assert entries[-1].update.id == f"urn:uuid:{count - 1}"
    await transport.close()


async def test_a_volume_that_others_fill(volume: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Refused as full with one line in the log, and in the check; all is well again once there is room."""
    transport = LMDBTransport(f"lmdb://{volume}/hub")
    await transport.open()
    await transport.append(an_update("before", data="x" * 1000))
    other = fill_up(volume)
    for _ in range(3):
        with pytest.raises(TransportFull):
            await transport.append(an_update("large", data="x" * 200_000))
        with pytest.raises(TransportFull):
            await transport.check()
    assert [entry.update.id for entry in await everything(transport)] == ["urn:uuid:before"]
    assert sum("publishers are refused" in record.getMessage() for record in caplog.records) == 1
    other.unlink()
    await transport.check()
    await transport.append(an_update("after", data="x" * 200_000))
    assert sum("has room again" in record.getMessage() for record in caplog.records) == 1
    await transport.close()
    transport = LMDBTransport(f"lmdb://{volume}/hub")
    await transport.open()
    assert [entry.update.id for entry in await everything(transport)] == ["urn:uuid:before", "urn:uuid:after"]
    await transport.close()


async def test_a_full_volume_with_history(volume: Path) -> None:
    """The oldest make room within the file itself when the volume has none: publishing goes on."""
    transport = LMDBTransport(f"lmdb://{volume}/hub")
    await transport.open()
    for start in range(0, 3000, 100):
        await asyncio.gather(*(transport.append(an_update(str(n), data="x" * 900)) for n in range(start, start + 100)))
    fill_up(volume)
    acknowledged = []
    for number in range(3000, 6000):
        with suppress(TransportFull):
            acknowledged.append((await transport.append(an_update(str(number), data="x" * 900))).id)
    assert len(acknowledged) > 2900
    kept = [entry.update.id for entry in await everything(transport)]
    assert kept[-500:] == acknowledged[-500:]
    await transport.close()


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A directory that another user can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("query", ["", "?lock=shared"])
async def test_not_permitted(for_all: Path, query: str, peers: list[Peer]) -> None:
    """A directory that the process may not write is refused with its uid."""
    (for_all / "hub").mkdir(mode=0o500)
    uid = 65534 if os.getuid() == 0 else None
    peers.append(await Peer.start(f"lmdb://{for_all}/hub{query}", ready=False, uid=uid))
    said = await peers[0].answer()
    assert f"{for_all}/hub/lock can't be used by uid {uid or os.getuid()} (Permission denied)" in said


def test_a_container_without_its_volume() -> None:
    """Its file system is read-only: what is missing is a mount, not a permission."""
    said = unusable(Path("/data/hub"), OSError(errno.EROFS, os.strerror(errno.EROFS)))
    assert said == "/data/hub is on a read-only file system; mount a volume there, or name another place"
