"""What a URL Pattern may cost that the engine is needed for, and what its topics begin with.

The Rust engine matches in linear time, but what it compiles and then simulates grows with the regular expressions in a
pattern: a Unicode class repeated a hundred times takes 70 ms to compile, nine thousand optional characters take 600 ms
to match. So patterns are priced from their text, before anything is compiled.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache

from urlpattern import URLPattern

_PLAIN = 300  # the unit is about a microsecond of compiling; 300 are also about 75 KiB of memory
_STATE = 60  # a wildcard, a name, a character of a regular expression: quick to compile, but each is there to simulate
_GROUP = 4  # for every two groups: each step of a match may copy where all of them are
_SMALL_CLASS = 250  # \d, \s and their negations
_CLASS = 2000  # \w, \p{L} and their like: twice their time, because a repeated group is compiled twice
_FOLDED_CLASS = 20_000  # the same after (?i): folding walks through every character of it
_NEVER = 10**9
_INCOMPLETE = "every ( and [ in a group's regular expression must be closed in that group"

_TEXT = re.compile(r"\\.|[()]|[^\\()]+", re.DOTALL)
_TOKEN = re.compile(
    r"\\[pPxuU](?:\{[^}]*\}|.)|\\."
    r"|\(\?[a-zA-Z-]*:?"
    r"|\[\^?\]?"  # a class may start with a literal bracket
    r"|\{\s*(?P<least>\d*)\s*(?P<comma>,?)\s*(?P<most>\d*)\s*\}"
    r"|.",
    re.DOTALL,
)


@lru_cache(4096)
def cost(pattern: str) -> int:
    """An upper estimate of the microseconds that compiling ``pattern`` takes; its memory and its matching follow it.

    Raises ValueError for a group that is no regular expression in itself: the engine reads all groups as one, and
    what one leaves open would change what a repetition in another repeats.
    """
    groups = sum(pattern.count(mark) for mark in "*:{(")
    parts = groups * (_STATE + _GROUP * groups)
    return _PLAIN + len(pattern) + parts + sum(map(_expression_cost, _expressions(pattern)))


def _expressions(pattern: str) -> Iterator[str]:
    """The texts of the regular expression groups; as in the standard's tokenizer, brackets do not hide parentheses."""
    depth, start = 0, 0
    for token in _TEXT.finditer(pattern):
        if token[0] == "(":
            start = start if depth else token.end()
            depth += 1
        elif token[0] == ")" and depth:
            depth -= 1
            if not depth:
                yield pattern[start : token.start()]
    if depth:
        yield pattern[start:]


def _expression_cost(expression: str) -> int:
    reader = _Reader()
    for token in _TOKEN.finditer(expression):
        if token["least"] is not None and not reader.in_class:
            reader.repeat(int(token["most"] or token["least"] or 1) + bool(token["comma"] and not token["most"]))
        else:
            reader.read(token[0])
    if len(reader.sums) > 1:
        raise ValueError(_INCOMPLETE)
    return _STATE + reader.sums[0]


class _Reader:
    """Adds up one regular expression: the sum of every open group and class, innermost last."""

    def __init__(self) -> None:
        self.sums = [0]
        self.classes = [False]  # which of them are character classes
        self.last = 0  # what a repetition repeats; already part of the sum
        self.large = _CLASS

    @property
    def in_class(self) -> bool:
        return self.classes[-1]

    def read(self, piece: str) -> None:
        if piece[0] == "[":
            self._open(True)
            self._add(self.large if self.classes[-2] else 0)  # a class in a class may be negated, and so become large
        elif piece[0] == "(" and not self.in_class:
            self._open(False)
            self._add(_NEVER if "x" in piece else 0)  # (?x): blanks mean nothing, and this reader would be misled
            self.large = _FOLDED_CLASS if "i" in piece else self.large
        elif piece == ("]" if self.in_class else ")"):
            if len(self.sums) == 1:
                raise ValueError(_INCOMPLETE)
            self.classes.pop()
            self._add(self.sums.pop() + _STATE)
        elif self.in_class or piece not in "*+?":
            self._add(self._price(piece))

    def repeat(self, times: int) -> None:
        self.sums[-1] += self.last * max(times - 1, 0)
        self.last *= max(times, 1)

    def _open(self, is_class: bool) -> None:
        self.sums.append(0)
        self.classes.append(is_class)

    def _add(self, price: int) -> None:
        self.sums[-1] += price
        self.last = price

    def _price(self, piece: str) -> int:
        if piece == "\\":
            raise ValueError(_INCOMPLETE)
        if piece[0] == "\\" and piece[1] in "wWpPxuU":
            return self.large
        if piece[0] == "\\" and piece[1] in "dDsS":
            return _SMALL_CLASS
        return 2 if self.in_class else _STATE


_LITERAL_BEGINNING = re.compile(
    r"(https?://(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*/(?:[A-Za-z0-9_~-]+/)*)[A-Za-z0-9_~-]*"
    r"(?:/(?:[^.%\\{}]|\\[dDsSwW])*)?"
)


@lru_cache(4096)
def beginning(pattern: str) -> str:
    """What the place of every topic begins with that the pattern selects, as far as it is certain; else nothing.

    The last literal segment does not count: what follows may make its slash a part of what can be left out.
    """
    found = _LITERAL_BEGINNING.fullmatch(pattern)
    return found[1] if found and "xn--" not in found[1] else ""


class Compiled:
    """Compiled patterns, the least recently used forgotten once all of them together cost more than ``limit``."""

    def __init__(self, base: str, limit: int) -> None:
        self._base = base
        self._room = limit
        self._kept: OrderedDict[str, URLPattern] = OrderedDict()

    def get(self, pattern: str) -> URLPattern:
        """Raises ValueError for what is no URL Pattern."""
        kept = self._kept.get(pattern)
        if kept is None:
            kept = self._kept[pattern] = self._compile(pattern)
            self._room -= cost(pattern)
            while self._room < 0:
                self._room += cost(self._kept.popitem(last=False)[0])
        else:
            self._kept.move_to_end(pattern)
        return kept

    def _compile(self, pattern: str) -> URLPattern:
        """With a base only where it needs one: with a base, the path of ``urn:*`` would be relative to the hub's."""
        try:
            return URLPattern(pattern)
        except ValueError as error:
            if "base URL" not in str(error):
                raise
            return URLPattern(pattern, self._base)
