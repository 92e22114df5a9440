"""A client whose network is gone: nothing tells the hub, and yet it must not be listed for hours."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from hub.presence.documents import ROOT
from tests.e2e.processes import Address, Connection, Hubs, get, measured
from tests.hub.serving import TOPIC, bearer, token

HERE, THERE = "198.18.83.1", "198.18.83.2"  # RFC 2544: addresses for tests
SPACE, LINK = f"mercure-{os.getpid()}", f"mv{os.getpid() % 100_000}"
CLIENT = f"""
import socket, sys
s = socket.create_connection(("{HERE}", int(sys.argv[1])))
s.sendall(b"GET /.well-known/mercure?topic={TOPIC} HTTP/1.1\\r\\nHost: hub\\r\\n\\r\\n")
while s.recv(4096): print("got", flush=True)
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def network() -> Iterator[None]:
    """Another host: a network namespace, and a cable to it."""
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", SPACE)
        ip("address", "add", f"{HERE}/30", "dev", LINK)
        ip("link", "set", LINK, "up")
        ip("-n", SPACE, "address", "add", f"{THERE}/30", "dev", "eth0")
        ip("-n", SPACE, "link", "set", "eth0", "up")
        yield
    finally:
        subprocess.run(["ip", "link", "delete", LINK], check=False, capture_output=True)
        ip("netns", "delete", SPACE)


async def listed(address: Address) -> int:
    async with Connection.to(address) as connection:
        answer = await connection.request("GET", ROOT, bearer(token(subscribe=["*"])))
    return answer.body.count('"active":true')


async def until_listed(address: Address, count: int) -> None:
    async with asyncio.timeout(15):
        while await listed(address) != count:
            await asyncio.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network and to cut it")
async def test_a_cut_cable(tmp_path: Path) -> None:
    """Its subscription ends within the heartbeat and four times the dispatch timeout, and a little."""
    with network(), Hubs(tmp_path) as hubs:
        flags = ("--subscriptions", "--heartbeat", "0.5s", "--dispatch-timeout", "0.5s")
        hub = hubs.start("memory://", *flags, listen=f"{HERE}:0")
        address = await hub.listening()
        command = ["ip", "netns", "exec", SPACE, sys.executable, "-c", CLIENT, str(address[1])]
        client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert client.stdout
            await client.stdout.readline()
            await until_listed(address, 1)
            ip("-n", SPACE, "link", "set", "eth0", "down")
            cut = monotonic()
            await until_listed(address, 0)
            took = monotonic() - cut
        finally:
            client.kill()
            await client.wait()
        assert (await get(address, "/mercure/health/live")).status == 200
        assert 1.0 < took < 8.0
        measured("a cut cable: until the subscription has ended", [took])
