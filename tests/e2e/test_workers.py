"""One port, several processes: who serves, what happens when one of them dies, and how all of them end."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.processes import (
    COMMAND,
    DEADLINE,
    Address,
    Connection,
    Hub,
    Hubs,
    Publisher,
    Subscriber,
    check_order,
    ends_of,
    get,
    measured,
    receipts_of,
    replay,
    running,
    subscribed,
    until,
)

SHARED = "lmdb://store?lock=shared"
ESTABLISHED = "01"
PR_SET_CHILD_SUBREAPER = 36
FAILING = """
import asyncio
from hub.fanout.dispatcher import Dispatcher

async def run(self):
    await asyncio.sleep(0.5)
    raise RuntimeError("this store can't be followed")

Dispatcher.run = run
"""


def start(hubs: Hubs, url: str, *arguments: str, command: str = COMMAND) -> Hub:
    return hubs.start(url, "--workers", "2", *arguments, command=command)


def children(hub: Hub) -> list[int]:
    """The pids of its workers, oldest first."""
    pid = hub.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def replaced(hub: Hub, pid: int) -> None:
    """Until there is another worker in its place. One look at a time: between two, the old one may leave."""

    def there() -> bool:
        workers = children(hub)
        return len(workers) == 2 and pid not in workers

    await until(there)


def alive(pid: int) -> bool:
    """Does it run (proc(5), state)? The process that inherits it need not have reaped it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def clients(pid: int, address: Address) -> set[int]:
    """The ports of the clients whose connections to ``address`` a process has (proc(5), net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {
        f"socket:[{line[9]}]": int(line[2].rpartition(":")[2], 16)
        for line in lines
        if line[3] == ESTABLISHED and int(line[1].rpartition(":")[2], 16) == address[1]
    }
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(os.readlink(descriptor))
    return {ours[each] for each in held & ours.keys()}


@asynccontextmanager
async def one_to_each(hub: Hub, address: Address) -> AsyncIterator[list[Connection]]:
    """A kept connection to each of its workers, in the order of `children`."""
    async with AsyncExitStack() as stack:
        found: dict[int, Connection] = {}
        while len(found) < len(children(hub)):
            opened = [await stack.enter_async_context(Connection.to(address)) for _ in range(20)]
            await asyncio.gather(*(each.request("GET", "/mercure/health/live", {}) for each in opened))
            held = {pid: clients(pid, address) for pid in children(hub)}
            found |= {pid: each for pid, ports in held.items() for each in opened if each.port in ports}
        yield [found[pid] for pid in children(hub)]


@asynccontextmanager
async def subscribed_to_each(hub: Hub, address: Address, batch: int) -> AsyncIterator[list[Subscriber]]:
    """Subscribers in batches, until each worker has some: which one accepts is the kernel's choice, and chance."""
    async with AsyncExitStack() as stack:
        found: list[Subscriber] = []
        while not found or not all(clients(pid, address) for pid in children(hub)):
            found += await stack.enter_async_context(subscribed(batch, [address]))
        yield found


@pytest.mark.parametrize("store", ["lmdb", "valkey", "postgres"])
async def test_two_workers_are_one_hub(hubs: Hubs, request: pytest.FixtureRequest, store: str) -> None:
    """They share a port, streams are spread over both, and what one is given reaches the streams of the other."""
    hub = start(hubs, SHARED if store == "lmdb" else request.getfixturevalue(store).url(), "--drain", "500ms")
    address = await hub.listening()
    async with subscribed_to_each(hub, address, 200) as subscribers, one_to_each(hub, address) as publishers:
        for number, publisher in enumerate(publishers):
            assert (await publisher.publish(f"from worker {number}")).status == 200
        wanted = ["from worker 0", "from worker 1"]
        await until(lambda: all(each.data == wanted for each in subscribers))
        hub.send(signal.SIGTERM)
        assert await hub.ended() == 0
    assert hub.stdout.count("listening") == 1
    assert hub.stderr == ""


