"""Where the machine ends: volumes, descriptors and addresses, as an operator meets them."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.e2e.processes import COMMAND, LOST, Address, Connection, Hub, Hubs, get, subscribed, survived, until
from tests.volumes import fill_up, small_volume

READY, LIVE = "/mercure/health/ready", "/mercure/health/live"


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with small_volume(tmp_path) as path:
        yield path


async def test_a_full_volume(hubs: Hubs, volume: Path) -> None:
    """507 with a sentence, not ready with the reason, but live; a line when it begins and one when it is over."""
    hub = hubs.start(f"lmdb://{volume}/hub")
    address = await hub.listening()
    async with subscribed(1, [address]) as [witness], Connection.to(address) as publisher:
        acknowledged = [(await publisher.publish("before")).body]
        other = fill_up(volume)
        for _ in range(3):
            answer = await publisher.publish("x" * 200_000)
            assert (answer.status, "the store of this hub is full" in answer.body) == (507, True)
        ready = await get(address, READY)
        assert (ready.status, "the store is full" in ready.body) == (503, True)
        assert (await get(address, LIVE)).status == 200
        other.unlink()
        acknowledged.append((await publisher.publish("y" * 200_000)).body)
        await becomes_ready(address)
        await until(lambda: len(witness.events) == 2)
        assert [event.id for event in witness.events] == acknowledged
        assert witness.ends == []
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    assert hub.stderr.count("publishers are refused") == 1
    assert hub.stderr.count("has room again") == 1


async def becomes_ready(address: Address) -> None:
    async with asyncio.timeout(5):
        while (await get(address, READY)).status != 200:
            await asyncio.sleep(0.05)


async def test_a_directory_that_is_taken_away(hubs: Hubs, tmp_path: Path) -> None:
    """Within a second of it publishers get a 503, the hub is not ready and says so once in the log."""
    hub = hubs.start("lmdb://hub")
    address = await hub.listening()
    async with Connection.to(address) as publisher:
        assert (await publisher.publish("before")).status == 200
        (hubs.directory / "hub").rename(tmp_path / "elsewhere")
        await asyncio.sleep(1)  # what the rule allows
    for _ in range(3):
        async with Connection.to(address) as publisher:
            assert (await publisher.publish("after")).status == 503
    ready = await get(address, READY)
    assert (ready.status, "removed or replaced" in ready.body) == (503, True)
    assert (await get(address, LIVE)).status == 200
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    assert hub.stderr.count("was removed or replaced") == 1


@pytest.mark.parametrize("damage", ["data.mdb", "lock", "directory"])
async def test_a_store_that_cannot_be_opened_ends_the_start(hubs: Hubs, damage: str) -> None:
    """Exit code 2 and one line that names the file and the way out; a signal never ends the process without a word."""
    hub = hubs.start("lmdb://hub")
    address = await hub.listening()
    async with Connection.to(address) as publisher:
        for _ in range(5):
            await publisher.publish("x" * 50_000)
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    directory = hubs.directory / "hub"
    if damage == "data.mdb":
        os.truncate(directory / damage, (directory / damage).stat().st_size // 2)
    elif damage == "lock":
        (directory / damage).unlink()
        (directory / damage).mkdir()
    else:
        for path in directory.iterdir():
            path.rename(hubs.directory / path.name)
        directory.rmdir()
        directory.write_text("")
    hub = hubs.start("lmdb://hub")
    assert await hub.ended() == 2
    (line,) = hub.stderr.splitlines()
    assert (damage if damage != "directory" else "hub is not a directory") in line
    assert "away" in line or "another place" in line


async def test_out_of_descriptors(hubs: Hubs) -> None:
    """The hub goes on, says so in one line with the limit and the way out, and serves again once there are some."""
    command = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128)); {COMMAND}"
    hub = hubs.start("memory://", command=command)
    address = await hub.listening()
    assert resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE) == (128, 128)  # soft is raised to hard
    async with AsyncExitStack() as stack:
        for _ in range(160):
            with suppress(*LOST):
                await stack.enter_async_context(Connection.to(address))
        await until(lambda: "all 128 descriptors are in use" in hub.stderr)
        assert "ulimit -n" in hub.stderr
        await asyncio.sleep(2.5)  # it is looked at each second, and told once a minute
        assert hub.stderr.count("descriptors") == 1
    async with subscribed(1, [address]) as [witness], Connection.to(address) as publisher:
        assert (await publisher.publish("after")).status == 200
        await until(lambda: witness.data == ["after"])
    hub.send(SIGTERM)
    assert await hub.ended() == 0


def mapped_by(hub: Hub) -> int:
    """Bytes of address space (proc(5), VmSize)."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text().split()
    return int(status[status.index("VmSize:") + 1]) * 1024


