"""What a client may send, and how long it may take, until the head of its request is there.

The parser itself takes megabytes and waits for ever. One timer a connection is enough: a timer for each request's head,
and another for the time after its answer, would cost more than to parse it. It looks at the deadline when it fires.
"""

import asyncio
from collections.abc import Callable
from math import inf

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body. A query with 1,000 topics fits."""
HEAD_TIMEOUT = 10.0
"""Seconds that a client may take to send them."""


class HeadBounds:
    """Of one connection. ``received``: bytes since the last request's end; ``fields``: bytes of this one's fields."""

    __slots__ = ("_close", "_deadline", "_loop", "_timer", "fields", "received")

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Callable[[], None]) -> None:
        self._loop, self._close = loop, close
        self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self.received = 0
        self.fields = 0

    def close_in(self, seconds: float) -> None:
        """Close the connection then, unless this is called again before; inf: never."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None and seconds < inf:
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        left = self._deadline - self._loop.time()
        if left <= 0:
            self._close()
        else:
            self.close_in(left)

    def stop(self) -> None:
        """The connection is over, or somebody else's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
