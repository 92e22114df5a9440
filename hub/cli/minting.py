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


class Grant(NamedTuple):
    """What a token allows, for ``lifetime`` seconds. ``payload``: what its subscriptions show; ``sub``: who it is."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    lifetime: float
    payload: object = None
    sub: str | None = None

    @property
    def actions(self) -> Mapping[str, Sequence[str]]:
        """The selectors of each action that is granted at all."""
        both = {"publish": self.publish, "subscribe": self.subscribe}
        return {action: selectors for action, selectors in both.items() if selectors}


def mint(grant: Grant, signing: Signing, names: tuple[str, str] | None = None, kid: str | None = None) -> str:
    """A token of 0.x, or of 1.0 with ``names``: its issuer and audience. ValueError, `hub.auth.keys.InvalidKey`."""
    now = time.time()
    claims = of_0x(grant, now) if names is None else of_1_0(grant, now, *names)
    return sign(claims, *signing, type="JWT" if names is None else "at+jwt", kid=kid)


def of_0x(grant: Grant, now: float) -> Claims:
    """The claim ``mercure`` with its selectors: a topic, a URI Template or ``*``. ``now``: a Unix time.

    ValueError: a selector is a URL pattern, which 0.x does not know.
    """
    for selector in (*grant.publish, *grant.subscribe):
        if selector.startswith(PATTERN_PREFIX):
            raise ValueError(f"{selector!r}: a 0.x token knows no URL patterns; use a URI Template, or 1.0")
    granted: dict[str, object] = {action: list(selectors) for action, selectors in grant.actions.items()}
    if grant.payload is not None:
        granted["payload"] = grant.payload
    return {"mercure": granted, "exp": int(now + grant.lifetime), **({"sub": grant.sub} if grant.sub else {})}


def of_1_0(grant: Grant, now: float, issuer: str, audience: str) -> Claims:
    """A JWT access token (RFC 9068) with authorization details (RFC 9396). ``now``: a Unix time.

    A selector is an exact topic, ``*``, or a URL pattern behind ``urlpattern:``.
    """
    return {
        "iss": issuer,
        "aud": audience,
        "sub": grant.sub or issuer,
        "client_id": issuer,
        "iat": int(now),
        "exp": int(now + grant.lifetime),
        "jti": f"urn:uuid:{uuid.uuid4()}",
        "authorization_details": [_detail(grant, action) for action in grant.actions],
    }


def _detail(grant: Grant, action: str) -> Mapping[str, object]:
    topics = [_matcher(each) for each in grant.actions[action]]
    shows = {"payload": grant.payload} if action == "subscribe" and grant.payload is not None else {}
    return {"type": AUTHORIZATION_DETAIL, "actions": [action], "topics": topics, **shows}


def _matcher(selector: str) -> Mapping[str, str]:
    if selector.startswith(PATTERN_PREFIX):
        return {"match": selector.removeprefix(PATTERN_PREFIX), "match_type": "urlpattern"}
    return {"match": selector}  # exact, unless it says otherwise
