"""What a URL Pattern may cost, and a cheap way to see that it cannot match.

The Rust engine matches in linear time, but what it compiles and then simulates grows with the regular expressions in a
pattern: a Unicode class repeated a hundred times takes 70 ms to compile, nine thousand optional characters take 600 ms
to match. So patterns are priced from their text, before anything is compiled.
"""

import re
from functools import lru_cache

_PLAIN = 300  # the unit is about a microsecond of compiling on a slow core; 300 is also about 75 KiB of memory
_PART = 60  # a wildcard, a name, a character of a regular expression: little to compile, but each is a state to simulate
_CLASS = 1500  # \w, \p{L}, \x{..} (a range that case folding must walk through); doubled in a repeated group
_SMALL_CLASS = 250  # \d, \s and their negations

_TOKEN = re.compile(
    r"\\[pPxuU]\s*(?:\{[^}]*\}|.)"  # an escape with its argument
    r"|\\."
    r"|\(\?[a-zA-Z-]*:?"
    r"|\{\s*(\d+)\s*(,?)\s*(\d*)\s*\}"  # a counted repetition
    r"|.",
    re.DOTALL,
)


class _Expression:
    """One regular expression of a pattern while it is read: the price of each open group, innermost last."""

    def __init__(self) -> None:
        self.sums = [0]
        self.brackets = [False]  # which of them are character classes
        self.last = 0  # what a repetition would repeat; already part of the sum

    def read(self, token: str) -> None:
        if self.brackets[-1]:
            self._read_in_class(token)
        elif token.startswith(("(", "[")):
            self._open(token == "[")
        elif token == ")":
            self._close()
        elif token not in (" ", "*", "+", "?"):  # a space may be nothing: (?x)
            self._add(_price(token))

    def repeat(self, least: int, comma: str, most: str) -> None:
        if not self.brackets[-1]:
            times = int(most) if most else least + bool(comma)
            self.sums[-1] += self.last * (max(times, 1) - 1)
            self.last *= max(times, 1)

    def total(self) -> int:
        return sum(self.sums)

    def _read_in_class(self, token: str) -> None:
        if token == "[":
            self._open(True)
            self._add(_CLASS)  # a negated class in a class, or a negated [:name:]
        elif token == "]":
            self._close()
        else:
            self._add(_price(token) if token.startswith("\\") else 2)

    def _open(self, bracket: bool) -> None:
        self.sums.append(0)
        self.brackets.append(bracket)

    def _close(self) -> None:
        if len(self.sums) > 1:
            self.brackets.pop()
            self._add(self.sums.pop() + _PART)

    def _add(self, price: int) -> None:
        self.sums[-1] += price
        self.last = price


def _price(token: str) -> int:
    if token[0] == "\\" and token[1] in "wWpPxuU":
        return _CLASS
    return _SMALL_CLASS if token[0] == "\\" and token[1:] in "dDsS" else _PART


@lru_cache(4096)
def cost(pattern: str) -> int:
    """An upper estimate of the microseconds that compiling ``pattern`` takes; proportional to its memory."""
    total, depth, expression = _PLAIN, 0, _Expression()
    for found in _TOKEN.finditer(pattern):
        token = found.group()
        if not depth:
            total += _PART if token[0] in "({*:" else 1
            depth = int(token[0] == "(")
            expression = _Expression()
            continue
        depth += token.startswith("(") - (token == ")")
        ...
    return total + expression.total()
