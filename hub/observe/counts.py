"""The numbers of a hub, in memory that all of its processes share: counting is one addition, reading is a sum.

Theory of operation. Each process counts in a row of its own, so that nobody waits for a lock; the row is mapped before
the workers are forked, so that whichever of them is asked reads all rows. A worker that is killed leaves its counters
behind, and the next one in its place goes on from there: a counter never goes back. Gauges, which say what is now, are
set to 0 by whoever takes the place.

Times are counted in microseconds, for the cells are whole numbers.
"""

import mmap
from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum

from hub.problems import Reason

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper ends of the buckets of a histogram, in seconds; the last bucket has no end."""
_CELL = 8
_MICROSECONDS = 1_000_000


class Role(StrEnum):
    """Who asks."""

    PUBLISHER = "publisher"
    SUBSCRIBER = "subscriber"


class Failure(StrEnum):
    """Why an update was not stored."""

    REFUSED = "refused"
    INVALID = "invalid"
    CONFLICT = "conflict"
    FULL = "full"
    UNAVAILABLE = "unavailable"


class Ended(StrEnum):
    """Why a stream is over."""

    CLIENT = "client"
    DEADLINE = "deadline"
    SLOW = "slow"
    DRAIN = "drain"
    HISTORY = "history"
    KEYS = "keys"


class Histogram:
    """Cells: one for each bucket, then the sum in microseconds, which is written at each `flush`."""

    __slots__ = ("_before", "_cells", "_sum")

    SIZE = len(BOUNDS) + 2

    def __init__(self, cells: memoryview, at: int) -> None:
        self._cells = cells[at : at + self.SIZE]
        self._before = self._cells[-1]
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """A quarter of a microsecond; with the sum in its cell it would be twice as much."""
        self._cells[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def flush(self) -> None:
        self._cells[-1] = self._before + int(self._sum * _MICROSECONDS)


GAUGES = ("subscribers", "behind")
_COUNTERS = (
    "subscribers_total",
    *(f"failed_{each}" for each in Failure),
    *(f"refused_{role}_{each}" for role in Role for each in Reason),
    *(f"ended_{each}" for each in Ended),
)
_AT = {name: at for at, name in enumerate((*GAUGES, *_COUNTERS))}
_PUBLISH, _DELIVERY = len(_AT), len(_AT) + Histogram.SIZE
ROW = _DELIVERY + Histogram.SIZE
"""Cells of one process."""


class Counts:
    """One process's row. ``rows``: those of all processes."""

    def __init__(self, memory: mmap.mmap | bytearray, place: int = 0) -> None:
        cells = memoryview(memory).cast("Q")
        self.rows = [cells[at : at + ROW] for at in range(0, len(cells), ROW)]
        self._cells = self.rows[place]
        for name in GAUGES:
            self._cells[_AT[name]] = 0
        self.publish = Histogram(self._cells, _PUBLISH)
        self.delivery = Histogram(self._cells, _DELIVERY)
        self._failed = {each: _AT[f"failed_{each}"] for each in Failure}
        self._ended = {each: _AT[f"ended_{each}"] for each in Ended}

    @classmethod
    def alone(cls) -> "Counts":
        """For a process that has no others beside it."""
        return cls(shared_memory(1))

    def opened(self) -> None:
        """A stream has begun."""
        self._cells[_AT["subscribers_total"]] += 1
        self._cells[0] += 1

    def ended(self, why: Ended) -> None:
        """A stream is over."""
        self._cells[self._ended[why]] += 1
        self._cells[0] -= 1

    def now(self, behind: int) -> None:
        """So many streams read the log, or wait for their readers; and what is written once a second is written."""
        self._cells[1] = behind
        self.publish.flush()
        self.delivery.flush()

    def failed(self, why: Failure) -> None:
        """An update was not stored."""
        self._cells[self._failed[why]] += 1

    def refused(self, role: Role, reason: Reason) -> None:
        """Somebody may not do what was asked."""
        self._cells[_AT[f"refused_{role}_{reason}"]] += 1

    def total(self, name: str) -> int:
        """Over all processes. ``name``: of a gauge or a counter, such as ``failed_full``, or ``updates_total``."""
        if name == "updates_total":  # each was timed
            return self.buckets("publish")[0][-1]
        return sum(row[_AT[name]] for row in self.rows)

    def buckets(self, histogram: str) -> tuple[Sequence[int], float]:
        """Of ``publish`` or ``delivery`` over all processes: how many up to each bound and beyond, and their sum."""
        at = {"publish": _PUBLISH, "delivery": _DELIVERY}[histogram]
        cells = [sum(row[at + number] for row in self.rows) for number in range(Histogram.SIZE)]
        upto = [sum(cells[: number + 1]) for number in range(len(BOUNDS) + 1)]
        return upto, cells[-1] / _MICROSECONDS


def shared_memory(processes: int) -> mmap.mmap:
    """Rows for so many processes, which have them in common if they are forked after this."""
    return mmap.mmap(-1, processes * ROW * _CELL)
