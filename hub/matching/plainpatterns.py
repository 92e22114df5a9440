"""The URL Patterns that nearly everybody writes, matched and indexed without the engine.

``https://example.com/users/42/*`` costs the engine 70 KiB and 300 µs to compile. It is *plain*: its scheme, host and
port stand as they are, and each segment of its path is a literal text, a name (``:id``, maybe with ``?``, ``+`` or
``*``) or a wildcard. Such a pattern is a few small tuples here, and a topic is matched segment by segment.

A topic is compared as the URL standard canonicalises it (`Places`): the engine does that once for each topic that does
not stand in that form already. What a topic must begin with, up to a slash, is the pattern's *beginning*; by it the
pattern is found among a hundred thousand others. All else, regular expressions first of all, is left to the engine.
``tests/hub/matching/test_plainpatterns.py`` compares both over patterns and topics that a seed makes.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Self

from urlpattern import URLPattern

MAX_LOOSE = 8
"""Segments of a pattern that may be left out or repeated: a topic's are each looked at so many times."""
KNOWN = 4_096
"""Topics whose place is not looked for again."""

_ORIGIN = r"https?://(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*(?::[1-9][0-9]{0,4})?"
"""In canonical form, but for punycode and the ports that the scheme has anyway."""
_PATTERN = re.compile(rf"({_ORIGIN})?(/[^/].*|/)", re.DOTALL)
_TOPIC = re.compile(rf"(({_ORIGIN})(?:/(?!\.)[A-Za-z0-9_.~!$&'()*+,;=:@-]*)+)(?:[?#][^\ud800-\udfff]*)?")
_ALL_BELOW = re.compile(rf"{_ORIGIN}(?:/[A-Za-z0-9_.~!$&',;=@-]*)*/\*")
_DEFAULT = re.compile(r"http:.*:80|https:.*:443")
_LITERAL = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.~!$&',;=@-]*")
_NAME = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)([?+*]?)")
_PARTLY = re.compile(r"((?!\.)[A-Za-z0-9_.~!$&',;=@-]+)\*")


def selects_all_below(pattern: str, place: str) -> bool:
    """Whether the pattern ends with its only wildcard, and the place lies below what comes before it.

    The most usual pattern, one a user, needs no more: it is not even taken apart. A place is canonical, so that what it
    begins with is.
    """
    return place.startswith(pattern[:-1]) and _ALL_BELOW.fullmatch(pattern) is not None


class _Segment(NamedTuple):
    """What one segment of a topic's path may be. ``text``: None for any."""

    text: str | None = None
    is_beginning: bool = False
    may_be_empty: bool = False
    optional: bool = False
    repeats: bool = False

    def takes(self, segment: str) -> bool:
        if self.text is None:
            return self.may_be_empty or segment != ""
        return segment.startswith(self.text) if self.is_beginning else segment == self.text


_ONE, _ANY = _Segment(), _Segment(may_be_empty=True)
_NAMES = {
    "": (_ONE,),
    "?": (_ONE._replace(optional=True),),
    "+": (_ONE, _ONE._replace(optional=True, repeats=True)),
    "*": (_ONE._replace(optional=True, repeats=True),),
}
_REST = _ANY._replace(optional=True, repeats=True)


class PlainPattern(NamedTuple):
    """``origin``: with its scheme, without a slash. ``beginning``: see the top of this file."""

    origin: str
    beginning: str
    segments: tuple[_Segment, ...]

    @classmethod
    def of(cls, pattern: str, base: str) -> Self | None:
        """The pattern, for a hub whose origin is ``base``; None: it is not plain, or no pattern at all."""
        found = _PATTERN.fullmatch(pattern)
        origin = (found[1] or base) if found else ""
        if found is None or not re.fullmatch(_ORIGIN, origin) or not _is_canonical(origin):
            return None
        path, segments, names = found[2][1:].split("/"), list[_Segment](), set[str]()
        for number, text in enumerate(path, 1):
            if _LITERAL.fullmatch(text):
                segments.append(_Segment(text))
            elif text == "*":
                segments += [_ANY, _REST]
            elif (name := _NAME.fullmatch(text)) and name[1] not in names:
                names.add(name[1])
                segments += _NAMES[name[2]]
            elif (partly := _PARTLY.fullmatch(text)) and number == len(path):
                segments += [_Segment(partly[1], is_beginning=True), _REST]
            else:
                return None
        if sum(each.optional for each in segments) > MAX_LOOSE:
            return None
        return cls(origin, f"{origin}/{''.join(_certain(segments))}", tuple(segments))

    def matches(self, place: str) -> bool:
        """Whether it selects the topic that is there (`Places.of`)."""
        if not place.startswith(self.beginning):
            return False
        states = self._open({0})
        for segment in place[len(self.origin) + 1 :].split("/"):
            taken = {state for state in states if state < len(self.segments) and self.segments[state].takes(segment)}
            again = {state for state in taken if self.segments[state].repeats}
            states = self._open({state + 1 for state in taken} | again)
        return len(self.segments) in states

    def _open(self, states: set[int]) -> set[int]:
        """With those after what may be left out."""
        for state in range(len(self.segments)) if any(each.optional for each in self.segments) else ():
            if state in states and self.segments[state].optional:
                states.add(state + 1)
        return states


def _certain(segments: list[_Segment]) -> Iterator[str]:
    """The literal segments that come first, each with the slash that follows it in every topic."""
    for segment, after in pairwise(segments):
        if segment.text is None or segment.is_beginning or after.optional:
            return
        yield f"{segment.text}/"


def _is_canonical(origin: str) -> bool:
    return "xn--" not in origin and not _DEFAULT.fullmatch(origin) and int(origin[6:].partition(":")[2] or 0) < 65_536


class Places:
    """Where a topic is: its origin and path as the URL standard writes them, resolved against the hub's URL."""

    def __init__(self, hub_url: str) -> None:
        self._base = hub_url
        self._any = URLPattern({"protocol": "*", "hostname": "*", "port": "*", "pathname": "*"})
        self.of = lru_cache(KNOWN)(self._of)
        """None: the topic is no URL."""

    def _of(self, topic: str) -> str | None:
        plain = _TOPIC.fullmatch(topic)
        if plain and _is_canonical(plain[2]):
            return plain[1]
        try:
            found = self._any.exec(topic, self._base)
        except TypeError:  # a surrogate, which is no UTF-8
            return None
        if found is None:
            return None
        scheme, host, port, path = (found[part]["input"] for part in ("protocol", "hostname", "port", "pathname"))
        return f"{scheme}://{host}{':' if port else ''}{port}{path}"
