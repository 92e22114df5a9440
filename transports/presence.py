"""Who is there now: the contract of active subscriptions, apart from the log, and one that lives in this process."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

DEAD = -1
"""The count of a node that has been declared dead: its subscriptions are being announced as ended."""


class Presence(ABC):
    """The active subscriptions of all processes that share a store, each under the node that holds its connection.

    A node is one run of one process. It keeps all its subscriptions alive with one `beat`. A process that sees its
    count stand still for a lease declares it dead with `expire`, announces its subscriptions as ended, and forgets it.
    No clock of one host is compared with another's. Every method raises what a `Transport`'s do: `TransportClosed`,
    `TransportUnavailable`.
    """

    @abstractmethod
    async def enter(self, node: str, subscriptions: Mapping[str, bytes]) -> bool:
        """Add ``id -> document`` to the node's, which is made if it is new. False: it is dead, and nothing was done."""

    @abstractmethod
    async def leave(self, node: str, ids: Sequence[str]) -> None:
        """Take these away from the node's; what is not there is no error."""

    @abstractmethod
    async def beat(self, node: str) -> Mapping[str, int]:
        """Count the node up, if it is there and not dead, and tell all nodes' counts."""

    @abstractmethod
    async def expire(self, node: str, count: int) -> bool:
        """Declare the node dead if its count is still ``count``. Of several that ask, several may be told True."""

    @abstractmethod
    async def of(self, node: str) -> Mapping[str, bytes]:
        """The node's subscriptions, also a dead one's."""

    @abstractmethod
    async def forget(self, node: str) -> None:
        """The node is gone, with all it had."""

    @abstractmethod
    async def all(self) -> Mapping[str, bytes]:
        """Every node's subscriptions."""


class LocalPresence(Presence):
    """For a log that only this process has, and that ends with it. ``must_be_open`` raises `TransportClosed`."""

    def __init__(self, must_be_open: Callable[[], object]) -> None:
        self._must_be_open = must_be_open
        self._counts: dict[str, int] = {}
        self._subscriptions: dict[str, dict[str, bytes]] = {}

    async def enter(self, node: str, subscriptions: Mapping[str, bytes]) -> bool:
        self._must_be_open()
        if self._counts.setdefault(node, 0) == DEAD:
            return False
        self._subscriptions.setdefault(node, {}).update(subscriptions)
        return True

    async def leave(self, node: str, ids: Sequence[str]) -> None:
        self._must_be_open()
        for id in ids:
            self._subscriptions.get(node, {}).pop(id, None)

    async def beat(self, node: str) -> Mapping[str, int]:
        self._must_be_open()
        if self._counts.get(node, DEAD) != DEAD:
            self._counts[node] += 1
        return dict(self._counts)

    async def expire(self, node: str, count: int) -> bool:
        self._must_be_open()
        if self._counts.get(node) != count:
            return False
        self._counts[node] = DEAD
        return True

    async def of(self, node: str) -> Mapping[str, bytes]:
        self._must_be_open()
        return dict(self._subscriptions.get(node, {}))

    async def forget(self, node: str) -> None:
        self._must_be_open()
        self._counts.pop(node, None)
        self._subscriptions.pop(node, None)

    async def all(self) -> Mapping[str, bytes]:
        self._must_be_open()
        return {id: document for each in self._subscriptions.values() for id, document in each.items()}