async def test_a_killed_worker_is_replaced(hubs: Hubs) -> None:
    """Its subscribers come back and have lost nothing; the other's streams stay; another worker takes its place."""
    hub = start(hubs, SHARED)
    address = await hub.listening()
    publishers = [Publisher(f"publisher {n}", [address]) for n in range(4)]
    async with (
        subscribed_to_each(hub, address, 40) as subscribers,
        running(*(each.publish() for each in publishers)),
    ):
        await until(lambda: len(receipts_of(publishers)) > 100)
        victim, survivor = children(hub)
        theirs, others = clients(victim, address), clients(survivor, address)
        hit = [each for each in subscribers if each.port in theirs]
        spared = [each for each in subscribers if each.port in others]
        assert hit
        assert spared
        os.kill(victim, signal.SIGKILL)
        killed = monotonic()
        await replaced(hub, victim)
        took = monotonic() - killed
        await until(lambda: all((len(each.ends), len(each.answers)) == (1, 2) for each in hit))
        async with one_to_each(hub, address) as serving:
            assert len(serving) == 2
        assert all((len(each.ends), len(each.answers)) == (0, 1) for each in spared)
        enough = len(receipts_of(publishers)) + 100
        await until(lambda: len(receipts_of(publishers)) > enough)
        receipts = receipts_of(publishers)
        history = await replay(address, receipts)
        check_order(history, receipts)
        begin = subscribers[0].events[0]
        wanted = history[history.index(begin) :]
        await until(lambda: all(len(each.events) >= len(wanted) for each in subscribers))
        assert all(each.events[: len(wanted)] == wanted for each in subscribers)
    assert re.fullmatch(
        r"\S+ WARNING \d+ hub\.server\.workers: worker \d+ was ended by SIGKILL; another .* 0\.1 s\n", hub.stderr
    )
    hub.send(signal.SIGTERM)
    assert await hub.ended() == 0
    measured("two workers: from kill -9 of one to the next", [took])


async def test_a_stopped_worker_holds_nobody_up(hubs: Hubs) -> None:
    """While one worker stands still the other takes every new connection."""
    hub = start(hubs, SHARED)
    address = await hub.listening()
    stopped, other = children(hub)
    os.kill(stopped, signal.SIGSTOP)
    try:
        async with subscribed(50, [address]):
            assert (len(clients(stopped, address)), len(clients(other, address))) == (0, 50)
    finally:
        os.kill(stopped, signal.SIGCONT)


async def test_a_worker_that_is_told_to_end(hubs: Hubs) -> None:
    """It ends its streams properly, and is replaced: workers can be renewed one by one."""
    hub = start(hubs, SHARED, "--drain", "500ms")
    address = await hub.listening()
    async with subscribed(20, [address]) as subscribers:
        old = children(hub)
        for pid in old:
            os.kill(pid, signal.SIGTERM)
            await replaced(hub, pid)
            await until(lambda: all(len(each.answers) > len(each.ends) for each in subscribers))
        assert all(end.clean for each in subscribers for end in each.ends)
        assert any(each.ends for each in subscribers)
    assert "ended with exit code 0; another one starts" in hub.stderr


async def refused(address: Address) -> bool:
    try:
        await get(address, "/mercure/health/ready")
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_all_workers(hubs: Hubs, number: signal.Signals) -> None:
    """Together they take the time of one drain; each stream gets its final chunk, nobody new gets in; exit code 0."""
    hub = start(hubs, SHARED, "--drain", "1s")
    address = await hub.listening()
    async with subscribed_to_each(hub, address, 200) as subscribers:
        hub.send(number)
        told = monotonic()
        await until(lambda: any(each.ends for each in subscribers))
        async with asyncio.timeout(DEADLINE):  # a worker closes its listener when the signal has come to it
            while not await refused(address):
                pass
        assert not all(each.ends for each in subscribers)
        assert await hub.ended() == 0
        took = monotonic() - told
        ends = sorted(end.at - told for end in await ends_of(subscribers))
        assert [end.clean for end in await ends_of(subscribers)] == [True] * len(subscribers)
    assert hub.stderr == ""
    assert len(ends) / 4 < sum(at < 0.5 for at in ends) < len(ends) * 3 / 4, "they went in a crowd"
    assert took < 2.5
    measured(f"two workers, 200 streams, --drain 1s, {number.name}: their ends", ends)
    measured(f"two workers, 200 streams, --drain 1s, {number.name}: the exit", [took])


async def test_ctrl_c_again(hubs: Hubs) -> None:
    """SIGINT during the drain ends all workers at once, with final chunks and exit code 0."""
    hub = start(hubs, SHARED, "--drain", "60s")
    address = await hub.listening()
    async with subscribed(100, [address]) as subscribers:
        hub.send(signal.SIGINT)
        await until(lambda: any(each.ends for each in subscribers))
        hub.send(signal.SIGINT)
        assert await hub.ended(within=2) == 0
        assert [end.clean for end in await ends_of(subscribers)] == [True] * 100
    assert hub.stderr == ""


