"""The rules of hub/matching/: what a matcher selects, and what it may cost."""

import sys
import time
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urlpattern import URLPattern

from hub.matching import matchers as module
from hub.matching import urlpatterns
from hub.matching.matchers import (
    MAX_COST,
    MAX_MATCHERS,
    MAX_TOPIC,
    InvalidMatcher,
    Matcher,
    Matching,
    invalid_character,
)

HUB = "https://localhost/.well-known/mercure"


@pytest.fixture(scope="module")
def matching() -> Matching:
    return Matching(HUB)


def exact(pattern: str) -> Matcher:
    return Matcher("exact", pattern)


def url(pattern: str) -> Matcher:
    return Matcher("urlpattern", pattern)


def topic(pattern: str) -> Matcher:
    return Matcher("topic", pattern)


# What a matcher selects


@pytest.mark.parametrize("kind", ["exact", "urlpattern", "topic"])
def test_the_wildcard_selects_every_topic_whatever_its_type(matching: Matching, kind: str) -> None:
    """`*` is recognized before the matcher's type is."""
    assert all(matching.matches(Matcher(kind, "*"), topic) for topic in ["https://a/b", "x", "", "http://["])
    assert Matcher(kind, "*").is_wildcard
    assert not Matcher(kind, "*").is_exact


@pytest.mark.parametrize(
    "other", ["https://example.com/A", "https://example.com/a/", "https://EXAMPLE.com/a", "/a", "é"]
)
def test_exact_compares_bytes(matching: Matching, other: str) -> None:
    """An exact matcher neither resolves nor normalizes."""
    assert matching.matches(exact("https://example.com/a"), "https://example.com/a")
    assert not matching.matches(exact("https://example.com/a"), other)
    assert not matching.matches(exact("e\u0301"), "\u00e9")


def test_an_exact_matcher_is_no_pattern(matching: Matching) -> None:
    """The syntax of patterns and templates means nothing in an exact matcher."""
    assert not matching.matches(exact("https://example.com/:id"), "https://example.com/1")
    assert not matching.matches(exact("https://example.com/{id}"), "https://example.com/1")
    assert matching.matches(exact("https://example.com/{id}"), "https://example.com/{id}")


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("https://example.com/books/:id", "https://example.com/books/1", True),
        ("https://example.com/books/:id", "https://example.com/books/1/x", False),
        ("https://example.com/books/:id", "https://example.com/Books/1", False),
        ("https://example.com/books/:id", "https://EXAMPLE.com/books/1", True),
        ("https://example.com/users/42/*", "https://example.com/users/42/books/1", True),
        ("https://example.com/users/42/*", "https://example.com/users/42/../43/x", False),
        ("https://example.com/users/42/*", "https://example.com/users/%34%32/x", False),
        ("https://example.com/users/42/*", "https://example.com/x/../users/42/y", True),
        ("https://example.com/x/../users/*", "https://example.com/users/42", True),
        ("https://example.com/users/:id?", "https://example.com/users", True),
        ("https://example.com/books?page=*", "https://example.com/books?page=2", True),
        ("https://example.com/*", "https://example.com", True),
        ("https://127.1/*", "https://127.0.0.1/a", True),
        ("/books/:id", "https://localhost/books/1", True),
        ("/books/:id", "/books/1", True),
        ("/books/:id", "../books/1", True),
        ("https://localhost/.well-known/:x", "mercure", True),
        ("urn:*", "urn:isbn:123", True),
        ("urn:*", "x", False),
        ("https://example.com/:id(\\d+)", "https://example.com/12", True),
        ("https://example.com/:id(\\d+)", "https://example.com/x", False),
        ("*://*/*", "http://[", False),
        ("/*", "\ud800", False),
    ],
)
def test_url_patterns_follow_the_standard(matching: Matching, pattern: str, text: str, expected: bool) -> None:
    """The hub's URL is the base of both sides; a topic that cannot be parsed never matches."""
    matching.check([url(pattern)])
    assert matching.matches(url(pattern), text) is expected


