"""The rules of hub/authorization.py: where a token is, what it must say, and what it grants."""

import base64
import json
import time
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from hub.auth import authorization
from hub.auth.authorization import Authorizer
from hub.auth.grants import ANONYMOUS, Grants
from hub.auth.keyring import FixedKeys, KeyRing
from hub.auth.keys import VerificationKey, load_keys, sign
from hub.generations import Generation
from hub.matching.matchers import Matcher, Matching
from hub.problems import InsufficientScope, InvalidToken, InvalidTokenRequest, Problem, Unauthorized

HUB = "https://hub.example.com/.well-known/mercure"
ISSUER = "https://example.com"
PUBLISHER, SUBSCRIBER = "publisher's secret, which is long enough", "subscriber's secret, which is long enough"
DETAIL = "https://mercure.rocks/authorization-detail"


def hub(**options: Any) -> Authorizer:
    defaults: dict[str, Any] = {"anonymous": False}
    trusted = options.pop("trusted_issuers", [ISSUER])
    return Authorizer(
        matching=Matching(HUB),
        publisher=KeyRing([FixedKeys(load_keys(PUBLISHER, "HS256", name="publisher"))], trusted=trusted),
        subscriber=KeyRing([FixedKeys(load_keys(SUBSCRIBER, "HS256", name="subscriber"))], trusted=trusted),
        **{**defaults, **options},
    )


def request(
    *headers: tuple[str, str],
    token: str = "",
    cookie: str = "",
    query: str = "",
    scheme: str = "https",
    host: str = "hub.example.com",
) -> HTTPConnection:
    named = [("host", host), *headers]
    named += [("authorization", f"Bearer {token}")] if token else []
    named += [("cookie", cookie)] if cookie else []
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in named]
    return HTTPConnection(
        {"type": "http", "scheme": scheme, "headers": raw, "query_string": query.encode(), "path": "/"}
    )


def legacy(key: str = SUBSCRIBER, /, *, type: str = "JWT", **claims: Any) -> str:
    return sign(claims or {"mercure": {"publish": ["a"], "subscribe": ["a"]}}, key, "HS256", type=type)


def detail(*topics: Any, actions: Sequence[Any] = ("subscribe",), **more: Any) -> dict[str, Any]:
    return {"type": DETAIL, "actions": list(actions), "topics": list(topics) or [{"match": "a"}], **more}


def modern(key: str = SUBSCRIBER, *, type: str = "at+jwt", without: str = "", **claims: Any) -> str:
    standard = {"iss": ISSUER, "aud": HUB, "exp": int(time.time()) + 60, "authorization_details": [detail()]}
    return sign({k: v for k, v in {**standard, **claims}.items() if k != without}, key, "HS256", type=type)


def exact(*patterns: str) -> tuple[Matcher, ...]:
    return tuple(Matcher("exact", pattern) for pattern in patterns)


def topics(*patterns: str) -> tuple[Matcher, ...]:
    return tuple(Matcher("topic", pattern) for pattern in patterns)


# Where the token is


def test_without_a_token_publishing_is_unauthorized() -> None:
    """Anonymous publishing does not exist."""
    with pytest.raises(Unauthorized):
        hub(anonymous=True).publisher(request())


def test_without_a_token_a_subscriber_is_anonymous_where_that_is_allowed() -> None:
    """Anonymous subscribers have no grants."""
    assert hub(anonymous=True).subscriber(request()) == ANONYMOUS == Grants()
    with pytest.raises(Unauthorized):
        hub().subscriber(request())


def test_a_bad_token_is_not_anonymous() -> None:
    """Who shows a token that does not hold is told so, also where none is needed."""
    with pytest.raises(InvalidToken):
        hub(anonymous=True).subscriber(request(token="a.b.c"))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_is_matched_in_any_case(scheme: str) -> None:
    """RFC 9110 section 11.1."""
    assert hub().subscriber(request(("Authorization", f"{scheme} {legacy()}"))).subscribe == topics("a")


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer é", "Bearer\ta.b.c"],
)
def test_a_malformed_header_is_an_invalid_request(value: str) -> None:
    """400, and a cookie or anonymity does not stand in for it."""
    with pytest.raises(InvalidTokenRequest):
        hub(anonymous=True).subscriber(request(("Authorization", value), cookie=f"mercureAuthorization={legacy()}"))


