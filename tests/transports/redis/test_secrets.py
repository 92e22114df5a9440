"""How the Redis log proves who it is, and sees whom it talks to: passwords from files, and TLS."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.transports.outages import Opened, refused
from tests.transports.valkey import Redis, Valkey, free_ports
from transports.testing.suite import an_update


async def test_a_password_in_a_file(opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`password_file` has the password, without its last line break; what is in it is never shown."""
    secret = tmp_path / "secret"
    with Valkey("--requirepass", "pass word/@é") as server:
        url = server.url(password_file=secret)
        secret.write_text("pass word/@é\n")
        await (await opened(url)).append(an_update(1))
        secret.write_text("hunter2")
        text = await refused(url)
        assert "refuses the user or the password" in text
        assert "hunter2" not in text + caplog.text
        assert "pass word" not in text + caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "can't be read: No such file"), (b"\n", "is empty"), (b"hunter2\xff", "is not text in UTF-8")],
)
@pytest.mark.parametrize("name", ["password_file", "sentinel_password_file"])
async def test_files_that_hold_no_password(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    """A file that is missing, empty or no text ends the start with the parameter's and the file's name."""
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    text = await refused(f"redis+sentinel://127.0.0.1:1/service?{name}={secret}")
    assert f"{name}: {secret} {said}" in text
    assert "hunter2" not in text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def address(authority: Authority) -> Iterator[str]:
    """Of a server that speaks TLS alone, and wants a certificate of its clients."""
    certificate, key = map(str, authority.sign("server"))
    (port,) = free_ports(1)
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", str(authority.certificate))
    with Redis(*files, "--tls-port", str(port)):
        yield f"rediss://127.0.0.1:{port}/0"


async def test_tls(authority: Authority, address: str, opened: Opened) -> None:
    """With the authority and a certificate of its own the log opens, and works."""
    certificate, key = authority.sign("client")
    both = f"{address}?ssl_ca_certs={authority.certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
    first = await (await opened(both)).append(an_update(1))
    assert await (await opened(both)).last() == (first.position, first.id)


async def test_a_server_that_is_not_trusted(address: str) -> None:
    """A server whose signer is unknown ends the start."""
    assert "certificate is not trusted" in await refused(address)
    assert "ssl_ca_certs= names who signed it" in await refused(address)


async def test_no_tls() -> None:
    """A server that answers in plain text ends the start of a hub that wants TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"-ERR unknown command\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert "no TLS with the server" in await refused(f"rediss://127.0.0.1:{port}")


async def test_files_that_are_not_of_tls(authority: Authority, tmp_path: Path) -> None:
    """A file of TLS that is missing, or something else, ends the start with its name."""
    certificate, _ = authority.sign("one")
    (tmp_path / "text").write_text("no certificate")
    for name in ("ssl_ca_certs", "ssl_certfile"):
        assert f"{name}: {tmp_path}/none can't be read" in await refused(f"rediss://host?{name}={tmp_path}/none")
        assert f"{name}: not the PEM files of TLS" in await refused(f"rediss://host?{name}={tmp_path}/text")
    _, key = authority.sign("another")
    pair = f"ssl_certfile={certificate}&ssl_keyfile={key}"
    assert "ssl_certfile, ssl_keyfile: not the PEM files of TLS" in await refused(f"rediss://host?{pair}")
