"""Heads that repeat: a publisher sends the same head, byte for byte, thousands of times, and it is judged once.

Theory of operation. A head that was read, judged and accepted on the long way (parser, scope, token, content type) is
remembered with what the application made of it, an `Again`. The next request with the same bytes needs its body and
nothing else: it skips all of that, which is most of what a publication costs. The values of ``Content-Length`` and
``Idempotency-Key`` are cut out, so that bodies of any length and each key hit the same entry. A connection looks first
whether it is the head that it had last (`Usual`): to compare costs less than to take apart.

What must hold: what is remembered depends on the head's bytes and on settings alone. So a head is not remembered if its
meaning depends on who sends it (``X-Forwarded-…``), if its body is not ``Content-Length`` bytes long
(``Transfer-Encoding``), if it wants an answer before its body (``Expect``), or if a browser made it (``Cookie``). What
changes with time is judged at each request: an `Again` says no to an expired token, while draining, beyond a rate. Keys
that are read again empty the lot. Whatever says no leaves the request to the long way, which says why.
``tests/hub/server/test_repeats.py`` compares both ways byte for byte, over sequences that a seed makes.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from hub.fanout.wire import Again

MAX_HEADS = 1024
MAX_HEAD = 4096
"""Bytes of one, with the longest bearer token that is usual."""
MAX_DIGITS = 6

_LENGTH = b"ength: "
"""The end of ``Content-Length: ``, in whatever case the first letters are."""
_KEY = b"dempotency-"
_WHOLE_KEY = b"dempotency-key: "
_VALUE = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
"""A key that the parser takes as it stands: another byte may end a line, or be refused (RFC 9110 section 5.5)."""
_NEVER = (b"transfer-encoding", b"expect", b"cookie", b"upgrade", b"forwarded")


class Head(NamedTuple):
    """A request's head, taken apart. ``same``: it without what changes; ``end``: where its body begins."""

    same: bytes
    length: int
    idempotency_key: bytes | None
    end: int


def head_of(data: bytes) -> Head | None:
    """The head that ``data`` begins with; None: it is not whole, or not one that could be known."""
    if not data.startswith(b"POST "):
        return None
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
    if end < 4:
        return None
    head = data[:end]
    at = head.find(_LENGTH) + len(_LENGTH)
    stop = head.find(b"\r", at)
    digits = head[at:stop]
    if not digits.isdigit() or len(digits) > MAX_DIGITS:
        return None
    if _KEY not in head:
        return Head(head[:at] + head[stop:], int(digits), None, end)
    same = head[:at] + head[stop:]
    name = same.find(_KEY)
    at = name + len(_WHOLE_KEY)
    stop = same.find(b"\r", at)
    key = same[at:stop]
    if same[name:at].lower() != _WHOLE_KEY or not _VALUE.fullmatch(key):
        return None
    return Head(same[:at] + same[stop:], int(digits), key, end)


def is_plain(head: Head) -> bool:
    """Whether a head that was accepted may be remembered: asked once for each, so it need not be fast.

    What was cut out must be what the parser took for it: the only field of its name, at the beginning of a line. And
    each line ends with CRLF, so that the first empty one is where the parser saw it.
    """
    text = head.same.lower()
    lines = text.split(b"\r\n")
    keys = 0 if head.idempotency_key is None else 1
    return (
        lines.count(b"content-length: ") == 1 == text.count(b"content-length")
        and lines.count(b"idempotency-key: ") == keys == text.count(b"idempotency-key")
        and not any(b"\r" in line or b"\n" in line for line in lines)
        and not any(each in text for each in _NEVER)
    )


KnownRequest = tuple[Again, bytes | None, int, int]
"""What takes a request whose head is known, its idempotency key, and where its body begins and ends."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The known head that one connection sends each time, around the digits of its length: it is compared as it is.

    ``epoch``: of `Repeats`, when it was known.
    """

    before: bytes
    after: bytes
    again: Again
    epoch: int

    def request_in(self, data: bytes) -> KnownRequest | None:
        """The request that ``data`` begins with; None: the head is another one, or not whole."""
        at = len(self.before)
        stop = data.find(b"\r", at, at + MAX_DIGITS + 1)
        digits = data[at:stop]
        if not (data.startswith(self.before) and data.startswith(self.after, stop) and digits.isdigit()):
            return None
        begin = stop + len(self.after)
        return self.again, None, begin, begin + int(digits)


class Repeats:
    """What is remembered in this process, by scheme and head; the one that came first goes first.

    ``epoch``: another one from the moment on in which all was forgotten.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str | None, bytes], Again] = OrderedDict()
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, scheme: str | None, head: Head) -> Again | None:
        """What was remembered for it."""
        return self._known.get((scheme, head.same))

    def usual(self, data: bytes, head: Head, again: Again) -> Usual | None:
        """The head that ``data`` begins with, if it is the same each time: one with an idempotency key is not."""
        if head.idempotency_key is not None:
            return None
        at = data.find(_LENGTH) + len(_LENGTH)
        return Usual(data[:at], data[data.find(b"\r", at) : head.end], again, self.epoch)

    def remember(self, scheme: str | None, head: Head, again: Again) -> None:
        """From now on the head is known, if that may be."""
        if is_plain(head):
            self._known[scheme, head.same] = again
            if len(self._known) > MAX_HEADS:
                self._known.popitem(last=False)

    def clear(self) -> None:
        """Other keys may be trusted from now on."""
        self._known.clear()
        self.epoch += 1
