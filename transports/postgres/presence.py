"""Active subscriptions in PostgreSQL: a table of the nodes' counts, and one of their subscriptions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transports.postgres.lines import Questions
from transports.postgres.schema import named
from transports.presence import DEAD, Presence

ENTER = """
WITH alive AS (
  INSERT INTO mercure.nodes AS known VALUES ($1, 0)
  ON CONFLICT (node) DO UPDATE SET count = known.count WHERE known.count <> -1 RETURNING node
), entered AS (
  INSERT INTO mercure.subscriptions (node, id, document)
    SELECT node, id, document FROM alive, unnest($2::text[], $3::bytea[]) AS given (id, document)
  ON CONFLICT (node, md5(id)) DO UPDATE SET document = excluded.document
)
SELECT node FROM alive
"""
LEAVE = "DELETE FROM mercure.subscriptions WHERE node = $1 AND md5(id) IN (SELECT md5(unnest($2::text[])))"
COUNT = "UPDATE mercure.nodes SET count = count + 1 WHERE node = $1 AND count <> -1"
COUNTS = "SELECT node, count FROM mercure.nodes"
EXPIRE = "UPDATE mercure.nodes SET count = -1 WHERE node = $1 AND count = $2 RETURNING node"
OF = "SELECT id, document FROM mercure.subscriptions WHERE node = $1"
FORGET = """
WITH gone AS (DELETE FROM mercure.nodes WHERE node = $1)
DELETE FROM mercure.subscriptions WHERE node = $1
"""
ALL = "SELECT id, document FROM mercure.subscriptions"

assert DEAD == -1  # noqa: S101 - the queries say it


class PostgresPresence(Presence):
    """``line``: where to ask while the transport is open; raises `TransportClosed` outside of that."""

    def __init__(self, line: Callable[[], Questions], schema: str) -> None:
        self._line, self._schema = line, schema

    async def enter(self, node: str, subscriptions: Mapping[str, bytes]) -> bool:
        return bool(await self._ask(ENTER, node, list(subscriptions), list(subscriptions.values())))

    async def leave(self, node: str, ids: Sequence[str]) -> None:
        await self._ask(LEAVE, node, list(ids))

    async def beat(self, node: str) -> Mapping[str, int]:
        await self._ask(COUNT, node)
        return dict(await self._ask(COUNTS))

    async def expire(self, node: str, count: int) -> bool:
        return bool(await self._ask(EXPIRE, node, count))

    async def of(self, node: str) -> Mapping[str, bytes]:
        return dict(await self._ask(OF, node))

    async def forget(self, node: str) -> None:
        await self._ask(FORGET, node)

    async def all(self) -> Mapping[str, bytes]:
        return dict(await self._ask(ALL))

    async def _ask(self, query: str, *arguments: Any) -> Any:
        return await self._line().ask(named(query, self._schema), *arguments)
