"""Servers that many hubs share, as the end-to-end tests start, kill and hold them; each keeps what it acknowledged."""

import json
import signal
from collections.abc import Mapping
from typing import Any, Protocol, Self

from tests.transports.postgresql import Postgres
from tests.transports.valkey import Valkey


class Store(Protocol):
    """A server of the test's own."""

    def url(self) -> str: ...
    def start(self) -> None: ...

    def kill(self) -> None:
        """As a crash does."""

    def stand_still(self) -> None: ...
    def go_on(self) -> None: ...

    async def add(self, update: Mapping[str, Any]) -> None:
        """What another program does."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class DurableValkey(Valkey):
    def __init__(self) -> None:
        super().__init__("--appendonly", "yes", "--appendfsync", "always")

    def stand_still(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    async def add(self, update: Mapping[str, Any]) -> None:
        self.client.xadd("{mercure}:updates", {"update": json.dumps(update)})


class DurablePostgres(Postgres):
    def kill(self) -> None:
        self.stop(signal.SIGQUIT)

    async def add(self, update: Mapping[str, Any]) -> None:
        row = ([json.dumps(update)], [update["id"]], update["topics"], [1] * len(update["topics"]))
        await self.ask("SELECT mercure.append($1::text[], $2::text[], NULL, $3::text[], $4::integer[], 0, 0, 0)", *row)


STORES = {"redis": DurableValkey, "postgresql": DurablePostgres}
"""By the scheme of their URLs."""