async def test_out_of_memory(hubs: Hubs) -> None:
    """Bodies for which there is no memory are refused or cut off, one by one; everybody else is served meanwhile."""
    hub = hubs.start("memory://?max_bytes=1MiB")
    address = await hub.listening()
    now = mapped_by(hub)
    hard = resource.prlimit(hub.process.pid, resource.RLIMIT_AS)[1]
    resource.prlimit(hub.process.pid, resource.RLIMIT_AS, (now + (24 << 20), hard))
    refused = 0

    async def large() -> None:
        nonlocal refused
        try:
            async with Connection.to(address) as connection:
                answer = await connection.publish("x" * (3 << 20))
                refused += answer.status != 200
        except LOST:
            refused += 1

    async with subscribed(1, [address], "earliest") as [witness]:
        await asyncio.gather(*(large() for _ in range(64)))
        assert refused
        async with Connection.to(address) as publisher:
            for number in range(20):
                assert (await publisher.publish(f"small {number}")).status == 200
        await until(lambda: "small 19" in witness.data)
    resource.prlimit(hub.process.pid, resource.RLIMIT_AS, (hard, hard))
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    survived(f"64 updates of 3 MiB with 24 MiB left: {refused} refused, 20 small ones stored and delivered")


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


async def answers(address: Address) -> bool:
    try:
        return (await get(address, LIVE)).status == 200
    except LOST:
        return False


@pytest.mark.parametrize("listen", [":0", "[::]:0"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_every_interface_has_both_families(hubs: Hubs, listen: str, workers: int) -> None:
    """IPv4 and IPv6 on one port, where the machine has both; several workers alike."""
    hub = hubs.start("lmdb://hub?lock=shared", "--workers", str(workers), listen=listen)
    _host, port = await hub.listening()
    assert await answers(("127.0.0.1", port))
    assert await answers(("::1", port)) == has_ipv6()
    hub.send(SIGTERM)
    assert await hub.ended() == 0


def listening(hub: Hub) -> list[Address]:
    """The addresses of IPv4 that a process listens on (proc(5), net/tcp: state 0A)."""
    process = Path(f"/proc/{hub.process.pid}")
    sockets = {os.readlink(path) for path in (process / "fd").iterdir()}
    lines = [line.split() for line in (process / "net/tcp").read_text().splitlines()[1:]]
    return [
        (socket.inet_ntoa(bytes.fromhex(line[1][:8])[::-1]), int(line[1][9:], 16))
        for line in lines
        if line[3] == "0A" and f"socket:[{line[9]}]" in sockets
    ]


async def test_several_addresses(hubs: Hubs) -> None:
    """Each of them answers; one that is taken ends the start with its name."""
    hub = hubs.start("memory://", listen="127.0.0.1:0,127.0.0.2:0, 127.0.0.3:0")
    await hub.listening()
    addresses = listening(hub)
    assert sorted(host for host, _ in addresses) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    for address in addresses:
        assert await answers(address)
    taken = f"{addresses[0][0]}:{addresses[0][1]}"
    second = hubs.start("memory://", listen=f"127.0.0.1:0,{taken}")
    assert await second.ended() == 2
    assert f"cannot listen on {taken}" in second.stderr
    hub.send(SIGTERM)
    assert await hub.ended() == 0


async def test_a_machine_without_ipv6(hubs: Hubs) -> None:
    """IPv4 alone is listened on, without a line above debug."""
    command = (
        "import errno, socket\n"
        "made = socket.socket\n"
        "class V4(made):\n"
        "    def __init__(self, family=-1, *rest, **more):\n"
        "        if family == socket.AF_INET6:\n"
        "            raise OSError(errno.EAFNOSUPPORT, 'Address family not supported by protocol')\n"
        "        super().__init__(family, *rest, **more)\n"
        f"socket.socket = V4\n{COMMAND}"
    )
    hub = hubs.start("memory://", listen=":0", command=command)
    _host, port = await hub.listening()
    assert await answers(("127.0.0.1", port))
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    assert "amily" not in hub.stderr
