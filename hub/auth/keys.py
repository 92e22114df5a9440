"""Keys that verify and sign tokens. A key has one algorithm, and the token has no say in it (RFC 8725 section 3.1)."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

from hub.config.values import ALGORITHMS

_DIGESTS = {"HS256": 32, "HS384": 48, "HS512": 64}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_PEM = "-----BEGIN"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SMALLEST_RSA = 2048  # bits; RFC 7518 section 3.3

_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class InvalidKey(ValueError):
    """A configured key cannot be used; the sentence names the setting and the way out, never the key."""


class InvalidSignature(ValueError):
    """The token is not one that the key has signed, or it is not well-formed."""


class Token(NamedTuple):
    """What a token holds whose signature was verified. No claim has been judged yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key with the one algorithm that it verifies."""

    algorithm: str
    weak: bool  # shorter than its digest (RFC 7518 section 3.2): guessable, but what many 0.x deployments have
    _jws: jwt.PyJWS = field(repr=False)
    _key: bytes | _PublicKey = field(repr=False)

    @classmethod
    def load(cls, key: str, algorithm: str, *, name: str) -> "VerificationKey":
        """``key``: a secret, a PEM text, or the path or file: URL of a PEM file. ``name``: the setting, for errors.

        A private key yields its public half. Raises `InvalidKey`.
        """
        if algorithm in _DIGESTS:
            secret = _secret(key, algorithm, name)
            return cls(algorithm, len(secret) < _DIGESTS[algorithm], _pinned(algorithm), secret)
        loaded = _asymmetric(key, algorithm, name)
        public = loaded.public_key() if isinstance(loaded, _PrivateKey) else loaded
        return cls(algorithm, False, _pinned(algorithm), public)

    def verify(self, token: str) -> Token:
        """Raises `InvalidSignature`: another key or algorithm, not a compact JWS, or not an object of claims.

        A critical extension (``crit``) is refused, for the hub knows none; so is a name that stands twice in an object
        (RFC 7519 section 4).
        """
        try:
            found = self._jws.decode_complete(token, self._key, algorithms=[self.algorithm])
            claims = json.loads(found["payload"], object_pairs_hook=_unique, parse_constant=_no_constant)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidSignature("the token does not verify") from None
        if "crit" in found["header"] or not isinstance(claims, dict):
            raise InvalidSignature("the token does not verify")
        return Token(found["header"], claims)


def sign(claims: Mapping[str, object], key: str, algorithm: str, *, type: str) -> str:
    """A token with ``claims`` and the header ``typ``. ``key``: a secret, or a private key as for verification.

    Raises `InvalidKey`.
    """
    name = "the signing key"
    if algorithm in _DIGESTS:
        secret: Any = _secret(key, algorithm, name)
    else:
        secret = _asymmetric(key, algorithm, name)
        if not isinstance(secret, _PrivateKey):
            raise InvalidKey(f"{name} is a public key, which only verifies: give the private key")
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return _pinned(algorithm).encode(payload, secret, algorithm, headers={"typ": type})


class _Secret(HMACAlgorithm):
    """HMAC with a secret that was judged when it was loaded, where PyJWT would judge and warn for every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> None:
        return None


def _pinned(algorithm: str) -> jwt.PyJWS:
    """A verifier that knows no other algorithm."""
    jws = jwt.PyJWS(algorithms=[])
    known = get_default_algorithms()[algorithm]
    jws.register_algorithm(algorithm, _Secret(known.hash_alg) if isinstance(known, HMACAlgorithm) else known)
    return jws


def _secret(key: str, algorithm: str, name: str) -> bytes:
    text = _read(key, name).removesuffix("\n") if key.startswith("file:") else key
    _refuse_token(text, name)
    if not text:
        raise InvalidKey(f"{name} is empty: set it to a secret of at least {_DIGESTS[algorithm]} random characters")
    # A secret may begin with a slash too; a path that is too long for one, or holds a NUL, is none.
    is_file = False
    with suppress(OSError, ValueError):
        is_file = text.startswith("/") and Path(text).is_file()
    if is_file or text.startswith(("/run/secrets/", "./", "../")):
        raise InvalidKey(f"{name} is the path of a file, which would be its own secret: write it as a file:// URL")
    try:
        return get_default_algorithms()[algorithm].prepare_key(text)  # type: ignore[no-any-return]
    except (jwt.InvalidKeyError, UnicodeEncodeError):
        raise InvalidKey(
            f"{name} is a PEM, SSH or JSON key, and {algorithm} takes a secret: anybody with the public key could sign"
            " tokens with it; set the algorithm of the key, such as RS256, ES256 or EdDSA"
        ) from None


def _asymmetric(key: str, algorithm: str, name: str) -> _PublicKey | _PrivateKey:
    if algorithm not in ALGORITHMS:
        raise InvalidKey(f"{name} has an unknown algorithm: use one of {', '.join(ALGORITHMS)}")
    loaded = _load_pem(_pem(key, algorithm, name), name)
    fault = _fault(loaded, algorithm)
    if fault:
        raise InvalidKey(f"{name} does not fit the algorithm {algorithm}, which takes {fault}")
    return loaded  # type: ignore[return-value]  # _fault has checked its type


def _pem(key: str, algorithm: str, name: str) -> bytes:
    text = key.strip()
    if not text:
        raise InvalidKey(f"{name} is empty: {algorithm} takes a PEM text, or the path of a PEM file")
    if not text.startswith(_PEM) and text.startswith(("/", "./", "../", "file:")):
        text = _read(text, name).strip()
    _refuse_token(text, name)
    if not text.startswith(_PEM):
        raise InvalidKey(
            f"{name} is no PEM text and no path of a file, and {algorithm} takes one; a secret takes HS256"
        )
    return text.replace("\\n", "\n").encode()  # environment files often hold a PEM text in one line


def _refuse_token(text: str, name: str) -> None:
    """What jwt.io shows first is a token: as a secret it would verify nothing that anybody signs."""
    head, _, rest = text.partition(".")
    if rest.count(".") != 1 or _TOKEN.fullmatch(text) is None:
        return
    header: object = None
    with suppress(ValueError, RecursionError):
        header = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    if isinstance(header, dict):
        raise InvalidKey(f"{name} is a token, not a key: set it to the secret or the public key that verifies tokens")


def _load_pem(pem: bytes, name: str) -> object:
    try:
        if b"PRIVATE KEY" in pem:
            return load_pem_private_key(pem, password=None)
        return load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKey(
            f"{name} cannot be read: give one unencrypted key, as PEM with BEGIN PUBLIC KEY or BEGIN PRIVATE KEY"
        ) from None


def _fault(key: object, algorithm: str) -> str:
    """What the algorithm takes instead of ``key``; empty if it fits."""
    if algorithm in _CURVES:
        fits = (
            isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey)
            and key.curve.name == _CURVES[algorithm]
        )
        return "" if fits else f"an elliptic curve key on {_CURVES[algorithm]}"
    if algorithm in _RSA:
        fits = isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) and key.key_size >= _SMALLEST_RSA
        return "" if fits else f"an RSA key of at least {_SMALLEST_RSA} bits"
    edwards = ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey | ed448.Ed448PublicKey | ed448.Ed448PrivateKey
    return "" if isinstance(key, edwards) else "an Ed25519 or Ed448 key"


def _read(path: str, name: str) -> str:
    try:
        return Path(path.removeprefix("file://").removeprefix("file:")).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidKey(f"{name} names a file that cannot be read: {reason}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
