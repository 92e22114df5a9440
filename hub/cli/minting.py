"""What a token says in either generation of the protocol, and the token that says it."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hub.auth.keys import sign

AUTHORIZATION_DETAIL = "https://mercure.rocks/authorization-detail"
PATTERN_PREFIX = "urlpattern:"
"""Marks a selector as a URL pattern, where its text alone cannot say so."""

Claims = dict[str, object]


class Signing(NamedTuple):
    """A secret or private key, and the algorithm to sign with."""

    key: str
    algorithm: str


def mint_0x(publish: Sequence[str], subscribe: Sequence[str], lifetime: float, signing: Signing) -> str:
    """A 0.x token for ``lifetime`` seconds. ValueError, `hub.auth.keys.InvalidKey`."""
    return sign(of_0x(publish, subscribe, time.time() + lifetime), *signing, type="JWT")


def mint_1_0(
    publish: Sequence[str], subscribe: Sequence[str], lifetime: float, signing: Signing, *, issuer: str, audience: str
) -> str:
    """A 1.0 token for ``lifetime`` seconds. `hub.auth.keys.InvalidKey`."""
    now = time.time()
    claims = of_1_0(publish, subscribe, now + lifetime, now=now, issuer=issuer, audience=audience)
    return sign(claims, *signing, type="at+jwt")


def of_0x(publish: Sequence[str], subscribe: Sequence[str], expires: float) -> Claims:
    """The claim ``mercure`` with its selectors: a topic, a URI Template or ``*``. ``expires``: a Unix time.

    ValueError: a selector is a URL pattern, which 0.x does not know.
    """
    for selector in (*publish, *subscribe):
        if selector.startswith(PATTERN_PREFIX):
            raise ValueError(f"{selector!r}: a 0.x token knows no URL patterns; use a URI Template, or 1.0")
    granted = {"publish": list(publish), "subscribe": list(subscribe)}
    return {"mercure": {action: topics for action, topics in granted.items() if topics}, "exp": int(expires)}


def of_1_0(
    publish: Sequence[str], subscribe: Sequence[str], expires: float, *, now: float, issuer: str, audience: str
) -> Claims:
    """A JWT access token (RFC 9068) with authorization details (RFC 9396). ``now``, ``expires``: Unix times.

    A selector is an exact topic, ``*``, or a URL pattern behind ``urlpattern:``.
    """
    return {
        "iss": issuer,
        "aud": audience,
        "sub": issuer,
        "client_id": issuer,
        "iat": int(now),
        "exp": int(expires),
        "jti": f"urn:uuid:{uuid.uuid4()}",
        "authorization_details": [
            _detail(action, topics) for action, topics in (("publish", publish), ("subscribe", subscribe)) if topics
        ],
    }


def _detail(action: str, selectors: Sequence[str]) -> Mapping[str, object]:
    return {"type": AUTHORIZATION_DETAIL, "actions": [action], "topics": [_matcher(each) for each in selectors]}


def _matcher(selector: str) -> Mapping[str, str]:
    if selector.startswith(PATTERN_PREFIX):
        return {"match": selector.removeprefix(PATTERN_PREFIX), "match_type": "urlpattern"}
    return {"match": selector}  # exact, unless it says otherwise
