"""Keys that verify and sign tokens. A key has one algorithm, and the token has no say in it (RFC 8725 section 3.1).

A key's text is a secret, one or more keys or certificates as PEM, or the file that has either; a JWK Set (RFC 7517) is
read by `keys_of_set`. Which of all keys a token is tried with is `hub.auth.keyring`'s business.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

from hub.config.values import ALGORITHMS

_DIGESTS = {"HS256": 32, "HS384": 48, "HS512": 64}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_PEM = "-----BEGIN"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_SMALLEST_RSA = 2048  # bits; RFC 7518 section 3.3
MAX_KEYS = 64
"""Keys of one file or set."""

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
    weak: bool = field(compare=False)
    """Shorter than its digest (RFC 7518 section 3.2): guessable, but what many 0.x deployments have."""
    kid: str | None
    """Its name in a JWK Set; None: it has none, and tokens that name any may be signed with it."""
    _jws: jwt.PyJWS = field(repr=False, compare=False)
    _key: bytes | _PublicKey = field(repr=False)

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


def load_keys(key: str, algorithm: str, *, name: str) -> tuple[VerificationKey, ...]:
    """``key``: a secret, a PEM text with keys or certificates, or the path or file: URL of such a file.

    A private key yields its public half. ``name``: the setting, for errors. Raises `InvalidKey`.
    """
    if algorithm in _DIGESTS:
        secret = _secret(key, algorithm, name)
        return (VerificationKey(algorithm, len(secret) < _DIGESTS[algorithm], None, _pinned(algorithm), secret),)
    found: list[VerificationKey] = []
    for loaded in _asymmetric(key, algorithm, name):
        public = loaded.public_key() if isinstance(loaded, _PrivateKey) else loaded
        each = VerificationKey(algorithm, False, None, _pinned(algorithm), public)
        if each not in found:  # a certificate beside its own private key
            found.append(each)
    return tuple(found)


def keys_of_set(
    text: str | bytes, algorithms: Sequence[str], *, secrets: bool, name: str
) -> tuple[VerificationKey, ...]:
    """The usable keys of a JWK Set. ``algorithms``: those that they may verify, () for all that are asymmetric.

    A key without ``alg`` verifies each of them that fits it. ``secrets``: whether symmetric keys count, which they must
    not where the set came over a network. Raises `InvalidKey`: it is no set, or none of its keys can be used.
    """
    allowed = algorithms or [each for each in ALGORITHMS if each not in _DIGESTS or secrets]
    try:
        entries = json.loads(text)["keys"]
        listed = [each for each in entries if isinstance(each, dict)][:MAX_KEYS]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise InvalidKey(f"{name} is not a JWK Set (RFC 7517)") from None
    found = [key for each in listed for key in _keys_of_jwk(each, allowed, secrets=secrets)]
    if not found:
        raise InvalidKey(f"{name} has no key that can be used; it may verify {', '.join(allowed)}")
    return tuple(found[:MAX_KEYS])


def _keys_of_jwk(entry: dict[str, Any], allowed: Sequence[str], *, secrets: bool) -> Iterator[VerificationKey]:
    """One for each algorithm; none for a key that is for something else, or that can't be read."""
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return
    kid = entry.get("kid") if isinstance(entry.get("kid"), str) else None
    try:
        loaded = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return
    public = loaded.public_key() if isinstance(loaded, _PrivateKey) else loaded
    for algorithm in allowed:
        if entry.get("alg", algorithm) != algorithm:
            continue
        if isinstance(public, bytes):
            if secrets and algorithm in _DIGESTS:
                weak = len(public) < _DIGESTS[algorithm]
                yield VerificationKey(algorithm, weak, kid, _pinned(algorithm), public)
        elif algorithm not in _DIGESTS and not _fault(public, algorithm):
            yield VerificationKey(algorithm, False, kid, _pinned(algorithm), public)


def read_set(url: str) -> bytes:
    """The content of a ``file:///`` set. Raises OSError."""
    return Path(urlsplit(url).path).read_bytes()


def sign(claims: Mapping[str, object], key: str, algorithm: str, *, type: str, kid: str | None = None) -> str:
    """A token with ``claims`` and the header ``typ``. ``key``: a secret, or a private key as for verification.

    Raises `InvalidKey`.
    """
    name = "the signing key"
    if algorithm in _DIGESTS:
        secret: Any = _secret(key, algorithm, name)
    else:
        private = [each for each in _asymmetric(key, algorithm, name) if isinstance(each, _PrivateKey)]
        if len(private) != 1:
            raise InvalidKey(f"{name} must be one private key: a public one only verifies")
        (secret,) = private
    payload = json.dumps(claims, separators=(",", ":")).encode()
    headers = {"typ": type, **({"kid": kid} if kid else {})}
    return _pinned(algorithm).encode(payload, secret, algorithm, headers=headers)


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


def _asymmetric(key: str, algorithm: str, name: str) -> list[_PublicKey | _PrivateKey]:
    if algorithm not in ALGORITHMS:
        raise InvalidKey(f"{name} has an unknown algorithm: use one of {', '.join(ALGORITHMS)}")
    loaded = _load_pem(_pem(key, algorithm, name), name)
    fault = next(filter(None, (_fault(each, algorithm) for each in loaded)), "")
    if fault:
        raise InvalidKey(f"{name} does not fit the algorithm {algorithm}, which takes {fault}")
    return loaded  # type: ignore[return-value]  # _fault has checked their types


def _pem(key: str, algorithm: str, name: str) -> str:
    text = key.strip()
    if not text:
        raise InvalidKey(f"{name} is empty: {algorithm} takes a PEM text, or the path of a PEM file")
    if not text.startswith(_PEM) and text.startswith(("/", "./", "../", "file:")):
        text = _read(text, name).strip()
    _refuse_token(text, name)
    if _PEM not in text:
        raise InvalidKey(
            f"{name} is no PEM text and no path of a file, and {algorithm} takes one; a secret takes HS256"
        )
    return text.replace("\\n", "\n")  # environment files often hold a PEM text in one line


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


def _load_pem(text: str, name: str) -> list[object]:
    """Each key of it, and the key of each certificate; elliptic curve parameters, which OpenSSL writes, are none."""
    blocks = [match[0].encode() for match in _BLOCK.finditer(text) if match[1] != "EC PARAMETERS"]
    try:
        if not 0 < len(blocks) <= MAX_KEYS:
            raise ValueError
        return [
            load_pem_private_key(each, password=None)
            if b"PRIVATE KEY" in each
            else load_pem_x509_certificate(each).public_key()
            if b"BEGIN CERTIFICATE" in each
            else load_pem_public_key(each)
            for each in blocks
        ]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKey(
            f"{name} cannot be read: give unencrypted keys or certificates, as PEM with BEGIN PUBLIC KEY, BEGIN PRIVATE"
            f" KEY or BEGIN CERTIFICATE, at most {MAX_KEYS}"
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
