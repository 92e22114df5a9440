"""A PostgreSQL server as the transport sees it: what the functions of ``schema.sql`` do, in Python.

A statement is executed at once, when it arrives, as if it held the log's lock; its answer takes its time, and is lost
where the connection breaks meanwhile. `Server.fail_over` has a standby take over that had everything up to a moment
ago. What the SQL itself does is the business of `tests/transports/postgres`.
"""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from tests.simulation.store_server import StoreServer
from tests.simulation.world import EPOCH, Process, World
from transports import Update
from transports.grouping import settle
from transports.postgres import index, leading, presence, transport


class Row(NamedTuple):
    position: int
    previous: int
    number: int
    id: str
    key: str | None
    update: str


class Added(NamedTuple):
    """What ``append`` answers."""

    oldest: int | None
    base: int
    known: list[int] | None
    known_positions: list[int] | None
    known_texts: list[str] | None

    def __getitem__(self, name: Any) -> Any:
        return getattr(self, name)


class Database:
    def __init__(self) -> None:
        self.updates: list[Row] = []
        self.nodes: dict[str, int] = {}
        self.subscriptions: dict[tuple[str, str], bytes] = {}


class Server(StoreServer):
    """Its log, and what is kept for a replica that falls behind."""

    links: list["Link"]  # type: ignore[assignment]

    def __init__(self, world: World, on_append: Callable[[Update, list[str]], None]) -> None:
        super().__init__(world, on_append)
        self.database = Database()
        self.leader: Link | None = None
        self._copy: Database | None = None

    def keep(self) -> None:
        self._copy = deepcopy(self.database)

    def fail_over(self) -> None:
        self.cut()
        if self._copy is not None:
            self.database, self._copy = self._copy, None

    def execute(self, link: "Link", query: str, arguments: tuple[Any, ...]) -> Any:
        """The rows."""
        return _DONE[query](self, link, *arguments)

    def append(
        self, _: Any, texts: Any, ids: Any, keys: Any, topics: Any, owners: Any, size: int, ttl: int, oldest: int
    ) -> Any:
        if self.full:
            raise asyncpg.exceptions.DiskFullError("could not extend file")
        rows = self.database.updates
        newest, count = (rows[-1].position, rows[-1].number) if rows else (0, 0)
        base = max(newest, int((EPOCH + self.world.now) * 1_000_000))
        keys = keys or [None] * len(ids)
        held = {row.key: row for row in rows if row.key}
        known = [(at, held[key]) for at, key in enumerate(keys, 1) if key in held]
        places = {at for at, _ in known}
        added = 0
        for at, (text, id, key) in enumerate(zip(texts, ids, keys, strict=True), 1):
            if at in places:
                continue
            added += 1
            rows.append(Row(base + added, newest, count + added, id, key, text))
            newest = base + added
            self.added(Update.from_json(text), [row.key for row in rows[:-1] if row.key])
        if added:
            while size and len(rows) > size + size // 1000:
                rows.pop(0)
            while ttl and rows[0].position < base - ttl and len(rows) > 1:
                rows.pop(0)
            for each in list(self.links):
                each.notify()
        return [
            Added(
                rows[0].position if rows and added else oldest,
                base,
                [at for at, _ in known] or None,
                [row.position for _, row in known] or None,
                [row.update for _, row in known] or None,
            )
        ]

    def find(self, _: Any, texts: Any, ids: Any, after: int) -> Any:
        places = {(row.update, row.id): row.position for row in reversed(self.database.updates) if row.position > after}
        return [([places.get(each) for each in zip(texts, ids, strict=True)],)]

    def read(self, _: Any, after: int, limit: int, size: int) -> Any:
        found = [row for row in self.database.updates if row.position > after][:limit]
        return [(row.position, row.previous, row.update) for row in found]

    def newest(self, _: Any) -> Any:
        return [(row.position, row.number, row.id) for row in self.database.updates[-1:]]

    def lead(self, link: "Link") -> Any:
        if self.leader not in (None, link):
            return [(False,)]
        self.leader = link
        return [(True,)]

    def enter(self, _: Any, node: str, ids: Any, documents: Any) -> Any:
        if self.database.nodes.setdefault(node, 0) == -1:
            return []
        for id, document in zip(ids, documents, strict=True):
            self.database.subscriptions[node, id] = document
        return [(node,)]

    def leave(self, _: Any, node: str, ids: Any) -> Any:
        for id in ids:
            self.database.subscriptions.pop((node, id), None)
        return []

    def count(self, _: Any, node: str) -> Any:
        if self.database.nodes.get(node, -1) != -1:
            self.database.nodes[node] += 1
        return []

    def expire(self, _: Any, node: str, count: int) -> Any:
        if self.database.nodes.get(node) != count:
            return []
        self.database.nodes[node] = -1
        return [(node,)]

    def of(self, _: Any, node: str) -> Any:
        return [(id, text) for (at, id), text in self.database.subscriptions.items() if at == node]

    def forget(self, _: Any, node: str) -> Any:
        self.database.nodes.pop(node, None)
        for key in [key for key in self.database.subscriptions if key[0] == node]:
            del self.database.subscriptions[key]
        return []


