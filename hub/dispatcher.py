"""Follows the log, whoever wrote it, and pushes each update to the audiences that get it."""

import asyncio
import logging
from collections.abc import Sequence

from hub.audiences import Audience, Audiences, Member
from hub.stream import Log, Streams, first_part
from transports import Entry, HistoryTrimmed, TransportClosed, TransportUnavailable

RETRY = 0.1
"""Seconds until a tail that broke off is taken up again, from the dispatcher's own cursor."""

logger = logging.getLogger(__name__)


class Dispatcher:
    """The one cursor of this process that all live streams ride on."""

    def __init__(self, log: Log, audiences: Audiences, streams: Streams) -> None:
        self._log = log
        self._audiences = audiences
        self._streams = streams

    async def start(self) -> None:
        """Stand at the end of the log: history is for those who ask for it. A store that is away is waited for."""
        waiting = False
        while True:
            try:
                position, _ = await self._log.transport.last()
                return self._log.advance(position)
            except TransportUnavailable as error:
                if not waiting:
                    logger.warning("the store does not answer, the hub waits for it: %s", error)
                waiting = True
                await asyncio.sleep(RETRY)

    async def run(self) -> None:
        """Follow the log until the transport is closed. An outage is waited out; subscribers keep their connection."""
        trimmed = False
        while True:
            try:
                if trimmed:
                    await self._skip()
                    trimmed = False
                async for batch in self._log.transport.tail(self._log.position):
                    await self._fan_out_parts(batch)
                return
            except TransportClosed:
                return
            except HistoryTrimmed:
                trimmed = True
            except TransportUnavailable as error:
                logger.warning("the store does not answer, subscribers wait: %s", error)
                await asyncio.sleep(RETRY)

    async def _skip(self) -> None:
        """Entries are gone that live subscribers had to get: end their streams, so that they learn of the loss."""
        position, _ = await self._log.transport.last()
        logger.error("history was trimmed before it was dispatched; all streams are closed")
        self._streams.finish()
        self._log.advance(position)

    async def _fan_out_parts(self, batch: Sequence[Entry]) -> None:
        while batch:
            part = first_part(batch)
            self.fan_out(part)
            batch = batch[len(part) :]
            if batch:
                await asyncio.sleep(0)

    def fan_out(self, batch: Sequence[Entry]) -> None:
        """Push one batch, one write a subscriber. No ``await`` up to the moment when the cursor stands behind it."""
        now = asyncio.get_running_loop().time()
        slow: list[Member] = []
        for audience, events in self._sort(batch).items():
            slow.extend(audience.push(b"".join(events), now))
        self._log.advance(batch[-1].position)
        for member in slow:
            member.fall_behind()

    def _sort(self, batch: Sequence[Entry]) -> dict[Audience, list[bytes]]:
        outgoing: dict[Audience, list[bytes]] = {}
        for _, update in batch:
            text = b""
            for audience in self._audiences.of(update):
                text = text or update.to_event()
                outgoing.setdefault(audience, []).append(text)
        return outgoing