async def test_workers_end_without_their_supervisor(hubs: Hubs) -> None:
    """kill -9 of the supervisor is the end of its workers, a proper one: final chunks, and the port is free."""
    hub = start(hubs, SHARED, "--drain", "500ms")
    address = await hub.listening()
    workers = children(hub)
    async with subscribed(20, [address]) as subscribers:
        hub.send(signal.SIGKILL)
        await until(lambda: not any(map(alive, workers)), within=5)
        assert [end.clean for end in await ends_of(subscribers)] == [True] * 20
    with pytest.raises(ConnectionRefusedError):
        await get(address, "/mercure/health/live")


async def refusal(hub: Hub) -> str:
    """The one line on stderr of a hub that ends with 2."""
    assert await hub.ended() == 2
    assert hub.stdout == ""
    assert hub.stderr.startswith("mercure-hub: ")
    assert hub.stderr.count("\n") == 1, hub.stderr
    return hub.stderr


@pytest.mark.parametrize("url", ["memory://", "lmdb://store"])
async def test_a_store_for_one_process(hubs: Hubs, url: str) -> None:
    """What only one process can have is refused before anything is opened, with the ways out."""
    said = await refusal(start(hubs, url))
    assert f'"{url}": invalid transport: 2 workers can\'t share it; open an lmdb:// directory with lock=shared' in said
    assert not (hubs.directory / "store").exists()


@pytest.mark.parametrize(
    ("url", "arguments", "sentence"),
    [
        ("lmdb://missing/store?lock=shared", (), "missing does not exist; create it"),
        (SHARED, ("--publisher-jwt-alg", "RS256", "--publisher-jwt-key", "hunter2"), "MERCURE_PUBLISHER_JWT_KEY"),
        (SHARED, ("--workers", "0"), "--workers: '0' is not a whole number of at least 1"),
    ],
)
async def test_a_wrong_setting(hubs: Hubs, url: str, arguments: tuple[str, ...], sentence: str) -> None:
    """However many workers there would be, it is told in one line, and nothing is started anew."""
    said = await refusal(start(hubs, url, *arguments))
    assert sentence in said
    assert "hunter2" not in said


async def test_a_hub_that_cannot_start(hubs: Hubs) -> None:
    """When no worker gets as far as to accept, the supervisor ends with 1, for its own parent to see."""
    broken = "from hub.web.hub import Hub; Hub.open = lambda self: 1 / 0; "
    hub = start(hubs, SHARED, command=broken + COMMAND)
    assert await hub.ended() == 1
    assert "ZeroDivisionError" in hub.stderr
    assert "another one starts" not in hub.stderr


async def test_a_hub_that_fails_again_and_again(hubs: Hubs) -> None:
    """Workers that end with 1 after they have accepted are replaced, each time later, and a signal ends it."""
    hub = start(hubs, SHARED, command=f"{FAILING}\n{COMMAND}")
    await until(lambda: "starts in 0.8 s" in hub.stderr)
    assert re.findall(r"exit code 1; another one starts in (\S+) s", hub.stderr)[0] == "0.1"
    hub.send(signal.SIGTERM)
    assert await hub.ended() in (0, 1)  # 1: one of them was failing at that moment


async def test_strangers_children_are_reaped(hubs: Hubs) -> None:
    """As a container's first process the supervisor inherits orphans, and leaves no zombies."""
    (gate := hubs.directory / "gate").touch()
    orphan = "subprocess.run(['sh', '-c', '(while [ -e gate ]; do sleep 0.05; done) &'])"
    adopt = f"ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1, 0, 0, 0)"
    hub = start(hubs, SHARED, command=f"import ctypes, subprocess; {adopt}; {orphan}; {COMMAND}")
    await hub.listening()
    assert len(children(hub)) == 3
    gate.unlink()
    await until(lambda: len(children(hub)) == 2)


async def test_a_connection_outlives_a_worker_that_has_not_accepted_it(hubs: Hubs) -> None:
    """What waits while no worker can accept is served once one can."""
    hub = start(hubs, SHARED)
    address = await hub.listening()
    workers = children(hub)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(15), Connection.to(address) as waiting:
        asked = asyncio.create_task(waiting.request("GET", "/mercure/health/live", {}))
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        assert (await asked).status == 200
