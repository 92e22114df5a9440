"""Under systemd: readiness, the watchdog, sockets that were bound before; and Unix sockets for a proxy."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from hub.generations import PATH
from tests.e2e.processes import COMMAND, ROOT, Hubs, until
from tests.hub.serving import DEADLINE, PUBLISHER, TOPIC

UNITS = ROOT / "deploy" / "systemd"


@contextmanager
def listening_to(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(address)
        notified.setblocking(False)
        yield notified


async def said(notified: socket.socket) -> str:
    async with asyncio.timeout(DEADLINE):
        return (await asyncio.get_running_loop().sock_recv(notified, 100)).decode()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("abstract", [False, True])
async def test_systemd_is_told(hubs: Hubs, tmp_path: Path, workers: int, abstract: bool) -> None:
    """READY once it accepts connections, signs of life while it turns, STOPPING when the drain begins."""
    name = f"mercure-hub-test-{os.getpid()}-{workers}"
    path = f"@{name}" if abstract else str(tmp_path / "notify")
    with listening_to(f"\0{name}" if abstract else path) as notified:
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
        flags = ("--workers", str(workers), "--drain", "100ms")
        hub = hubs.start("lmdb://store?lock=shared", *flags, environment=environment)
        while await said(notified) != "READY=1":  # each worker's signs of life may come before
            continue
        address = await hub.listening()
        async with httpx.AsyncClient() as client:
            assert (await client.get("http://{}:{}/mercure/health/ready".format(*address))).status_code == 200
        while await said(notified) != "WATCHDOG=1":
            continue
        hub.send(SIGTERM)
        while await said(notified) != "STOPPING=1":
            continue
        assert await hub.ended() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_socket_that_was_bound_before(tmp_path: Path, workers: int) -> None:
    """It counts instead of --listen; who connects while nobody serves waits, and is answered by the next."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as bound:
        host, port = bound.getsockname()[:2]
        for _ in range(2):
            process = await activated(bound, tmp_path, workers)
            async with httpx.AsyncClient(timeout=DEADLINE) as client:
                waiting = asyncio.create_task(
                    client.post(f"http://{host}:{port}{PATH}", data={"topic": TOPIC}, headers=PUBLISHER)
                )
                assert (await waiting).status_code == 200
            process.send_signal(SIGTERM)
            assert await asyncio.to_thread(process.wait, DEADLINE) == 0
            early = socket.create_connection((host, port), DEADLINE)
            early.close()


async def activated(bound: socket.socket, folder: Path, workers: int) -> "subprocess.Popen[bytes]":
    """A hub as systemd starts it: the socket is its descriptor 3."""
    serve = ["serve", "--dev", "--listen", "127.0.0.1:1", "--transport-url", "lmdb://store?lock=shared"]
    become = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.execv(sys.executable, sys.argv[2:])"
    )
    python = [sys.executable, "-c", COMMAND, *serve, "--workers", str(workers), "--drain", "100ms"]
    return await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", become, str(bound.fileno()), *python],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=[bound.fileno()],
        stdout=subprocess.DEVNULL,
    )


async def test_a_unix_socket(hubs: Hubs, tmp_path: Path) -> None:
    """For a proxy on the same machine: publish and subscribe; one that was left behind is taken, a live one is not."""
    path = tmp_path / "hub.sock"
    for _ in range(2):
        hub = hubs.start("memory://", "--drain", "100ms", listen=f"unix:{path}")
        await until(lambda: "listening on" in hub.stdout)  # noqa: B023 - awaited in the loop
        assert f"unix:{path}" in hub.stdout
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with (
            httpx.AsyncClient(transport=transport, timeout=DEADLINE) as client,
            client.stream("GET", f"http://hub{PATH}?topic={TOPIC}") as stream,
        ):
            assert stream.status_code == 200
            data = {"topic": TOPIC, "data": "through a file"}
            assert (await client.post(f"http://hub{PATH}", data=data, headers=PUBLISHER)).status_code == 200
            async for line in stream.aiter_lines():
                if line == "data: through a file":
                    break
        second = hubs.start("memory://", listen=f"unix:{path}")
        assert await second.ended() == 2
        assert f"cannot listen on unix:{path}: Address already in use" in second.stderr
        hub.process.kill()
        hub.process.wait()
        assert path.exists()


@pytest.mark.parametrize("name", ["unix:relative", "unix:", f"unix:/{'x' * 200}"])
async def test_a_path_that_cannot_be_one(hubs: Hubs, name: str) -> None:
    """One line that says what one looks like."""
    hub = hubs.start("memory://", listen=name)
    assert await hub.ended() == 2
    assert "is not unix:/path" in hub.stderr


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Its own tool finds no fault with them, where it is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("not on the PATH: systemd-analyze")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/usr/bin/mercure-hub", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    files = [str(each) for each in sorted(tmp_path.iterdir())]
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    ours = [line for line in found.stderr.splitlines() if "mercure-hub" in line]
    assert (found.returncode, ours) == (0, []), found.stderr


def test_the_unit_waits_longer_than_the_drain() -> None:
    """Else systemd would kill what the hub still closes properly."""
    text = (UNITS / "mercure-hub.service").read_text()
    stop = re.search(r"TimeoutStopSec=(\d+)s", text)
    assert stop
    assert int(stop[1]) > 8
