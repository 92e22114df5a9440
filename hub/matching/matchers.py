"""Which topics a matcher selects: exact strings, URL Patterns (1.0), URI Templates (0.x) and the wildcard."""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from urlpattern import URLPattern

from hub.matching import urlpatterns
from hub.matching.plainpatterns import Places, PlainPattern, selects_all_below
from hub.matching.uritemplates import CostlyTemplate, InvalidTemplate, Template

MAX_MATCHERS = 1_000
MAX_LENGTH = 4_096
MAX_URL_PATTERN = 1_024
MAX_COST = 40_000  # about the microseconds that compiling the patterns of one request may take
MAX_TOPIC = 4_096  # a longer topic is reached by exact matchers and the wildcard only, so that matching stays bounded

_COMPILED = 600_000  # cost of the URL Patterns kept compiled: 2,000 plain ones, 150 MiB; hostile ones take less
_PLAIN_PATTERNS = 8_192  # URL Patterns that need no engine, half a KiB each
_TEMPLATES = 512  # URI Templates kept: about 5 KiB each, 200 KiB for the most hostile
_RESULTS = 8_192  # results kept: a few MiB, 70 MiB when every topic and pattern has its full length

_INVALID = re.compile(  # C0, DEL, C1, format characters (Cf of Unicode 15), and surrogates, which are no UTF-8
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff]"
)


class InvalidMatcher(ValueError):
    """A matcher that the hub does not evaluate; the sentence says why and is fit for a client."""


PRICE_OF_A_PLAIN_PATTERN = 20
PRICE_OF_A_TEMPLATE = 100
PRICE_OF_ANY_TOPIC = 1_500
"""A template that begins with an expression is tried on every published topic, for all subscribers."""

_PLAIN = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]*")


class Matcher(NamedTuple):
    """An expression over topics, of type "exact", "urlpattern" (1.0) or "topic" (0.x: a string or a URI Template)."""

    type: str
    pattern: str

    @property
    def is_wildcard(self) -> bool:
        """``*`` selects every topic, whatever the type (spec "Matcher Types")."""
        return self.pattern == "*"

    @property
    def is_exact(self) -> bool:
        """Whether it selects the one topic that equals its pattern."""
        if self.is_wildcard:
            return False
        return self.type == "exact" or (self.type == "topic" and "{" not in self.pattern)

    @property
    def beginning(self) -> str:
        """What every topic that a template selects starts with, as far as it stands for itself; else nothing.

        Other characters than these may be percent-encoded in an expansion (RFC 6570 section 3.1).
        """
        plain = _PLAIN.match(self.pattern) if self.type == "topic" and not self.is_wildcard else None
        return plain[0] if plain else ""


def invalid_character(text: str) -> bool:
    """Whether a topic, matcher, id or type holds what none of them may hold (spec "Terminology", Topic)."""
    return not text.isprintable() and _INVALID.search(text) is not None  # the first test is the faster one


