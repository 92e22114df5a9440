"""RFC 6570 URI Templates as matchers: does a topic belong to the strings that a template can expand to?

A template becomes one automaton whose states lie in a row, as the bits of an integer. A symbol of the topic moves every
active state at once with a shift, so matching is linear in the topic for every template: nothing is ever tried twice.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

MAX_STATES = 512  # a character of literal text between expressions takes one, and so does each that `:n` allows
MAX_VARIABLES = 32  # each may cost every symbol of a topic one more step

_LITERAL = r"(?:[!#$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~\xa0-\U0010ffff]|%[0-9A-Fa-f]{2})+"
_NAME = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*"
_VARIABLE = rf"({_NAME})(?::([1-9]\d{{0,3}})|(\*))?"
_EXPRESSION = rf"\{{([+#./;?&]?)({_VARIABLE}(?:,{_VARIABLE})*)\}}"
_PART = re.compile(rf"(?P<literal>{_LITERAL})|{_EXPRESSION}")
_VARIABLES = re.compile(_VARIABLE)
_SYMBOL = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)


class InvalidTemplate(ValueError):
    """The text is not a URI Template (RFC 6570 section 2)."""


class CostlyTemplate(ValueError):
    """The template is one, but larger than what the hub evaluates."""


class _Operator(NamedTuple):  # RFC 6570 appendix A
    first: str
    separator: str
    named: bool
    empty: str  # what follows the name of an empty value
    reserved: bool


_OPERATORS = {
    "": _Operator("", ",", False, "", False),
    "+": _Operator("", ",", False, "", True),
    "#": _Operator("#", ",", False, "", True),
    ".": _Operator(".", ".", False, "", False),
    "/": _Operator("/", "/", False, "", False),
    ";": _Operator(";", ";", True, "", False),
    "?": _Operator("?", "&", True, "=", False),
    "&": _Operator("&", "&", True, "=", False),
}

Symbols = frozenset[str]

_HEX = "0123456789ABCDEFabcdef"
_CONTINUED = frozenset(f"%{high}{low}" for high in "89ABab" for low in _HEX)  # second and later octets of UTF-8
_ENCODED = frozenset(f"%{high}{low}" for high in _HEX for low in _HEX)
_UNRESERVED = _ENCODED | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_RESERVED = _UNRESERVED | frozenset(":/?#[]@!$&'()*+,;=")
_LIST = _UNRESERVED | {","}
_BEGINNING = {symbols: symbols - _CONTINUED for symbols in (_UNRESERVED, _RESERVED)}


def _symbols(text: str) -> list[str]:
    """Percent-encoded octets stay whole; a raw non-ASCII character falls into its octets, which no value contains."""
    return _SYMBOL.findall(text.encode("utf-8", "surrogatepass").decode("latin-1"))


class _Masks(dict[str, tuple[int, int]]):
    """Symbol -> the states that it moves on and the states that it lets stay, found when a topic first holds it."""

    def __init__(self, moves: dict[Symbols, int], stays: dict[Symbols, int]) -> None:
        self._moves, self._stays = moves, stays

    def __missing__(self, symbol: str) -> tuple[int, int]:
        moving = sum(states for symbols, states in self._moves.items() if symbol in symbols)
        staying = sum(states for symbols, states in self._stays.items() if symbol in symbols)
        self[symbol] = moving, staying
        return moving, staying


class _Row:
    """The states while they are laid out: state ``i`` moves to ``i + 1``, may stay, and may jump without a symbol."""

    def __init__(self) -> None:
        self.here = 0
        self.moves: dict[Symbols, int] = {}
        self.stays: dict[Symbols, int] = {}
        self.jumps: dict[int, list[int]] = {}

    def move(self, symbols: Symbols) -> None:
        self.moves[symbols] = self.moves.get(symbols, 0) | 1 << self.here
        self.fresh()

    def fresh(self) -> int:
        self.here += 1
        if self.here >= MAX_STATES:
            raise CostlyTemplate(f"a URI Template may have {MAX_STATES} states, and this one has more: shorten it")
        return self.here

    def stay(self, symbols: Symbols) -> None:
        self.stays[symbols] = self.stays.get(symbols, 0) | 1 << self.here

    def jump(self, start: int, end: int) -> None:
        self.jumps.setdefault(start, []).append(end)

    def text(self, text: str) -> None:
        """A literal, which stands in an expansion as it is or, where it is not ASCII, percent-encoded."""
        for symbol in _symbols(text):
            self.move(frozenset((symbol, f"%{ord(symbol):02X}") if symbol > "\x7f" else (symbol,)))

    def closures(self) -> dict[int, int]:
        """For each state that jumps: all that is active once it is."""
        reached: dict[int, int] = {}
        for _ in range(2):  # from the end backwards, and again because an exploded variable jumps back
            for start in sorted(self.jumps, reverse=True):
                reached[start] = 1 << start
                for end in self.jumps[start]:
                    reached[start] |= reached.get(end, 1 << end)
        return reached


def _expression(row: _Row, operator: _Operator, variables: Sequence[tuple[str, str, str]]) -> None:
    """Undefined variables leave nothing behind, so each may be skipped, and all of them with the first character."""
    begin, ends, previous = row.here, [], -1
    row.text(operator.first)
    for index, (name, prefix, explode) in enumerate(variables):
        if index:
            row.text(operator.separator)
            row.jump(previous, row.here)
        previous = row.here
        ends.append((_exploded if explode else _value)(row, operator, name, int(prefix or 0)))
    end = row.fresh()
    for state in (begin, *ends):
        row.jump(state, end)


def _value(row: _Row, operator: _Operator, name: str, prefix: int) -> int:
    """A string or a list joined by commas. A prefix is for strings only (RFC 6570 section 2.4.1)."""
    symbols = _RESERVED if operator.reserved else _UNRESERVED if prefix else _LIST
    required = operator.named and not operator.empty  # an empty value has lost its "=", so here it is not empty
    if operator.named:
        row.text(name)
    bare = row.here
    if operator.named:
        row.text("=")
    if required:
        row.move(symbols)
    if prefix:
        _at_most(row, symbols, prefix - required)
    else:
        row.stay(symbols)
    return _join(row, bare if required else row.here, row.here)


def _at_most(row: _Row, symbols: Symbols, count: int) -> None:
    """A character is one however many octets encode it; who has fewer than ``count`` starts further on."""
    start = row.here
    for _ in range(count):
        row.stay(_CONTINUED)
        row.move(_BEGINNING[symbols])
        row.jump(start, row.here)
    row.stay(_CONTINUED)


def _exploded(row: _Row, operator: _Operator, _name: str, _prefix: int) -> int:
    """Items, or keys with values, as many as there are: a map brings its own names (RFC 6570 section 3.2.1)."""
    symbols = _RESERVED if operator.reserved else _UNRESERVED
    start = row.here
    if operator.named:
        row.move(symbols)
    row.stay(symbols)
    bare = row.here
    row.text("=")
    if operator.named and not operator.empty:
        row.move(symbols)
    row.stay(symbols)
    end = _join(row, row.here if operator.empty else bare, row.here)
    row.text(operator.separator)
    row.jump(row.here, start)
    row.jump(end, row.fresh())
    return end


def _join(row: _Row, *accepting: int) -> int:
    end = row.fresh()
    for state in accepting:
        row.jump(state, end)
    return end


class _Part(NamedTuple):
    literal: str
    operator: str = ""
    variables: tuple[tuple[str, str, str], ...] = ()  # name, prefix, explode


def _parse(template: str) -> list[_Part]:
    parts, at = [], 0
    while at < len(template):
        found = _PART.match(template, at)
        if not found:
            raise InvalidTemplate(f"not a URI Template (RFC 6570) from character {at + 1} on")
        literal, operator, variables = found.group(1, 2, 3)
        parts.append(_Part(literal) if literal else _Part("", operator, tuple(_VARIABLES.findall(variables))))
        at = found.end()
    if sum(len(part.variables) for part in parts) > MAX_VARIABLES:
        raise CostlyTemplate(f"a URI Template may have {MAX_VARIABLES} variables, and this one has more")
    return parts


class Template:
    """A compiled URI Template of any level (RFC 6570).

    Raises `InvalidTemplate` for a text that is none and `CostlyTemplate` for one beyond `MAX_STATES` or
    `MAX_VARIABLES`. In two places it is wider than what a template expands to: an exploded variable may mix the items
    of a list with those of a map, and percent-encoded octets need not be valid UTF-8.
    """

    def __init__(self, template: str) -> None:
        parts = _parse(template)
        self._prefix = parts.pop(0).literal if parts and _is_plain(parts[0]) else ""
        self._suffix = parts.pop().literal if parts and _is_plain(parts[-1]) else ""
        row = _Row()
        for part in parts:
            if part.literal:
                row.text(part.literal)
            else:
                _expression(row, _OPERATORS[part.operator], part.variables)
        self._masks = _Masks(row.moves, row.stays)
        self._closures = row.closures()
        self._jumping = sum(1 << state for state in self._closures)
        self._last = 1 << row.here
        self.states = row.here + 1

    def matches(self, topic: str) -> bool:
        """Whether the template can expand to ``topic``; the time is linear in the topic."""
        start, end = len(self._prefix), len(topic) - len(self._suffix)
        if start > end or not (topic.startswith(self._prefix) and topic.endswith(self._suffix)):
            return False
        active = self._closed(1)
        for symbol in _symbols(topic[start:end]):
            moving, staying = self._masks[symbol]
            active = self._closed((active & moving) << 1 | active & staying)
            if not active:
                return False
        return bool(active & self._last)

    def _closed(self, active: int) -> int:
        """With all that is reached without a symbol; what one jump reached need not jump again."""
        jumping = active & self._jumping
        while jumping:
            closure = self._closures[(jumping & -jumping).bit_length() - 1]
            active |= closure
            jumping &= ~closure
        return active


def _is_plain(part: _Part) -> bool:
    """Text that stands in an expansion as it is."""
    return bool(part.literal) and part.literal.isascii()
