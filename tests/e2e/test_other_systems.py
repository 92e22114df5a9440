"""A hub where the system has less than Linux: what macOS and Windows lack is hidden, and it serves all the same."""

from signal import SIGTERM

from tests.e2e.processes import Connection, Hubs, subscribed, until
from tests.transports.valkey import Valkey, free_ports

HIDDEN = """
import asyncio, os, signal, socket, subprocess, sys
for module in ("fcntl", "resource", "uvloop"):
    sys.modules[module] = None
for owner, names in (
    (socket, ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "SOCK_CLOEXEC")),
    (signal, ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGCHLD", "pthread_sigmask", "set_wakeup_fd")),
    (os, ("fork", "O_CLOEXEC")),
):
    for name in names:
        delattr(owner, name)
def unsupported(*_):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = unsupported
from hub.cli.commands import main
main()
"""
"""What Windows lacks, but for AF_UNIX, which asyncio itself wants here; macOS lacks less."""


async def test_memory_and_redis(hubs: Hubs) -> None:
    """It starts, publishes, streams live and from history, and ends with 0."""
    (port,) = free_ports(1)
    with Valkey(port=port):
        for url in ("memory://", f"redis://127.0.0.1:{port}/0"):
            hub = hubs.start(url, "--subscriptions", command=HIDDEN)
            address = await hub.listening()
            async with subscribed(2, [address]) as readers, Connection.to(address) as connection:
                assert (await connection.publish("x")).status == 200
                await until(lambda readers=readers: all(each.data == ["x"] for each in readers))  # type: ignore[misc]
            async with subscribed(1, [address], "earliest") as readers:
                await until(lambda readers=readers: readers[0].data == ["x"])  # type: ignore[misc]
            hub.send(SIGTERM)
            assert await hub.ended() == 0
            assert hub.stderr == ""


async def test_workers_need_forks(hubs: Hubs) -> None:
    """Several workers are refused in one line."""
    hub = hubs.start("lmdb://store?lock=shared", "--workers", "2", command=HIDDEN)
    assert await hub.ended() == 2
    assert hub.stderr.startswith("mercure-hub: ")
