"""What a verified token's claims allow, in either generation of the protocol. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hub.auth.keyring import Verified
from hub.generations import Generation
from hub.matching.matchers import InvalidMatcher, Matcher, Matching
from hub.problems import InvalidToken

MAX_DETAILS = 100  # Mercure authorization details in one token

_DETAIL = "https://mercure.rocks/authorization-detail"
_LEGACY_CLAIMS = ("mercure", "https://mercure.rocks/")
_LATEST = 2**53  # seconds; what is later is no time but a mistake, or an attack on arithmetic


class Payload(NamedTuple):
    """What a token attaches to the subscriptions whose matcher one of ``topics`` selects; None: nothing."""

    topics: tuple[Matcher, ...]
    content: Any


class Grants(NamedTuple):
    """What a token allows. ``expires``, in Unix seconds, is when a stream opened with it must end.

    ``generation``: the token's own; None: there was none. ``verified``: with which key, where there was one.
    """

    publish: tuple[Matcher, ...] = ()
    subscribe: tuple[Matcher, ...] = ()
    expires: float | None = None
    payloads: tuple[Payload, ...] = ()
    generation: Generation | None = None
    verified: Verified | None = None

    def payload(self, matcher: Matcher, matching: Matching) -> Any:
        """What is attached to a subscription; its matcher is taken for a topic (spec "Payloads")."""
        chosen = (each.content for each in self.payloads if matching.any(each.topics, (matcher.pattern,)))
        return next(chosen, None)


ANONYMOUS = Grants()


def grants_1_0(claims: Mapping[str, Any], matching: Matching) -> Grants:
    """Spec "Authorization Details": `InvalidToken` if one of them is malformed, even one that grants nothing."""
    details = [_detail(each) for each in _list(claims.get("authorization_details", []))]
    if len(details) > MAX_DETAILS:
        raise InvalidToken
    _check(matching, (matcher for detail in details for matcher in detail.topics))
    return Grants(
        _granted("publish", details),
        _granted("subscribe", details),
        unix_time(claims.get("exp")),
        _payloads([Payload(each.topics, each.payload) for each in details if "subscribe" in each.actions]),
        Generation.V1,
    )


def grants_0x(claims: Mapping[str, Any], matching: Matching) -> Grants:
    """0.x: selectors in the claim ``mercure``, and ``exp`` where there is one. Raises `InvalidToken`."""
    claim = next((claims[name] for name in _LEGACY_CLAIMS if name in claims), None)
    if not isinstance(claim, dict):
        raise InvalidToken
    publish, subscribe = _selectors(claim.get("publish")), _selectors(claim.get("subscribe"))
    _check(matching, (*publish, *subscribe))
    return Grants(
        publish,
        subscribe,
        unix_time(claims["exp"]) if "exp" in claims else None,
        _payloads([Payload((Matcher("topic", "*"),), claim.get("payload"))]),
        Generation.V0,
    )


def unix_time(value: object) -> float:
    """Seconds; `InvalidToken` if it is no time (RFC 7519 section 2, NumericDate)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LATEST < value < _LATEST:
        raise InvalidToken
    return float(value)


def _check(matching: Matching, matchers: Iterable[Matcher]) -> None:
    try:
        matching.check(dict.fromkeys(matchers))
    except InvalidMatcher:
        raise InvalidToken from None


class _Detail(NamedTuple):
    actions: tuple[str, ...]
    topics: tuple[Matcher, ...]
    payload: Mapping[str, Any] | None = None


def _detail(detail: object) -> _Detail:
    """One authorization detail; of another type (RFC 9396), it grants nothing here."""
    if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
        raise InvalidToken
    if detail["type"] != _DETAIL:
        return _Detail((), ())
    actions, topics = _list(detail.get("actions")), _list(detail.get("topics"))
    if not actions or not topics or not isinstance(detail.get("payload", {}), dict):
        raise InvalidToken
    return _Detail(tuple(map(_text, actions)), tuple(map(_matcher, topics)), detail.get("payload"))


def _matcher(topic: object) -> Matcher:
    """Spec "Topic Matcher List"."""
    if not isinstance(topic, dict) or topic.get("match_type", "exact") not in ("exact", "urlpattern"):
        raise InvalidToken
    return Matcher(topic.get("match_type", "exact"), _text(topic.get("match")))


def _granted(action: str, details: Sequence[_Detail]) -> tuple[Matcher, ...]:
    return tuple(dict.fromkeys(matcher for detail in details if action in detail.actions for matcher in detail.topics))


def _payloads(payloads: list[Payload]) -> tuple[Payload, ...]:
    """Without those at the end that attach nothing, which is what no payload attaches."""
    while payloads and payloads[-1].content is None:
        payloads.pop()
    try:
        json.dumps([each.content for each in payloads], allow_nan=False)  # NaN is no JSON for those who will read it
    except ValueError:
        raise InvalidToken from None
    return tuple(payloads)


def _selectors(selectors: object) -> tuple[Matcher, ...]:
    return () if selectors is None else tuple(Matcher("topic", _text(each)) for each in _list(selectors))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidToken
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidToken
    return value
