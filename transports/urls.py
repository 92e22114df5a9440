"""What a transport URL says: its parameters, durations and sizes, and how to show it without its password."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(?:([KMGT])(i?)B?|B)?", re.IGNORECASE)
_POWER = {"K": 1, "M": 2, "G": 3, "T": 4}


def duration(text: str) -> float:
    """Seconds in ``text``, such as ``500ms``, ``1h30m``, ``7d`` or ``40`` (seconds). ValueError if it is none."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not text or _DURATION.sub("", text):
        raise ValueError(f"{text!r} is not a duration such as 500ms, 40s, 1h30m or 7d")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def size_in_bytes(text: str) -> int:
    """Bytes in ``text``, such as ``512MB`` (10⁶) or ``1GiB`` (2³⁰). ValueError if it is none."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512MB or 1GiB")
    if match[2] is None:
        return int(match[1])
    unit = 1024 if match[3] else 1000
    return int(match[1]) * int(unit ** _POWER[match[2].upper()])


def count(text: str) -> int:
    """A whole number of at least 1. ValueError if ``text`` is none."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def bound(text: str) -> int:
    """A `count`; 0 is no bound."""
    return 0 if text == "0" else count(text)


def readable(name: str, path: str) -> bytes:
    """What the file has that a parameter names. ValueError if it can't be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {path} can't be read: {error.strerror}") from None


def secret(name: str, path: str) -> str:
    """The same as text, without the line break at its end. ValueError if it is none, and quotes nothing of it."""
    try:
        found = readable(name, path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: {path} is not text in UTF-8") from None
    if not found:
        raise ValueError(f"{name}: {path} is empty")
    return found


def parameters(query: str, known: frozenset[str]) -> Mapping[str, str]:
    """The query's parameters; ValueError names one that is unknown, repeated or left empty."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}; known are {', '.join(sorted(known))}")
        if name in found:
            raise ValueError(f"parameter {name!r} is given twice")
        if not value:
            raise ValueError(f"parameter {name!r} has no value")
        found[name] = value
    return found


def split(url: str) -> SplitResult:
    """``urlsplit`` whose ValueError is a sentence, and does not quote a password as urlsplit's may."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("not a URL; look at the brackets and the characters of its host") from None


_PASSWORD = re.compile(r"\A((?:[a-z][a-z0-9+.-]*:?/+)?[^/?#@:]*):.*@", re.IGNORECASE | re.DOTALL)


_PARAMETER = re.compile("([?&](?:ssl)?password=)[^&#]*", re.IGNORECASE)


def redact(url: str) -> str:
    """The URL as it may be shown: a password in it becomes ``***``, even with an unescaped ``/`` or ``@`` in it."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url, count=1))