@pytest.mark.parametrize("value", ["Basic YTpi", "Digest username=a", "", "token", "Bearerx a"])
def test_another_scheme_counts_as_no_token(value: str) -> None:
    """A proxy's password is for the proxy: the cookie counts, or anonymity, or it is a 401 (RFC 9110 section 11)."""
    header = ("Authorization", value)
    cookie = f"mercureAuthorization={legacy()}"
    assert hub().subscriber(request(header, cookie=cookie)).subscribe == topics("a")
    assert hub(anonymous=True).subscriber(request(header)) == ANONYMOUS
    with pytest.raises(Unauthorized) as caught:
        hub().subscriber(request(header))
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"
    assert hub().subscriber(request(header, token=legacy())).subscribe == topics("a")


COOKIES = {
    "foreign": "mercureAuthorization=abc.def.ghi",
    "expired": lambda: f"mercureAuthorization={legacy(mercure={}, exp=1)}",
    "empty": "mercureAuthorization=",
    "foreign 1.0": "__Secure-mercure_access_token=session",
    "no value": "mercureAuthorization",
}


@pytest.mark.parametrize("other", COOKIES.values(), ids=COOKIES)
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("headers", [1, 2])
def test_any_cookie_that_verifies_counts(other: Any, quoted: bool, headers: int) -> None:
    """Another cookie of either name, before or after a good one, does not take it away (RFC 6265 section 5.4)."""
    other = other if isinstance(other, str) else other()
    token = f'"{legacy()}"' if quoted else legacy()
    for cookies in ([other, f"mercureAuthorization={token}"], [f"mercureAuthorization={token}", other]):
        parts = ["; ".join(cookies)] if headers == 1 else cookies
        assert hub().subscriber(request(*(("Cookie", part) for part in parts))).subscribe == topics("a")


def test_the_first_cookie_is_answered_for_when_none_verifies() -> None:
    """Four are tried, and no more; the error is the first one's, and never anonymity."""
    bad = [f"mercureAuthorization=a.b.{n}" for n in range(4)]
    good = f"mercureAuthorization={legacy()}"
    assert hub().subscriber(request(("Cookie", "; ".join([*bad[:3], good])))).subscribe == topics("a")
    with pytest.raises(InvalidToken):
        hub(anonymous=True).subscriber(request(("Cookie", "; ".join([*bad, good]))))


def test_a_bearer_that_does_not_verify_is_not_saved_by_a_cookie() -> None:
    """The header alone is judged (Mercure, "Presenting the Access Token")."""
    with pytest.raises(InvalidToken):
        hub(anonymous=True).subscriber(request(token="a.b.c", cookie=f"mercureAuthorization={legacy()}"))


def test_several_headers_are_an_invalid_request() -> None:
    """A proxy and the hub must not see different tokens."""
    with pytest.raises(InvalidTokenRequest):
        hub().subscriber(request(("Authorization", f"Bearer {legacy()}"), token=legacy()))


def test_the_header_wins_over_query_and_cookie() -> None:
    """Also when it is the header that does not hold."""
    good, query, cookie = legacy(), "authorization=x", "mercureAuthorization=x"
    assert hub().subscriber(request(token=good, query=query, cookie=cookie)).subscribe == topics("a")
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token="x", query=f"authorization={good}", cookie=f"mercureAuthorization={good}"))


def test_a_0x_token_may_be_in_the_query() -> None:
    """0.x: `authorization=`; it wins over the cookie, and it must be one."""
    good = legacy()
    assert hub().subscriber(
        request(query=f"authorization={good}", cookie="mercureAuthorization=x")
    ).subscribe == topics("a")
    for query in ("authorization=", f"authorization={good}&authorization={good}"):
        with pytest.raises(InvalidTokenRequest):
            hub(anonymous=True).subscriber(request(query=query))


