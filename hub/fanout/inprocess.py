"""A subscriber within this process: a wire whose reader is a program that takes events one at a time.

It is a subscriber like any other: live while it keeps up, and a reader of the log, at its own pace, while it does not.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from hub.client.sse_parser import Event, Parser
from hub.fanout.wire import Wire

BACKLOG = 256 * 1024
"""Bytes of events that may wait for the program before it counts as slow."""


class InProcess(Wire):
    """The program awaits `events`; whoever opens it starts the `hub.fanout.stream.Stream`."""

    __slots__ = ("_ended", "_parts", "_size", "_wake")

    def __init__(self) -> None:
        self.descriptor = -1
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._wake = asyncio.Event()

    def send(self, payload: bytes) -> bool:
        self._parts.append(payload)
        self._size += len(payload)
        self._wake.set()
        return self._size <= BACKLOG

    def waiting(self) -> int:
        return self._size if self._size > BACKLOG else 0

    def finish(self) -> None:
        self._ended = True
        self._wake.set()

    def abort(self) -> None:
        self._parts.clear()
        self.finish()

    async def events(self, parser: Parser) -> AsyncGenerator[Event, None]:
        """Until the stream is over. `Listener.lost` is called at the end, however that comes."""
        try:
            while self._parts or not self._ended:
                if not self._parts:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                payload = self._parts.popleft()
                for event in parser.feed(payload):
                    yield event
                was_slow, self._size = self._size > BACKLOG, self._size - len(payload)
                if was_slow and not self._parts:
                    self.listener.drained()
        finally:
            self.listener.lost()
