"""What a verified token's claims allow, in either generation of the protocol. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hub.auth.keyring import Verified
from hub.generations import Generation
from hub.matching.matchers import InvalidMatcher, Matcher, Matching
from hub.problems import InvalidToken, Reason

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
    ``subject``: whose token it is (``sub``), or else a mark of the token itself; empty without one.
    """

    publish: tuple[Matcher, ...] = ()
    subscribe: tuple[Matcher, ...] = ()
    expires: float | None = None
    payloads: tuple[Payload, ...] = ()
    generation: Generation | None = None
    verified: Verified | None = None
    subject: str = ""

    @classmethod
    def to(
        cls,
        *,
        publish: Sequence[str] = (),
        subscribe: Sequence[str] = (),
        expires: float | None = None,
        payload: Any = None,
        subject: str = "",
    ) -> "Grants":
        """What a program grants without a token: topics, URI Templates or ``*``. ``payload``: what others see of its
        subscriptions; ``subject``: who it is, for limits.
        """
        return cls(
            tuple(Matcher("topic", each) for each in publish),
            tuple(Matcher("topic", each) for each in subscribe),
            expires,
            () if payload is None else (Payload((Matcher("topic", "*"),), payload),),
            Generation.V1,
            subject=subject,
        )

    def payload(self, matcher: Matcher, matching: Matching) -> Any:
        """What is attached to a subscription; its matcher is taken for a topic (spec "Payloads")."""
        chosen = (each.content for each in self.payloads if matching.any(each.topics, (matcher.pattern,)))
        return next(chosen, None)


ANONYMOUS = Grants()


def grants_1_0(claims: Mapping[str, Any], matching: Matching) -> Grants:
    """Spec "Authorization Details": `InvalidToken` if one of them is malformed, even one that grants nothing."""
    listed = _list(claims.get("authorization_details", []), "authorization_details")
    details = [_detail(each) for each in listed]
    if len(details) > MAX_DETAILS:
        raise _malformed(f"authorization_details has more than {MAX_DETAILS} entries")
    _check(matching, (matcher for detail in details for matcher in detail.topics))
    return Grants(
        _granted("publish", details),
        _granted("subscribe", details),
        unix_time(claims.get("exp"), "exp"),
        _payloads([Payload(each.topics, each.payload) for each in details if "subscribe" in each.actions]),
        Generation.V1,
    )


def grants_0x(claims: Mapping[str, Any], matching: Matching) -> Grants:
    """0.x: selectors in the claim ``mercure``, and ``exp`` where there is one. Raises `InvalidToken`."""
    if not any(name in claims for name in _LEGACY_CLAIMS):
        raise InvalidToken(
            Reason.MISSING_CLAIM,
            'the token has no claim mercure, such as {"subscribe": ["*"]}; a token of 1.0 has the typ at+jwt',
        )
    claim = next(claims[name] for name in _LEGACY_CLAIMS if name in claims)
    if not isinstance(claim, dict):
        raise _malformed("the claim mercure is no object with publish and subscribe")
    publish = _selectors(claim.get("publish"), "mercure.publish")
    subscribe = _selectors(claim.get("subscribe"), "mercure.subscribe")
    _check(matching, (*publish, *subscribe))
    return Grants(
        publish,
        subscribe,
        unix_time(claims["exp"], "exp") if "exp" in claims else None,
        _payloads([Payload((Matcher("topic", "*"),), claim.get("payload"))]),
        Generation.V0,
    )


def unix_time(value: object, claim: str) -> float:
    """Seconds; `InvalidToken` if it is no time (RFC 7519 section 2, NumericDate)."""
    if value is None:
        raise InvalidToken(Reason.MISSING_CLAIM, f"the token has no {claim}, which tokens of 1.0 need")
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LATEST < value < _LATEST:
        raise _malformed(f"the claim {claim} is no time in seconds since 1970")
    return float(value)


def _malformed(sentence: str) -> InvalidToken:
    return InvalidToken(Reason.MALFORMED, sentence)


def _check(matching: Matching, matchers: Iterable[Matcher]) -> None:
    try:
        matching.check(dict.fromkeys(matchers))
    except InvalidMatcher as error:
        raise _malformed(f"a topic that the token grants can't be matched: {error}") from None


class _Detail(NamedTuple):
    actions: tuple[str, ...]
    topics: tuple[Matcher, ...]
    payload: Mapping[str, Any] | None = None


def _detail(detail: object) -> _Detail:
    """One authorization detail; of another type (RFC 9396), it grants nothing here."""
    if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
        raise _malformed("an authorization detail is no object with a type")
    if detail["type"] != _DETAIL:
        return _Detail((), ())
    actions, topics = _list(detail.get("actions"), "actions"), _list(detail.get("topics"), "topics")
    if not actions or not topics or not isinstance(detail.get("payload", {}), dict):
        raise _malformed("an authorization detail needs actions and topics, and its payload is an object")
    return _Detail(
        tuple(_text(each, "an action") for each in actions), tuple(map(_matcher, topics)), detail.get("payload")
    )


def _matcher(topic: object) -> Matcher:
    """Spec "Topic Matcher List"."""
    if not isinstance(topic, dict) or topic.get("match_type", "exact") not in ("exact", "urlpattern"):
        raise _malformed("a topic of a detail is an object with match, and match_type exact or urlpattern")
    return Matcher(topic.get("match_type", "exact"), _text(topic.get("match"), "match"))


def _granted(action: str, details: Sequence[_Detail]) -> tuple[Matcher, ...]:
    return tuple(dict.fromkeys(matcher for detail in details if action in detail.actions for matcher in detail.topics))


def _payloads(payloads: list[Payload]) -> tuple[Payload, ...]:
    """Without those at the end that attach nothing, which is what no payload attaches."""
    while payloads and payloads[-1].content is None:
        payloads.pop()
    try:
        json.dumps([each.content for each in payloads], allow_nan=False)  # NaN is no JSON for those who will read it
    except ValueError:
        raise _malformed("a payload holds NaN or Infinity, which are not JSON") from None
    return tuple(payloads)


def _selectors(selectors: object, name: str) -> tuple[Matcher, ...]:
    return () if selectors is None else tuple(Matcher("topic", _text(each, name)) for each in _list(selectors, name))


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _malformed(f"what stands in {name} is no text")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise _malformed(f"{name} is no list")
    return value
