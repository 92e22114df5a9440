"""One subscriber's stream: it reads the log until it meets the dispatcher, then rides on the dispatcher's cursor.

Theory of operation. A stream has a cursor, and stands in one phase:

    READING             a task reads the log from the cursor, a page at a time, and sends each page
    WAITING_FOR_READER  the wire took only part of something: nothing is read until all of it has gone out
    LIVE                it is in its audience's lists and has no task; its cursor is the dispatcher's
    ENDED               its end was sent, or its connection is gone

    READING -> LIVE                 `_go_live`: the cursor equals the dispatcher's
    READING -> WAITING_FOR_READER   `_send_page`: the wire did not take the page
    LIVE -> WAITING_FOR_READER      `fall_behind`: the wire did not take a push or a heartbeat
    WAITING_FOR_READER -> READING or LIVE  `drained`: all of it has gone out
    any -> ENDED                    `finish` (deadline, drain, history trimmed) and `lost` (the connection)

What holds at every ``await``: a live stream has nothing buffered in this process, and everything up to its cursor has
been given to its wire, once and in order. Two gaps would break that, and have no ``await`` in them: between "my cursor
equals the dispatcher's" and `_go_live`, where a push would be missed or sent twice; and, in the dispatcher, between the
push of a batch and the advance of its cursor. While a push lasts over several turns of the event loop an audience may
still be owed it: `Log.passed` says where the dispatcher stands for that audience.

A reader that takes nothing for `dispatch_timeout` is cut off; it comes back with its ``Last-Event-ID`` and loses
nothing. ``tests/hub/fanout/test_fan_out.py`` tries all of this against a model, ``test_stream.py`` on real sockets.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from math import inf

from hub.fanout.audiences import Audience, Audiences
from hub.fanout.timers import TimerWheel
from hub.fanout.wire import Wire
from hub.observe.counts import Counts, Ended
from hub.observe.traces import Traces
from transports import Entry, HistoryTrimmed, Page, Position, Transport, TransportClosed, TransportUnavailable

PAGE = 1024
"""Entries that a reader that is behind takes from the log at once."""
PAGE_SIZE = 256 * 1024
"""Bytes of events from which on a page may be cut short."""
PUSH_SIZE = 1024 * 1024
"""Characters of data from which on a push is cut short; what one push keeps in memory for slow readers."""
CACHED_PAGES = 32
"""Pages that are kept for readers at the same place: after a restart all come back at once."""
WORTH_CACHING = 256
"""Entries; a shorter page ends where the log did, and would be longer the next time."""
CACHED_PAGE_SIZE = 512 * 1024
"""Bytes; larger pages are not kept, so that the cache takes 16 MiB at most, and twice that with all joined."""
PAGE_RETRY = 0.5
"""Seconds until a reader asks again a store that does not answer."""
HEARTBEAT = b":\n"
"""A comment that only keeps the connection from looking dead (WHATWG HTML, "Authoring notes").

One line feed: an empty line would end an event, and several clients dispatch one that is empty.
"""


def first_part(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The first entries, at least one, until their data reaches `PUSH_SIZE`."""
    size = 0
    for count, (_, update) in enumerate(entries, 1):
        size += len(update.data)
        if size >= PUSH_SIZE:
            return entries[:count]
    return entries


class Log:
    """The log as the streams of this process see it: pages of the store, and how far the dispatcher has come."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.position: Position = 0
        """The dispatcher's cursor: everything up to it has gone to the live streams."""
        self.ahead: Position = 0
        """Where it will be when the push that is under way is over; the same while there is none."""
        self._moved = asyncio.Event()
        self._pages: OrderedDict[Position, Page] = OrderedDict()
        self._loading: dict[Position, asyncio.Task[Page]] = {}

    def advance(self, position: Position) -> None:
        """The dispatcher has fanned out everything up to here."""
        self.position = self.ahead = position
        self._moved.set()

    def passed(self, audience: Audience) -> Position:
        """How far the dispatcher has come for an audience: one that is not owed what goes out is past it."""
        return self.position if audience.pending else self.ahead

    async def reached(self, position: Position) -> None:
        """Wait until the dispatcher has come that far."""
        while self.position < position:
            self._moved.clear()
            await self._moved.wait()

    async def page(self, after: Position) -> Page:
        """The entries that follow, empty at the end; readers at the same place share one read."""
        if (page := self._pages.get(after)) is not None:
            self._pages.move_to_end(after)
            return page
        loading = self._loading.get(after)
        if loading is None:
            loading = self._loading[after] = asyncio.ensure_future(self.transport.page(after, PAGE, PAGE_SIZE))
            loading.add_done_callback(partial(self._loaded, after, self._pages))
        return await asyncio.shield(loading)

    async def page_of(self, topics: Sequence[str], after: Position) -> Page:
        """The same of some topics alone, where the store can find them; no topics: of all."""
        index = self.transport.index if topics else None
        return await (index.page_of(topics, after, PAGE, PAGE_SIZE) if index is not None else self.page(after))

    def forget(self) -> None:
        """The store may be another one than the pages are of, which lead to what it never had."""
        self._pages = OrderedDict()

    def _loaded(self, after: Position, pages: "OrderedDict[Position, Page]", task: asyncio.Task[Page]) -> None:
        del self._loading[after]
        # Its exception is looked at here, since readers that have left do not. And what is earliest changes.
        if task.cancelled() or task.exception() or after == 0:
            return
        page = task.result()
        size = sum(map(len, page.events))
        if (len(page) >= WORTH_CACHING or size >= PAGE_SIZE) and size <= CACHED_PAGE_SIZE:
            pages[after] = page
            if len(pages) > CACHED_PAGES:
                pages.popitem(last=False)


