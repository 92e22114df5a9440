"""Several processes on one store: what all of them cost, which the model of `hub.cli.planning` is held against.

All hubs share one core, so that what is added up is CPU time and not speed: on a machine with a core for each, they
would have it at once. Publishers and subscribers are spread evenly.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from bench.load import Load
from bench.servers import Kind, Server

PROCESSES = (1, 2, 4, 8)
SUBSCRIBERS = (0, 400)
RATE = 80.0
"""Updates a second, of all publishers together."""
SECONDS = 3.0
REPETITIONS = 3


@dataclass
class Group:
    """So many processes on one store, with what publishes to each and subscribes to each."""

    servers: Sequence[Server]
    loads: Sequence[Load]
    subscribers: int

    def cost(self) -> float:
        """CPU-µs of all processes for one update: stored, followed by each, and delivered to every subscriber."""
        each = round(RATE * SECONDS / len(self.servers))
        cpu = sum(server.cpu() for server in self.servers)
        for load in self.loads:
            load.report()
        for load in self.loads:
            load.start("publish", RATE / len(self.servers), each)
        total = each * len(self.servers)
        for load in self.loads:
            if not load.answered("publish") or not load.events(total * load.subscribers):
                raise RuntimeError("an update was lost, or late by far")
        return 1e6 * (sum(server.cpu() for server in self.servers) - cpu) / total


@contextmanager
def group(kind: Kind, processes: int, subscribers: int) -> Iterator[Group]:
    with ExitStack() as stack:
        servers = [stack.enter_context(kind.running()) for _ in range(processes)]
        loads = [stack.enter_context(Load(server.address)) for server in servers]
        for load, server in zip(loads, servers, strict=True):
            load.pool("publish", 1, server.client.publish)
            if subscribers:
                load.open(subscribers // processes, [server.client.subscribe])
        yield Group(servers, loads, subscribers)


def scaled(kind: Kind) -> dict[tuple[int, int], float]:
    """CPU-µs of all for an update, by processes and subscribers; what they take when idle is in it."""
    found = {}
    for processes in PROCESSES:
        for subscribers in SUBSCRIBERS:
            with group(kind, processes, subscribers) as running:
                running.cost()
                found[processes, subscribers] = median(running.cost() for _ in range(REPETITIONS))
    return found
