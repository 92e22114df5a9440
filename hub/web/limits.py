"""How much one client may have, and all of them together; 0 turns a limit off.

A publisher beyond a limit gets 429 with ``Retry-After`` (RFC 6585). A subscriber gets a stream that ends at once and
says when to come back: on a status that is not 200 `EventSource` gives up for good.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from hub.auth.grants import Grants
from hub.fanout.stream import Stream
from hub.problems import Problem

MAX_REMEMBERED = 10_000
"""Publishers whose rate is known; the one that was heard of longest ago is forgotten first, and begins anew."""


@dataclass
class Limits:
    """``connections``: open ones of this process that are not streams, as whoever serves knows them."""

    max_connections: int = 0
    max_subscriptions: int = 0
    publish_rate: float = 0.0
    connections: Callable[[], int] = lambda: 0
    _subscriptions: Counter[str] = field(default_factory=Counter)
    _of: dict[Stream, str] = field(default_factory=dict)
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    """By publisher: how many updates it may send at once, and when that was known (monotonic seconds)."""

    def crowded(self, streams: int) -> bool:
        """Whether there are more connections than there may be; ``streams`` of them were taken over."""
        return 0 < self.max_connections < streams + self.connections()

    def has_enough(self, client: str) -> bool:
        """Whether a client has as many subscriptions as it may have."""
        return 0 < self.max_subscriptions <= self._subscriptions[client]

    def subscribed(self, stream: Stream, client: str) -> None:
        """A stream of the client has begun."""
        if self.max_subscriptions:
            self._of[stream] = client
            self._subscriptions[client] += 1

    def ended(self, stream: Stream) -> None:
        """A stream is over."""
        if (client := self._of.pop(stream, None)) is not None:
            self._subscriptions[client] -= 1
            if not self._subscriptions[client]:
                del self._subscriptions[client]

    def take_one(self, grants: Grants) -> None:
        """One update of a publisher. Raises `Problem` 429: it has sent more than `publish_rate` a second.

        A token bucket that holds what one second gives, one at least: a publisher may send those together.
        """
        if not self.publish_rate:
            return
        room, now = max(1.0, self.publish_rate), time.monotonic()
        left, since = self._buckets.pop(grants.subject, (room, now))
        left = min(room, left + (now - since) * self.publish_rate)
        self._buckets[grants.subject] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = ceil((1 - left) / self.publish_rate)
            raise Problem(
                429, f"more than {self.publish_rate:g} updates a second with this token", {"Retry-After": str(wait)}
            )


def crowded() -> Problem:
    """What a request gets where there are too many connections."""
    headers = {"Retry-After": "1", "Connection": "close"}
    return Problem(429, "this hub has as many connections as it may have; come back later", headers)