def test_a_topic_is_a_string_or_a_template(matching: Matching) -> None:
    """0.x: an equal string, or what the URI Template expands to; what is no template is a string."""
    assert matching.matches(topic("https://example.com/{id}"), "https://example.com/1")
    assert matching.matches(topic("https://example.com/{id}"), "https://example.com/{id}")
    assert not matching.matches(topic("https://example.com/{id}"), "https://example.com/1/2")
    matching.check([topic("a {no template")])
    assert matching.matches(topic("a {no template"), "a {no template")
    assert not matching.matches(topic("a {no template"), "a x")
    assert topic("a").is_exact
    assert not topic("{a}").is_exact


def test_any_is_some_matcher_on_some_topic(matching: Matching) -> None:
    """One pair suffices; topics may come from an iterator."""
    both = [exact("a"), url("https://example.com/:id")]
    assert matching.any(both, iter(["b", "https://example.com/1"]))
    assert not matching.any(both, ["b"])
    assert not matching.any([], ["b"])


def test_a_topic_beyond_the_limit_is_out_of_reach_for_patterns(matching: Matching) -> None:
    """Evaluation is bounded: a topic that is too long counts as not matching (spec "URL Pattern")."""
    long = "https://example.com/" + "a" * MAX_TOPIC
    assert matching.matches(exact(long), long)
    assert matching.matches(exact("*"), long)
    assert not matching.matches(url("https://example.com/*"), long)
    assert not matching.matches(topic("https://example.com/{id}"), long)


# What check refuses


@pytest.mark.parametrize(
    "matcher",
    [
        url("https://example.com/:"),
        url("https://["),
        url("/([)"),
        url("/(a"),
        url("/(?:a)"),
        url("/*(\\"),
        url("/" + "a" * 1024),
        exact("a" * 4097),
        exact("a\n"),
        url("/\u200b"),
        topic("{a}\x00"),
        exact("\ud800"),
        topic("{a}" * 33),
        topic("{a:9999}"),
        Matcher("regex", "a"),
        Matcher("regex", "*"),
    ],
)
def test_check_refuses_what_the_hub_does_not_evaluate(matching: Matching, matcher: Matcher) -> None:
    """Bad syntax, bad characters, too long, too large, unknown type."""
    with pytest.raises(InvalidMatcher):
        matching.check([matcher])


def test_the_number_of_matchers_is_bounded(matching: Matching) -> None:
    """A thousand exact matchers pass, one more does not."""
    matching.check(exact(str(n)) for n in range(MAX_MATCHERS))
    with pytest.raises(InvalidMatcher, match="1000"):
        matching.check(exact(str(n)) for n in range(MAX_MATCHERS + 1))


def test_patterns_share_one_budget(matching: Matching) -> None:
    """A hundred plain patterns pass; what passes alone need not pass with others."""
    matching.check(url(f"https://example.com/{n}/:id") for n in range(80))
    matching.check(topic(f"https://example.com/{n}/{{id}}") for n in range(250))
    costly = [url(f"/{n}/(\\w{{10}})") for n in range(3)]
    matching.check(costly[:1])
    with pytest.raises(InvalidMatcher, match="costly"):
        matching.check(costly)


