"""JWK Sets over https: kept, fetched again, rotated, and what a server of them may not do."""

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest

from hub.auth import jwks
from hub.auth.jwks import LARGEST, LONGEST, SHORTEST, RemoteSet
from hub.config.issuers import Issuer as Trusted
from hub.config.issuers import KeySource
from hub.generations import PATH
from tests.authority import Authority
from tests.hub.auth.issuing import Issuer, issuing
from tests.hub.serving import DEADLINE, TOPIC, Served, bearer, serving, until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def issuer(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """Trusted by this process as OpenSSL's own variable says."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with issuing(authority) as running:
        yield running


def kids(remote: RemoteSet) -> list[str | None]:
    return [each.kid for each in remote.keys]


async def test_a_set_is_fetched(issuer: Issuer) -> None:
    """Its keys are there, each with its name and its algorithm."""
    remote = RemoteSet(issuer.jwks_url)
    await remote.fetch()
    assert [(each.kid, each.algorithm) for each in remote.keys] == [("first", "RS256")]


@pytest.mark.parametrize(
    ("said", "kept"),
    [("max-age=600", 600), ("public, max-age=1", SHORTEST), ("max-age=9999999", LONGEST), ("no-store", SHORTEST)],
)
async def test_it_is_kept_as_long_as_it_says(issuer: Issuer, said: str, kept: float) -> None:
    """Between five minutes and a day."""
    issuer.cache_control = said
    remote = RemoteSet(issuer.jwks_url)
    await remote.fetch()
    assert remote.age == kept


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, {}, b""), "status 500"),
        ((200, {}, b"<html>"), "is not a JWK Set"),
        ((200, {}, json.dumps({"keys": []}).encode()), "has no key that can be used"),
        ((200, {}, b" " * (LARGEST + 1)), "larger than"),
        ((302, {"Location": "http://169.254.169.254/latest"}, b""), "redirects to another origin"),
        ((302, {"Location": "/jwks"}, b""), ""),
        ((200, {"Content-Length": "1000"}, b"{"), "can't be fetched"),
    ],
)
async def test_while_a_fetch_fails_the_old_set_counts(
    issuer: Issuer, answer: tuple[int, dict[str, str], bytes], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says why, one that it is over; a redirect within the origin is followed."""
    remote = RemoteSet(issuer.jwks_url)
    await remote.fetch()
    issuer.answers = [answer]
    await remote.fetch()
    assert kids(remote) == ["first"]
    assert all(reason in each.message for each in caplog.records)
    assert len(caplog.records) == bool(reason)
    issuer.rotate("second")
    await remote.fetch()
    assert kids(remote) == ["first", "second"]
    assert len(caplog.records) == 2 * bool(reason)


async def test_nobody_waits_long(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing is left after the time-out."""
    monkeypatch.setattr(jwks, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        remote = RemoteSet(f"https://127.0.0.1:{quiet.getsockname()[1]}/jwks")
        async with asyncio.timeout(DEADLINE):
            await remote.fetch()
    assert remote.keys == ()


async def test_a_certificate_that_nobody_trusts_is_refused(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys come from whom they are said to come from."""
    monkeypatch.delenv("SSL_CERT_FILE")
    remote = RemoteSet(issuer.jwks_url)
    await remote.fetch()
    assert remote.keys == ()
    assert "certificate verify failed" in caplog.text


async def publishes(served: Served, token: str) -> int:
    response = await served.post({"topic": TOPIC, "data": "x"}, headers=bearer(token))
    return response.status_code


async def test_a_rotating_issuer(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens as Keycloak signs them are accepted; an unknown ``kid`` has the set fetched, and then its token too.

    A key that left the set verifies nothing any more, and the streams that it has opened are closed.
    """
    monkeypatch.setattr(jwks, "PAUSE", 0.05)
    source = KeySource(jwks_url=issuer.jwks_url)
    trusted = Trusted(issuer.url, source, source, authorization_server=True)
    async with serving(issuers=(trusted,), publisher_jwt_key=None, subscriber_jwt_key=None, anonymous=False) as served:
        audience = f"http://{served.address[0]}:{served.address[1]}{PATH}"
        first = issuer.token(audience, "publish", "subscribe")
        assert await publishes(served, first) == 200
        async with served.subscribe(bearer(first), match=TOPIC) as subscription:
            await served.live(1)
            issuer.rotate("second")
            second = issuer.token(audience, "publish", "subscribe")
            assert await publishes(served, second) == 401
            async with asyncio.timeout(DEADLINE):
                while await publishes(served, second) != 200:
                    await asyncio.sleep(0.01)
            assert await publishes(served, first) == 200
            del issuer.keys["first"]
            assert await publishes(served, issuer.token(audience, "publish", kid="second", iss="https://other")) == 401
            assert await publishes(served, unknown_key(issuer, audience)) == 401
            async with asyncio.timeout(DEADLINE):
                async for _ in subscription.response.aiter_bytes():
                    continue
        assert await publishes(served, first) == 401
        assert await publishes(served, second) == 200
        document = await served.client.get(f"{audience.removesuffix(PATH)}/.well-known/oauth-protected-resource{PATH}")
        assert document.json()["authorization_servers"] == [issuer.url]


def unknown_key(issuer: Issuer, audience: str) -> str:
    """A token of the issuer's with a key id that its set does not have, which has the set fetched again."""
    other = Issuer(url=issuer.url)
    other.rotate("third")
    return other.token(audience, "publish")


async def test_a_hub_starts_without_its_issuer(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be fetched at the start is a line in the log: the hub serves everybody else."""
    issuer.answers = [(503, {}, b"")]
    async with serving(publisher_jwks_url=issuer.jwks_url) as served:
        assert await served.publish()
        assert "status 503" in caplog.text


async def test_unknown_keys_do_not_flood_the_issuer(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens name keys that nobody has, the set is fetched once in `PAUSE`."""
    monkeypatch.setattr(jwks, "PAUSE", 0.3)
    remote = RemoteSet(issuer.jwks_url)
    await remote.fetch()
    running = asyncio.ensure_future(remote.run())
    for _ in range(100):
        remote.missed()
        await asyncio.sleep(0.002)
    assert issuer.asked == 1
    await until(lambda: issuer.asked == 2)
    running.cancel()
