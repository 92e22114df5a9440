"""The rules of hub/uritemplates.py: a template matches what it can expand to, in time linear in the topic."""

import sys
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.matching import uritemplates
from hub.matching.uritemplates import MAX_STATES, MAX_VARIABLES, CostlyTemplate, InvalidTemplate, Template


def matches(template: str, topic: str) -> bool:
    return Template(template).matches(topic)


@pytest.mark.parametrize(
    ("template", "expansion"),
    [
        ("{var}", "value"),
        ("{hello}", "Hello%20World%21"),
        ("O{empty}X", "OX"),
        ("{x,y}", "1024,768"),
        ("?{x,empty}", "?1024,"),
        ("?{x,undef}", "?1024"),
        ("{var:3}", "val"),
        ("{var:30}", "value"),
        ("{list}", "red,green,blue"),
        ("{list*}", "red,green,blue"),
        ("{list*}", "red,green,"),
        ("{/list*}", "/red/"),
        ("{keys}", "semi,%3B,dot,.,comma,%2C"),
        ("{keys*}", "semi=%3B,dot=.,comma=%2C"),
        ("{+path}/here", "/foo/bar/here"),
        ("{+path:6}/here", "/foo/b/here"),
        ("{+keys*}", "semi=;,dot=.,comma=,"),
        ("{#x,hello,y}", "#1024,Hello%20World!,768"),
        ("foo{#empty}", "foo#"),
        ("foo{#undef}", "foo"),
        ("{#path:6}here", "#/foo/bhere"),
        ("X{.x,y}", "X.1024.768"),
        ("X{.list*}", "X.red.green.blue"),
        ("X{.keys*}", "X.semi=%3B.dot=..comma=%2C"),
        ("X{.empty_keys*}", "X"),
        ("{/var,x}/here", "/value/1024/here"),
        ("{/var,empty}", "/value/"),
        ("{/var:1,var}", "/v/value"),
        ("{/list*,path:4}", "/red/green/blue/%2Ffoo"),
        ("{/keys*}", "/semi=%3B/dot=./comma=%2C"),
        ("{;x,y,empty}", ";x=1024;y=768;empty"),
        ("{;v,bar,who}", ";v=6;who=fred"),
        ("{;hello:5}", ";hello=Hello"),
        ("{;list*}", ";list=red;list=green"),
        ("{;keys}", ";keys=semi,%3B,dot,.,comma,%2C"),
        ("{;keys*}", ";semi=%3B;dot=.;comma=%2C"),
        ("{?x,y,empty}", "?x=1024&y=768&empty="),
        ("{?var:3}", "?var=val"),
        ("{?list*}", "?list=red&list=green"),
        ("{?keys*}", "?semi=%3B&dot=."),
        ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
        ("{&x,y,empty}", "&x=1024&y=768&empty="),
        ("{var:1}", "%C3%A9"),
        ("é{x}é", "%C3%A9x%C3%A9"),
        ("é{x}", "éx"),
        ("it's-{x}", "it's-1"),
        ("https://example.com/books/{id}", "https://example.com/books/1"),
        ("{a}{b}{/c*}{?d*}", "ab/c/c?e=f"),
    ],
)
def test_what_a_template_expands_to_matches(template: str, expansion: str) -> None:
    """The examples of RFC 6570 section 3.2, and a few of ours."""
    assert matches(template, expansion)


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("{var}", "a/b"),
        ("{var}", "a b"),
        ("{var}", "é"),
        ("{var}", "%4"),
        ("{var}", "%zz"),
        ("{var}", "a\n"),
        ("a{var}", "b"),
        ("{var}/x", "a/y"),
        ("{x:1}", "ab"),
        ("{x:1}", "%C3%A9a"),
        ("{a:2,b:2}", "abcd"),
        ("{/a,b}", "/1/2/3"),
        ("{/a}", "1"),
        ("{?x}", "?y=1"),
        ("{?x,y}", "?"),
        ("{?x,y}", "&y=1"),
        ("{?x,y}", "?x=1?y=2"),
        ("{?x,y}", "?y=1&x=2"),
        ("{?x*}", "?x"),
        ("{&x}", "x=1"),
        ("{;x}", ";x="),
        ("{;x}", ";xa"),
        ("{;keys*}", ";a="),
        ("{x}1", "a%41"),
        ("ab{x}bc", "abc"),
        ("{x}é", "x%C3"),
    ],
)
def test_what_no_value_yields_does_not_match(template: str, topic: str) -> None:
    """Characters, order, names and counts that no expansion has."""
    assert not matches(template, topic)


@pytest.mark.parametrize(
    "text", ["{", "}", "{}", "a b", "{a b}", "{=a}", "{a:0}", "{a:10000}", "{a:1*}", "%4", "{a,}", "<a>", "{.}"]
)
def test_what_is_no_template_is_refused(text: str) -> None:
    """The grammar of RFC 6570 section 2; operators reserved for later are errors."""
    with pytest.raises(InvalidTemplate):
        Template(text)


@pytest.mark.parametrize(
    "text", ["{a}" * (MAX_VARIABLES + 1), "{a:600}", "{a:300}{b:300}", "{a}" + "x" * MAX_STATES + "{b}", "{a}" * 1000]
)
def test_large_templates_are_refused(text: str) -> None:
    """States and variables are bounded, and so is the work of one symbol."""
    with pytest.raises(CostlyTemplate):
        Template(text)


