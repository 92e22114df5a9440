"""A token explained: what a hub makes of it, check by check, and what it grants. Pure."""

import time
from datetime import UTC, datetime

from hub.auth.grants import Grants
from hub.auth.judging import Check, Judge
from hub.matching.matchers import Matcher
from hub.problems import InvalidToken, Reason


def explained(judge: Judge, role: str, text: str) -> tuple[bool, list[str]]:
    """Whether the token is accepted for that role (``publisher``, ``subscriber``), and the lines that say why."""
    checks: list[Check] = []
    try:
        grants = judge.grants(text, time.time(), checks)
    except InvalidToken as error:
        lines = [f"{name}: {found}" for name, found in checks]
        return False, [*lines, f"refused: {error.refusal.reason}: {error.refusal.sentence}"]
    lines = [*(f"{name}: {found}" for name, found in checks), *_granted(grants)]
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