def test_a_1_0_token_may_never_be_in_the_query() -> None:
    """RFC 9700 section 4.3.2; also when the token is known from elsewhere."""
    authorizer, token = hub(), modern()
    for _ in range(2):
        with pytest.raises(InvalidTokenRequest):
            authorizer.subscriber(request(query=f"authorization={token}"))
        assert authorizer.subscriber(request(token=token)).subscribe == exact("a")


def test_a_1_0_hub_takes_no_token_from_the_query() -> None:
    """Loudly, lest a subscriber wonders where the private updates are."""
    with pytest.raises(InvalidTokenRequest):
        hub(protocol="1.0", anonymous=True).subscriber(request(query=f"authorization={modern()}"))


@given(
    st.lists(st.sampled_from(["authorization", "%61uthorization", "authorizatio%6E", "a", "%61", "=", "&", "%", ""]))
)
def test_a_token_in_the_query_is_found_however_its_name_is_written(parts: list[str]) -> None:
    """Percent-encoded or not, wherever it stands: a query that names `authorization` never counts as anonymous."""
    asked = request(query="".join(parts))
    if "authorization" in asked.query_params:
        with pytest.raises((InvalidToken, InvalidTokenRequest)):
            hub(anonymous=True).subscriber(asked)
    else:
        assert hub(anonymous=True).subscriber(asked) is ANONYMOUS


def test_cookies_of_both_generations() -> None:
    """The 1.0 cookie comes first; its name is a setting; an empty one is none."""
    one, zero = f"__Secure-mercure_access_token={modern()}", f"mercureAuthorization={legacy()}"
    assert hub().subscriber(request(cookie=f"{zero}; {one}")).subscribe == exact("a")
    assert hub().subscriber(request(cookie=zero)).subscribe == topics("a")
    assert hub(cookie_name="mine").subscriber(request(cookie=f"mine={modern()}")).subscribe == exact("a")
    assert (
        hub(anonymous=True).subscriber(request(cookie="mercureAuthorization=; __Secure-mercure_access_token="))
        == ANONYMOUS
    )
    with pytest.raises(Unauthorized):
        hub(protocol="1.0").subscriber(request(cookie=zero))
    with pytest.raises(Unauthorized):
        hub(cookie_name="mine").subscriber(request(cookie=one))


# Request forgery


def publish_by_cookie(*headers: tuple[str, str], origins: Sequence[str] = (), **options: Any) -> Grants:
    cookie = f"mercureAuthorization={legacy(PUBLISHER)}"
    return hub(publish_origins=origins).publisher(request(*headers, cookie=cookie, **options))


@pytest.mark.parametrize(
    ("headers", "origins"),
    [
        ([("Origin", "https://hub.example.com")], []),
        ([("Origin", "https://hub.example.com")], ["https://other.example"]),
        ([("Origin", "https://app.example")], ["https://app.example"]),
        ([("Origin", "https://APP.example")], ["https://app.Example"]),
        ([("Referer", "https://app.example/page?x#y")], ["https://app.example"]),
        ([("Referer", "https://hub.example.com:443/page")], []),
        ([("Origin", "https://app.example"), ("Referer", "https://evil.example/")], ["https://app.example"]),
        ([("Origin", "null")], ["null"]),
        ([], ["*"]),
    ],
)
def test_a_cookie_publishes_from_allowed_origins(headers: list[tuple[str, str]], origins: list[str]) -> None:
    """The hub's own origin, those that are listed, or all with `*`."""
    assert publish_by_cookie(*headers, origins=origins).publish == topics("a")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "https://evil.example")],
        [("Origin", "http://hub.example.com")],
        [("Origin", "https://hub.example.com:8443")],
        [("Origin", "https://hub.example.com.evil.example")],
        [("Origin", "https://evil.example"), ("Referer", "https://hub.example.com/")],
        [("Referer", "https://evil.example/https://hub.example.com")],
        [("Referer", "https://hub.example.com@evil.example/")],
        [("Referer", "https://[")],
        [("Referer", "")],
    ],
)
def test_a_cookie_publishes_from_nowhere_else(headers: list[tuple[str, str]]) -> None:
    """403 with a sentence, also when neither header tells the origin."""
    with pytest.raises(Problem) as caught:
        publish_by_cookie(*headers, origins=["https://app.example"])
    assert caught.value.status == 403
    assert "Origin" in caught.value.detail