class Matching:
    """Matchers against topics, for a hub at ``hub_url``: the base of relative patterns and relative topics.

    Pure and synchronous. What was compiled and what was found is kept in bounded caches, shared by all subscribers.
    """

    def __init__(self, hub_url: str) -> None:
        self._base = hub_url
        parts = urlsplit(hub_url)
        self._plain = lru_cache(_PLAIN_PATTERNS)(partial(PlainPattern.of, base=f"{parts.scheme}://{parts.netloc}"))
        self.place = Places(hub_url).of
        """Where a topic is, as a URL in canonical form; None: it is none."""
        self._patterns = urlpatterns.Compiled(hub_url, _COMPILED)
        self._templates = lru_cache(_TEMPLATES)(_template)
        self._found = lru_cache(_RESULTS)(self._find)
        self._reserved = URLPattern({"pathname": _reserved_path(urlsplit(hub_url).path)})

    def check(self, matchers: Iterable[Matcher]) -> None:
        """Raises `InvalidMatcher` for a bad pattern, and for more or costlier ones than one request may bring."""
        budget = MAX_COST
        for number, matcher in enumerate(matchers, 1):
            if number > MAX_MATCHERS:
                raise InvalidMatcher(f"there may be {MAX_MATCHERS} topic matchers: use patterns, or several requests")
            _check_text(matcher)
            budget -= self._checked_cost(matcher, budget)

    def matches(self, matcher: Matcher, topic: str) -> bool:
        """Whether ``matcher`` selects ``topic``; what `check` would refuse selects at most the topic equal to it."""
        kind, pattern = matcher
        if pattern == "*" or (pattern == topic and kind != "urlpattern"):
            return True
        if kind == "exact" or len(topic) > MAX_TOPIC:
            return False
        if kind == "urlpattern":
            place = self.place(topic)
            if place is not None and selects_all_below(pattern, place):
                return True
            plain = self._plain(pattern)
            if plain is not None:
                return place is not None and plain.matches(place)
            beginning = urlpatterns.beginning(pattern)
            return (place or "").startswith(beginning) and self._found(matcher, topic)
        return "{" in pattern and topic.startswith(matcher.beginning) and self._found(matcher, topic)

    def beginning(self, matcher: Matcher) -> str:
        """What the place of every topic begins with that a URL Pattern selects, up to a slash; empty: nothing certain.

        Of other types: what every topic begins with.
        """
        if matcher.type != "urlpattern":
            return matcher.beginning
        plain = self._plain(matcher.pattern)
        return plain.beginning if plain is not None else urlpatterns.beginning(matcher.pattern)

    def any(self, matchers: Iterable[Matcher], topics: Iterable[str]) -> bool:
        """Whether some matcher selects some topic."""
        topics = tuple(topics)
        return any(self.matches(matcher, topic) for matcher in matchers for topic in topics)

    def is_reserved(self, topic: str) -> bool:
        """Whether ``topic``, resolved against the hub's URL, names the hub's own path or what lies below it.

        Scheme and host do not count, percent-encoding does not hide (spec "Publication", `topic`).
        """
        try:
            return self._reserved.test(topic, self._base)
        except TypeError:  # a surrogate, which is no UTF-8
            return False

    def _checked_cost(self, matcher: Matcher, budget: int) -> int:
        """What the matcher costs, once it is known to compile and to be within ``budget``."""
        if matcher.is_wildcard or matcher.is_exact:
            return 0
        if matcher.type == "urlpattern":
            if self._plain(matcher.pattern) is not None:
                return _within(budget, PRICE_OF_A_PLAIN_PATTERN)
            price = _within(budget, _url_pattern_cost(matcher.pattern))
            _compiled(self._patterns, matcher.pattern)
            return price
        template = self._templates(matcher.pattern)
        price = PRICE_OF_ANY_TOPIC if not matcher.beginning else PRICE_OF_A_TEMPLATE
        return _within(budget, price + 10 * template.states if template else 0)

    def _find(self, matcher: Matcher, topic: str) -> bool:
        try:
            if matcher.type == "urlpattern":
                _within(MAX_COST, _url_pattern_cost(matcher.pattern))
                return _compiled(self._patterns, matcher.pattern).test(topic, self._base)
            template = self._templates(matcher.pattern)
        except (InvalidMatcher, TypeError):  # TypeError: a surrogate, which is no UTF-8
            return False
        return template is not None and template.matches(topic)


def _check_text(matcher: Matcher) -> None:
    longest = {"exact": MAX_LENGTH, "topic": MAX_LENGTH, "urlpattern": MAX_URL_PATTERN}.get(matcher.type)
    if longest is None:
        raise InvalidMatcher("unknown matcher type: use exact or urlpattern")
    if len(matcher.pattern) > longest:
        raise InvalidMatcher(f"a matcher of type {matcher.type} may have {longest} characters, and this one has more")
    if invalid_character(matcher.pattern):
        raise InvalidMatcher("a matcher may not contain control or invisible format characters")


def _within(budget: int, price: int) -> int:
    if price > budget:
        raise InvalidMatcher(
            "the patterns are too costly: use fewer, exact matchers, or simpler ones;"
            r" classes such as \w, long regular expressions and counted repetitions cost most"
        )
    return price


def _url_pattern_cost(pattern: str) -> int:
    try:
        return urlpatterns.cost(pattern)
    except ValueError as error:
        raise InvalidMatcher(f"not a URL Pattern that this hub evaluates: {error}") from None


def _compiled(patterns: urlpatterns.Compiled, pattern: str) -> URLPattern:
    try:
        return patterns.get(pattern)
    except ValueError:
        raise InvalidMatcher("not a URL Pattern: see https://urlpattern.spec.whatwg.org") from None


def _template(text: str) -> Template | None:
    """None for what is no template: in 0.x it is an exact string then."""
    try:
        return Template(text)
    except InvalidTemplate:
        return None
    except CostlyTemplate as error:
        raise InvalidMatcher(str(error)) from None


def _reserved_path(path: str) -> str:
    """A pathname pattern for ``path`` and all below it, each unreserved character plain or percent-encoded.

    The encoding is undone here and not in the topic, because decoding before the URL is parsed would change how it is.
    """
    characters = (
        f"(?:{re.escape(character)}|%{ord(character):02x}|%{ord(character):02X})" if character != "/" else "/"
        for character in quote(path, safe="/%:@!$&'()*+,;=")
    )
    return f"({''.join(characters)}(?:/.*)?)"
