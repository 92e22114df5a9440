"""The two generations of the protocol that are served side by side, and what each calls things.

1.0 is draft-dunglas-mercure-08; 0.x is what the Go hub has served since 0.10. A token says by its ``typ`` which one it
belongs to, a subscriber by its parameters; publishing is the same in both.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Literal, NamedTuple

PATH = "/.well-known/mercure"

Protocol = Literal["both", "1.0", "0.x"]
"""What a hub serves."""


class Generation(StrEnum):
    V1 = "1.0"
    V0 = "0.x"


class Names(NamedTuple):
    """``matchers``: parameters of a subscription, each with its type of matcher. ``cursors``: parameters that hold the
    last event id. ``told_in``: the response header that says where a stream begins. ``cookie``: that holds a token.
    ``media_type``: of the subscriptions API.
    """

    matchers: Mapping[str, str]
    cursors: tuple[str, ...]
    told_in: str
    cookie: str
    media_type: str


NAMES: Mapping[Generation, Names] = {
    Generation.V1: Names(
        matchers={"match": "exact", "match_exact": "exact", "match_urlpattern": "urlpattern"},
        cursors=("last_event_id",),
        told_in="Mercure-Last-Event-ID",
        cookie="__Secure-mercure_access_token",
        media_type="application/json",
    ),
    Generation.V0: Names(
        matchers={"topic": "topic"},
        cursors=("lastEventID", "Last-Event-ID"),
        told_in="Last-Event-ID",
        cookie="mercureAuthorization",
        media_type="application/ld+json",
    ),
}


@cache
def generations_in(protocol: Protocol) -> tuple[Generation, ...]:
    """The generations that a hub with this setting serves, the newest first. Asked for each subscriber."""
    return tuple(each for each in Generation if protocol in ("both", each))


@cache
def matcher_types(generations: tuple[Generation, ...]) -> Mapping[str, str]:
    """The parameters of a subscription in these generations, each with its type of matcher."""
    return {name: type for each in generations for name, type in NAMES[each].matchers.items()}


def topic_parameter(protocol: Protocol) -> str:
    """The parameter to name one topic with: the older generation's where it is served, which every client knows."""
    return next(iter(matcher_types(generations_in(protocol)[-1:])))
