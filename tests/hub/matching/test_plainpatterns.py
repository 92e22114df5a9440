"""Plain URL Patterns against the engine: same verdicts, and a beginning that every selected topic has."""

import os
import random
from contextlib import suppress

import pytest
from urlpattern import URLPattern

from hub.matching.matchers import Matcher, Matching
from hub.matching.plainpatterns import Places, PlainPattern

HUB = "https://localhost/.well-known/mercure"
ORIGIN = "https://localhost"
CASES = int(os.environ.get("CASES", "1500"))
"""Patterns of the comparison, each with some topics; 100,000 take a few minutes."""
SEED = int(os.environ.get("SEED", "1"))

ORIGINS = [
    "https://example.com",
    "http://a.b.example",
    "https://localhost",
    "https://a--b.c-",
    "https://example.com:8080",
    "https://example.com:443",
    "http://example.com:80",
    "http://example.com:443",
    "https://example.com:99999",
    "https://example.com:08",
    "https://EXAMPLE.com",
    "https://xn--bcher-kva.example",
    "https://xn--.example",
    "https://bücher.example",
    "https://1.2.3.4",
    "https://1.2",
    "https://a.0x1",
    "https://[::1]",
    "https://-a.com",
    "https://a_b.com",
    "https://u:p@example.com",
    "https://*.example.com",
    "https://:host.com",
    "*:",
    "http{s}?://example.com",
    "ftp://example.com",
    "ws://example.com",
    "urn:example",
    "data:text",
    "//example.com",
    "file://",
]
SEGMENTS = [
    r"users",
    r"42",
    r"a",
    r"b",
    r"a.b",
    r".",
    r"..",
    r".a",
    r"a~b_c-d",
    r"@a",
    r"$b",
    r"a!&',;=",
    r"%41",
    r"%2e",
    r"%2E%2e",
    r"é",
    r"a|b",
    r"a^b",
    r"a:b",
    r"a+b",
    r"(a)",
    r"a\b",
    r"\.",
    r"A",
    r"a{b",
    r"`",
    r'"',
    r"<a>",
    r"a%",
    r"a%zz",
    r"..a",
    r"a..",
    r"...",
    r"=",
]
SEGMENTS += ["", "", "a b", "a\tb"]
GROUPS = [
    r":id",
    r":id",
    r":x",
    r":id?",
    r":id+",
    r":x*",
    r"*",
    r"*",
    r"*?",
    r"**",
    r"*+",
    r"book-*",
    r"*-book",
    r"a*b",
    r":id.json",
    r":id-:x",
    r"(\d+)",
    r":id(\d+)",
    r"{a}?",
    r"{:id}",
    r":id(.*)",
    r":é",
    r"::id",
    r"(.*)",
    r"%*",
    r".*",
    r"a.*",
    r"book-*?",
]
TAILS = ["", "", "", "", "?x", "?*", "#f", "?a=:b", "#*"]


def any_of(chance: random.Random, *lists: list[str]) -> str:
    return chance.choice(chance.choice(lists))


def case(number: int) -> tuple[str, list[str]]:
    """A pattern, and topics that are near it."""
    chance = random.Random(SEED * 10_000_000 + number)
    origin = chance.choice([*ORIGINS[:5], ""]) if chance.random() < 0.7 else chance.choice(ORIGINS)
    parts = [
        any_of(chance, SEGMENTS[:5], GROUPS[:10]) if chance.random() < 0.8 else any_of(chance, SEGMENTS, GROUPS)
        for _ in range(chance.randint(0, 5))
    ]
    pattern = origin + "".join(f"/{part}" for part in parts) + (chance.choice(TAILS) if chance.random() < 0.1 else "")
    topics = []
    for _ in range(6):
        path: list[str] = []
        for part in parts:
            if not any(mark in part for mark in ":*({") or chance.random() < 0.05:
                path.append(part)
                continue
            partly = part[-1:] == "*" and len(part) > 2
            for _ in range(chance.choice([0, 1, 1, 1, 2])):
                found = part.replace("*", chance.choice(["", "a"])) if partly else chance.choice(SEGMENTS)
                path.append(found)
        if chance.random() < 0.2 and path:
            path[chance.randrange(len(path))] = chance.choice(SEGMENTS)
        where = origin if chance.random() < 0.8 else chance.choice(ORIGINS)
        end = chance.choice(["", "", "/", "?q", "#f", "?a/b#c", "/.", "/.."])
        topics.append(where + "".join(f"/{part}" for part in path) + end)
    return pattern, [*topics, chance.choice(["", "urn:example:1", "data:text/a", "https://", "/", "\ud800", "a", "?q"])]


