"""The rules of hub/keys.py: one key, one algorithm, and errors that name the setting but never the key."""

import base64
import json
import warnings
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.auth.keys import InvalidKey, InvalidSignature, VerificationKey, load_keys, sign
from hub.config.values import ALGORITHMS

SECRET = "!ChangeThisMercureHubJWTSecretKey!"
CLAIMS = {"mercure": {"publish": ["*"]}}


def pair(private: Any) -> tuple[str, str]:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode(), private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA = rsa.generate_private_key(65537, 2048)
PAIRS = {
    "RS": pair(RSA),
    "PS": pair(RSA),
    "ES256": pair(ec.generate_private_key(ec.SECP256R1())),
    "ES384": pair(ec.generate_private_key(ec.SECP384R1())),
    "ES512": pair(ec.generate_private_key(ec.SECP521R1())),
    "EdDSA": pair(ed25519.Ed25519PrivateKey.generate()),
    "Ed448": pair(ed448.Ed448PrivateKey.generate()),
}


def keys(algorithm: str) -> tuple[str, str]:
    """What signs and what verifies."""
    if algorithm.startswith("HS"):
        return SECRET * 2, SECRET * 2
    return PAIRS.get(algorithm) or PAIRS[algorithm[:2]]


def load(key: str, algorithm: str = "HS256") -> VerificationKey:
    (loaded,) = load_keys(key, algorithm, name="MERCURE_JWT_KEY")
    return loaded


def segments(*parts: object) -> str:
    """A token of raw parts: JSON for what is no bytes."""
    raw = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in raw)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_key_signs_its_other_half_verifies(algorithm: str) -> None:
    """Every supported algorithm, with the header's type as it was asked for."""
    private, public = keys(algorithm)
    token = load(public, algorithm).verify(sign(CLAIMS, private, algorithm, type="at+jwt"))
    assert token.claims == CLAIMS
    assert token.header == {"alg": algorithm, "typ": "at+jwt"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_private_key_verifies_as_its_public_half(algorithm: str) -> None:
    """A private key that is configured by mistake works; only the public half is kept."""
    private, _ = keys(algorithm)
    key = load(private, algorithm)
    assert key.verify(sign(CLAIMS, private, algorithm, type="JWT")).claims == CLAIMS
    assert "Private" not in type(key._key).__name__


def test_ed448_is_an_eddsa_key() -> None:
    """EdDSA is both curves (RFC 8037)."""
    private, public = PAIRS["Ed448"]
    assert load(public, "EdDSA").verify(sign(CLAIMS, private, "EdDSA", type="JWT")).claims == CLAIMS


def test_a_pem_may_come_from_a_file_or_in_one_line(tmp_path: Path) -> None:
    """A path, a file: URL, or a text whose newlines an environment file has escaped."""
    private, public = keys("ES256")
    file = tmp_path / "key.pem"
    file.write_text(public)
    token = sign(CLAIMS, private.replace("\n", "\\n"), "ES256", type="JWT")
    for key in (public, f"\n {public}", public.replace("\n", "\\n"), str(file), f"file://{file}"):
        assert load(key, "ES256").verify(token).claims == CLAIMS


def test_a_secret_may_come_from_a_file_url(tmp_path: Path) -> None:
    """The newline that editors add to a file is no part of the secret."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    assert load(f"file://{file}").verify(sign(CLAIMS, SECRET, "HS256", type="JWT"))
    with pytest.raises(InvalidKey, match="file://"):
        load(str(file))


def test_short_secrets_serve_and_are_weak() -> None:
    """0.x deployments have short secrets: nobody is warned for each token, but settings can tell once."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        key = load("short")
        assert key.verify(sign(CLAIMS, "short", "HS256", type="JWT")).claims == CLAIMS
    assert key.weak
    assert not load(SECRET).weak
    assert load(SECRET, "HS512").weak
    assert load("/not/a/file/but/base64/with/slashes=").weak is False


@pytest.mark.parametrize(
    ("key", "algorithm", "hint"),
    [
        (SECRET, "none", "unknown algorithm"),
        (SECRET, "HS1", "unknown algorithm"),
        (SECRET, "", "unknown algorithm"),
        ("", "HS256", "empty"),
        ("  ", "RS256", "empty"),
        (keys("RS256")[1], "HS256", "RS256"),
        (keys("RS256")[1].replace("\n", "\\n"), "HS256", "RS256"),
        (keys("RS256")[0], "HS512", "RS256"),
        ('{"kty":"oct","k":"AAAA"}', "HS256", "secret"),
        (SECRET, "RS256", "PEM"),
        (SECRET, "EdDSA", "PEM"),
        (keys("ES256")[1], "RS256", "RSA"),
        (keys("RS256")[1], "ES256", "secp256r1"),
        (keys("ES384")[1], "ES256", "secp256r1"),
        (keys("ES256")[1], "EdDSA", "Ed25519"),
        (pair(rsa.generate_private_key(65537, 1024))[1], "RS256", "2048"),
        (pair(x25519.X25519PrivateKey.generate())[1], "EdDSA", "Ed25519"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "RS256", "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "RS256", "BEGIN PUBLIC KEY"),
        (
            RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode(),
            "RS256",
            "unencrypted",
        ),
        ("/no/such/file.pem", "RS256", "file"),
        ("file:///no/such/secret", "HS256", "file"),
        ("file:///", "HS256", "file"),
        ("/\x00", "RS256", "file"),
        ("\ud800", "HS256", "secret"),
    ],
)
def test_a_key_that_cannot_serve_is_refused(key: str, algorithm: str, hint: str) -> None:
    """The error names the setting and the way out, and holds nothing of the key."""
    with pytest.raises(InvalidKey, match=hint) as caught:
        load(key, algorithm)
    assert "MERCURE_JWT_KEY" in str(caught.value)
    assert not key.strip() or key not in str(caught.value)
    assert caught.value.__cause__ is None


def test_only_a_private_key_signs() -> None:
    """A public key given to sign is an error that says so."""
    with pytest.raises(InvalidKey, match="private"):
        sign(CLAIMS, keys("RS256")[1], "RS256", type="JWT")


def test_a_key_does_not_show_itself() -> None:
    """A key in a log or a traceback tells its algorithm alone."""
    assert SECRET not in repr(load(SECRET))


FORGED = {
    "none": segments({"alg": "none"}, CLAIMS, b""),
    "None": segments({"alg": "None"}, CLAIMS, b""),
    "no alg": segments({}, CLAIMS, b"x"),
    "alg as list": segments({"alg": ["HS256"]}, CLAIMS, b"x"),
    "alg as object": segments({"alg": {}}, CLAIMS, b"x"),
    "another key": sign(CLAIMS, SECRET + "x", "HS256", type="JWT"),
    "another algorithm": sign(CLAIMS, SECRET, "HS384", type="JWT"),
    "header is a list": segments([], CLAIMS, b"x"),
    "nested header": segments(b'{"alg":' + b"[" * 5000 + b"]" * 5000 + b"}", CLAIMS, b"x"),
    "b64": segments({"alg": "HS256", "b64": False, "crit": ["b64"]}, CLAIMS, b"x"),
    "kid as number": segments({"alg": "HS256", "kid": 1}, CLAIMS, b"x"),
    "two segments": "a.b",
    "four segments": "a.b.c.d",
    "five segments": "a.b.c.d.e",
    "empty": "",
    "dots": "..",
    "not ASCII": "é.é.é",
    "surrogate": "\ud800.a.b",
    "blank": " . . ",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_forged_tokens_do_not_verify(token: str) -> None:
    """Whatever the token says of itself, one key with one algorithm decides."""
    with pytest.raises(InvalidSignature):
        load(SECRET).verify(token)


def test_a_public_key_is_no_secret() -> None:
    """The algorithm swap: signing with HMAC and the public PEM as the secret (RFC 8725 section 2.1)."""
    public = keys("RS256")[1]
    forged = segments({"alg": "HS256"}, CLAIMS)
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(forged.encode(), public.encode())
    with pytest.raises(InvalidSignature):
        load(public, "RS256").verify(f"{forged}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


def signed(payload: bytes, **header: object) -> str:
    """Rightly signed, whatever the payload."""
    head = segments({"alg": "HS256", **header}) + "." + segments(payload)
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head.encode(), SECRET.encode())
    return head + "." + segments(signature)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b"{",
        b"\xff",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"1" * 5000 + b"}",
        b"a.b.c",
    ],
)
def test_a_signed_payload_must_be_one_plain_object(payload: bytes) -> None:
    """No nesting bombs, no NaN, no name twice, no other JSON value, even from who has the key."""
    with pytest.raises(InvalidSignature):
        load(SECRET).verify(signed(payload))


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], "b64", None])
def test_critical_headers_are_refused(crit: object) -> None:
    """RFC 7515 section 4.1.11: an extension that is not understood makes the token invalid; the hub knows none."""
    with pytest.raises(InvalidSignature):
        load(SECRET).verify(signed(b"{}", crit=crit, b64=True))