class Streams:
    """What all streams of this process share: the log, the wheel, and how long they wait for what (seconds)."""

    def __init__(
        self,
        log: Log,
        audiences: Audiences,
        wheel: TimerWheel,
        *,
        heartbeat: float,
        dispatch_timeout: float,
        counts: Counts | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.log = log
        self.audiences = audiences
        self.wheel = wheel
        self.heartbeat = heartbeat or inf
        self.dispatch_timeout = dispatch_timeout or inf
        self.open: dict[Stream, None] = {}
        """In the order in which they came."""
        self.live = 0
        """How many of them ride on the dispatcher's cursor."""
        self.counts = counts or Counts.alone()
        self.traces = traces or Traces()
        self.on_lost: Callable[[Stream], None] = lambda _stream: None
        """Told of each stream that was started, when it is over."""

    @property
    def behind(self) -> int:
        """How many read the log at their own pace, or wait for their readers."""
        return len(self.open) - self.live

    def finish(self, why: Ended) -> None:
        """End all of them properly, at once."""
        for stream in list(self.open):
            stream.finish(why)


class Phase(Enum):
    """Where a stream stands; the page at the top of this file says who moves it."""

    READING = "reading"
    WAITING_FOR_READER = "waiting for its reader"
    LIVE = "live"
    ENDED = "ended"


class Stream:
    """A subscriber's cursor and connection."""

    __slots__ = (
        "audience",
        "cursor",
        "deadline",
        "due",
        "phase",
        "slot",
        "streams",
        "task",
        "unread",
        "verified",
        "why",
        "wire",
    )

    def __init__(self, streams: Streams, wire: Wire, audience: Audience, cursor: Position, deadline: float) -> None:
        self.streams = streams
        self.wire = wire
        self.audience = audience
        self.cursor = cursor
        self.deadline = deadline  # event loop time
        self.phase = Phase.READING
        self.slot: int | None = None
        self.due = 0
        self.unread = 0
        """Bytes that waited for the reader when it was last looked at."""
        self.task: asyncio.Task[None] | None = None
        self.verified: object = None
        """What its token was verified with, for whoever opened it; None where there was no token."""
        self.why = Ended.CLIENT
        wire.listener = self

    def start(self, opening: bytes = b"") -> None:
        """Send the opening, what history has after the cursor, then what is new. The response head is out."""
        self.streams.open[self] = None
        self.streams.counts.opened()
        self._call_in(self.streams.heartbeat)
        if (opening and not self.wire.send(opening)) or self.wire.waiting():
            self._congested()
        else:
            self._catch_up()

    def _call_in(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self.streams.wheel.at(min(self.deadline, now + seconds), self)

    def _catch_up(self) -> None:
        if self.cursor == self.streams.log.passed(self.audience):
            self._go_live()
        else:
            self.phase = Phase.READING
            self.task = asyncio.ensure_future(self._read())
            self.task.add_done_callback(self._read_done)

    def _go_live(self) -> None:
        """Nothing may be awaited between the look at the cursor and this."""
        self.phase = Phase.LIVE
        self.streams.live += 1
        self.audience.join(self)

    async def _read(self) -> None:
        """Read the log until it meets the dispatcher, or until the reader can't take more."""
        log = self.streams.log
        with self.streams.traces.span("mercure.history") as note:
            entries, behind = 0, True
            topics: Sequence[str] = ()
            while behind:
                # A faster replica's subscriber waits for our dispatcher, rather than get something twice.
                await log.reached(self.cursor)
                try:
                    page = await log.page_of(topics, self.cursor)
                except TransportUnavailable:
                    await asyncio.sleep(PAGE_RETRY)
                    continue
                behind = self._send_page(page)
                entries += len(page)
                # The first page is shared with all who come back at once; who is further behind reads its own topics.
                topics = self.audience.topics
                # A store in memory and a fast reader suspend nowhere: let the others have their turn.
                await asyncio.sleep(0)
            note("mercure.history.entries", entries)
            note("mercure.stream.phase", self.phase.value)

    def _send_page(self, page: Page) -> bool:
        """Send what of a page the dispatcher has passed already; False: live now, or the reader can't take more."""
        position = self.streams.log.passed(self.audience)
        passed = page.until(position)
        if len(passed) < len(page):
            self.cursor = position
        elif page.reached:
            self.cursor = min(page.reached, position)
        elif passed:
            self.cursor = passed.positions[-1]
        payload = passed.text(self.audience.wants)
        if payload and not self.wire.send(payload):
            self._congested()
            return False
        if self.cursor == position:
            self._go_live()
            return False
        return True

    def _read_done(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if task.cancelled() or self.phase is Phase.ENDED:
            return
        error = task.exception()
        if isinstance(error, HistoryTrimmed | TransportClosed):
            # It comes back, and is told what it missed.
            self.finish(Ended.HISTORY if isinstance(error, HistoryTrimmed) else Ended.DRAIN)
        elif error is not None:
            self.wire.abort()
            raise error
        else:
            self.drained()

    def fall_behind(self) -> None:
        """The wire took only part of what the dispatcher pushed; the cursor is the dispatcher's."""
        log = self.streams.log
        self.cursor = log.position if self.audience.owes(self) else log.ahead
        self.streams.live -= 1
        self.audience.leave(self)
        self._congested()

    def _congested(self) -> None:
        self.phase = Phase.WAITING_FOR_READER
        self.unread = self.wire.waiting()
        self._call_in(self.streams.dispatch_timeout)

    def drained(self) -> None:
        """Nothing waits for the reader any more."""
        if self.phase is Phase.WAITING_FOR_READER and self.task is None and not self.wire.waiting():
            self._catch_up()

    def tick(self, now: float) -> float | None:
        """The wheel's call: end at the deadline, give up on a reader that takes nothing, or show signs of life."""
        waiting = self.wire.waiting()
        if self.phase is Phase.ENDED:
            self.wire.abort()
            return None
        if now >= self.deadline:  # which may come before a reader has had its time to take what waits
            self.finish(Ended.DEADLINE)
            return None
        if self.phase is not Phase.LIVE and waiting and waiting == self.unread:
            self.why = Ended.SLOW
            self.wire.abort()
            return None
        if waiting and self.phase is Phase.LIVE:
            # Too little to count as slow, but a stalled reader may hide behind a server's own buffer.
            self.fall_behind()
        if self.phase is not Phase.LIVE:
            return self._tick_behind(now)
        idle_since = self.audience.last_push
        if now - idle_since >= self.streams.heartbeat:
            idle_since = now
            if not self.wire.send(HEARTBEAT):
                self.fall_behind()
                return self._tick_behind(now)
        return min(self.deadline, idle_since + self.streams.heartbeat)

    def _tick_behind(self, now: float) -> float:
        self.unread = self.wire.waiting()
        wait = self.streams.dispatch_timeout if self.unread else self.streams.heartbeat
        return min(self.deadline, now + wait)

    def finish(self, why: Ended) -> None:
        """End it properly, between two events; a reader that does not take the end is cut off later."""
        if self.phase is not Phase.ENDED:
            self.why = why
            self._stop()
            self.deadline = inf
            self._call_in(self.streams.dispatch_timeout)
            self.wire.finish()

    def lost(self) -> None:
        """The connection is over."""
        self._stop()
        self.streams.wheel.at(inf, self)
        self.streams.open.pop(self, None)
        self.streams.counts.ended(self.why)
        self.streams.audiences.exit(self.audience)
        self.streams.on_lost(self)

    def _stop(self) -> None:
        self.streams.live -= self.phase is Phase.LIVE
        self.phase = Phase.ENDED
        self.audience.leave(self)
        if self.task is not None:
            self.task.cancel()
