"""``postgresql://user@host/database?schema=…&size=N&ttl=…``: a table in PostgreSQL, for many hosts."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from transports.contract import (
    EARLIEST,
    Answer,
    Dated,
    Entry,
    History,
    HistoryTrimmed,
    InvalidTransport,
    Position,
    Receipt,
    TopicIndex,
    Transport,
    TransportClosed,
    TransportUnavailable,
    Update,
)
from transports.episode import clocks_apart
from transports.grouping import Told, awaited
from transports.postgres.index import Filling, PostgresIndex
from transports.postgres.leading import Leading, lead
from transports.postgres.lines import Append, Appends, Following, Questions, Trim
from transports.postgres.presence import PostgresPresence
from transports.postgres.schema import Unfit, named
from transports.postgres.server import Server, unfit
from transports.postgres.url import Parameters
from transports.strangers import NO_UPDATE, Own, Skipped

PAGE = 1000
BLOCK = 1.0
"""Seconds until a tail that hears nothing looks for itself."""
WAITING = 10.0
"""Seconds that an update may lie in the outbox before it is worth a word."""

PAGE_BYTES = 4 << 20
"""From so many on a page ends, after at least one entry."""

READ = """
SELECT position, previous, update FROM (
  SELECT page.*, sum(octet_length(update)) OVER (ORDER BY position) - octet_length(update) AS before FROM (
    SELECT position, previous, update FROM mercure.updates WHERE position > $1 ORDER BY position LIMIT $2
  ) AS page
) AS sized WHERE before < $3 ORDER BY position
"""
FIND = "SELECT min(position) FROM mercure.updates WHERE hashtextextended(id, 0) = hashtextextended($1, 0) AND id = $1"
NEWEST = "SELECT position, number, id FROM mercure.updates ORDER BY position DESC LIMIT 1"
OLDEST = "SELECT position, number, id FROM mercure.updates ORDER BY position LIMIT 1"
SIZE = "SELECT pg_total_relation_size('mercure.updates')"
OUTBOX = "SELECT count(*), extract(epoch FROM clock_timestamp() - min(written))::float FROM mercure.outbox"
CHECK = "SELECT mercure.check()"
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1)"

logger = logging.getLogger(__name__)


class Connections(NamedTuple):
    """What is open: one that appends, one that asks, one for the tails, and one for what else there is to do."""

    appends: Appends
    reads: Questions
    following: Following
    aside: Leading
    leading: asyncio.Task[None]


class PostgresTransport(Transport):
    """``schema``: where the tables are (mercure). ``size``: how many updates history keeps (a million; 0: all).

    ``ttl``: how long. ``index=topics``: find the entries of a topic without reading all others; once made, it stays.
    ``migrate=no``: the tables are made by somebody else. `open` does not wait for a server that is
    away; everything else raises `TransportUnavailable` until it is back. An append whose answer is lost is looked for;
    when nobody answers it raises, although the update may be in the log.
    """

    shared = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            self._parameters = Parameters.of(url)
        except ValueError as error:
            raise InvalidTransport(url, str(error)) from None
        self._lines: Connections | None = None
        self._skipped = Skipped(logger, self._named("mercure.updates"))
        self._own = Own()
        self._filling = Filling(self._parameters.schema, wanted=self._parameters.index)
        self._index: PostgresIndex | None = None
        self.presence = PostgresPresence(lambda: self._open().aside, self._parameters.schema)

    def _named(self, query: str) -> str:
        return named(query, self._parameters.schema)

    async def open(self) -> None:
        if self._lines is not None:
            return
        said = self._parameters
        server = Server(said)
        try:
            server.read_password()
        except ValueError as error:
            raise InvalidTransport(self.url, str(error)) from None
        aside, trim = Leading(server), Trim(said.size, said.ttl)
        try:
            await aside.ask("SELECT")
        except TransportUnavailable as error:
            if reason := unfit(error.__cause__):
                await aside.abort()
                sql = error.__cause__.sql if isinstance(error.__cause__, Unfit) else ""
                raise InvalidTransport(self.url, reason, sql) from error
            logger.warning("the store is not there yet: %s", error)
        except BaseException:
            await aside.abort()
            raise
        reads = Questions(server)
        leading = asyncio.ensure_future(lead(aside, said.schema, trim, self._filling))
        self._lines = Connections(Appends(server, trim, self._own), reads, Following(server), aside, leading)
        self._index = PostgresIndex(reads, said.schema)

    @property
    def index(self) -> TopicIndex | None:
        return self._index if self._filling.whole else None

    async def append(self, update: Update) -> Receipt:
        return await awaited(self.submit, update)

    def submit(self, update: Update, answer: Answer) -> None:
        self._open().appends.put(Append(Told(answer), update, update.to_json().decode()))

    async def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        lines = self._open()
        try:
            while True:
                commit = lines.following.next_commit()
                rows = await self._following(lines.following, after)
                if entries := self._entries(rows):
                    yield entries
                after = rows[-1][0] if rows else after
                if not rows:
                    await asyncio.wait([commit], timeout=BLOCK)
        except TransportClosed:
            return

    async def _following(self, line: Questions, after: Position) -> Sequence[Any]:
        """The next rows. Nothing may be gone between ``after`` and them; a log that ends before it is another one.

        A standby that took over without the newest entries has others in their place, after the one before those.
        """
        rows = await self._rows(line, after, PAGE)
        if rows:
            self._must_follow(after, rows[0])
        elif not rows and after and (await self._newest(line))[0] < after:
            raise HistoryTrimmed
        return rows

    async def _rows(self, line: Questions, after: Position, limit: int) -> Sequence[Any]:
        begin = max(after, self._open().appends.oldest - 1)
        rows: Sequence[Any] = await line.ask(self._named(READ), begin, limit, PAGE_BYTES)
        return rows

    def _must_follow(self, after: Position, row: Any) -> None:
        if row[1] != after:
            raise HistoryTrimmed

    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        line, entries = self._open().reads, list[Entry]()
        while not entries:
            rows = await self._rows(line, after, min(limit, PAGE))
            if not rows:
                break
            if after:
                self._must_follow(after, rows[0])
            after = rows[-1][0]
            entries = self._entries(rows)
        return entries

    def _entries(self, rows: Sequence[Any]) -> list[Entry]:
        """What anybody may have written there that is no update is skipped."""
        entries: list[Entry] = []
        for position, _, text in rows:
            try:
                entries.append(Entry(position, self._own.update(position, text)))
            except NO_UPDATE as error:
                self._skipped.add(position, error)
        return entries

    async def position_of(self, event_id: str) -> Position | None:
        line = self._open().reads
        try:
            event_id.encode()
        except UnicodeEncodeError:
            return None  # nothing in the log has such an id
        found: Position | None = None if "\0" in event_id else await line.value(self._named(FIND), event_id)
        return found

    async def last(self) -> tuple[Position, str]:
        position, _, event_id = await self._newest(self._open().reads)
        return position, event_id

    async def _newest(self, line: Questions) -> Any:
        rows = await line.ask(self._named(NEWEST))
        return rows[0] if rows else (0, 0, EARLIEST)

    async def dated(self, after: Position, limit: int) -> Sequence[Dated]:
        return [Dated(entry, entry.position / 1_000_000) for entry in await self.read(after, limit)]

    async def history(self) -> History:
        line = self._open().reads
        newest, oldest = await self._newest(line), await line.ask(self._named(OLDEST))
        size, ((waiting, since),) = await line.value(self._named(SIZE)), await line.ask(self._named(OUTBOX))
        if not oldest:
            return History(0, size, None, None, EARLIEST, waiting, since)
        ((position, number, event_id),) = oldest
        entries = newest[1] - number + 1
        return History(entries, size, position / 1_000_000, event_id, newest[2], waiting, since)

    async def remarks(self) -> Sequence[str]:
        line, said = self._open().reads, list[str]()
        settings = dict(await line.ask(SETTINGS, ["fsync", "full_page_writes"]))
        said += [
            f"the server runs with {name}=off: a crash of its machine may take the log with it"
            for name in ("fsync", "full_page_writes")
            if settings.get(name) == "off"
        ]
        _, since = (await line.ask(self._named(OUTBOX)))[0]
        if since is not None and since > WAITING:
            said.append(f"updates of transactions wait in the outbox for {since:.0f} s: no hub moves them")
        ahead = await line.value("SELECT extract(epoch FROM clock_timestamp())::float") - time.time()
        return [*said, *clocks_apart(ahead)]

    async def check(self) -> None:
        await self._open().aside.ask(self._named(CHECK))

    async def close(self) -> None:
        lines, self._lines = self._lines, None
        if lines is None:
            return
        await lines.appends.finish()
        await lines.following.abort()
        await lines.aside.abort()
        lines.leading.cancel()
        await asyncio.wait([lines.leading])
        await lines.reads.finish()

    def _open(self) -> Connections:
        if self._lines is None:
            raise TransportClosed
        return self._lines
