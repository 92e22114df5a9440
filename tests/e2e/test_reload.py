"""SIGHUP: keys, secrets and certificates are read again while the hub works; other signals never end it unsaid."""

import asyncio
import os
import signal
import socket
import ssl
from pathlib import Path
from time import monotonic
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.authority import Authority
from tests.e2e.processes import (
    Address,
    Connection,
    Hub,
    Hubs,
    Publisher,
    Subscriber,
    check_order,
    measured,
    receipts_of,
    replay,
    running,
    until,
)
from tests.e2e.test_workers import SHARED, children, replaced
from tests.hub.serving import bearer

HEARTBEAT = 2.0
TELLS = ("--log-level", "info")


class Signer:
    """A key pair; its public half as PEM, and tokens for every topic."""

    def __init__(self) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        self._private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def credentials(self) -> dict[str, str]:
        claims: dict[str, Any] = {"mercure": {"publish": ["*"], "subscribe": ["*"]}}
        return bearer(jwt.encode(claims, self._private, "EdDSA"))


def write(path: Path, *signers: Signer) -> None:
    """In one step, as an operator does who doesn't want half a file to be read."""
    part = path.with_suffix(".part")
    part.write_text("".join(each.public for each in signers))
    part.rename(path)


def serve(hubs: Hubs, store: str, keys: Path, *arguments: str) -> Hub:
    flags = ["--publisher-jwt-alg", "EdDSA", "--subscriber-jwt-alg", "EdDSA", "--heartbeat", f"{HEARTBEAT}s", *TELLS]
    for role in ("publisher", "subscriber"):
        flags += [f"--{role}-jwt-key", f"file://{keys}"]
    return hubs.start(store, *flags, *arguments)


async def reloaded(hub: Hub, number: int, processes: int = 1, by: signal.Signals = signal.SIGHUP) -> None:
    """Tell it, and wait until so many reloads are in the log."""
    hub.send(by)
    await until(lambda: hub.stderr.count("keys were read again") == number * processes)


def follow(number: int, address: Address, signer: Signer) -> list[Subscriber]:
    return [Subscriber([address], headers=signer.credentials) for _ in range(number)]


async def refused(address: Address, signer: Signer) -> None:
    """Wait until a publisher with that key is refused."""
    async with asyncio.timeout(10):
        status = tries = 0
        while status != 401:
            tries += 1  # those before it was read again are in the log, where nothing is twice
            async with Connection.to(address) as connection:
                status = (await connection.publish(f"stranger {tries}", None, signer.credentials)).status


@pytest.mark.parametrize(("store", "workers"), [("lmdb://store", 1), (SHARED, 2)])
async def test_a_key_is_rotated_under_load(hubs: Hubs, tmp_path: Path, store: str, workers: int) -> None:
    """The new key beside the old one, then the new one alone: what may go on goes on, without a refusal or an end.

    A token of the old key is refused within a second then, and its streams are closed within a heartbeat.
    """
    old, new, keys = Signer(), Signer(), tmp_path / "keys.pem"
    write(keys, old)
    hub = serve(hubs, store, keys, "--workers", str(workers))
    address = await hub.listening()
    first = [Publisher(f"old {n}", [address], credentials=old.credentials) for n in range(4)]
    there = follow(20, address, old)
    async with running(*(each.follow() for each in there)), running(*(each.publish() for each in first)):
        await until(lambda: len(receipts_of(first)) > 100 and all(each.events for each in there))
        write(keys, old, new)
        await reloaded(hub, 1, workers)
        second = [Publisher(f"new {n}", [address], credentials=new.credentials) for n in range(4)]
        here = follow(20, address, new)
        async with running(*(each.publish() for each in second), *(each.follow() for each in here)):
            await until(lambda: len(receipts_of(second)) > 100 and all(each.events for each in here))
            assert [each.refusals for each in (*first, *second)] == [[]] * 8
            assert [each.ends for each in (*there, *here)] == [[]] * 40
            write(keys, new)
            told = monotonic()
            hub.send(signal.SIGHUP)
            await refused(address, old)
            refusing = monotonic() - told
            await until(lambda: all(each.ends for each in there))
            closing = max(each.ends[0].at for each in there) - told
            enough = len(receipts_of(second)) + 100
            await until(lambda: len(receipts_of(second)) > enough)
            assert [each.refusals for each in second] == [[]] * 4
            assert [each.ends for each in here] == [[]] * 20
            receipts = receipts_of([*first, *second])
            history = await replay(address, receipts)
            check_order(history, receipts)
            newest = history[-1]
            await until(lambda: all(newest in each.events for each in here))
    assert all(each.ends[0].clean for each in there)
    assert all(each.answers[-1].status == 401 for each in there)
    assert refusing < 1
    assert closing < HEARTBEAT
    measured(f"{workers} workers: until the old key is refused, until its 20 streams are closed", [refusing, closing])
    hub.send(signal.SIGTERM)
    assert await hub.ended() == 0


