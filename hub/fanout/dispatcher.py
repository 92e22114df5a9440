"""Follows the log, whichever process wrote it, and pushes each update to the audiences that get it.

Theory of operation. There is one dispatcher and one cursor (`Log.position`) in a process, and publishing never
touches it: `Transport.tail` brings everybody's entries in batches. A batch is sorted into one text for each audience,
pushed, and only then is the cursor advanced, with nothing awaited between the last push and the advance. What a
stream that falls behind in the middle goes on from is `Log.position` if it is still owed the batch, and `Log.ahead`
if it has got it.

When the store is away the tail is taken up again from the cursor, and subscribers keep their connections. When entries
are gone that had to be pushed (`HistoryTrimmed`), or there is no memory to push them, all streams are ended: they come
back, and read on or are told what they missed.
``tests/hub/fanout/test_fan_out.py`` runs dispatcher, audiences and streams against what each subscriber has to get.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from hub.fanout.audiences import Audience, Audiences
from hub.fanout.stream import Log, Streams, first_part
from hub.fanout.wire import chunk
from hub.observe.counts import Ended
from transports import Entry, HistoryTrimmed, TransportClosed, TransportUnavailable

TAIL_RETRY = 0.1
"""Seconds until a tail that broke off is taken up again, from the dispatcher's own cursor."""

MEMORY_TRIES = 10
"""Times that a push is prepared for which there is no memory: large requests that are under way leave soon."""

SETTLED = 1.0
"""Seconds that a tail has to last before an outage counts as over."""
REASONS = 4
"""Lines about one outage: a connection that broke, a server that is gone, one that is back and refuses the password."""

TURN = 64
"""Writes, 0.3 ms of them, after which others have their turn: 10,000 in one go hold up everybody for 90 ms.

Publishers too are others: who is answered while a push lasts sends the next update meanwhile, and what has gathered
shares the writes of the next push.
"""

logger = logging.getLogger(__name__)


class Outage:
    """The store does not answer: one line in the log for each of the first reasons, and one when it is over."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._ending: asyncio.TimerHandle | None = None

    def begin(self, error: TransportUnavailable) -> None:
        """Or go on, if it lasts."""
        self.settle()
        if len(self._reasons) < REASONS and str(error) not in self._reasons:
            logger.warning("the store does not answer, the hub waits for it: %s", error)
            self._reasons.add(str(error))

    @property
    def lasts(self) -> bool:
        return bool(self._reasons)

    def end_soon(self) -> None:
        """The store has answered; is that all?"""
        self._ending = asyncio.get_running_loop().call_later(SETTLED, self._end)

    def settle(self) -> None:
        """It is not over yet, or never will be."""
        if self._ending is not None:
            self._ending.cancel()

    def _end(self) -> None:
        self._reasons.clear()
        logger.warning("the store answers again")


class Dispatcher:
    """The one cursor of this process that all live streams ride on."""

    def __init__(self, log: Log, audiences: Audiences, streams: Streams) -> None:
        self._log = log
        self._audiences = audiences
        self._streams = streams
        self._outage = Outage()
        self.on_return: Callable[[], None] = lambda: None
        """Called when the store is there again after an outage, or is found to be another one."""

    async def start(self) -> None:
        """Stand at the end of the log: history is for those who ask for it. A store that is away is waited for."""
        while True:
            try:
                position, _ = await self._log.transport.last()
            except TransportUnavailable as error:
                self._outage.begin(error)
                await asyncio.sleep(TAIL_RETRY)
            else:
                return self._log.advance(position)

    async def run(self) -> None:
        """Follow the log until the transport is closed. An outage is waited out; subscribers keep their connection."""
        lost = ""
        try:
            while True:
                try:
                    if lost:
                        await self._skip(lost)
                        lost = ""
                    await self._follow()
                    break
                except HistoryTrimmed:
                    lost = "history was trimmed before it was dispatched"
                except MemoryError:
                    lost = "there is no memory to push an update"
                    await asyncio.sleep(TAIL_RETRY)  # others have to run, for it to become free
                except TransportUnavailable as error:
                    self._outage.begin(error)
                    await asyncio.sleep(TAIL_RETRY)
        except TransportClosed:
            return
        finally:
            self._outage.settle()

    async def _follow(self) -> None:
        if self._outage.lasts:
            await self._log.transport.last()
            self._outage.end_soon()
            self._returned()
        async for batch in self._log.transport.tail(self._log.position):
            await self._fan_out_parts(batch)

    async def _skip(self, reason: str) -> None:
        """Live subscribers had to get what can't be pushed: end their streams, so that they read it or learn of it."""
        position, _ = await self._log.transport.last()
        logger.error("%s; all streams are closed", reason)
        self._streams.finish(Ended.HISTORY)
        self._log.advance(position)
        self._returned()

    def _returned(self) -> None:
        """The store may lack what it had: a replica took over."""
        self._log.forget()
        self.on_return()

    async def _fan_out_parts(self, batch: Sequence[Entry]) -> None:
        while batch:
            part = first_part(batch)
            await self.fan_out(part)
            batch = batch[len(part) :]
            if batch:
                await asyncio.sleep(0)

    async def fan_out(self, batch: Sequence[Entry]) -> None:
        """Push one batch, one write a subscriber, `TURN` of them before the event loop has its turn.

        An audience owes its members the batch until each has got it; for all others it counts as passed at once. So
        a stream that joins meanwhile either is owed it too, or reads it from the log.
        """
        clock = asyncio.get_running_loop().time
        now, room = clock(), TURN
        outgoing = await self._sorted(batch)
        self._log.ahead = batch[-1].position
        for audience, (payload, framed) in outgoing.items():
            audience.begin(payload, framed, now)
        for audience in outgoing:
            while audience.pending:
                if room <= 0:
                    await asyncio.sleep(0)
                    room = TURN
                count, slow = audience.push(room)
                room -= count
                for member in slow:
                    member.fall_behind()
        self._log.advance(batch[-1].position)
        self._streams.counts.delivery.observe(clock() - now)

    async def _sorted(self, batch: Sequence[Entry]) -> dict[Audience, tuple[bytes, bytes]]:
        """What each audience gets, and its `chunk`, as soon as there is the memory for it. Raises MemoryError.

        Nobody has got any of it before; afterwards nothing large is made.
        """
        for tries in range(MEMORY_TRIES):
            if tries:
                await asyncio.sleep(TAIL_RETRY)
            with suppress(MemoryError):
                payloads = {audience: b"".join(events) for audience, events in self._sort(batch).items()}
                return {audience: (payload, chunk(payload)) for audience, payload in payloads.items()}
        raise MemoryError

    def _sort(self, batch: Sequence[Entry]) -> dict[Audience, list[bytes]]:
        outgoing: dict[Audience, list[bytes]] = {}
        if not self._audiences:
            return outgoing
        for _, update in batch:
            text = b""
            for audience in self._audiences.of(update):
                text = text or update.to_event()
                outgoing.setdefault(audience, []).append(text)
        return outgoing
