"""``redis://user:password@host:6379/0?prefix=…&size=N&ttl=…``: a stream in Redis or Valkey, for many hosts."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from transports.contract import (
    APPEND_TIMEOUT,
    EARLIEST,
    Answer,
    Dated,
    Entry,
    History,
    HistoryTrimmed,
    IdempotencyConflict,
    InvalidTransport,
    Position,
    Receipt,
    Transport,
    TransportClosed,
    TransportFull,
    TransportUnavailable,
    Update,
    outcome_of,
    tuple_of,
)
from transports.episode import Seldom, clocks_apart
from transports.grouping import Told, awaited
from transports.redis import presence as redis_presence
from transports.redis.pipeline import PATIENCE, Pipeline
from transports.redis.presence import RedisPresence
from transports.redis.routes import Route
from transports.redis.stream import APPENDING, INDEXING, SCRIPTS, TRIMMING, Keys, Raw, position_from, stream_id
from transports.redis.url import Parameters
from transports.strangers import NO_UPDATE, Own, Skipped
from transports.urls import redact

PAGE = 256
ROOM = 256
"""Of the oldest, how many go at once when the server is out of memory; a node of a stream has about 100."""
ROOM_TRIES = 16
BLOCK = 1000
"""Milliseconds that one XREAD waits, after which a tail looks whether its position is still in the stream."""

TAIL_PATIENCE = PATIENCE + BLOCK / 1000
SLACK = 1.0
"""Seconds beyond `wait_timeout` until an append is given up."""
OLDEST = (6, 2)
QUIET = 60.0
"""Seconds between two lines in the log about a server without memory."""

logger = logging.getLogger(__name__)


class Connections(NamedTuple):
    """What is open: the way, a connection that appends, one that asks, and one for each tail."""

    route: Route
    writes: Pipeline
    reads: Pipeline
    tails: set[Pipeline]


class RedisTransport(Transport):
    """``prefix``: the keys are ``{prefix}:updates`` and so on (mercure).

    ``size``: how many updates history keeps (a million; 0: all), ``ttl``: how long. When the server is out of memory,
    the oldest go for the new ones.

    `open` does not wait for a server that is away; everything else raises `TransportUnavailable` until it is back.
    An append is sent once: when its reply is lost it raises, although the update may be in the log.
    """

    shared = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            self._parameters = Parameters.of(url)
        except ValueError as error:
            raise InvalidTransport(url, str(error)) from None
        self._keys = Keys.of(self._parameters.prefix)
        self._lines: Connections | None = None
        self._skipped = Skipped(logger, self._keys.updates)
        self._tell_full = Seldom(QUIET)
        self._making_room = asyncio.Lock()
        self._own = Own()
        self._appending: set[asyncio.Future[Any]] = set()
        """Appends for which room is being made."""
        self.presence = RedisPresence(lambda: self._open().reads, self._keys)

    async def open(self) -> None:
        if self._lines is not None:
            return
        try:
            route = self._parameters.route(self._keys.updates)
        except ValueError as error:
            raise InvalidTransport(self.url, str(error)) from None
        replicas, wait = self._parameters.wait_replicas, self._parameters.wait_timeout
        patience = max(PATIENCE, wait / 1000 + SLACK) if replicas else PATIENCE
        writes = Pipeline(route, _SCRIPTS, patience, replicas=replicas, wait=wait)
        lines = Connections(route, writes, Pipeline(route, _SCRIPTS), set())
        try:
            await self._examine(lines.reads)
        except TransportUnavailable as error:
            if reason := _fatal_reason(error.__cause__):
                await lines.reads.abort()
                raise InvalidTransport(self.url, reason) from error
            logger.warning("the store is not there yet: %s", error)
        except BaseException:
            await lines.reads.abort()
            raise
        self._lines = lines

    async def _examine(self, line: Pipeline) -> None:
        """Is it a server that we can use, with nothing else under our names?"""
        said = dict(part.partition(b":")[::2] for part in (await line.ask("INFO", "server")).splitlines())
        version = said.get(b"redis_version", b"0").decode()
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise InvalidTransport(self.url, f"the server is Redis {version}; 6.2 or newer is needed")
        mode = (said.get(b"redis_mode") or said.get(b"server_mode") or b"standalone").decode()
        if mode != ("cluster" if self._parameters.parts.scheme == "redis+cluster" else "standalone"):
            raise InvalidTransport(self.url, f"the server's mode is {mode}; {_MEANT.get(mode, _MEANT['standalone'])}")
        for key in self._keys:
            kind = (await line.ask("TYPE", key)).decode()
            if kind not in ("none", _TYPES.get(key.rpartition(":")[2], "hash")):
                raise InvalidTransport(self.url, f"the key {key} is another program's {kind}; choose another prefix=")

    async def append(self, update: Update) -> Receipt:
        return await awaited(self.submit, update)

    def submit(self, update: Update, answer: Answer) -> None:
        key, said = update.idempotency_key or "", self._parameters
        text = update.to_json()
        command = ("EVALSHA", APPENDING, 4, *self._keys[:4], text, update.id, key, said.size, said.ttl)

        def replied(reply: Any) -> None:
            if isinstance(reply, TransportFull):
                again = asyncio.wait_for(self._append_for_the_oldest(command), APPEND_TIMEOUT)
                appending = asyncio.ensure_future(again)
                self._appending.add(appending)
                appending.add_done_callback(self._appending.discard)
                appending.add_done_callback(lambda done: answer(_receipt_of(outcome_of(done), update)))
            else:
                receipt = _receipt_of(reply, update)
                if isinstance(receipt, Receipt) and not receipt.repeated:
                    self._own.keep(receipt.position, text, update)
                answer(receipt)

        self._open().writes.send(Told(replied), command, len(text))

    async def _append_for_the_oldest(self, command: Sequence[Any]) -> Any:
        """Make room on a server that has no memory left, and try again. Raises `TransportFull` when that is no help.

        A script is refused before it has written anything, so that it may be sent again. One at a time: what one
        deletes is room for those that wait.
        """
        async with self._making_room:
            for _ in range(ROOM_TRIES):
                writes = self._open().writes
                try:
                    return await writes.ask(*command)
                except TransportFull as error:
                    left = await writes.ask("EVALSHA", TRIMMING, 4, *self._keys[:4], ROOM)
                    if self._tell_full.due():
                        logger.error("%s: %s; the oldest updates are deleted for new ones", redact(self.url), error)
                    if left <= 1:
                        raise
            return await self._open().writes.ask(*command)

    async def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        lines = self._open()
        line = Pipeline(lines.route, _SCRIPTS, TAIL_PATIENCE)
        lines.tails.add(line)
        try:
            # The first page without waiting: a log that is not the one of ``after`` any more is known at once.
            raws = await self._page(lines.reads, after, PAGE)
            if not raws:
                await self._must_have(lines.reads, after)
            else:
                await self._must_follow(lines.reads, after, raws[0])
            while True:
                if entries := await self._indexed(lines, raws):
                    yield entries
                after = raws[-1].position if raws else after
                raws = await self._changes_since(line, after)
        except TransportClosed:
            return
        finally:
            lines.tails.discard(line)
            await line.abort()

    async def _changes_since(self, line: Pipeline, after: Position) -> Sequence[Raw]:
        """The next entries, none if there are none for a while."""
        where = ("STREAMS", self._keys.updates, stream_id(after))
        reply = await line.ask("XREAD", "COUNT", PAGE, "BLOCK", BLOCK, *where)
        raws = [Raw.of(entry) for entry in reply[0][1]] if reply else []
        if raws:
            await self._must_follow(line, after, raws[0])
        else:
            await self._must_have(line, after)
        return raws

    async def _must_have(self, line: Pipeline, after: Position) -> None:
        """A stream that ends before ``after`` is another one: flushed, or of a replica that was behind."""
        newest = await line.ask("XREVRANGE", self._keys.updates, "+", "-", "COUNT", 1)
        if after and (not newest or Raw.of(newest[0]).position < after):
            raise HistoryTrimmed

    async def _must_follow(self, line: Pipeline, after: Position, first: Raw) -> None:
        """Nothing may be gone between ``after`` and the first entry that is left.

        An entry that was added to a log without ``after`` is of another one: a replica was promoted that lacks it.
        """
        previous = first.previous
        if previous is None:
            at = stream_id(after)
            trimmed = after > 0 and not await line.ask("XRANGE", self._keys.updates, at, at)
        else:
            trimmed = previous != after
        if trimmed:
            raise HistoryTrimmed

    async def _indexed(self, lines: Connections, raws: Sequence[Raw]) -> Sequence[Entry]:
        """A stranger's entry becomes known by its event id before anyone gets it."""
        entries = self._entries(raws)
        strangers = {raw.position for raw in raws if b"id" not in raw.fields}
        for position, update in entries:
            if position in strangers:
                arguments = (stream_id(position), update.id)
                await lines.writes.ask("EVALSHA", INDEXING, 2, *self._keys[:2], *arguments)
        return entries

    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        line, entries, begin = self._open().reads, list[Entry](), after
        while not entries:
            raws = await self._page(line, after, min(limit, PAGE))
            if not raws:
                if begin and not await line.ask("EXISTS", self._keys.updates):
                    raise HistoryTrimmed
                break
            if after:
                await self._must_follow(line, after, raws[0])
            after = raws[-1].position
            entries += self._entries(raws)
        return entries

    async def _page(self, line: Pipeline, after: Position, limit: int) -> Sequence[Raw]:
        reply = await line.ask("XRANGE", self._keys.updates, f"({stream_id(after)}", "+", "COUNT", limit)
        return [Raw.of(entry) for entry in reply]

    def _entries(self, raws: Sequence[Raw]) -> list[Entry]:
        """What anybody may have added that is no update is skipped."""
        entries: list[Entry] = []
        for raw in raws:
            try:
                update = self._own.update(raw.position, raw.fields[b"update"])
                entries.append(tuple_of(Entry, (raw.position, update)))
            except NO_UPDATE as error:
                self._skipped.add(stream_id(raw.position), error)
        return entries

    async def position_of(self, event_id: str) -> Position | None:
        found: bytes | None = await self._open().reads.ask(
            "HGET", self._keys.ids, event_id.encode(errors="surrogatepass")
        )
        return position_from(found.partition(b" ")[0]) if found else None

    async def last(self) -> tuple[Position, str]:
        for limit in (1, PAGE):
            reply: list[Any] = await self._open().reads.ask("XREVRANGE", self._keys.updates, "+", "-", "COUNT", limit)
            if entries := self._entries([Raw.of(entry) for entry in reply]):
                return entries[0].position, entries[0].update.id
        return (Raw.of(reply[0]).position if reply else 0), EARLIEST

    async def dated(self, after: Position, limit: int) -> Sequence[Dated]:
        return [Dated(entry, (entry.position >> 64) / 1000) for entry in await self.read(after, limit)]

    async def history(self) -> History:
        line, key = self._open().reads, self._keys.updates
        entries, size = await line.ask("XLEN", key), await line.ask("MEMORY", "USAGE", key)
        oldest = [Raw.of(each) for each in await line.ask("XRANGE", key, "-", "+", "COUNT", 1)]
        newest_id = (await self.last())[1]
        if not oldest:
            return History(0, 0, None, None, newest_id)
        named = self._entries(oldest)
        return History(
            entries, size, (oldest[0].position >> 64) / 1000, named[0].update.id if named else None, newest_id
        )

    async def remarks(self) -> Sequence[str]:
        seconds, microseconds = await self._open().reads.ask("TIME")
        return clocks_apart(int(seconds) + int(microseconds) / 1e6 - time.time())

    async def check(self) -> None:
        await self._open().writes.ask("SET", self._keys.check, "written by a health check", "PX", 60_000)
        if await self._open().writes.ask("GET", self._keys.check) is None:
            raise TransportUnavailable("Redis: what a check has written is not there")

    async def close(self) -> None:
        lines, self._lines = self._lines, None
        if lines is None:
            return
        await lines.writes.finish()
        for tail in list(lines.tails):
            await tail.abort()
        await lines.reads.finish()

    def _open(self) -> Connections:
        if self._lines is None:
            raise TransportClosed
        return self._lines