def test_the_public_url_is_the_hubs_own_origin() -> None:
    """Behind a proxy that ends TLS the request shows another scheme than the browser's `Origin`."""
    behind = hub(resource_identifier="https://public.example/.well-known/mercure")
    cookie = f"mercureAuthorization={legacy(PUBLISHER)}"
    assert behind.publisher(request(("Origin", "https://public.example"), cookie=cookie)).publish == topics("a")
    for origin in ("http://public.example", "https://other.example"):
        with pytest.raises(Problem):
            behind.publisher(request(("Origin", origin), cookie=cookie))


def test_only_cookies_need_an_origin() -> None:
    """A header is not sent by a foreign page, and reading changes nothing."""
    foreign = ("Origin", "https://evil.example")
    assert hub().publisher(request(foreign, token=legacy(PUBLISHER))).publish == topics("a")
    assert hub().subscriber(request(foreign, cookie=f"mercureAuthorization={legacy()}")).subscribe == topics("a")


# Which rules judge it


def test_each_role_has_its_own_key() -> None:
    """A subscriber's token does not publish."""
    authorizer = hub()
    assert authorizer.subscriber(request(token=legacy()))
    with pytest.raises(InvalidToken):
        authorizer.publisher(request(token=legacy()))


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+JWT"])
def test_the_type_marks_a_1_0_token(kind: str) -> None:
    """RFC 9068 section 4; both spellings, any case."""
    assert hub().subscriber(request(token=modern(type=kind))).subscribe == exact("a")
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(type=kind, without="exp")))


@pytest.mark.parametrize("kind", ["JWT", "", "at+jwt ", "application/application/at+jwt", "id+jwt", "jwt+at"])
def test_a_token_of_neither_shape_is_invalid(kind: str) -> None:
    """An ID token, or a 1.0 token without its type: the claim of 0.x is missing."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(type=kind)))


def test_a_token_of_both_shapes_is_judged_as_1_0() -> None:
    """The 0.x claim adds nothing, and takes no check away."""
    claim = {"subscribe": ["*"]}
    assert hub().subscriber(request(token=modern(mercure=claim))).subscribe == exact("a")
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(mercure=claim, aud="https://other.example")))


def test_a_generation_can_be_switched_off() -> None:
    """`protocol` = 1.0 or 0.x."""
    assert hub(protocol="1.0").subscriber(request(token=modern()))
    assert hub(protocol="0.x").subscriber(request(token=legacy()))
    with pytest.raises(InvalidToken):
        hub(protocol="1.0").subscriber(request(token=legacy()))
    with pytest.raises(InvalidToken):
        hub(protocol="0.x").subscriber(request(token=modern()))


# 1.0


@pytest.mark.parametrize("without", ["iss", "aud", "exp"])
def test_required_claims(without: str) -> None:
    """Spec "Token Validation"."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(without=without)))


