"""A token explained: what a hub with these settings would make of it, check by check."""

import time
from datetime import UTC, datetime

from hub.auth.grants import Grants
from hub.auth.judging import Check, Judge
from hub.auth.sources import rings_of
from hub.config.settings import Settings
from hub.generations import generations_in
from hub.matching.matchers import Matcher, Matching
from hub.problems import InvalidToken, Reason


def explained(text: str, role: str, settings: Settings, url: str) -> tuple[bool, list[str]]:
    """Whether the token is accepted, and the lines that say why. Raises `hub.auth.keys.InvalidKey`.

    ``url``: the hub's, which counts where the settings name no resource identifier. JWK Sets are not fetched.
    """
    rings = rings_of(settings)
    audience = settings.resource_identifier or url
    ring = rings.publisher if role == "publisher" else rings.subscriber
    judge = Judge(ring, audience, generations_in(settings.protocol), Matching(audience))
    checks: list[Check] = []
    lines = [f"the keys at {each.url} are not fetched here" for each in rings.remote]
    try:
        grants = judge.grants(text, time.time(), checks)
    except InvalidToken as error:
        lines += [f"{name}: {found}" for name, found in checks]
        return False, [*lines, f"refused: {error.refusal.reason}: {error.refusal.sentence}"]
    lines += [f"{name}: {found}" for name, found in checks]
    lines += _granted(grants)
    if role == "publisher" and not grants.publish:
        return False, [*lines, f"refused: {Reason.NO_GRANT}: it grants no publishing; name topics to publish to in it"]
    return True, [*lines, f"accepted, for a {role}"]


def _granted(grants: Grants) -> list[str]:
    until = "for ever"
    if grants.expires is not None:
        until = f"until {datetime.fromtimestamp(grants.expires, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return [
        f"may publish to: {_listed(grants.publish)}",
        f"may receive private updates of: {_listed(grants.subscribe)}",
        f"a token of {grants.generation}, valid {until}",
    ]


def _listed(topics: tuple[Matcher, ...]) -> str:
    shown = (each.pattern if each.type in ("exact", "topic") else f"{each.type} {each.pattern}" for each in topics)
    return ", ".join(shown) or "nothing"
