"""Caddy's configuration syntax: words, blocks, comments, and placeholders of the environment. Pure.

https://caddyserver.com/docs/caddyfile/concepts has it. A line is a directive: a name, its arguments, and maybe a block,
which a ``{`` at the end of the line opens. What a directive means is `hub.config.go_image`'s business.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Lookup = Callable[[str], str]
"""A variable's value by its name; empty where it is not set."""

_VARIABLE = re.compile(r"\{\$([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")
_PLACEHOLDER = re.compile(r"\{(env|file)\.([^{}\s]+)\}")
_WORD = re.compile(
    r"""
    (?P<space> [ \t\r]+ | \\\r?\n)
  | (?P<end> \n)
  | (?P<comment> \#[^\n]*)
  | "(?P<quoted> (?:[^"\\]|\\.)*)"
  | `(?P<literal> [^`]*)`
  | <<(?P<marker> [A-Za-z0-9_-]+)\r?\n(?P<lines> .*?)\n[ \t]*(?P=marker)(?=\s|\Z)
  | (?P<plain> [^\s]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_DEEPEST = 20
"""Blocks within blocks; nobody's file has more than six."""


class Directive(NamedTuple):
    """``block``: None where no block follows. ``line``: where it stands, from 1."""

    name: str
    arguments: tuple[str, ...]
    block: tuple["Directive", ...] | None
    line: int

    @property
    def words(self) -> tuple[str, ...]:
        """The name and the arguments of it and of everything in its block."""
        return (self.name, *self.arguments, *(word for each in self.block or () for word in each.words))


class _Word(NamedTuple):
    """``text``: a newline ends a line. ``opens``, ``closes``: a bare brace."""

    text: str
    line: int
    bare: bool

    @property
    def ends(self) -> bool:
        return self.bare and self.text == "\n"

    @property
    def opens(self) -> bool:
        return self.bare and self.text == "{"

    @property
    def closes(self) -> bool:
        return self.bare and self.text == "}"


def parse(text: str, variable: Lookup, file: Lookup) -> tuple[Directive, ...]:
    """The directives in ``text``. ValueError, which names the line: a block that is not closed, or closed twice.

    ``{$NAME:default}`` is replaced before anything else is read, so that a variable may hold whole lines;
    ``{env.NAME}`` and ``{file.PATH}`` stand for one value, however it is spelled. A directive without a name, which is
    a block alone, has Caddy's global options.
    """
    replaced = _VARIABLE.sub(lambda match: variable(match[1]) or match[2] or "", text)

    def value(match: re.Match[str]) -> str:
        return variable(match[2]) if match[1] == "env" else file(match[2])

    words = []
    for word in _words(replaced):
        text = _PLACEHOLDER.sub(value, word.text)
        words.append(word if text == word.text else word._replace(text=text, bare=False))
    found, rest = _directives(words, 0)
    if rest:
        raise ValueError(f"line {rest[0].line}: }} closes no block")
    return found


def _words(text: str) -> Iterator[_Word]:
    line = 1
    for match in _WORD.finditer(text):
        kind = match.lastgroup or ""
        if kind == "end":
            yield _Word("\n", line, bare=True)
        elif kind == "quoted":
            yield _Word(re.sub(r'\\(["\\])', r"\1", match["quoted"]), line, bare=False)
        elif kind == "literal":
            yield _Word(match["literal"], line, bare=False)
        elif kind == "lines":
            yield _Word(match["lines"], line, bare=False)
        elif kind == "plain":
            yield _Word(match["plain"], line, bare=True)
        line += match[0].count("\n")


def _directives(words: Sequence[_Word], depth: int) -> tuple[tuple[Directive, ...], Sequence[_Word]]:
    """Those up to the brace that closes the block, and what follows from that brace on."""
    if depth > _DEEPEST:
        raise ValueError(f"line {words[0].line if words else 0}: more than {_DEEPEST} blocks within blocks")
    found: list[Directive] = []
    while words and not words[0].closes:
        if words[0].ends:
            words = words[1:]
            continue
        length = next((at for at, each in enumerate(words) if each.ends or each.opens or each.closes), len(words))
        name, *arguments = (each.text for each in words[:length]) if length else ("",)
        line, words = words[0].line, words[length:]
        block: tuple[Directive, ...] | None = None
        if words and words[0].opens:
            block, words = _directives(words[1:], depth + 1)
            if not words:
                raise ValueError(f"line {line}: the block of {name[:60]!r} is not closed")
            words = words[1:]
        found.append(Directive(name, tuple(arguments), block, line))
    return tuple(found), words