_SCRIPTS = SCRIPTS | redis_presence.SCRIPTS
_TYPES = {"updates": "stream", "check": "string"}
_MEANT = {
    "standalone": "write redis://host:6379",
    "sentinel": "write redis+sentinel://host1,host2/service",
    "cluster": "write redis+cluster://host1,host2",
}


def _receipt_of(reply: Any, update: Update) -> Receipt | BaseException:
    """What the script's reply says of an append."""
    if isinstance(reply, bytes):
        return tuple_of(Receipt, (position_from(reply), update.id, False))
    if isinstance(reply, BaseException):
        return reply
    try:
        first = Raw.of(reply)
        known = first.update()
    except NO_UPDATE as error:
        return error
    if known.fingerprint != update.fingerprint:
        return IdempotencyConflict()
    return Receipt(first.position, known.id, repeated=True)


def _fatal_reason(cause: BaseException | None) -> str | None:
    """Why no waiting will help; None: the server may be there later. redis-py wraps what failed while connecting."""
    while type(cause) is RedisConnectionError and (within := cause.__cause__ or cause.__context__) is not None:
        cause = within
    if isinstance(cause, AuthenticationError):
        return "the server refuses the user or the password"
    if isinstance(cause, InvalidResponse):
        return "what answers there is not Redis"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted ({cause.verify_message}); ssl_ca_certs= names who signed it"
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"no TLS with the server: {cause.reason}"
    if isinstance(cause, BusyLoadingError | ClusterDownError | MasterDownError | ReadOnlyError):
        return None
    return f"the server refuses to work: {cause}" if isinstance(cause, ResponseError) else None
