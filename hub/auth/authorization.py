"""Who may publish and who may receive what: a request's token, judged by its own generation's rules, as grants."""

import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from hub.auth.grants import ANONYMOUS, Grants
from hub.auth.judging import MAX_SHOWN, MAX_TOKEN, Judge, expired, fingerprint, shown
from hub.auth.keyring import KeyRing, Verified
from hub.generations import NAMES, PATH, Generation, Protocol, generations_in
from hub.matching.matchers import Matching
from hub.matching.origins import Origins
from hub.problems import (
    InsufficientScope,
    InvalidToken,
    InvalidTokenRequest,
    Problem,
    Reason,
    Refusal,
    Unauthorized,
)

MAX_AUDIENCE = 300
"""Characters of the audience that is derived from ``Host``, which is the client's own text: a host name has 253."""
MAX_COOKIES = 4
"""Cookies that are tried: each costs a signature check, and a page that can set one can set many."""
MAX_CACHED = 4_096  # verified tokens kept: about 2 KiB each, 20 KiB for the longest

GRANTED = "mercure_hub.granted"
"""The key in a request's scope of what the application that the hub is a part of grants by itself.

It knows its users by their session, a cookie that any page makes the browser send: publishing is for its own pages.
"""

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_TOKEN_NAME = re.compile(rb"(?:^|&)(?:authorization|[^&=]*%[^&=]*)(?:[&=]|$)")
"""Without this, a query holds no token, and need not be decoded to look for one. A name may be written with ``%``."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class _Presented(NamedTuple):
    """``tokens``: from one place, in the order in which they are tried; at least one."""

    tokens: Sequence[str]
    place: Literal["header", "query", "cookie"]


class Authorizer:
    """Turns a request into `Grants`.

    A token with the type ``at+jwt`` is judged as a 1.0 access token (spec "Token Validation"), any other by its 0.x
    claim: neither weakens the other. ``resource_identifier`` is the audience that 1.0 tokens must name; without one it
    is derived from the request's host, and hubs that share a key then tell each other's tokens apart no better than
    the host is checked before them.
    """

    def __init__(
        self,
        *,
        matching: Matching,
        publisher: KeyRing,
        subscriber: KeyRing,
        anonymous: bool,
        resource_identifier: str | None = None,
        protocol: Protocol = "both",
        cookie_name: str = NAMES[Generation.V1].cookie,
        publish_origins: Sequence[str] = (),
    ) -> None:
        self._matching = matching
        self._verified: OrderedDict[tuple[str, str, str], Grants] = OrderedDict()
        self.use_keys(publisher, subscriber)
        self._anonymous = anonymous
        self._resource_identifier = resource_identifier
        self._generations = generations_in(protocol)
        legacy = [NAMES[Generation.V0].cookie] if Generation.V0 in self._generations else []
        self._cookies = (cookie_name, *legacy)
        # Behind a proxy that ends TLS the request itself may show another scheme than the browser's.
        public = [_origin_of(resource_identifier)] if resource_identifier and "://" in resource_identifier else []
        self._origins = Origins([origin.lower() for origin in (*public, *publish_origins)])

    def use_keys(self, publisher: KeyRing, subscriber: KeyRing) -> None:
        """From now on these alone; tokens that were verified before are verified anew."""
        self._publisher, self._subscriber = publisher, subscriber
        self._verified.clear()

    def forget(self) -> None:
        """A set of keys has changed: verify every token anew."""
        self._verified.clear()

    def holds(self, verified: object) -> bool:
        """Whether a subscriber's token would be verified with the same key now; who had none (None) needs none."""
        return not isinstance(verified, Verified) or self._subscriber.holds(verified)

    def publisher(self, request: HTTPConnection) -> Grants:
        """Raises `Unauthorized`, `InvalidToken`, `InvalidTokenRequest`, and 403 `Problem` for a foreign page."""
        granted: Grants | None = request.scope.get(GRANTED)
        if granted is not None:
            self._check_origin(request)
            return granted
        presented = self._presented(request)
        if presented is None:
            raise Unauthorized("publishing needs an access token: send it as Authorization: Bearer")
        if presented.place == "cookie":
            self._check_origin(request)
        return self._grants("publisher", presented, request)

    def subscriber(self, request: HTTPConnection) -> Grants:
        """Raises `Unauthorized`, `InvalidToken`, `InvalidTokenRequest`. A bad token never counts as none."""
        granted: Grants | None = request.scope.get(GRANTED)
        if granted is not None:
            return granted
        presented = self._presented(request)
        if presented is None:
            if self._anonymous:
                return ANONYMOUS
            raise Unauthorized("subscribing needs an access token: send it as Authorization: Bearer, or as a cookie")
        return self._grants("subscriber", presented, request)

    def allow_publish(self, grants: Grants, topics: Sequence[str]) -> None:
        """Raises `InsufficientScope` unless every topic is granted (spec "Publishers")."""
        for number, topic in enumerate(topics, 1):
            if not self._matching.any(grants.publish, (topic,)):
                raise InsufficientScope(
                    f"the access token does not grant publishing to topic {number} of {len(topics)}: it must grant all"
                )

    def allow_read(self, grants: Grants, topic: str) -> None:
        """Raises `Unauthorized` or `InsufficientScope` unless private updates of the topic are granted."""
        if grants.generation is None:
            raise Unauthorized("this needs an access token: send it as Authorization: Bearer, or as a cookie")
        if not self._matching.any(grants.subscribe, (topic,)):
            raise InsufficientScope("the access token does not grant subscribing to what this URL shows")

    def judge(self, role: str, request: HTTPConnection) -> Judge:
        """What decides about a token of that role in such a request. Raises `InvalidToken`: ``Host`` is too long."""
        audience = self._resource_identifier or f"{own_origin(request)}{PATH}"
        if len(audience) > MAX_AUDIENCE:
            raise InvalidToken(Reason.WRONG_AUDIENCE, f"the Host of the request has more than {MAX_SHOWN} characters")
        ring = self._publisher if role == "publisher" else self._subscriber
        return Judge(ring, audience, self._generations, self._matching)

    def _presented(self, request: HTTPConnection) -> _Presented | None:
        """The header wins over the query, and the query over cookies, which browsers send unasked.

        Another scheme than Bearer is for somebody else, such as a proxy that asks for a password (RFC 7235): it
        counts as no token.
        """
        bearers = request.headers.getlist("authorization")
        if len(bearers) != 1 or not bearers[0].startswith("Bearer "):
            # The scheme in any case (RFC 9110 section 11.1).
            bearers = [value for value in bearers if value.replace("\t", " ").partition(" ")[0].lower() == "bearer"]
        if bearers:
            return _Presented([_bearer(bearers)], "header")
        if _TOKEN_NAME.search(request.scope["query_string"]) and "authorization" in request.query_params:
            return _Presented([self._from_query(request)], "query")
        tokens = self._from_cookies(request)
        return _Presented(tokens, "cookie") if tokens else None

    def _from_cookies(self, request: HTTPConnection) -> list[str]:
        """Those of the 1.0 name before those of the 0.x name, and of one name in the order in which they came.

        A name may come several times: the cookie of the narrower path first (RFC 6265 section 5.4), which need not be
        the hub's own.
        """
        found: dict[str, list[str]] = {name: [] for name in self._cookies}
        for header in request.headers.getlist("cookie"):
            for pair in header.split(";"):
                name, _, value = pair.strip(" \t").partition("=")
                token = value.strip(" \t").removeprefix('"').removesuffix('"')
                if token and name in found:
                    found[name].append(token)
        return [token for tokens in found.values() for token in tokens][:MAX_COOKIES]

    def _from_query(self, request: HTTPConnection) -> str:
        if Generation.V0 not in self._generations:
            raise InvalidTokenRequest("an access token may not be in the URL: send it as Authorization: Bearer")
        values = request.query_params.getlist("authorization")
        if len(values) > 1 or not values[0]:
            raise InvalidTokenRequest("the query must hold one token in authorization, and not an empty one")
        return values[0]

    def _check_origin(self, request: HTTPConnection) -> None:
        """Against request forgery: a cookie is sent by any page that the browser has open (spec "Security")."""
        origin = request.headers.get("origin")
        if origin is None:
            origin = _origin_of(request.headers.get("referer", ""))
        if origin.lower() == own_origin(request) or origin.lower() in self._origins:
            return
        raise Problem(
            403,
            "a cookie may publish only from the hub's own origin or one of its publish_origins, told by the header"
            " Origin or Referer: send the token as Authorization: Bearer, or allow the origin",
            refusal=Refusal(
                Reason.FOREIGN_ORIGIN,
                f"a page of {shown(origin) or 'no origin'} may not publish with a cookie, this hub is"
                f" {shown(own_origin(request))}: add it to MERCURE_PUBLISH_ORIGINS",
            ),
        )

    def _grants(self, role: str, presented: _Presented, request: HTTPConnection) -> Grants:
        """What the first token allows that verifies; where none does, the first one's error."""
        judge = self.judge(role, request)
        refused: InvalidToken | None = None
        for token in presented.tokens:
            try:
                grants = self._granted_by(token, role, judge)
            except InvalidToken as error:
                refused = refused or error
            else:
                if presented.place == "query" and grants.generation is Generation.V1:
                    raise InvalidTokenRequest(
                        "a 1.0 access token may not be in the URL: send it as Authorization: Bearer"
                    )
                return grants
        assert refused is not None  # noqa: S101 - at least one token was presented
        raise refused

    def _granted_by(self, token: str, role: str, judge: Judge) -> Grants:
        cached = (role, token, judge.audience)
        verified, now = self._verified.get(cached), time.time()
        if verified is None:
            verified = judge.grants(token, now)
        elif verified.expires is not None and verified.expires <= now:
            raise expired(now - verified.expires, token=fingerprint(token))
        self._verified[cached] = verified
        self._verified.move_to_end(cached)
        if len(self._verified) > MAX_CACHED:
            self._verified.popitem(last=False)
        return verified


def _bearer(headers: Sequence[str]) -> str:
    """RFC 6750 section 2.1."""
    if len(headers) > 1:
        raise InvalidTokenRequest("there are several Authorization headers: send one")
    token = headers[0].partition(" ")[2].strip(" ")
    if not (len(token) > MAX_TOKEN or _BEARER.fullmatch(token)):
        raise InvalidTokenRequest("the Authorization header must be Bearer, a space and the access token")
    return token


def own_origin(request: HTTPConnection) -> str:
    """The origin that the client has asked, as browsers write it; a proxy must pass scheme and host on."""
    return _normal(request.scope["scheme"], request.headers.get("host", ""))


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return _normal(parts.scheme, parts.netloc)


def _normal(scheme: str, host: str) -> str:
    return f"{scheme}://{host}".lower().removesuffix(_DEFAULT_PORTS.get(scheme, "/"))
