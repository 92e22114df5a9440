"""How a hub starts, or says in one line why it can't; and how it ends."""

import os
import signal
import socket
from pathlib import Path
from time import monotonic

import lmdb
import pytest

from tests.e2e.processes import COMMAND, Hub, Hubs, ends_of, get, measured, subscribed, until

AS_OTHERS_ARE = f"""
import ctypes, os, sys
if os.getuid() == 0:
    for capability in (1, 2): # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root passes by permissions no more
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0 # PR_CAPBSET_DROP, which execv brings about
os.execv(sys.executable, [sys.executable, "-c", {COMMAND!r}, *sys.argv[1:]])
"""
"""For a file's permissions to count, whoever runs the tests."""
NOBODY = 65534
STREAMS = int(os.environ.get("STREAMS", "200"))


async def refusal(hub: Hub) -> str:
    """The one line on stderr of a hub that ends with 2."""
    assert await hub.ended() == 2
    assert hub.stdout == ""
    assert hub.stderr.startswith("mercure-hub: ")
    assert hub.stderr.endswith("\n")
    assert hub.stderr.count("\n") == 1, hub.stderr
    return hub.stderr


def not_ours(path: Path, mode: int) -> None:
    path.chmod(mode)
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)


async def test_no_parent(hubs: Hubs, tmp_path: Path) -> None:
    """A directory whose parent is missing: named, with what to do."""
    said = await refusal(hubs.start(f"lmdb://{tmp_path}/missing/store"))
    assert f'"lmdb://{tmp_path}/missing/store": invalid transport: {tmp_path}/missing does not exist; create it' in said


async def test_a_file(hubs: Hubs, tmp_path: Path) -> None:
    """A file where the directory should be is left alone."""
    (tmp_path / "file").write_text("precious")
    said = await refusal(hubs.start(f"lmdb://{tmp_path}/file"))
    assert f'"lmdb://{tmp_path}/file": invalid transport: {tmp_path}/file is not a directory; name another' in said
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("query", ["", "?lock=shared", "?lock_timeout=60s"])
async def test_a_read_only_directory(hubs: Hubs, tmp_path: Path, query: str) -> None:
    """Named with the user who may not write there; nobody waits for that to change."""
    (tmp_path / "store").mkdir()
    not_ours(tmp_path / "store", 0o555)
    said = await refusal(hubs.start(f"lmdb://{tmp_path}/store{query}", command=AS_OTHERS_ARE))
    assert (
        f"{tmp_path}/store/lock can't be used by uid {os.getuid()} (Permission denied); give it read and write" in said
    )


async def test_a_read_only_parent(hubs: Hubs, tmp_path: Path) -> None:
    """A directory that can't be made is named too."""
    (tmp_path / "data").mkdir()
    not_ours(tmp_path / "data", 0o555)
    said = await refusal(hubs.start(f"lmdb://{tmp_path}/data/store", command=AS_OTHERS_ARE))
    assert f"{tmp_path}/data/store can't be used by uid {os.getuid()} (Permission denied); give it read" in said


async def test_a_read_only_file(hubs: Hubs, tmp_path: Path) -> None:
    """Another user's data.mdb in a directory of ours."""
    (tmp_path / "store").mkdir()
    lmdb.open(str(tmp_path / "store"), lock=False).close()
    not_ours(tmp_path / "store" / "data.mdb", 0o444)
    said = await refusal(hubs.start(f"lmdb://{tmp_path}/store", command=AS_OTHERS_ARE))
    assert f'"lmdb://{tmp_path}/store": invalid transport: ' in said
    assert "data.mdb" in said
    assert "Permission denied" in said


async def test_a_store_of_another_version(hubs: Hubs, tmp_path: Path) -> None:
    """Named with both versions, and left alone."""
    with lmdb.open(str(tmp_path / "store"), lock=False, max_dbs=8) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(b"format", b"99", db=meta)
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    said = await refusal(hubs.start(f"lmdb://{tmp_path}/store"))
    assert "written by another version of the hub (format b'99', this one knows b'2'); run that version" in said
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redsi://localhost", "\"redsi://localhost\": invalid transport: unknown scheme 'redsi'; "),
        ("lmbd:///data", "\"lmbd:///data\": invalid transport: unknown scheme 'lmbd'; did you mean lmdb://?"),
        (
            "memory://?sise=3",
            "\"memory://?sise=3\": invalid transport: unknown parameter 'sise'; known are max_bytes, size",
        ),
    ],
)
async def test_an_unknown_transport(hubs: Hubs, url: str, sentence: str) -> None:
    """The URL, what is wrong in it, and what there is."""
    assert sentence in await refusal(hubs.start(url))