HOSTILE = [
    r"/(\w{1,100})",
    r"/(\p{L}{100})",
    r"/(\pL{100})",
    r"/(\w {100})".replace(" ", ""),
    r"/((?x)\w {100})",
    r"/(\w{ 100 })",
    r"/(\w{10}{10})",
    r"/(\w(?:\w{0,10}){0,10})",
    r"/((?:(?:\w{4}){4}){4})",
    r"/([\w]{100})",
    r"/([[^a]b]{100})",
    r"/((?i)[[^a]b]{10})",
    r"/((?i:\p{Any}){3})",
    r"/([\x{80}-\x{10ffff}]{100})",
    r"/([]\w]{100})",
    r"/(.*a.{1000})",
    "/" + "*a" * 160,
    "/" + "".join(f":a{n}-" for n in range(140)),
    r"/((?:a?){9000})",
    r"/(.*(?:a?){0,900})",
    r"/((?:(?:(?:){1000}){1000}){1000})",
    r"/((?:\w[])(?]){100})",
    r"/((?:(?:\w[)][)])(x[(?][(?])){100})",
    r"\p(\w{100})",
    "".join(rf"/(\p{{L}}{{{n}}})" for n in range(1, 60)),
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_hostile_patterns_are_refused_before_they_are_compiled(pattern: str) -> None:
    """What would take long to compile or to match is priced from its text alone."""
    with pytest.raises(InvalidMatcher):
        Matching(HUB).check([url(pattern)])


@pytest.mark.parametrize("pattern", ["/([)", r"/((?:\w[)])", r"/((?:\w[)])(x[(?]){100})", "/(a[(?]))", "/([[a])"])
def test_a_regular_expression_must_be_complete_in_its_group(pattern: str) -> None:
    """What one group leaves open, the engine would let another close and repeat."""
    with pytest.raises(ValueError, match="closed"):
        urlpatterns.cost(pattern)


def test_unchecked_hostile_patterns_select_nothing() -> None:
    """A matcher that was never checked is bounded all the same."""
    matching = Matching(HUB)
    assert not any(matching.matches(url(pattern), "https://localhost/aaaa") for pattern in HOSTILE)
    assert not matching.matches(url("https://["), "https://localhost/")
    assert not matching.matches(topic("{a}" * 40), "x")


ATOMS = r"\w \W \d \D \S \p{L} \pL \P{L} \p{Greek} . a [a-z] [^a] [\w--\d] [[^a]b] [[:^alpha:]] []a] [^]\w] [(?] [)] \b"
PIECES = st.sampled_from([*ATOMS.split(), r"[\x{80}-\x{10ffff}]", "(?i)", "|", "(?:)", " ", r"\)", "^"])
COUNTS = st.sampled_from(
    ["", "", "*", "+?", "{3}", "{9}", "{20}", "{100}", "{0,10}", "{5,}", "{3}{4}", "{ 4 }", "{1000}"]
)
REGEXPS = st.recursive(
    st.tuples(PIECES, COUNTS).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.tuples(st.sampled_from(["(?:", "(?i:"]), inner, st.just(")"), COUNTS).map("".join),
    ),
    max_leaves=8,
)
PATTERNS = st.lists(
    st.one_of(
        REGEXPS.map("/({})".format), REGEXPS.map("{{a({})b}}+".format), REGEXPS.map("({})*".format), st.just("/:a")
    ),
    min_size=1,
    max_size=5,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(PATTERNS)
def test_the_estimate_bounds_the_time_to_compile(pattern: str) -> None:
    """No pattern within the budget takes several times what an ordinary one takes that fills it, side by side."""
    try:
        within = urlpatterns.cost(pattern) <= MAX_COST
    except ValueError:
        return
    if within and len(pattern) <= module.MAX_URL_PATTERN:
        full = r"/(\w{18})"
        assert 0.9 * MAX_COST < urlpatterns.cost(full) < MAX_COST
        assert _seconds_to_compile(pattern) < 8 * _seconds_to_compile(full)


def _seconds_to_compile(pattern: str) -> float:
    """The least of three: what a busy machine adds is not the pattern's."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        with suppress(ValueError):
            URLPattern(pattern, HUB)
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.mark.parametrize(
    "pattern",
    [
        r"https://example.com/:id(\d{4}-\d{2}-\d{2})",
        "https://example.com/:id([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12})",
        r"https://:tenant.example.com/:kind(books|authors|reviews)/:slug([\w-]+){/:page(\d+)}?",
    ],
)
def test_patterns_of_everyday_use_are_affordable(pattern: str) -> None:
    """Ten patterns with the usual regular expressions fit in one request."""
    Matching(HUB).check([url(pattern)])
    assert 5 * urlpatterns.cost(pattern) < MAX_COST


PLAIN = st.lists(
    st.sampled_from(["", "a", "b", "..", ".", "a.b", "a-b", "%61", ":id", "*", ":id?", "a?x", "a*", "(a)?", "(a|b)"]),
    max_size=4,
)
HOSTS = st.sampled_from(
    ["https://a.com", "https://b.com", "http://a.com", "https://A.com", "https://a.com:443", "//a.com", ""]
)


@settings(max_examples=400, deadline=None)
@given(HOSTS, PLAIN, HOSTS, PLAIN)
def test_the_shortcut_never_changes_the_answer(host: str, path: list[str], other: str, segments: list[str]) -> None:
    """What a pattern selects begins as it says, and is what the engine selects."""
    pattern, text = "/".join([host, *path]), "/".join([other, *segments])
    try:
        expected = urlpatterns.Compiled(HUB, 10**6).get(pattern).test(text, HUB)
    except ValueError:
        return
    matching = Matching(HUB)
    assert matching.matches(url(pattern), text) is expected
    assert not expected or (matching.place(text) or "").startswith(matching.beginning(url(pattern)))


def test_the_shortcut_spares_other_users_patterns() -> None:
    """With one pattern a user, a topic of one user compiles only that user's."""
    matching = Matching(HUB)
    assert not any(
        matching.matches(url(f"https://example.com/users/{n}/*"), "https://example.com/users/x/1") for n in range(99)
    )
    assert not matching._patterns._kept


def test_compiled_patterns_are_forgotten_by_cost() -> None:
    """The least recently used goes first, and what is kept never costs more than the limit."""
    compiled = urlpatterns.Compiled(HUB, limit=3 * urlpatterns.cost("/0/:id"))
    for n in range(3):
        compiled.get(f"/{n}/:id")
    first = compiled.get("/0/:id")
    compiled.get("/3/:id")
    assert list(compiled._kept) == ["/2/:id", "/0/:id", "/3/:id"]
    assert compiled.get("/0/:id") is first


# Topics: invalid characters and the hub's own namespace


def test_invalid_characters_are_the_specified_ones() -> None:
    """C0, DEL, C1 and Cf, as this Python knows Unicode, and surrogates; nothing else that is assigned."""
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        category = unicodedata.category(character)
        if category != "Cn":
            assert invalid_character(character) == (category in {"Cc", "Cf", "Cs"}), hex(number)


def test_ordinary_text_is_valid() -> None:
    """Spaces, unassigned and private characters, separators and emoji may stand in a topic."""
    assert not any(map(invalid_character, ["", "a b", "é", "日本", "😀", "\u2028", "\xa0", "\ue000", "\u0378", "{id}"]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?a",
        "#x",
        "mercure",
        "./mercure",
        r"\.well-known\mercure",
        "https:?x",
        "/.well-known/mercure/a",
        "mercure?q",
        "https://other.example/.well-known/mercure",
        "foo://h/.well-known/mercure/x",
        "mercure/../mercure",
        "/a/../.well-known/mercure",
        "/.well-known/%6Dercure",
        "/.well-known/%6dercure/x",
        "/%2Ewell-known/mercure",
        "/a/%2e%2e/.well-known/mercure",
        "%78:/../%6Dercure",
        "//h/.well-known/./mercure",
        "/.well-known/mer\ncure",
        " mercure",
        "mailto:/.well-known/mercure",
    ],
)
def test_reserved_topics(matching: Matching, text: str) -> None:
    """Neither scheme, host, dot segments, encoding nor how a URL parser forgives hides the hub's path."""
    assert matching.is_reserved(text)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "urn:x",
        "*",
        "http://[",
        "/.well-known/mercurex",
        "/.WELL-KNOWN/mercure",
        "/.well-known/mercure%2Fx",
        "\ud800",
        "/.well-known//mercure",
        "foo:.well-known/mercure",
        "/.well-known/%256Dercure",
        "/x?/.well-known/mercure",
        "mercure:",
    ],
)
def test_topics_that_are_not_reserved(matching: Matching, text: str) -> None:
    """The whole resolved path counts, case included, and what is no URL names no path."""
    assert not matching.is_reserved(text)


def test_the_reserved_path_is_the_hubs_own() -> None:
    """A hub mounted elsewhere reserves its own path; characters with a meaning in patterns stand for themselves."""
    matching = Matching("https://example.com/a(b)+/h")
    assert matching.is_reserved("https://example.com/a(b)+/h/x")
    assert not matching.is_reserved("https://example.com/abb/h")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["exact", "urlpattern", "topic"]), st.text(max_size=30), st.text(max_size=30))
def test_nothing_but_invalid_matcher_is_ever_raised(kind: str, pattern: str, text: str) -> None:
    """Any text is answered, as a pattern and as a topic."""
    matching = Matching(HUB)
    with suppress(InvalidMatcher):
        matching.check([Matcher(kind, pattern)])
    assert matching.matches(Matcher(kind, pattern), text) in {True, False}
    assert matching.is_reserved(text) in {True, False}