_DONE: dict[str, Callable[..., Any]] = {
    "SELECT": lambda server, link: [()],
    "SELECT * FROM mercure.append($1, $2, $3, $4, $5, $6, $7, $8)": Server.append,
    "SELECT mercure.find($1, $2, $3)": Server.find,
    "SELECT max(position) FROM mercure.updates": lambda server, link: [
        (server.database.updates[-1].position if server.database.updates else None,)
    ],
    transport.READ: Server.read,
    transport.FIND: lambda server, link, id: [
        (next((row.position for row in server.database.updates if row.id == id), None),)
    ],
    transport.NEWEST: Server.newest,
    transport.CHECK: lambda server, link: [(0,)],
    leading.LEAD: Server.lead,
    leading.USED: lambda server, link: [(False,)],
    index.STATE: lambda server, link: [(None,)],
    presence.ENTER: Server.enter,
    presence.LEAVE: Server.leave,
    presence.COUNT: Server.count,
    presence.COUNTS: lambda server, link: list(server.database.nodes.items()),
    presence.EXPIRE: Server.expire,
    presence.OF: Server.of,
    presence.FORGET: Server.forget,
    presence.ALL: lambda server, link: [(id, text) for (_, id), text in server.database.subscriptions.items()],
}


class Link:
    """asyncpg's connection."""

    def __init__(self, server: Server, process: Process) -> None:
        self._server, self._process = server, process
        self._open = True
        self._waiting: list[asyncio.Future[Any]] = []
        self._listeners: list[Callable[..., None]] = []
        self._on_end: list[Callable[..., None]] = []
        self._last = self._last_reply = 0.0
        server.links.append(self)
        process.on_death.append(self._ended)

    def _ended(self) -> None:
        self._open = False
        if self in self._server.links:
            self._server.links.remove(self)
        if self._server.leader is self:
            self._server.leader = None

    def broken(self) -> None:
        self._ended()
        waiting, self._waiting = self._waiting, []

        def fail() -> None:
            for each in waiting:
                if not each.done():
                    each.set_exception(asyncpg.ConnectionDoesNotExistError("connection was closed"))
            for callback in self._on_end:
                callback(self)

        if self._process.alive:
            self._process.loop.call_soon(fail)

    def is_closed(self) -> bool:
        return not self._open

    def terminate(self) -> None:
        if self._open:
            self.broken()

    async def close(self) -> None:
        self.terminate()

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        assert channel == "mercure.updates"
        await self._ask("SELECT")
        self._listeners.append(callback)

    def add_termination_listener(self, callback: Callable[..., None]) -> None:
        self._on_end.append(callback)

    def notify(self) -> None:
        """A commit, to those who listen."""
        for callback in self._listeners:
            self._arrives(partial(callback, self, 0, "", ""))

    def _arrives(self, event: Callable[[], object]) -> None:
        world = self._server.world
        self._last_reply = max(self._last_reply, world.now + 1e-4 + world.random.expovariate(2000.0))

        def arrive() -> None:
            if self._open and self._process.alive:
                self._process.loop.call_soon(event)

        world.at(self._last_reply, lambda: self._server.when_awake(arrive))

    async def _ask(self, query: str, *arguments: Any) -> Any:
        if not self._open:
            raise asyncpg.InterfaceError("connection is closed")
        world = self._server.world
        future = self._process.loop.create_future()
        self._waiting.append(future)
        self._last = max(self._last, world.now + 1e-4 + world.random.expovariate(2000.0))

        def execute() -> None:
            if not self._server.up:
                return
            try:
                rows: Any = self._server.execute(self, query, arguments)
            except asyncpg.PostgresError as error:
                rows = error
            self._arrives(lambda: self._answered(future, rows))

        world.at(self._last, lambda: self._server.when_awake(execute))
        return await future

    def _answered(self, future: asyncio.Future[Any], rows: Any) -> None:
        if future in self._waiting:
            self._waiting.remove(future)
        settle(future, rows)

    async def fetch(self, query: str, *arguments: Any) -> Any:
        return await self._ask(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        rows = await self._ask(query, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        row = await self.fetchrow(query, *arguments)
        return row[0] if row else None


async def connect(server: Server) -> Link:
    """``asyncpg.connect``."""
    process = server.world.current
    assert process is not None
    await asyncio.sleep(server.world.random.expovariate(2000.0))
    if not server.up:
        raise ConnectionRefusedError
    return Link(server, process)
