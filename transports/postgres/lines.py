"""Three kinds of connections: one that appends, in groups; those that ask; and one that listens as well."""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from asyncpg import exceptions as said

from transports.contract import IdempotencyConflict, Position, Receipt, TransportError, Update, tuple_of
from transports.grouping import J, Told, settle
from transports.line import Line
from transports.postgres.server import OUTSIDE, Server, drop, translated, undisturbed
from transports.strangers import NO_UPDATE, Own, update_of_a_stranger

PATIENCE = 2.5
"""Seconds until a caller is told that the server does not answer; connecting is included."""

_GONE = (said.UndefinedTableError, said.UndefinedFunctionError, said.InvalidSchemaNameError, said.InternalServerError)


class _ServerLine(Line[J]):
    """A connection that is made when something is asked for."""

    _outside = OUTSIDE

    def __init__(self, server: Server, most: int) -> None:
        super().__init__(PATIENCE, most)
        self._server = server
        self._connection: Any = None

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            connection = await self._server.connected()
            try:
                await self._begin(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    @abstractmethod
    async def _begin(self, connection: Any) -> None:
        """What a new connection needs before it is used."""

    async def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await drop(connection)

    def _translated(self, error: BaseException) -> TransportError:
        if isinstance(error, _GONE):
            self._server.suspect()
        return translated(error, self._late(error))


class Trim(NamedTuple):
    """How much the log keeps: entries, and microseconds; 0: all."""

    size: int
    ttl: int


class Append(NamedTuple):
    """An update to append, and the future of its receipt."""

    future: asyncio.Future[Receipt] | Told[Receipt]
    update: Update
    text: str

    @property
    def size(self) -> int:
        return len(self.text)


class Appends(_ServerLine[Append]):
    """Those that wait together are appended in one transaction. An answer that was lost is looked for.

    ``own``: gets what was added, before its publisher has the receipt.
    """

    def __init__(self, server: Server, trim: Trim, own: Own) -> None:
        super().__init__(server, 256)
        self._trim, self._own = trim, own
        self.oldest: Position = 0
        """Nothing is left before it, as far as is known. To look from 0 on is to pass all that is deleted already."""
        self._newest: Position | None = None
        """Everything of ours that is under way will stand after this position. None: there was no connection yet."""
        schema = server.schema
        self._append = f"SELECT * FROM {schema}.append($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608 - looked at in url.py
        self._find = f"SELECT {schema}.find($1, $2, $3)"
        self._last = f"SELECT max(position) FROM {schema}.updates"  # noqa: S608

    async def _begin(self, connection: Any) -> None:
        if self._newest is None:
            self._newest = await connection.fetchval(self._last) or 0

    async def _do(self, group: list[Append]) -> list[Any]:
        firsts: dict[str, Append] = {}
        sent = [job for job in group if not (key := job.update.idempotency_key) or firsts.setdefault(key, job) is job]
        texts, ids = [job.text for job in sent], [job.update.id for job in sent]
        keys = [job.update.idempotency_key or None for job in sent] if firsts else None
        topics = [topic for job in sent for topic in job.update.topics]
        owners = [owner for owner, job in enumerate(sent, 1) for _ in job.update.topics]
        connection = await self._connected()
        try:
            given = (texts, ids, keys, topics, owners, *self._trim, self.oldest)
            row = await undisturbed(connection, connection.fetchrow(self._append, *given))
        except OUTSIDE as error:
            if not connection.is_closed():
                raise  # the server has said that it did not do it
            places = await self._places_after_all(texts, ids, error)
            receipts = [
                error if at is None else Receipt(at, job.update.id) for job, at in zip(sent, places, strict=True)
            ]
            return [
                self._translated(each) if isinstance(each, Exception) else each
                for each in self._all(group, sent, receipts)
            ]
        if row["oldest"] is not None:
            self.oldest = row["oldest"]
        return self._all(group, sent, self._receipts(sent, row))

    async def _places_after_all(
        self, texts: Sequence[str], ids: Sequence[str], error: Exception
    ) -> Sequence[Position | None]:
        """The connection is gone; were they added before that? Raises ``error`` where nobody answers now."""
        try:
            connection = await self._connected()
            found: Sequence[Position | None] = await undisturbed(
                connection, connection.fetchval(self._find, texts, ids, self._newest)
            )
        except OUTSIDE:
            raise error from None
        return found

    def _receipts(self, sent: Sequence[Append], row: Any) -> list[Any]:
        known = dict(
            zip(
                row["known"] or (),
                zip(row["known_positions"] or (), row["known_texts"] or (), strict=True),
                strict=True,
            )
        )
        position, receipts = row["base"], list[Any]()
        for number, job in enumerate(sent, 1):
            if number in known:
                receipts.append(_of_the_first(known[number], job.update))
            else:
                position += 1
                self._own.keep(position, job.text, job.update)
                receipts.append(tuple_of(Receipt, (position, job.update.id, False)))
        self._newest = position
        return receipts

    def _all(self, group: Sequence[Append], sent: Sequence[Append], receipts: Sequence[Any]) -> list[Any]:
        """Also of those that were not sent, since another one of the group has their key."""
        found = iter(receipts)
        told: dict[str, tuple[Update, Any]] = {}
        replies = list[Any]()
        for job in group:
            key = job.update.idempotency_key
            if key and key in told:
                first, receipt = told[key]
                replies.append(_repeated(first, receipt, job.update))
                continue
            replies.append(next(found))
            if key:
                told[key] = job.update, replies[-1]
        return replies


def _repeated(first: Update, receipt: Any, update: Update) -> Any:
    if not isinstance(receipt, Receipt):
        return receipt
    return receipt._replace(repeated=True) if first.fingerprint == update.fingerprint else IdempotencyConflict()


def _of_the_first(entry: tuple[Position, str], update: Update) -> Any:
    """What came of an update whose key is known, by the entry that has it."""
    position, text = entry
    try:
        first = update_of_a_stranger(text)
    except NO_UPDATE as error:
        return error
    return _repeated(first, Receipt(position, first.id), update)


class Question(NamedTuple):
    """A query with its arguments, and the future of its rows."""

    future: asyncio.Future[Any]
    query: str
    arguments: tuple[Any, ...]

    @property
    def size(self) -> int:
        """Of no matter: they go one by one."""
        return 0


class Questions(_ServerLine[Question]):
    """One after another."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, 1)

    async def ask(self, query: str, *arguments: Any) -> Any:
        """The rows. Raises `TransportUnavailable`, `TransportClosed`."""
        rows = asyncio.get_running_loop().create_future()
        self.put(Question(rows, query, arguments))
        return await rows

    async def value(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row; None if there is none."""
        rows = await self.ask(query, *arguments)
        return rows[0][0] if rows else None

    async def _do(self, group: list[Question]) -> list[Any]:
        ((_, query, arguments),) = group
        connection = await self._connected()
        return [await undisturbed(connection, connection.fetch(query, *arguments))]

    async def _begin(self, connection: Any) -> None:
        pass


class Following(Questions):
    """Asks, and hears of every commit to the log between two questions."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._commit: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _begin(self, connection: Any) -> None:
        await connection.add_listener(f"{self._server.schema}.updates", self._wake)
        connection.add_termination_listener(self._wake)

    def _wake(self, *_: object) -> None:
        settle(self._commit, None)
        self._commit = asyncio.get_running_loop().create_future()

    def next_commit(self) -> asyncio.Future[None]:
        """Done with the next commit, or the connection's end. Take it before the question that may find nothing."""
        return self._commit

    async def abort(self) -> None:
        await super().abort()
        self._wake()