def test_literal_text_at_both_ends_is_free() -> None:
    """A long template with one expression is no large one."""
    assert Template("a" * 2000 + "{b}" + "c" * 2000).states < 10


# An expansion to compare with, after RFC 6570 section 3.2.1

Value = str | list[str] | dict[str, str]
OPERATORS = {
    "": ("", ",", False, "", ""),
    "+": ("", ",", False, "", ":/?#[]@!$&'()*+,;="),
    "#": ("#", ",", False, "", ":/?#[]@!$&'()*+,;="),
    ".": (".", ".", False, "", ""),
    "/": ("/", "/", False, "", ""),
    ";": (";", ";", True, "", ""),
    "?": ("?", "&", True, "=", ""),
    "&": ("&", "&", True, "=", ""),
}


def expand(operator: str, variables: list[tuple[str, str]], values: dict[str, Value]) -> str:
    first, separator, named, if_empty, allowed = OPERATORS[operator]

    def encode(text: str) -> str:
        return quote(text, safe=allowed + "~")

    def pair(name: str, value: str) -> str:
        return name + ("=" + value if value else if_empty)

    def one(name: str, modifier: str, value: Value) -> str:
        if isinstance(value, str):
            value = encode(value[: int(modifier[1:])] if modifier.startswith(":") else value)
            return pair(name, value) if named else value
        if modifier == "*" and isinstance(value, dict):
            return separator.join(
                pair(encode(k), encode(v)) if named else f"{encode(k)}={encode(v)}" for k, v in value.items()
            )
        if modifier == "*":
            return separator.join(pair(name, encode(item)) if named else encode(item) for item in value)
        flat = [item for each in value.items() for item in each] if isinstance(value, dict) else value
        joined = ",".join(map(encode, flat))
        return pair(name, joined) if named else joined

    defined = [
        one(name, modifier, values[name]) for name, modifier in variables if values.get(name) not in (None, [], {})
    ]
    return first + separator.join(defined) if defined else ""


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
VALUES = st.one_of(st.none(), TEXT, st.lists(TEXT, max_size=3), st.dictionaries(KEYS, TEXT, max_size=3))
NAMES = st.sampled_from(["a", "b", "id", "x.y", "_1", "%41"])
VARIABLES = st.lists(st.tuples(NAMES, st.sampled_from(["", "", "*", ":1", ":3", ":30"])), min_size=1, max_size=3)
EXPRESSIONS = st.tuples(st.sampled_from(list(OPERATORS)), VARIABLES)
LITERALS = st.text("abc/.?&=;,-%é", max_size=4).map(lambda text: text.replace("%", "%2F"))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.one_of(LITERALS, EXPRESSIONS), max_size=5),
    st.fixed_dictionaries(dict.fromkeys(["a", "b", "id", "x.y", "_1", "%41"], VALUES)),
)
def test_every_expansion_matches(parts: list[Any], values: dict[str, Any]) -> None:
    """Any template with any values: the result is matched, and with a foreign character it is not."""
    template, expansion = "", ""
    for part in parts:
        if isinstance(part, str):
            template, expansion = template + part, expansion + quote(part, safe="/.?&=;,-%")
            continue
        operator, variables = part
        # A prefix is for strings only (RFC 6570 section 2.4.1).
        usable = {
            n: v
            for n, v in values.items()
            if isinstance(v, str) or not any(n == name and m[:1] == ":" for name, m in variables)
        }
        template += "{" + operator + ",".join(map("".join, variables)) + "}"
        expansion += expand(operator, variables, usable)
    compiled = Template(template)
    assert compiled.matches(expansion), (template, expansion)
    assert not compiled.matches(expansion + "|")
    assert not compiled.matches("<" + expansion)


@settings(max_examples=300, deadline=None)
@given(st.text("{}+#./;?&ab,:*19%é ", max_size=12), st.text(max_size=12))
def test_any_text_is_a_template_or_refused(template: str, topic: str) -> None:
    """Nothing but the two refusals is ever raised."""
    try:
        compiled = Template(template)
    except (InvalidTemplate, CostlyTemplate):
        return
    assert compiled.matches(topic) in {True, False}


HOSTILE = [
    "".join(f"{{a{n}}}" for n in range(MAX_VARIABLES)),
    "".join(f"{{+a{n}}}x" for n in range(MAX_VARIABLES)),
    "{+a}" + "".join(f"x{{/a{n}*}}x" for n in range(MAX_VARIABLES - 1)),
    "{+a}" + "".join(f"{{/a{n}:12}}x" for n in range(MAX_VARIABLES - 1)),
    "{+a}" + "x" * 480 + "{b}",
    "{+a:500}",
]


def steps(template: str, topic: str) -> int:
    """Lines of hub/uritemplates.py that run for one match."""
    compiled, count = Template(template), 0
    compiled.matches(topic[:50])

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != uritemplates.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        compiled.matches(topic)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("template", HOSTILE)
def test_matching_is_linear_in_the_topic(template: str) -> None:
    """However long the topic is, another thousand symbols take the same steps: a few for each variable."""
    first, second, third = (steps(template, "x" * length + "|") for length in (600, 1600, 2600))
    assert third - second <= 1.01 * (second - first)
    assert third - second <= 1000 * (12 + 8 * MAX_VARIABLES)


def test_adjacent_expressions_cost_no_more_than_one() -> None:
    """What one jump reaches does not jump again."""
    few, many = HOSTILE[0][: len("{a0}{a1}")], HOSTILE[0]
    assert steps(many, "x" * 1000) <= 1.1 * steps(few, "x" * 1000)
