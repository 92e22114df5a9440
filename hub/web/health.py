"""``/mercure/health/live``: the event loop turns. ``/mercure/health/ready``: an update would be stored now.

Paths and bodies are the Go hub's, which has both also for one hub of several by its name; ``/healthz`` is live.
"""

import asyncio
import time
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hub.lifecycle import Lifecycle
from transports import Transport, TransportError, TransportFull, TransportReplaced

CHECK_TIMEOUT = 1.5
"""Seconds that the store may take; with the rest of the request it stays under 2."""
CHECK_AGAIN = 1.0
"""Seconds that an answer counts, so that all probes together cost the store one write a second."""


_NO_STORE = {"Cache-Control": "no-store"}


async def live(_request: Request) -> Response:
    """Never looks at the store: an orchestrator kills what is not live, and with it every stream."""
    return JSONResponse({"status": "ok"}, headers=_NO_STORE)


@dataclass
class Ready:
    """Really writes to the store and reads from it."""

    transport: Transport
    lifecycle: Lifecycle
    _checked: float = field(default=-CHECK_AGAIN)
    _reason: str = ""
    _checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, _request: Request) -> Response:
        reason = await self._why_not()
        if reason:
            return JSONResponse({"status": "error", "error": reason}, 503, _NO_STORE)
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    async def _why_not(self) -> str:
        if self.lifecycle.draining:
            return "the hub is shutting down"
        if not self.lifecycle.serving:
            return "the hub waits for its store"
        async with self._checking:
            if time.monotonic() - self._checked >= CHECK_AGAIN:
                self._reason = await self._check()
                self._checked = time.monotonic()
        return self._reason

    async def _check(self) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self.transport.check()
        except TransportFull:
            return "the store is full"
        except TransportReplaced:
            return "the store was removed or replaced; restart the hub"
        except (TransportError, TimeoutError):
            return "the store does not answer"
        return ""
