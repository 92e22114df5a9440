"""Which keys a token is tried with: by issuer, algorithm and key id; never a key of somebody else."""

import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.keyring import MAX_TRIED, FixedKeys, KeyRing, Verified, is_access_token, issuer_of, peek
from hub.auth.keys import InvalidKey, InvalidSignature, VerificationKey, keys_of_set, load_keys
from hub.auth.sources import rings_of
from hub.config.issuers import Issuer, KeySource
from hub.config.settings import Settings

ISSUERS = ["https://a.example", "https://b.example", "https://c.example"]
SECRETS = {name: f"the secret of {name}, which is long enough" for name in (*ISSUERS, "own", "nobody")}


def keys(secret: str, kid: str | None = None) -> FixedKeys:
    entry = {"kty": "oct", "k": urlsafe_b64encode(secret.encode()).decode().rstrip("="), "alg": "HS256"}
    document = json.dumps({"keys": [{**entry, **({"kid": kid} if kid else {})}]})
    return FixedKeys(keys_of_set(document, (), secrets=True, name="a set"))


def signed(secret: str, *, kid: str | None = None, type: str = "at+jwt", **claims: Any) -> str:
    headers = {"typ": type, **({"kid": kid} if kid else {})}
    return jwt.encode(claims, secret, "HS256", headers=headers)


def verify(ring: KeyRing, token: str) -> Verified:
    """As `hub.auth.judging` does: what the token says of itself chooses its keys."""
    header = peek(token, 0)
    issuer = issuer_of(peek(token, 1)) if is_access_token(header) else None
    if is_access_token(header) and (issuer is None or not ring.knows(issuer)):
        raise InvalidSignature
    for key in ring.candidates(header, issuer):
        with suppress(InvalidSignature):
            key.verify(token)
            return Verified(key, issuer)
    raise InvalidSignature


def accepted(ring: KeyRing, token: str) -> bool:
    try:
        verify(ring, token)
    except InvalidSignature:
        return False
    return True


RING = KeyRing(
    [keys(SECRETS["own"])], {name: [keys(SECRETS[name])] for name in ISSUERS[:2]}, trusted=[ISSUERS[1], ISSUERS[2]]
)


@pytest.mark.parametrize(("issuer", "signer"), [*product([*ISSUERS, "https://d.example", None], SECRETS)])
def test_a_token_is_verified_with_its_issuers_keys_alone(issuer: str | None, signer: str) -> None:
    """An issuer's key never verifies another's token; who is only trusted by name signs with the role's own key."""
    token = signed(SECRETS[signer], **({"iss": issuer} if issuer else {}))
    wanted = {ISSUERS[0]: ISSUERS[0], ISSUERS[1]: ISSUERS[1], ISSUERS[2]: "own"}.get(issuer or "")
    assert accepted(RING, token) is (signer == wanted)


@pytest.mark.parametrize("signer", SECRETS)
def test_a_token_of_0_x_is_verified_with_own_keys_alone(signer: str) -> None:
    """It names nobody, also where it has an ``iss``."""
    assert accepted(RING, signed(SECRETS[signer], type="JWT", iss=ISSUERS[0])) is (signer == "own")


@given(st.sampled_from([*ISSUERS, "x"]), st.sampled_from(sorted(SECRETS)), st.sampled_from(["at+jwt", "JWT", "AT+JWT"]))
def test_whatever_a_token_says_it_chooses_among_its_own(issuer: str, signer: str, type: str) -> None:
    """What verified a token is a key of the issuer that it names, or an own key."""
    token = signed(SECRETS[signer], type=type, iss=issuer)
    if accepted(RING, token):
        verified = verify(RING, token)
        expected = SECRETS["own"] if verified.issuer in (None, ISSUERS[2]) else SECRETS[str(verified.issuer)]
        assert SECRETS[signer] == expected
        assert RING.holds(verified)


def test_a_kid_chooses_and_brings_nothing() -> None:
    """Among keys with names the named one is tried alone; a name that nobody has leaves those without a name."""
    ring = KeyRing([keys("first secret, which is long enough", "1"), keys("second secret, which is long enough", "2")])
    assert accepted(ring, signed("second secret, which is long enough", kid="2", type="JWT"))
    assert not accepted(ring, signed("second secret, which is long enough", kid="1", type="JWT"))
    assert not accepted(ring, signed("second secret, which is long enough", kid="3", type="JWT"))
    assert accepted(ring, signed("second secret, which is long enough", type="JWT"))
    assert accepted(KeyRing([keys(SECRETS["own"])]), signed(SECRETS["own"], kid="any", type="JWT"))


def test_not_more_keys_are_tried_than_bounded() -> None:
    """A token without ``kid`` costs a bounded number of checks."""
    secrets = [f"secret number {number}, which is long enough" for number in range(MAX_TRIED + 1)]
    ring = KeyRing([keys(each) for each in secrets])
    assert accepted(ring, signed(secrets[MAX_TRIED - 1], type="JWT"))
    assert not accepted(ring, signed(secrets[MAX_TRIED], type="JWT"))


def test_a_ring_says_which_keys_it_holds() -> None:
    """A key that was taken out, or given to another issuer, is not held any more."""
    verified = verify(RING, signed(SECRETS["own"], type="JWT"))
    assert RING.holds(verified)
    assert KeyRing([keys(SECRETS["own"])]).holds(verified)
    assert not KeyRing([keys("another secret, which is long enough")]).holds(verified)
    assert not KeyRing([keys(SECRETS["own"])]).holds(Verified(verified.key, ISSUERS[0]))


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_any_text_is_a_token_or_not(text: str) -> None:
    """Whatever is sent as a token: `InvalidSignature`, never another exception."""
    assert not accepted(RING, text)


