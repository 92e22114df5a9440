"""The pairs of ``application/x-www-form-urlencoded`` text (WHATWG URL, "urlencoded parsing"): bodies and queries."""

import asyncio
import re
from binascii import a2b_qp
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect, Request

from hub.fanout.wire import RawHeaders
from hub.problems import Problem

FORM = "application/x-www-form-urlencoded"
_FORM = FORM.encode()
_QUOTED_PRINTABLE = bytes.maketrans(b"%+", b"= ")
BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send its body."""
DISCARD = 16 * 1024 * 1024
"""Bytes of a body that is too large that are read all the same: a client that is cut off does not see the answer."""


def check_form(headers: RawHeaders, example: str) -> None:
    """`Problem` 415 unless the body is a form in UTF-8, as it is. ``example``: one line of such a form."""
    named = dict(headers)
    content_type, coding = named.get(b"content-type", b""), named.get(b"content-encoding", b"")
    if content_type == _FORM and not coding:
        return
    if coding.strip().lower() not in (b"", b"identity"):
        # RFC 9110 section 12.5.3: which codings would have been taken.
        raise Problem(415, "the body must not be compressed", {"Accept-Encoding": "identity"})
    value = content_type.decode("latin-1")
    media_type, _, parameters = value.lower().partition(";")
    if media_type.strip() != FORM:
        raise Problem(415, f"the body must be {FORM}, such as {example}")
    charsets = re.findall(r"charset[^=;]*=\s*\"?([^\s\";]*)", parameters)
    if not {"utf-8", "utf8", "us-ascii"}.issuperset(charsets):
        raise Problem(415, "the charset of the form must be UTF-8")


async def read_body(request: Request, most: int) -> bytes:
    """The body of at most ``most`` bytes. `Problem` 400 cut short, 408 too slow, 413 too large."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await _read(request, most)
    except TimeoutError:
        raise Problem(408, "the body did not arrive in time", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "the body arrived incomplete", {"Connection": "close"}) from None
    if len(body) > most:
        raise Problem(413, f"the body is larger than {most} bytes", {"Connection": "close"})
    return bytes(body)


async def _read(request: Request, most: int) -> bytearray:
    """The body, or just more of it than is allowed."""
    body = bytearray()
    discarded = 0
    async for part in request.stream():
        if len(body) <= most:
            body += part
        elif (discarded := discarded + len(part)) > DISCARD:
            break
    return body


def pairs(text: bytes, most: int) -> list[tuple[str, str]]:
    """Names and values, decoded. UnicodeDecodeError: not UTF-8; OverflowError: more than ``most`` of them.

    A tenth of `urllib.parse.parse_qsl`'s time for a plain form.
    """
    if text.count(b"&") >= most:
        raise OverflowError
    parts = [part.partition(b"=") for part in text.split(b"&") if part]
    return [(decoded(name), decoded(value)) for name, _, value in parts]


def decoded(text: bytes) -> str:
    """A name or a value as it was before it was encoded. UnicodeDecodeError: not UTF-8.

    Quoted-printable is percent-encoding with another sign, and its decoder is C: a quarter of `unquote_to_bytes`'
    time. What has a ``%`` without two digits, which stands for itself here and not there, is left to that.
    """
    if text.find(b"%") < 0:  # ``in`` makes an exception of each bytes that it is asked for: half a microsecond
        return text.replace(b"+", b" ").decode()
    octets = a2b_qp(text.replace(b"=", b"=3D").translate(_QUOTED_PRINTABLE))
    # Each sign with its digits is two bytes less. So would be one before a line's end: it joins lines there.
    if len(text) - len(octets) != 2 * text.count(b"%") or text.find(b"\n") >= 0 or text.find(b"\r") >= 0:
        octets = unquote_to_bytes(text.replace(b"+", b" "))
    return octets.decode()
