"""TLS in the hub itself: with files, with a certificate of its own, and beside plain HTTP and health."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from httpx_sse import aconnect_sse

from hub.generations import PATH
from tests.authority import Authority
from tests.e2e.processes import Hub, Hubs, free_port, until
from tests.hub.serving import DEADLINE, PUBLISHER, TOPIC


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def serve(hubs: Hubs, authority: Authority, *arguments: str, listen: str = "127.0.0.1:0") -> Hub:
    certificate, key = authority.sign("hub")
    return hubs.start("memory://", "--tls-cert", str(certificate), "--tls-key", str(key), *arguments, listen=listen)


@pytest.fixture
async def client(authority: Authority) -> AsyncIterator[httpx.AsyncClient]:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    async with httpx.AsyncClient(verify=context, timeout=DEADLINE) as opened:
        yield opened


async def publish_and_receive(client: httpx.AsyncClient, origin: str, events: int = 3) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        aconnect_sse(client, "GET", origin + PATH, params={"topic": TOPIC}) as source,
    ):
        assert source.response.status_code == 200
        stream = source.aiter_sse()
        for number in range(events):
            data = {"topic": TOPIC, "data": str(number) * 1000}
            assert (await client.post(origin + PATH, data=data, headers=PUBLISHER)).status_code == 200
            assert (await anext(stream)).data == data["data"]


async def test_with_files(hubs: Hubs, authority: Authority, client: httpx.AsyncClient) -> None:
    """Publishers and subscribers are served over TLS, streams on connections that were taken over; the end is clean."""
    hub = serve(hubs, authority, "--drain", "100ms")
    host, port = await hub.listening()
    assert f"https://{host}:{port}{PATH}" in hub.stdout
    await publish_and_receive(client, f"https://{host}:{port}")
    async with aconnect_sse(client, "GET", f"https://{host}:{port}{PATH}", params={"topic": TOPIC}) as source:
        hub.send(SIGTERM)
        assert [each async for each in source.aiter_sse()] == []
    assert await hub.ended() == 0
    assert hub.stderr == ""


async def test_beside_plain_http_and_health(hubs: Hubs, authority: Authority, client: httpx.AsyncClient) -> None:
    """Each address speaks what it was told to; the admin address has health and nothing else, until the end."""
    plain, tls, admin = free_port(), free_port(), free_port()
    listen = f"http://127.0.0.1:{plain},https://127.0.0.1:{tls}"
    hub = serve(hubs, authority, "--admin-listen", f"127.0.0.1:{admin}", "--drain", "1s", listen=listen)
    await hub.listening()
    await publish_and_receive(client, f"https://127.0.0.1:{tls}")
    await publish_and_receive(client, f"http://127.0.0.1:{plain}")
    health = f"http://127.0.0.1:{admin}"
    assert (await client.get(f"{health}/mercure/health/ready")).json() == {"status": "ok"}
    assert (await client.get(f"{health}/healthz")).status_code == 200
    assert (await client.get(health + PATH)).status_code == 404
    async with aconnect_sse(client, "GET", f"http://127.0.0.1:{plain}{PATH}", params={"topic": TOPIC}) as source:
        hub.send(SIGTERM)
        async with asyncio.timeout(DEADLINE):
            while (await client.get(f"{health}/mercure/health/ready")).status_code != 503:
                await asyncio.sleep(0.01)
        assert [each async for each in source.aiter_sse()] == []
    assert await hub.ended() == 0


async def test_a_certificate_of_its_own(hubs: Hubs) -> None:
    """For this machine's names where no files are set: a client that takes it is served, others refuse it."""
    hub = hubs.start("memory://", listen="https://127.0.0.1:0")
    host, port = await hub.listening()
    async with httpx.AsyncClient(verify=False, timeout=DEADLINE) as careless:
        await publish_and_receive(careless, f"https://localhost:{port}")
    async with httpx.AsyncClient(timeout=DEADLINE) as careful:
        with pytest.raises(httpx.ConnectError, match="self-signed"):
            await careful.get(f"https://{host}:{port}/")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, port))
    assert "BEGIN CERTIFICATE" in pem


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("none", "hub.key", "the TLS file '.*none' cannot be read: No such file"),
        ("hub.crt", "none", "the TLS file '.*none' cannot be read: No such file"),
        ("hub.crt", "other.key", "no certificate with its unencrypted key as PEM"),
        ("hub.key", "hub.key", "no certificate with its unencrypted key as PEM"),
        ("hub.crt", "locked.key", "no certificate with its unencrypted key as PEM"),
    ],
)
async def test_wrong_files_end_the_start(hubs: Hubs, authority: Authority, cert: str, key: str, said: str) -> None:
    """One line that names what is wrong, and exit code 2; nothing is asked on the terminal."""
    certificate, key_file = authority.sign("hub")
    folder = certificate.parent
    authority.sign("other")
    loaded = load_pem_private_key(key_file.read_bytes(), None)
    locked = loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (folder / "locked.key").write_bytes(locked)
    hub = hubs.start("memory://", "--tls-cert", str(folder / cert), "--tls-key", str(folder / key))
    assert await hub.ended() == 2
    assert re.fullmatch(rf"mercure-hub: .*{said}.*\n", hub.stderr)


async def test_half_a_handshake_does_not_hold_the_end_up(hubs: Hubs, authority: Authority) -> None:
    """A client that connects and says nothing costs a socket, and no time at the end."""
    hub = serve(hubs, authority, "--drain", "100ms")
    host, port = await hub.listening()
    _, writer = await asyncio.open_connection(host, port)
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    writer.close()


async def test_a_public_url_alone_is_answered(hubs: Hubs) -> None:
    """A request for another host, or another scheme, gets a 421 that says so; a probe may ask under any name."""
    hub = hubs.start("memory://", "--public-urls", "http://hub.example http://other.example:8080")
    host, port = await hub.listening()
    origin = f"http://{host}:{port}"
    metadata = f"/.well-known/oauth-protected-resource{PATH}"
    async with httpx.AsyncClient(timeout=DEADLINE) as client:
        for path in (f"{PATH}?topic=x&last_event_id=earliest", f"{PATH}?topic=x", f"{PATH}/subscriptions", metadata):
            refused = await client.get(origin + path)
            assert (refused.status_code, refused.json()["status"]) == (421, 421)
        for name in ("hub.example", "HUB.example:80", "other.example:8080"):
            data = {"topic": TOPIC, "data": "x"}
            answer = await client.post(origin + PATH, data=data, headers={**PUBLISHER, "Host": name})
            assert answer.status_code == 200
            assert (await client.get(origin + metadata, headers={"Host": name})).status_code == 200
        refused = await client.post(
            origin + PATH, data={"topic": TOPIC}, headers={**PUBLISHER, "Host": "hub.example:81"}
        )
        assert refused.status_code == 421
        assert (await client.get(f"{origin}/mercure/health/live")).status_code == 200


async def test_a_taken_admin_address_ends_the_start(hubs: Hubs, tmp_path: Path) -> None:
    """It is told as any other address."""
    first = hubs.start(f"lmdb://{tmp_path}/first", "--admin-listen", "127.0.0.1:0")
    await first.listening()
    host, port = await hubs.start("memory://").listening()
    second = hubs.start("memory://", "--admin-listen", f"{host}:{port}")
    await until(lambda: not second.running)
    assert f"cannot listen on {host}:{port}" in second.stderr
