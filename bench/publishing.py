"""Publishing: how many a second, and what each costs."""

from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from bench.load import Latency, Load
from bench.servers import Kind, Server

PIECE = 0.8
"""Seconds that one repetition takes, about."""


class Publishing(NamedTuple):
    """Publishes a second, CPU-µs of the server for each, milliseconds until each was answered."""

    rate: float
    cost: float
    p50: float
    p99: float


def publish(server: Server, load: Load, count: int, pool: str = "publish") -> Publishing:
    """``count`` updates, each publisher the next as soon as it is answered."""
    cpu = server.cpu()
    rate, late = timed(load, count, pool)
    return Publishing(rate, 1e6 * (server.cpu() - cpu) / count, late.p50, late.p99)


def timed(load: Load, count: int, pool: str) -> tuple[float, Latency]:
    """Publishes a second, and how late the answers were. RuntimeError: some were not taken."""
    load.report()
    load.start(pool, 0, count)
    whole = load.answered(pool)
    report = load.report()
    if not whole or report[f"{pool} failed"]:
        raise RuntimeError(f"{report[f'{pool} failed']} of {count} updates were refused")
    return count / (report["answered"] - report["began"]), report[pool]


def compare(
    kinds: Sequence[Kind], publishers: Sequence[int], repetitions: int, piece: float = PIECE
) -> dict[tuple[str, int], Publishing]:
    """Every server with each number of publishers, in turn; the median. ``piece``: seconds of a repetition."""
    found: dict[tuple[str, int], list[Publishing]] = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(kind.running()) for kind in kinds]
        loads = [stack.enter_context(Load(server.address)) for server in servers]
        counts: dict[tuple[str, int], int] = {}
        for server, load in zip(servers, loads, strict=True):
            for number in publishers:
                load.pool(f"publish{number}", number, server.client.publish)
                counts[server.name, number] = round(piece * publish(server, load, 300, f"publish{number}").rate)
        for _ in range(repetitions):
            for number in publishers:
                for server, load in zip(servers, loads, strict=True):
                    sample = publish(server, load, counts[server.name, number], f"publish{number}")
                    found.setdefault((server.name, number), []).append(sample)
    return {
        place: Publishing(*(median(values) for values in zip(*samples, strict=True)))
        for place, samples in found.items()
    }
