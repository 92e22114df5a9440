"""How many processes a load takes: the model of ``docs/scale.md``. Pure.

One log is followed by every process, so a process more shares the subscribers and the publishers, and follows the whole
log once more. CPU times are those of one core of the machine that the page names, measured by ``make bench`` there.
"""

from math import ceil
from typing import NamedTuple

BUSY = 0.6
"""The part of a core that is planned with; what is left is for bursts, and for a replica that is away."""
CONNECTION = 600.0
"""Seconds that a subscriber's connection lasts (``--write-timeout``), after which it comes back."""
FRAMING = 60
"""Bytes of an event beside its data: id, field names, chunk."""


class Costs(NamedTuple):
    """µs of CPU: to store an update, to follow one in the log, to deliver it to one subscriber, to take a stream."""

    publish: float
    follow: float
    deliver: float
    connect: float


COSTS = {
    "memory": Costs(65, 0, 9, 235),
    "lmdb": Costs(100, 120, 9, 235),
    "redis": Costs(110, 110, 9, 235),
}
CONNECTION_MEMORY = 3 << 10
"""Bytes of the process; the kernel's buffers come to that, and grow where readers are slow."""
PROCESS_MEMORY = 64 << 20


class Load(NamedTuple):
    """``updates``: a second. ``share``: how many of them one subscriber gets, 0 to 1. ``size``: bytes of their data."""

    subscribers: int
    updates: float
    size: int
    share: float


class Plan(NamedTuple):
    """``processes``: None if no number of them is enough. ``busy``: of each one's core, by what it is for.

    ``memory``: bytes of each. ``out``, ``store_in``, ``store_out``: bytes a second, of one process and of the store.
    ``most_updates``: a second, at which a process would do nothing but follow the log.
    """

    processes: int | None
    busy: dict[str, float]
    memory: float
    out: float
    store_in: float
    store_out: float
    most_updates: float | None


def plan(load: Load, costs: Costs, *, busy: float = BUSY, speed: float = 1.0) -> Plan:
    """``speed``: of a core, against the one that was measured."""
    shared = {
        "publish": load.updates * costs.publish,
        "deliver": load.subscribers * load.updates * load.share * costs.deliver,
        "connect": load.subscribers / CONNECTION * costs.connect,
    }
    follow = load.updates * costs.follow / 1e6 / speed
    room = busy - follow
    needed = ceil(sum(shared.values()) / 1e6 / speed / room) if room > 0 else None
    processes = max(1, needed) if needed is not None else None
    if processes is not None and processes > 1 and not costs.follow:
        processes = None  # memory is one process's own
    among = processes or 1
    each = {name: cost / 1e6 / speed / among for name, cost in shared.items()} | {"follow": follow}
    size = load.size + FRAMING
    return Plan(
        processes,
        each,
        PROCESS_MEMORY + load.subscribers / among * CONNECTION_MEMORY,
        load.subscribers / among * load.updates * load.share * size,
        load.updates * size,
        load.updates * size * among if costs.follow else 0,
        busy * 1e6 * speed / costs.follow if costs.follow else None,
    )


def lines(made: Plan, busy: float) -> list[str]:
    """The plan, for a person at a terminal."""
    if made.processes is None:
        return ["no number of processes is enough: split the topics between hubs, each with a log of its own"]
    parts = ", ".join(f"{name} {100 * part:.1f} %" for name, part in made.busy.items())
    each = f"each with a core of its own that is {100 * sum(made.busy.values()):.0f} % busy"
    said = {
        "processes": f"{made.processes}, {each}: {parts}",
        "memory": f"{made.memory / 2**20:,.0f} MiB each, and as much again for the kernel's buffers",
        "network": f"{made.out / 1e6:,.1f} MB/s to the subscribers of each",
    }
    if made.most_updates is not None:
        said["store"] = f"{made.store_in / 1e6:,.2f} MB/s in, {made.store_out / 1e6:,.2f} MB/s out to all processes"
        said["end"] = f"{made.most_updates:,.0f} updates/s, where following them takes {100 * busy:.0f} % of each core"
    return [f"{name:<10} {text}" for name, text in said.items()]