@pytest.mark.parametrize("iss", ["https://example.com/", "https://EXAMPLE.com", "", None, 1, [ISSUER], {}])
def test_the_issuer_is_trusted_literally(iss: object) -> None:
    """Exact comparison with the configured ones."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(iss=iss)))


def test_without_trusted_issuers_no_1_0_token_holds() -> None:
    """There is no default issuer."""
    with pytest.raises(InvalidToken):
        hub(trusted_issuers=()).subscriber(request(token=modern()))


def test_the_audience_is_a_string_or_a_list() -> None:
    """The resource identifier is the string or a member (RFC 7519 section 4.1.3)."""
    assert hub().subscriber(request(token=modern(aud=["x", HUB])))
    for aud in (["x"], [], "x", HUB + "/", None, 1, {HUB: 1}, [[HUB]]):
        with pytest.raises(InvalidToken):
            hub().subscriber(request(token=modern(aud=aud)))


def test_the_audience_is_the_resource_identifier_or_the_requests_host() -> None:
    """A setting pins it; otherwise scheme and host as the client has asked."""
    token = modern()
    assert hub(resource_identifier=HUB).subscriber(request(token=token, host="other.example"))
    assert hub().subscriber(request(token=token, host="HUB.example.com:443"))
    for other in ({"host": "other.example"}, {"scheme": "http"}, {"host": "hub.example.com:80"}):
        with pytest.raises(InvalidToken):
            hub().subscriber(request(token=token, **other))


def test_a_cached_token_is_bound_to_its_audience() -> None:
    """What one host has accepted, another has not."""
    authorizer, token = hub(), modern()
    authorizer.subscriber(request(token=token))
    with pytest.raises(InvalidToken):
        authorizer.subscriber(request(token=token, host="other.example"))


WEIRD_TIMES: list[Any] = ["60", "9999999999", None, True, [], {}, -1, 0, -1e300, 2**60, 10**400, -(10**400), 2.0**53]


@pytest.mark.parametrize("make", [modern, legacy])
@pytest.mark.parametrize("exp", WEIRD_TIMES, ids=lambda value: str(value)[:12])
def test_a_weird_expiry_is_invalid(make: Any, exp: Any) -> None:
    """Past, or no sensible number, in both generations."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=make(exp=exp, mercure={"subscribe": ["a"]})))


def test_infinite_times_are_invalid() -> None:
    """1e999 is JSON, and infinity in Python."""
    for claims in (
        '{"mercure":{},"exp":1e999}',
        '{"mercure":{},"exp":9999999999,"nbf":-1e999}',
        '{"mercure":{},"exp":NaN}',
    ):
        token = jwt.PyJWS().encode(claims.encode(), SUBSCRIBER, "HS256")
        with pytest.raises(InvalidToken):
            hub().subscriber(request(token=token))


def test_expires_tells_when_a_stream_ends() -> None:
    """Fractions are kept; 0.x tokens may have none."""
    exp = time.time() + 60.5
    assert hub().subscriber(request(token=modern(exp=exp))).expires == exp
    assert hub().subscriber(request(token=legacy(mercure={}, exp=exp))).expires == exp
    assert hub().subscriber(request(token=legacy())).expires is None


@pytest.mark.parametrize("make", [modern, legacy])
def test_not_before_is_enforced_with_a_small_leeway(make: Any) -> None:
    """Issuers set nbf to their own now: a few seconds of skew are allowed, more are not."""
    now, claim = time.time(), {"subscribe": ["a"]}
    assert hub().subscriber(request(token=make(nbf=now + 2, mercure=claim)))
    weird: list[Any] = [now + 60, str(now), None, True, []]
    for nbf in weird:
        with pytest.raises(InvalidToken):
            hub().subscriber(request(token=make(nbf=nbf, mercure=claim)))


def test_details_grant_by_action() -> None:
    """Each action has its topics; unknown actions and other types grant nothing and spoil nothing."""
    details = [
        detail({"match": "p"}, actions=["publish"]),
        detail({"match": "https://example.com/:id", "match_type": "urlpattern"}, {"match": "b", "match_type": "exact"}),
        detail({"match": "both"}, actions=["publish", "subscribe", "dance", "publish"]),
        detail({"match": "unknown"}, actions=["dance"]),
        detail({"match": "p"}, actions=["publish"], payload={"a": 1}, more="x"),
        {"type": "https://other.example", "actions": 1},
    ]
    grants = hub().subscriber(request(token=modern(authorization_details=details)))
    assert grants.publish == exact("p", "both")
    assert grants.subscribe == (Matcher("urlpattern", "https://example.com/:id"), *exact("b", "both"))