def test_keys_in_the_token_are_ignored() -> None:
    """jwk, jku, x5u and x5c bring no key."""
    other = {"kty": "oct", "k": base64.urlsafe_b64encode(b"mine").decode()}
    with pytest.raises(InvalidSignature):
        load(SECRET).verify(
            jwt.PyJWS().encode(b"{}", "m" * 32, "HS256", headers={"jwk": other, "jku": "http://127.0.0.1/"})
        )
    assert load(SECRET).verify(signed(b"{}", jwk=other, jku="http://127.0.0.1/", x5u="x", kid="any")).claims == {}


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.binary().map(lambda raw: raw.decode("latin-1")),
        st.lists(st.binary(), max_size=4).map(lambda p: segments(*p)),
    )
)
def test_any_text_either_verifies_or_is_an_invalid_signature(token: str) -> None:
    """Nothing else is ever raised, for a secret and for a public key."""
    for key in (load(SECRET), load(keys("ES256")[1], "ES256"), load(keys("EdDSA")[1], "EdDSA")):
        with pytest.raises(InvalidSignature):
            key.verify(token)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA"])
@pytest.mark.parametrize("as_file", [False, True])
def test_a_token_is_no_key(algorithm: str, as_file: bool, tmp_path: Path) -> None:
    """What jwt.io shows first, pasted as the key, ends the start with a sentence that does not hold it."""
    token = sign(CLAIMS, SECRET, "HS256", type="JWT")
    (tmp_path / "key").write_text(token)
    with pytest.raises(InvalidKey, match="NAME is a token, not a key") as caught:
        load_keys(f"file://{tmp_path}/key" if as_file else token, algorithm, name="NAME")
    assert token not in str(caught.value)


@pytest.mark.parametrize("secret", ["a.b.c", "eyJhbGciOiJIUzI1NiJ9.x", "one.two.three", "Zm9v.YmFy.YmF6"])
def test_a_secret_with_dots_is_a_secret(secret: str) -> None:
    """Only three parts whose first is a JSON object make a token."""
    assert load(secret).algorithm == "HS256"
