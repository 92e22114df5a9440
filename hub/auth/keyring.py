"""Which keys a token is tried with: the keys of one role, by issuer, algorithm and key id.

Theory of operation. A ring has *own* keys, which the role's settings name, and keys *of issuers*. A token of 0.x names
nobody, and is tried with own keys. One of 1.0 says who has issued it (``iss``): an issuer that has keys in the ring is
verified with those alone, one that is only trusted by name with own keys, and any other with none. What the token says
of itself, unverified, thus only chooses among keys that somebody has configured; it never brings one.

A `RemoteSet` changes while the hub runs, and a reload puts another ring in the place of this one. Whoever keeps what a
token allowed, a stream, keeps `Verified` with it, and asks `holds` whether the ring still has that key for that issuer.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from hub.auth.keys import InvalidSignature, VerificationKey

MAX_TRIED = 16
"""Keys that one token is tried with: each costs a signature check."""


class KeySet(Protocol):
    """Keys from one place."""

    @property
    def keys(self) -> Sequence[VerificationKey]:
        """Those that are at hand now."""

    def missed(self) -> None:
        """A token names a key that is not among them."""


@dataclass(frozen=True)
class FixedKeys:
    """Keys that stay as they are until they are read again."""

    keys: tuple[VerificationKey, ...]

    def missed(self) -> None:
        """Nothing can be done."""


class Verified(NamedTuple):
    """``issuer``: None for a token of 0.x, whatever it says."""

    key: VerificationKey
    issuer: str | None


class KeyRing:
    """``trusted``: issuers without keys of their own, whose tokens are verified with ``own``."""

    def __init__(
        self,
        own: Sequence[KeySet] = (),
        issuers: Mapping[str, Sequence[KeySet]] | None = None,
        trusted: Sequence[str] = (),
    ) -> None:
        self._own = tuple(own)
        self._issuers = dict(issuers or {})
        self._trusted = frozenset(trusted)

    @property
    def keys(self) -> Sequence[VerificationKey]:
        """All that are at hand now."""
        sets = (*self._own, *(each for sets in self._issuers.values() for each in sets))
        return [key for each in sets for key in each.keys]

    def knows(self, issuer: str) -> bool:
        """Whether the issuer of a token of 1.0 is trusted by name, or has keys here."""
        return issuer in self._issuers or issuer in self._trusted

    def of_issuer(self, issuer: str | None) -> Sequence[VerificationKey]:
        """The keys that may verify its tokens; None: those of tokens of 0.x."""
        return [key for each in self._sets_of(issuer) for key in each.keys]

    def holds(self, verified: Verified) -> bool:
        """Whether the key that has verified a token would do so now."""
        return any(verified.key in each.keys for each in self._sets_of(verified.issuer))

    def _sets_of(self, issuer: str | None) -> Sequence[KeySet]:
        if issuer is None:
            return self._own
        return self._issuers.get(issuer, self._own if issuer in self._trusted else ())

    def candidates(self, header: Mapping[str, Any], issuer: str | None) -> Sequence[VerificationKey]:
        """The keys that a token with that header is tried with, in their order."""
        sets, kid = self._sets_of(issuer), header.get("kid")
        keys = [key for each in sets for key in each.keys if key.algorithm == header.get("alg")]
        if kid is not None:
            named = [key for key in keys if key.kid == kid]
            if not named:
                for each in sets:
                    each.missed()
            keys = named or [key for key in keys if key.kid is None]
        return keys[:MAX_TRIED]


def is_access_token(header: Mapping[str, Any]) -> bool:
    """Whether it is a token of 1.0 (RFC 9068 section 4); a media type is compared as RFC 7515 section 4.1.9 says."""
    kind = header.get("typ")
    return isinstance(kind, str) and kind.lower().removeprefix("application/") == "at+jwt"


def issuer_of(claims: Mapping[str, Any]) -> str | None:
    """RFC 9068 section 2.2; None: it names none."""
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def peek(text: str, part: int) -> Mapping[str, Any]:
    """An object in a token, unverified. Raises `InvalidSignature`."""
    try:
        encoded = text.split(".")[part]
        found = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, IndexError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidSignature("it is not a token")
    return found