async def test_no_key(hubs: Hubs) -> None:
    """Without --dev there are no keys to fall back on."""
    said = await refusal(hubs.start("memory://", dev=False))
    assert said.startswith(
        "mercure-hub: MERCURE_PUBLISHER_JWT_KEY and MERCURE_SUBSCRIBER_JWT_KEY are not set: set them"
    )
    assert "--dev" in said


async def test_a_key_that_is_none(hubs: Hubs) -> None:
    """The setting is named, the key is not shown."""
    said = await refusal(hubs.start("memory://", "--publisher-jwt-alg", "RS256", "--publisher-jwt-key", "hunter2"))
    assert "MERCURE_PUBLISHER_JWT_KEY" in said
    assert "hunter2" not in said


async def test_a_port_in_use(hubs: Hubs, tmp_path: Path) -> None:
    """The address is named, and the store is not touched."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = "{}:{}".format(*other.getsockname())
        said = await refusal(hubs.start(f"lmdb://{tmp_path}/store", listen=listen))
    assert said == f"mercure-hub: cannot listen on {listen}: Address already in use; --listen takes another\n"
    assert not (tmp_path / "store").exists()


async def test_a_port_that_is_taken_meanwhile(hubs: Hubs) -> None:
    """A hub that waits for its store before it listens says so as well, when another process comes first."""
    await hubs.start("lmdb://store").listening()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        listen = "{}:{}".format(*other.getsockname())
        hub = hubs.start("lmdb://store?lock_timeout=60s", listen=listen)
        await until(lambda: hub.obeys(signal.SIGTERM))
        other.listen()
        said = await refusal(hub)
    assert said == f"mercure-hub: cannot listen on {listen}: Address already in use; --listen takes another\n"


@pytest.mark.parametrize("url", ["memory://", "lmdb://store", "lmdb://store?lock=shared"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(hubs: Hubs, number: signal.Signals, url: str) -> None:
    """Exit code 0 and not a word on stderr, with streams and without; what listens no more is refused."""
    idle, busy = hubs.start(url.replace("store", "idle")), hubs.start(url)
    address, other = await busy.listening(), await idle.listening()
    assert (await get(other, "/mercure/health/ready")).status == 200
    idle.send(number)
    told = monotonic()
    assert await idle.ended() == 0
    without = monotonic() - told
    async with subscribed(3, [address]) as subscribers:
        busy.send(number)
        told = monotonic()
        assert await busy.ended() == 0
        took = monotonic() - told
        assert [end.clean for end in await ends_of(subscribers)] == [True] * 3
    with pytest.raises(ConnectionRefusedError):
        await get(address, "/mercure/health/ready")
    assert idle.stderr == busy.stderr == ""
    assert max(without, took) < 1.5
    measured(f"{url}, from {number.name} to the exit, without streams", [without])
    measured(f"{url}, from {number.name} to the exit, with 3", [took])


async def test_a_drain(hubs: Hubs) -> None:
    """All streams are closed over the time of the drain, each with its final chunk. STREAMS=1000: so many."""
    hub = hubs.start("lmdb://store", "--drain", "1s")
    address = await hub.listening()
    async with subscribed(STREAMS, [address]) as subscribers:
        hub.send(signal.SIGTERM)
        told = monotonic()
        await until(lambda: subscribers[0].ends)
        with pytest.raises(ConnectionRefusedError):
            await get(address, "/mercure/health/ready")
        assert await hub.ended() == 0
        took = monotonic() - told
        assert [end.clean for end in await ends_of(subscribers)] == [True] * STREAMS
        ends = sorted(end.at - told for end in await ends_of(subscribers))
    assert hub.stderr == ""
    assert 0.9 < ends[-1] < 2  # the drain, and the last call for those who read slowly
    assert STREAMS / 4 <= sum(at < 0.5 for at in ends) < 3 * STREAMS / 4, "they went in a crowd"
    assert took < 3
    measured(f"{STREAMS} streams, --drain 1s: their ends", ends)
    measured(f"{STREAMS} streams, --drain 1s: the exit", [took])


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
async def test_ctrl_c_again(hubs: Hubs, first: signal.Signals) -> None:
    """SIGINT during the drain ends it: all streams at once, with their final chunk, and exit code 0."""
    hub = hubs.start("lmdb://store", "--drain", "60s")
    address = await hub.listening()
    async with subscribed(100, [address]) as subscribers:
        hub.send(first)
        await until(lambda: any(each.ends for each in subscribers))
        hub.send(signal.SIGINT)
        told = monotonic()
        assert await hub.ended() == 0
        took = monotonic() - told
        assert [end.clean for end in await ends_of(subscribers)] == [True] * 100
    assert hub.stderr == ""
    assert took < 2
    measured(f"100 streams, --drain 60s: {first.name}, then from SIGINT to the exit", [took])
