"""What a connection costs: to make, and to keep."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import NamedTuple

from bench.load import Load
from bench.machine import socket_memory
from bench.servers import Kind, Server, mercure, tokens

QUIET = 0.02
"""Part of a core below which a server counts as idle."""
LOOK = 0.1
"""Seconds between two looks at it."""
WARM = 300
"""Connections before any that count: what a server allocates once is not a connection's."""

Heads = Sequence[bytes]


class Idle(NamedTuple):
    """Bytes for each connection: resident in the server, and in the kernel's TCP buffers (of both ends)."""

    resident: float
    sockets: float


def settle(server: Server, seconds: float = 15.0) -> None:
    """Wait until the server has nothing to do. RuntimeError: it never has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = server.cpu()
        time.sleep(LOOK)
        if server.cpu() - before < QUIET * LOOK:
            return
    raise RuntimeError(f"{server.name} does not come to rest")


@contextmanager
def warmed(kind: Kind, heads: Heads) -> Iterator[tuple[Server, Load]]:
    """A server that has had connections before."""
    with kind.running() as server, Load(server.address) as load:
        load.open(min(WARM, len(heads)), heads)
        load.disconnect()
        settle(server)
        yield server, load


def idle(kind: Kind, heads: Heads) -> Idle:
    """Of as many connections as there are heads."""
    with warmed(kind, heads[-WARM:]) as (server, load):
        resident, sockets = server.resident(), socket_memory()
        load.open(len(heads), heads)
        settle(server)
        count = len(heads)
        return Idle((server.resident() - resident) / count, (socket_memory() - sockets) / count)


def connecting(
    kinds: Sequence[tuple[str, Kind, Callable[[int], Heads]]], count: int, repetitions: int
) -> dict[str, float]:
    """CPU-µs of the server for each connection, by name; up to its response head. In turn, the median."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        warm = [(name, *stack.enter_context(warmed(kind, heads(1))), heads) for name, kind, heads in kinds]
        for _ in range(repetitions):
            for name, server, load, heads in warm:
                found.setdefault(name, []).append(_cost(server, load, heads(count), count))
    return {name: median(costs) for name, costs in found.items()}


def _cost(server: Server, load: Load, heads: Heads, count: int) -> float:
    cpu = server.cpu()
    load.open(count, heads)
    cpu = server.cpu() - cpu
    load.disconnect()
    settle(server)
    return 1e6 * cpu / count


def anonymous(_count: int) -> Heads:
    return [mercure().subscribe(token="")]


def cached() -> Callable[[int], Heads]:
    """All with the same token: verified once."""
    heads = [mercure().subscribe(token=tokens(1)[0])]
    return lambda _count: heads


def own(count: int) -> Heads:
    """Each with a token of its own."""
    return [mercure().subscribe(token=token) for token in tokens(count)]


def plain(kind: Kind) -> Callable[[int], Heads]:
    """For a server that knows no tokens."""
    return lambda _count: [kind.client().subscribe]
