"""What a client may send, and how long it may take, until the head of its request is there.

The parser itself takes megabytes and waits for ever. One timer a connection is enough: a timer for each request's head,
and another for the time after its answer, would cost more than to parse it. It looks at the deadline when it fires.
"""

import asyncio
from collections.abc import Callable, Sized
from math import inf

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body. A query with 1,000 topics fits."""
HEAD_TIMEOUT = 10.0
"""Seconds that a client may take to send them."""
LOOK_AGAIN = 1.0
"""Seconds after which it is seen whether what is under way has its answers."""


class HeadBounds:
    """Of one connection. ``received``: bytes since the last request's end; ``fields``: bytes of this one's fields.

    ``owed``: the answers that are under way, beside which no time counts.
    """

    __slots__ = ("_close", "_deadline", "_loop", "_owed", "_timer", "fields", "received")

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Callable[[], None], owed: Sized) -> None:
        self._loop, self._close, self._owed = loop, close, owed
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
        if left > 0:
            self.close_in(left)
        elif self._owed:
            self.close_in(LOOK_AGAIN)
        else:
            self._close()

    def stop(self) -> None:
        """The connection is over, or somebody else's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