def test_a_token_without_details_grants_nothing() -> None:
    """It is valid all the same: 403, and not 401."""
    authorizer = hub()
    for token in (modern(PUBLISHER, without="authorization_details"), modern(PUBLISHER, authorization_details=[])):
        grants = authorizer.publisher(request(token=token))
        assert (grants.publish, grants.subscribe) == ((), ())
        with pytest.raises(InsufficientScope):
            authorizer.allow_publish(grants, ["a"])


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        1,
        None,
        [],
        {},
        {"type": 1},
        {"type": DETAIL},
        detail(actions=[]),
        detail(actions=[1]),
        detail(actions=["subscribe", None]),
        {**detail(), "actions": "subscribe"},
        {**detail(), "topics": []},
        {**detail(), "topics": {"match": "a"}},
        {**detail(), "topics": "a"},
        detail("a"),
        detail({}),
        detail({"match": 1}),
        detail({"match": None}),
        detail({"match_type": "exact"}),
        detail({"match": "a", "match_type": None}),
        detail({"match": "a", "match_type": "Exact"}),
        detail({"match": "a", "match_type": "topic"}),
        detail({"match": "*", "match_type": "regex"}),
        detail({"match": "a", "match_type": ["exact"]}),
        detail({"match": "https://[", "match_type": "urlpattern"}),
        detail({"match": r"/(\w{100})", "match_type": "urlpattern"}),
        detail({"match": "a\n"}),
        detail({"match": "\ud800"}),
        detail({"match": "a" * 5000}),
        detail({"match": "a\u200b"}, actions=["dance"]),
        detail(payload="x"),
        detail(payload=None),
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_one_malformed_detail_spoils_the_token(bad: object) -> None:
    """Partial acceptance is forbidden (spec "Authorization Details")."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(authorization_details=[detail(), bad])))


@pytest.mark.parametrize("details", ["x", {}, None, 1, [{"type": "x"}] * 101])
def test_details_are_a_list_of_bounded_length(details: object) -> None:
    """RFC 9396 section 2; a hundred are enough."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=modern(authorization_details=details)))


# 0.x


def test_selectors_grant_by_list() -> None:
    """Strings and URI Templates; a missing list, or null, grants nothing; the namespaced claim is the same."""
    claim = {"publish": ["*"], "subscribe": ["https://example.com/{id}", "a"], "payload": 1}
    grants = hub().subscriber(request(token=legacy(mercure=claim)))
    assert grants[:3] == (topics("*"), topics("https://example.com/{id}", "a"), None)
    namespaced = hub().subscriber(request(token=legacy(**{"https://mercure.rocks/": claim})))  # type: ignore[arg-type]
    assert namespaced._replace(subject=grants.subject) == grants
    nothing = Grants(generation=Generation.V0, verified=grants.verified)
    empty: list[dict[str, None]] = [{}, {"publish": None}]
    for each in empty:
        assert hub().subscriber(request(token=legacy(mercure=each)))._replace(subject="") == nothing


@pytest.mark.parametrize(
    "claim",
    [
        "*",
        ["*"],
        None,
        1,
        True,
        {"publish": "*"},
        {"publish": {"a": 1}},
        {"publish": [1]},
        {"subscribe": [None]},
        {"subscribe": [["a"]]},
        {"subscribe": ["a\x00"]},
        {"subscribe": ["a" * 5000]},
        {"publish": ["{a}" * 40]},
        {"subscribe": [{"match": "a"}]},
    ],
    ids=lambda claim: str(claim)[:30],
)
def test_a_malformed_claim_is_invalid(claim: object) -> None:
    """The claim is an object of lists of strings."""
    with pytest.raises(InvalidToken):
        hub().subscriber(request(token=legacy(mercure=claim)))


def test_0x_needs_no_audience_or_issuer() -> None:
    """Its tokens have none; where they have, they are not looked at."""
    assert hub(trusted_issuers=()).subscriber(request(token=legacy(mercure={}, iss="x", aud="y"), host=""))


# Publishing


def test_every_topic_must_be_granted() -> None:
    """Canonical and alternate alike (spec "Publishers")."""
    authorizer = hub()
    grants = Grants(publish=(*topics("https://example.com/{id}"), Matcher("urlpattern", "/x/:id")))
    authorizer.allow_publish(grants, ["https://example.com/1", "/x/1"])
    with pytest.raises(InsufficientScope, match="2 of 2"):
        authorizer.allow_publish(grants, ["https://example.com/1", "https://example.com/1/2"])
    authorizer.allow_publish(Grants(publish=topics("*")), ["anything"])


