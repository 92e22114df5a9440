"""The contract of a log with many cursors, and the errors that say whose fault it is."""

import asyncio
import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import compress
from json.encoder import encode_basestring as quoted
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from transports.presence import Presence
from transports.urls import redact

Position = int
"""Where an entry stands in the log: larger is later, 0 is before the first."""

_as_json = json.JSONEncoder(ensure_ascii=False).encode
_BARE = (None,) * 4
"""What is behind the fields that each `Update` has, in nearly all of them."""

tuple_of = tuple.__new__
"""Makes a `NamedTuple` of all its values, past its own ``__new__``, which is a step of Python: a publication takes
three to five of them, together a twentieth of what it costs in memory.
"""

EARLIEST = "earliest"
"""The reserved event id that stands before the first entry (Mercure, "Reconnection")."""

LOCK_TIMEOUT = 1.0
"""Seconds that `Transport.open` waits for another process's lock where the URL does not say how long.

A process that fails after that must not have looked healthy before: `hub.server.server` begins to listen later.
"""
APPEND_TIMEOUT = 10.0
"""Seconds that a store may take to make an update durable."""


class Update(NamedTuple):
    """One message of a publisher, as it is stored (Mercure, "Publication").

    ``topics``: the canonical topic, then the alternates; at least one.
    ``retry``: milliseconds. ``idempotency_key``: the publisher's key (draft-ietf-httpapi-idempotency-key-header),
    ``fingerprint``: what tells one request body from another under the same key.
    """

    id: str
    topics: tuple[str, ...]
    data: str = ""
    private: bool = False
    type: str | None = None
    retry: int | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None

    def to_event(self) -> bytes:
        """The update as a server-sent event. CR and CRLF in its data become LF (Mercure, "Publication", `data`)."""
        kind = f"event: {_one_line(self.type)}\n" if self.type is not None else ""
        retry = f"retry: {self.retry}\n" if self.retry is not None else ""
        data = self.data
        if "\r" in data:
            data = data.replace("\r\n", "\n").replace("\r", "\n")
        data = data.replace("\n", "\ndata: ")
        return f"id: {_one_line(self.id)}\n{kind}{retry}data: {data}\n\n".encode()

    def to_json(self) -> bytes:
        """UTF-8 JSON that any program can read: an object of the fields that are set."""
        topics = ",".join(map(quoted, self.topics))
        private = "true" if self.private else "false"
        text = f'{{"id":{quoted(self.id)},"topics":[{topics}],"data":{quoted(self.data)},"private":{private}'
        if self[4:] != _BARE:
            for name, value in zip(self._fields[4:], self[4:], strict=True):
                text += "" if value is None else f',"{name}":{_as_json(value)}'
        return f"{text}}}".encode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The reverse of `to_json`; unknown fields are ignored. ValueError, KeyError, TypeError if it is none."""
        fields: dict[str, Any] = json.loads(text)
        fields["topics"] = tuple(fields["topics"])
        return cls(**{name: fields[name] for name in cls._fields if name in fields})


def _one_line(text: str) -> str:
    """Others may write to a store as well, and a line break in an id would inject fields."""
    return text if text.isprintable() else text.replace("\r", "").replace("\n", "")


class Visibility(NamedTuple):
    """All of an update that decides who gets it."""

    topics: tuple[str, ...]
    private: bool


class Page:
    """Consecutive entries as they go out, in rows of the same length.

    ``kinds``: the addresses of the entries, each once; ``which``: the index of each entry's in it. ``reached``: of a
    page of some topics (`TopicIndex`), the position up to which it has all of theirs; else 0.
    """

    __slots__ = ("_whole", "events", "kinds", "positions", "reached", "which")

    def __init__(
        self,
        positions: Sequence[Position],
        events: Sequence[bytes],
        kinds: Sequence[Visibility],
        which: Sequence[int],
        reached: Position = 0,
    ) -> None:
        self.positions, self.events, self.kinds, self.which = positions, events, kinds, which
        self.reached = reached
        self._whole: bytes | None = None

    @classmethod
    def of(cls, entries: Sequence["Entry"], size: int, reached: Position = 0) -> Self:
        """The page that these entries make, as far as the one with which it has ``size`` bytes."""
        events: list[bytes] = []
        for _, update in entries:
            events.append(update.to_event())
            size -= len(events[-1])
            if size <= 0:
                break
        taken = entries[: len(events)]
        addresses = [Visibility(update.topics, update.private) for _, update in taken]
        kinds = {address: number for number, address in enumerate(dict.fromkeys(addresses))}
        positions = [position for position, _ in taken]
        if len(taken) < len(entries):
            reached = min(reached, positions[-1])
        return cls(positions, events, list(kinds), [kinds[each] for each in addresses], reached)

    def __len__(self) -> int:
        return len(self.events)

    def until(self, position: Position) -> "Page":
        """The entries up to and with ``position``."""
        if not self.events or self.positions[-1] <= position:
            return self
        end = bisect_right(self.positions, position)
        return Page(self.positions[:end], self.events[:end], self.kinds, self.which[:end], self.reached)

    def text(self, wants: Callable[[Visibility], bool]) -> bytes:
        """The events whose address is wanted, as they go out. Streams that want all of them share the bytes."""
        wanted = list(map(wants, self.kinds))
        if not all(wanted):
            return b"".join(compress(self.events, map(wanted.__getitem__, self.which)))
        if self._whole is None:
            self._whole = b"".join(self.events)
        return self._whole


class Entry(NamedTuple):
    """An update at its position in the log."""

    position: Position
    update: Update


class Dated(NamedTuple):
    """An entry, and when it came in Unix seconds; None: the store does not know."""

    entry: Entry
    time: float | None


class Receipt(NamedTuple):
    """What an append came to: where the update stands, under which id.

    ``repeated``: its idempotency key was known, nothing was added, and this is the first one's place and id.
    """

    position: Position
    id: str
    repeated: bool = False


Answer = Callable[[Receipt | BaseException], None]
"""What is told how an append went."""


class History(NamedTuple):
    """How much a log holds now; None: the store can't tell. ``oldest``: when its oldest entry came, in Unix seconds.

    ``waiting``: updates that were published by other ways and are not in the log yet; ``waiting_seconds``: the age of
    the oldest of them.
    """

    entries: int | None
    bytes: int | None
    oldest: float | None
    oldest_id: str | None
    newest_id: str
    waiting: int | None = None
    waiting_seconds: float | None = None


class TopicIndex(ABC):
    """Finds the entries of topics, as they are spelled, without reading all others. Raises what a `Transport` does."""

    @abstractmethod
    async def page_of(self, topics: Sequence[str], after: Position, limit: int, size: int) -> Page:
        """`Transport.page` of the entries that have one of these topics; `Page.reached` says how far it has them.

        That is the log's end, unless there are more. It may have entries of other topics as well.
        """

    @abstractmethod
    async def topics(self, beginning: str, limit: int) -> Sequence[str]:
        """At most ``limit`` of the topics in history that begin so."""

    @abstractmethod
    async def newest_of(self, topics: Sequence[str], depth: int) -> Mapping[str, Sequence[Entry]]:
        """Of each of these topics at most ``depth`` entries, the newest first; of one that has none, nothing."""


class TransportError(Exception):
    """Anything that a transport raises on purpose."""


class InvalidTransport(TransportError):
    """The URL, or what it points at, cannot serve as a log; this ends the start of a hub.

    ``remedy``: what somebody with more rights can run in the store, in its language.
    """

    def __init__(self, url: str, reason: str, remedy: str = "") -> None:
        super().__init__(f'"{redact(url)}": invalid transport: {reason}')
        self.remedy = remedy


class TransportClosed(TransportError):
    """Used after `close`, or before `open`: the fault is ours."""

    def __init__(self) -> None:
        super().__init__("the transport is closed")


class TransportUnavailable(TransportError):
    """The store does not answer now; the fault is outside, and ``__cause__`` keeps it."""


class TransportFull(TransportUnavailable):
    """The store has no room, even after trimming."""


class TransportReplaced(TransportUnavailable):
    """What was opened is gone, or something else stands in its place: nobody would find what is stored now."""


class HistoryTrimmed(TransportError):
    """Entries after the asked position are gone: a reader that stood there has missed some."""


class IdempotencyConflict(TransportError):
    """The idempotency key is known, with another fingerprint."""


class Transport(ABC):
    """One ordered, durable log. Everything else in the hub is a cursor into it.

    A constructor takes the URL and only reads it (`InvalidTransport` if it is wrong); `open` touches the store.
    Every method but the constructor and `close` raises `TransportClosed` outside of `open` … `close`, and
    `TransportUnavailable` when the store fails. A method that is cancelled leaves the transport usable; a
    cancelled `append` may still take place.
    """

    shared: bool
    """May several processes open the same URL at once, and see each other's appends?"""

    one_of_a_pair = False
    """May `open` wait for ever, while another process serves? Then requests that reach this one are not held."""

    presence: Presence
    """The active subscriptions of all processes that share the log, open and closed with it."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def index(self) -> TopicIndex | None:
        """Finds the entries of a topic; None: this store has no such index, or has not made it yet."""
        return None

    @abstractmethod
    async def open(self) -> None:
        """Make the log ready. May wait for a lock as long as the URL says.

        Raises `InvalidTransport` when the store can't be a log of ours, or the lock did not come free in time.
        """

    @abstractmethod
    async def append(self, update: Update) -> Receipt:
        """Add the update at the end. Once it returns, the entry is durable, ordered, and every `tail` will see it.

        With an ``idempotency_key`` that an entry within history carries: nothing is added and the receipt is that
        entry's, or `IdempotencyConflict` if the fingerprints differ. Also between processes. Raises `TransportFull`.
        """

    def submit(self, update: Update, answer: Answer) -> None:
        """`append` for a caller without a task to wait in; may also raise at once what `append` raises.

        ``answer`` gets its receipt, or what it raised: before this returns or later, once, in the event loop, and
        within `APPEND_TIMEOUT`, if with a TimeoutError, whatever the store does.
        """
        appending = asyncio.ensure_future(asyncio.wait_for(self.append(update), APPEND_TIMEOUT))
        appending.add_done_callback(lambda done: answer(outcome_of(done)))

    @abstractmethod
    def tail(self, after: Position) -> AsyncIterator[Sequence[Entry]]:
        """Everyone's entries after ``after``, each once, in order, in non-empty batches, for ever; 0: all there were.

        Ends when the transport is closed. Raises `HistoryTrimmed` when it would have to skip an entry.
        """

    @abstractmethod
    async def read(self, after: Position, limit: int) -> Sequence[Entry]:
        """At most ``limit`` entries that follow ``after``; empty at the end.

        A store may return fewer than there are, but at least one if there is one. Raises `HistoryTrimmed` when
        entries between ``after`` and the first that is left are gone; ``after=0`` asks for whatever is left.
        """

    async def page(self, after: Position, limit: int, size: int) -> Page:
        """What `read` returns, as it goes out; it may end early, from ``size`` bytes on. Raises the same."""
        return Page.of(await self.read(after, limit), size)

    @abstractmethod
    async def position_of(self, event_id: str) -> Position | None:
        """The earliest position in history with that event id; None: gone, or never seen."""

    @abstractmethod
    async def last(self) -> tuple[Position, str]:
        """Position and event id of the newest entry; ``(0, "earliest")`` when there never was one.

        Trimming never takes the newest entry.
        """

    async def dated(self, after: Position, limit: int) -> Sequence[Dated]:
        """What `read` returns, with the times. Raises the same."""
        return [Dated(entry, None) for entry in await self.read(after, limit)]

    async def history(self) -> History:
        """How much the log holds; asked now and then, by people and for metrics."""
        oldest = await self.read(0, 1)
        return History(None, None, None, oldest[0].update.id if oldest else None, (await self.last())[1])

    async def remarks(self) -> Sequence[str]:
        """What an operator should know of the store before a hub serves from it, in sentences."""
        return ()

    @abstractmethod
    async def check(self) -> None:
        """Really exercise the store: write and read something that no cursor sees."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the appends under way, then close files, locks and connections. Twice is fine."""


@runtime_checkable
class ForwardsInStandby(Protocol):
    """What a transport may do besides: pass appends on to another process while its own `Transport.open` waits."""

    async def forward_to_holder(self, update: Update) -> Receipt | None:
        """`Transport.append` by the process that has the store; only before `open` returns. None: nothing was stored.

        Raises what that process's `append` raised, and `TransportUnavailable` when it is unknown what came of it.
        """


def outcome_of(done: asyncio.Future[Any]) -> Any:
    """What a future that is done came to: its result, or what it raised."""
    if done.cancelled():
        return asyncio.CancelledError()
    return done.exception() or done.result()