def pem(key: Any, private: bool = False) -> str:
    if private:
        return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def certificate(key: Any) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_file_has_several_keys(tmp_path: Path) -> None:
    """Keys and certificates one after another, with what OpenSSL writes beside them; a key and its own half once."""
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    (tmp_path / "keys.pem").write_text(f"# old\n{pem(old)}\n{parameters}{certificate(new)}{pem(new, private=True)}")
    found = load_keys(f"file://{tmp_path}/keys.pem", "ES256", name="K")
    assert len(found) == 2
    ring = KeyRing([FixedKeys(found)])
    for key in (old, new):
        assert accepted(ring, jwt.encode({}, pem(key, private=True), "ES256"))
    assert not accepted(ring, jwt.encode({}, pem(ec.generate_private_key(ec.SECP256R1()), private=True), "ES256"))


@pytest.mark.parametrize("text", ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "{pem}" * 65])
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, text: str) -> None:
    """None, one that can't be read, or more than anybody has: the setting is named."""
    text = text.replace("{pem}", pem(ec.generate_private_key(ec.SECP256R1())))
    (tmp_path / "keys.pem").write_text(text)
    with pytest.raises(InvalidKey, match=r"^K "):
        load_keys(f"file://{tmp_path}/keys.pem", "ES256", name="K")


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    kind = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    algorithm = next(name for each, name in kind.items() if isinstance(key, each))
    entry = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**entry, **more}


RSA, EC, ED = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
)
SYMMETRIC = {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}


@pytest.mark.parametrize(
    ("entries", "algorithms", "found"),
    [
        ([jwk(RSA, alg="RS256", kid="1")], (), [("RS256", "1")]),
        ([jwk(RSA)], ("RS256", "PS256", "ES256"), [("RS256", None), ("PS256", None)]),
        ([jwk(EC), jwk(ED)], (), [("ES256", None), ("EdDSA", None)]),
        ([jwk(EC, use="enc"), jwk(ED, key_ops=["sign"]), jwk(RSA, alg="RS512", use="sig")], (), [("RS512", None)]),
        ([jwk(RSA, alg="RSA-OAEP"), {"kty": "??"}, "x", jwk(EC, kid=7)], (), [("ES256", None)]),
        ([SYMMETRIC, jwk(EC)], (), [("ES256", None)]),
    ],
)
def test_a_set_has_the_keys_that_can_verify(
    entries: list[Any], algorithms: tuple[str, ...], found: list[tuple[str, str | None]]
) -> None:
    """By ``use``, ``key_ops``, ``alg`` and what is allowed; what can't be read is passed over; secrets never count."""
    loaded = keys_of_set(json.dumps({"keys": entries}), algorithms, secrets=False, name="the set")
    assert [(each.algorithm, each.kid) for each in loaded] == found


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": 1}', '{"keys": []}', json.dumps({"keys": [SYMMETRIC]}), "[" * 9999]
)
def test_what_is_no_set_is_refused(text: str) -> None:
    """A sentence with its name, and none of its content."""
    with pytest.raises(InvalidKey, match=r"^the set ") as caught:
        keys_of_set(text, (), secrets=False, name="the set")
    assert "c2VjcmV0" not in str(caught.value)


def test_secrets_may_come_from_a_file(tmp_path: Path) -> None:
    """A set in a file of the hub's own may have symmetric keys."""
    (tmp_path / "set").write_text(json.dumps({"keys": [{**SYMMETRIC, "kid": "a"}]}))
    rings = rings_of(Settings(publisher_jwks_url=f"file://{tmp_path}/set", anonymous=True))
    assert [(each.algorithm, each.kid, each.weak) for each in rings.publisher.keys] == [("HS256", "a", True)]
    with pytest.raises(InvalidKey, match="cannot be read"):
        rings_of(Settings(publisher_jwks_url=f"file://{tmp_path}/none"))


def test_one_set_is_fetched_once() -> None:
    """However many roles and issuers name it; a reload keeps it."""
    source = KeySource(jwks_url="https://a.example/jwks")
    settings = Settings(
        publisher_jwks_url="https://a.example/jwks",
        subscriber_jwks_url="https://b.example/jwks",
        issuers=(Issuer("https://a.example", source, source), Issuer("https://b.example", publisher=source)),
    )
    first = rings_of(settings)
    assert sorted(each.url for each in first.remote) == ["https://a.example/jwks", "https://b.example/jwks"]
    assert set(rings_of(settings, first.remote).remote) == set(first.remote)


def test_an_issuer_of_the_other_role_has_no_keys_here() -> None:
    """One that may publish alone is not verified with the subscribers' key, even if it is trusted by name."""
    name = ISSUERS[0]
    settings = Settings(
        publisher_jwt_key=SECRETS["own"],
        subscriber_jwt_key=SECRETS["own"],
        trusted_issuers=(name,),
        issuers=(Issuer(name, publisher=KeySource(SECRETS[name], ("HS256",))),),
    )
    rings = rings_of(settings)
    assert accepted(rings.publisher, signed(SECRETS[name], iss=name))
    assert not accepted(rings.subscriber, signed(SECRETS["own"], iss=name))
    assert isinstance(rings.publisher.keys[0], VerificationKey)