# The cache


def test_a_verified_token_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For its role and audience, until it expires."""
    authorizer, token = hub(), modern(exp=time.time() + 60)
    grants = authorizer.subscriber(request(token=token))
    monkeypatch.setattr(VerificationKey, "verify", lambda *_: pytest.fail("verified again"))
    assert authorizer.subscriber(request(token=token)) is grants
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(InvalidToken):
        authorizer.subscriber(request(token=token))


def test_failures_are_not_cached_and_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills it with nonsense; the least recently used token leaves first."""
    monkeypatch.setattr(authorization, "MAX_CACHED", 2)
    authorizer = hub()
    first, second, third = (legacy(mercure={}, n=n) for n in range(3))
    for token in (first, second, first, third):
        authorizer.subscriber(request(token=token))
    for token in ("a.b.c", legacy(mercure={}, exp=1)):
        with pytest.raises(InvalidToken):
            authorizer.subscriber(request(token=token))
    assert [token for _, token, _ in authorizer._verified] == [first, third]


# Hostile tokens


@pytest.mark.parametrize("place", ["header", "query", "cookie"])
@pytest.mark.parametrize(
    "token", ["x" * 1_000_000, legacy(mercure={"subscribe": ["a"]}, pad="x" * 8192)], ids=["nonsense", "signed"]
)
def test_long_tokens_are_invalid(place: str, token: str) -> None:
    """Eight KiB are enough; what is longer is not even hashed."""
    presented = {
        "header": {"token": token},
        "query": {"query": f"authorization={token}"},
        "cookie": {"cookie": f"mercureAuthorization={token}"},
    }
    with pytest.raises(InvalidToken):
        hub().subscriber(request(**presented[place]))


def test_no_error_tells_the_token() -> None:
    """Neither the sentence nor the challenge, and no chained exception."""
    for presented in (
        {"token": "sEcReT.a.b"},
        {"cookie": "mercureAuthorization=sEcReT"},
        {"query": "authorization=sEcReT"},
    ):
        with pytest.raises(InvalidToken) as caught:
            hub().subscriber(request(**presented))
        assert "sEcReT" not in f"{caught.value.detail}{caught.value.headers}{caught.value.__cause__}"


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([DETAIL, "*", "exact", "subscribe", HUB, ISSUER]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "actions", "topics", "match", "publish", "subscribe"]), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["mercure", "https://mercure.rocks/", "authorization_details", "exp", "nbf", "iss", "aud"]),
        JSON,
    ),
    st.sampled_from(["at+jwt", "JWT"]),
    st.booleans(),
)
def test_any_signed_claims_are_answered(claims: dict[str, Any], kind: str, complete: bool) -> None:
    """Whatever an issuer signs: grants or `InvalidToken`, and never another exception."""
    standard = {"iss": ISSUER, "aud": HUB, "exp": time.time() + 60} if complete else {}
    token = jwt.PyJWS().encode(json.dumps({**standard, **claims}).encode(), SUBSCRIBER, "HS256", headers={"typ": kind})
    try:
        grants = hub().subscriber(request(token=token))
    except InvalidToken:
        return
    assert isinstance(grants, Grants)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.binary(max_size=20), min_size=3, max_size=3).map(
            lambda parts: b".".join(map(base64.urlsafe_b64encode, parts))
        ),
    )
)
def test_any_bytes_are_answered(raw: bytes) -> None:
    """Anywhere in a request: only the four errors of RFC 6750."""
    text = raw.decode("latin-1")
    for presented in (
        request(token=text),
        request(cookie=f"mercureAuthorization={text}"),
        request(("Authorization", text)),
        request(query="authorization=" + text),
    ):
        with pytest.raises((Unauthorized, InvalidToken, InvalidTokenRequest)):
            hub().subscriber(presented)
