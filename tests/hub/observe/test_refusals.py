"""Each refusal has one word: in the log, in the metric, and in `explain`; and nobody's token in any of them."""

import logging
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import jwt
import pytest

from hub.cli.explaining import explained
from hub.config.settings import Settings
from hub.observe import refusals
from hub.observe.counts import Counts, Role
from hub.observe.refusals import Refusals
from hub.problems import InsufficientScope, Reason
from tests.hub.serving import KEY, TOPIC, bearer, serving

ISSUER = "https://issuer.example"
DETAIL = "https://mercure.rocks/authorization-detail"
OTHER = "another secret that is long enough for it"


def access_token(key: str = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    """A token of 1.0 for publishing; ``None`` takes a claim away."""
    granted = [{"type": DETAIL, "actions": ["publish"], "topics": [{"match": "*"}]}]
    whole = {"iss": ISSUER, "aud": "HUB", "exp": time.time() + 60, "authorization_details": granted, **changes}
    claims = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"typ": "at+jwt"})


def legacy(**claims: Any) -> str:
    return jwt.encode({"mercure": {"publish": ["*"]}, **claims}, KEY, "HS256")


@dataclass
class Case:
    """``make``: the token for a hub at this URL. ``status``: what the publisher gets."""

    reason: Reason
    make: Any
    status: int = 401
    settings: dict[str, Any] = field(default_factory=dict)
    as_cookie: bool = False


CASES = [
    Case(Reason.EXPIRED, lambda hub: access_token(aud=hub, exp=time.time() - 12)),
    Case(Reason.EXPIRED, lambda _hub: legacy(exp=time.time() - 12)),
    Case(Reason.NOT_YET_VALID, lambda hub: access_token(aud=hub, nbf=time.time() + 60)),
    Case(Reason.BAD_SIGNATURE, lambda hub: access_token(OTHER, aud=hub)),
    Case(Reason.WRONG_ALGORITHM, lambda hub: access_token(KEY * 2, "HS512", aud=hub)),
    Case(Reason.UNKNOWN_ISSUER, lambda hub: access_token(aud=hub, iss="https://stranger.example")),
    Case(Reason.WRONG_AUDIENCE, lambda _hub: access_token(aud="https://elsewhere.example")),
    Case(Reason.MISSING_CLAIM, lambda hub: access_token(aud=hub, exp=None)),
    Case(Reason.MISSING_CLAIM, lambda _hub: access_token(aud=None)),
    Case(Reason.MISSING_CLAIM, lambda hub: access_token(aud=hub, iss=None)),
    Case(Reason.MISSING_CLAIM, lambda _hub: jwt.encode({"sub": "x"}, KEY, "HS256")),
    Case(Reason.MALFORMED, lambda hub: access_token(aud=hub, authorization_details=["x"])),
    Case(Reason.MALFORMED, lambda _hub: "no.token.at-all"),
    Case(Reason.NO_GRANT, lambda _hub: jwt.encode({"mercure": {"subscribe": ["*"]}}, KEY, "HS256"), 403),
    Case(Reason.WRONG_GENERATION, lambda _hub: legacy(), settings={"protocol": "1.0"}),
    Case(Reason.WRONG_GENERATION, lambda hub: access_token(aud=hub), settings={"protocol": "0.x"}),
    Case(Reason.FOREIGN_ORIGIN, lambda _hub: legacy(), 403, as_cookie=True),
    Case(Reason.TOO_LARGE, lambda _hub: legacy(padding="x" * 9000)),
]


def test_every_reason_has_a_case() -> None:
    """All twelve words are tried."""
    assert {case.reason for case in CASES} == set(Reason)
    assert len(Reason) == 12


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.reason))
@pytest.mark.parametrize("tells", [False, True])
async def test_one_word_everywhere(case: Case, tells: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Provoked over HTTP: the same word in log, metric and `explain`; the client is told in --dev alone."""
    caplog.set_level(logging.INFO, "hub")
    async with serving(trusted_issuers=(ISSUER,), tell_reasons=tells, **case.settings) as served:
        token = case.make(served.url)
        headers = bearer(token)
        if case.as_cookie:
            headers = {"Cookie": f"mercureAuthorization={token}", "Origin": "https://evil.example"}
        answer = await served.post({"topic": TOPIC, "data": "x"}, headers=headers)
        assert answer.status_code == case.status
        metric = await scrape(served.url, served.client, served.hub.admin)
        settings = replace(served.hub.settings, resource_identifier=served.url)
    (line,) = [each for each in caplog.messages if each.startswith("refused ")]
    assert line.startswith(f"refused publisher 127.0.0.1: {case.reason}: ")
    assert f'mercure_auth_failures_total{{reason="{case.reason}",role="publisher"}} 1.0' in metric
    assert 'mercure_updates_failed_total{reason="refused"} 1.0' in metric
    assert token not in line
    assert KEY not in line
    accepted, said = explained(token, "publisher", settings, served.url)
    assert accepted is case.as_cookie  # the origin is the request's, not the token's
    if not case.as_cookie:
        assert said[-1].startswith(f"refused: {case.reason}: ")
    sentence = line.partition(f": {case.reason}: ")[2].partition(", token ")[0]
    told = answer.json()["detail"]
    assert (sentence[:30] in told) is (tells or case.reason is Reason.NO_GRANT)


async def scrape(url: str, client: httpx.AsyncClient, admin: Any) -> str:
    """The metrics, as the admin listener gives them."""
    from starlette.requests import Request

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "query_string": b""}
    assert url
    assert client
    response = await admin.metrics(Request(scope))
    return bytes(response.body).decode()


async def test_a_line_has_the_facts(caplog: pytest.LogCaptureFixture) -> None:
    """Algorithm, issuer, the audience that it has and the one wanted, and a mark that tells tokens apart."""
    caplog.set_level(logging.INFO, "hub")
    async with serving(trusted_issuers=(ISSUER,)) as served:
        await served.post({"topic": TOPIC}, headers=bearer(access_token(aud="https://elsewhere.example")))
    (line,) = [each for each in caplog.messages if each.startswith("refused ")]
    assert re.search(r", token [0-9a-f]{8}, alg HS256, iss https://issuer.example, aud https://elsewhere.example", line)
    assert f"wanted {served.url}" in line
    assert "set MERCURE_RESOURCE_IDENTIFIER" in line


def test_the_log_is_not_flooded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each reason and client a second, then how many more there were; every one is counted."""
    caplog.set_level(logging.INFO, "hub")
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    counts = Counts.alone()
    told = Refusals(counts)
    for client in ("a", "b"):
        for _ in range(50):
            told.tell(InsufficientScope("no"), Role.SUBSCRIBER, client)
    told.flush()
    assert len(caplog.messages) == 2
    now += 1
    told.flush()
    assert caplog.messages[2:] == [f"refused subscriber {each}: no_grant, 49 times more" for each in "ab"]
    assert counts.total("refused_subscriber_no_grant") == 100
    for number in range(3000):
        told.tell(InsufficientScope("no"), Role.SUBSCRIBER, f"client {number}")
    assert len(told._written) <= refusals.MAX_CLIENTS


def test_a_hostile_token_stays_in_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """What a token says of itself is shown without line breaks, and not for ever."""
    token = jwt.encode({}, KEY, "HS256", headers={"kid": "x\r\nINFO hub: all is well" + "y" * 5000})
    _, said = explained(token, "subscriber", Settings(subscriber_jwt_key=KEY), "https://hub.example")
    assert all("\n" not in each and "\r" not in each and len(each) < 300 for each in said)