def engine(pattern: str) -> URLPattern:
    """As `hub.matching.urlpatterns` compiles it."""
    try:
        return URLPattern(pattern)
    except ValueError as error:
        if "base URL" not in str(error):
            raise
        return URLPattern(pattern, HUB)


def says(pattern: URLPattern, topic: str) -> bool:
    try:
        return pattern.test(topic, HUB)
    except TypeError:  # a surrogate
        return False


def test_the_engine_agrees() -> None:
    """On what a plain pattern is, what it selects, and that all of that begins with its beginning."""
    places, plain, selected, compared = Places(HUB), 0, 0, 0
    matching = Matching(HUB)
    for number in range(CASES):
        pattern, topics = case(number)
        ours = PlainPattern.of(pattern, ORIGIN)
        if ours is None:
            with suppress(ValueError):
                theirs = engine(pattern)
                for topic in topics:
                    assert matching.matches(Matcher("urlpattern", pattern), topic) == says(theirs, topic), number
            continue
        plain += 1
        theirs = engine(pattern)
        for topic in topics:
            place = places.of(topic)
            verdict = place is not None and ours.matches(place)
            assert verdict == says(theirs, topic), (number, pattern, topic, place)
            assert verdict == matching.matches(Matcher("urlpattern", pattern), topic)
            assert not verdict or (place or "").startswith(ours.beginning)
            compared, selected = compared + 1, selected + verdict
    assert plain > CASES / 4
    assert compared / 10 < selected < compared * 9 / 10


@pytest.mark.parametrize(
    ("pattern", "beginning"),
    [
        ("https://example.com/users/42/*", "https://example.com/users/42/"),
        ("https://example.com/users/:id", "https://example.com/users/"),
        ("https://example.com/users/:id?", "https://example.com/"),
        ("https://example.com/users/42", "https://example.com/users/"),
        ("https://example.com/users/u-*", "https://example.com/users/"),
        ("https://example.com:8080/:a/b", "https://example.com:8080/"),
        ("/users/42/:x+", "https://localhost/users/42/"),
    ],
)
def test_beginnings(pattern: str, beginning: str) -> None:
    """As much as is certain, up to a slash."""
    plain = PlainPattern.of(pattern, ORIGIN)
    assert plain is not None
    assert plain.beginning == beginning


@pytest.mark.parametrize(
    "pattern",
    [
        *[
            "https://*.example.com/a",
            "https://example.com/(a|b)",
            "https://example.com/:a(b)",
            "https://example.com/{a}?",
            "urn:*",
        ],
        *[
            "https://example.com/:a/:a",
            "https://example.com",
            "https://example.com/a?b",
            "https://example.com/a%20b",
            "*",
            "a/b",
        ],
        "https://example.com/" + ":a*/:b*/:c*/:d*/:e*/:f*/:g*/:h*/:i*",
        "//example.com/a",
        "",
    ],
)
def test_what_is_not_plain(pattern: str) -> None:
    """Is the engine's."""
    assert PlainPattern.of(pattern, ORIGIN) is None


def test_where_topics_are() -> None:
    """As the URL standard writes them, whether or not they stand like that already."""
    places = Places(HUB)
    assert places.of("HTTPS://U:p@EXAMPLE.com:443/a/../b/é?x#y") == "https://example.com/b/%C3%A9"
    assert places.of("https://example.com:8080/a?x") == "https://example.com:8080/a"
    assert places.of("books/1") == "https://localhost/.well-known/books/1"
    assert places.of("urn:example:1") == "urn://example:1"
    assert places.of("https://") is None
    assert places.of("https://\ud800/") is None