async def test_a_bad_file_changes_nothing(hubs: Hubs, tmp_path: Path) -> None:
    """One line says what is wrong; the old keys go on, and so does the next reload."""
    signer, keys = Signer(), tmp_path / "keys.pem"
    write(keys, signer)
    hub = serve(hubs, "memory://", keys)
    address = await hub.listening()
    keys.write_text("half a file")
    hub.send(signal.SIGHUP)
    await until(lambda: "nothing was read again" in hub.stderr)
    assert "MERCURE_PUBLISHER_JWT_KEY is no PEM text" in hub.stderr
    async with Connection.to(address) as connection:
        assert (await connection.publish("still", None, signer.credentials)).status == 200
    write(keys, signer)
    await reloaded(hub, 1, by=signal.SIGUSR1)
    assert "1 for publishers (1 before), 1 for subscribers (1 before); 0 streams closed" in hub.stderr


async def test_a_secret_in_a_file_is_read_again(hubs: Hubs, tmp_path: Path) -> None:
    """What a ``_FILE`` variable names is a secret too; workers that start later have the new one."""
    secret = tmp_path / "secret"
    secret.write_text("the first secret, which is long enough")
    environment = {"MERCURE_PUBLISHER_JWT_KEY_FILE": str(secret)}
    hub = hubs.start(SHARED, "--workers", "2", *TELLS, environment=environment)
    address = await hub.listening()
    secret.write_text("the second secret, which is long enough")
    await reloaded(hub, 1, processes=2)
    for pid in children(hub):
        os.kill(pid, signal.SIGKILL)
        await replaced(hub, pid)
    token = jwt.encode({"mercure": {"publish": ["*"]}}, secret.read_text(), "HS256")
    for _ in range(8):
        async with asyncio.timeout(10), Connection.to(address) as connection:
            assert (await connection.publish("x", None, bearer(token))).status == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_signal_ends_the_hub_unsaid(hubs: Hubs, workers: int) -> None:
    """SIGUSR2 and SIGPIPE change nothing, SIGQUIT ends it as SIGTERM does; each of them is told but SIGPIPE."""
    hub = hubs.start(SHARED, "--workers", str(workers), "--drain", "100ms")
    address = await hub.listening()
    hub.send(signal.SIGPIPE)
    hub.send(signal.SIGUSR2)
    await until(lambda: "SIGUSR2 means nothing to this hub" in hub.stderr)
    async with Connection.to(address) as connection:
        assert (await connection.publish("still here")).status == 200
    hub.send(signal.SIGQUIT)
    assert await hub.ended() == 0
    assert "SIGQUIT: the hub ends, as at SIGTERM" in hub.stderr


async def test_signals_before_the_start_is_over(hubs: Hubs) -> None:
    """A hub in standby, which serves nobody yet, obeys too."""
    holder = hubs.start("lmdb://store")
    await holder.listening()
    hub = hubs.start("lmdb://store?lock_timeout=60s", *TELLS)
    await until(lambda: hub.obeys(signal.SIGHUP))
    await reloaded(hub, 1)
    assert hub.running


def handshake(address: Address, authority: Authority) -> int:
    """The serial number of the certificate that a client gets."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with socket.create_connection(address, 10) as plain, context.wrap_socket(plain, server_hostname=address[0]) as tls:
        found = tls.getpeercert()
        assert found
        return int(str(found["serialNumber"]), 16)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_certificate_is_read_again(hubs: Hubs, tmp_path: Path, workers: int) -> None:
    """New connections get the new one; files that don't fit change nothing, and streams stay."""
    authority = Authority(tmp_path)
    certificate, key = authority.sign("hub")
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--workers", str(workers), *TELLS)
    hub = hubs.start(SHARED, *flags)
    address = await hub.listening()
    first = await asyncio.to_thread(handshake, address, authority)
    key.write_text("no key")
    hub.send(signal.SIGHUP)
    await until(lambda: "nothing was read again" in hub.stderr)
    assert await asyncio.to_thread(handshake, address, authority) == first
    authority.sign("hub")
    await reloaded(hub, 1, workers)
    assert await asyncio.to_thread(handshake, address, authority) != first
