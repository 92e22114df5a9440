"""What the hub tells its operator: ``/metrics`` for Prometheus, ``/stats`` for a person."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import request_response
from starlette.types import ASGIApp

from hub.fanout.stream import Phase, Streams
from hub.lifecycle import Lifecycle, unavailable
from hub.observe.counts import Counts
from hub.portable import NothingAfter, exported
from hub.problems import Problem
from transports import History, Transport, TransportError
from transports.urls import redact

PATIENCE = 1.5
"""Seconds that the store may take to say how much it holds."""
MINUTE = 60
TOP = 20
"""Topics that `/stats` lists."""
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass
class Admin:
    """``name_topics``: whether topics are named, or told apart by hashes."""

    transport: Transport
    lifecycle: Lifecycle
    streams: Streams
    counts: Counts
    name_topics: bool
    _began: float = field(default_factory=time.time)
    _seconds: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=MINUTE + 1))
    """When, and how many updates and streams there were until then."""

    @cached_property
    def endpoints(self) -> Mapping[str, Mapping[str, ASGIApp]]:
        """The paths of the admin listener, each with the endpoints of its methods."""
        return {
            "/metrics": {"GET": request_response(self.metrics)},
            "/stats": {"GET": request_response(self.stats)},
            "/export": {"GET": request_response(self.export)},
        }

    def tick(self) -> None:
        """Once a second: what rates are made of."""
        totals = self.counts.total("updates_total"), self.counts.total("subscribers_total")
        self._seconds.append((time.monotonic(), *totals))

    async def metrics(self, request: Request) -> Response:
        """The metrics of all processes, in the text that the scraper prefers."""
        # Takes a while to import, and not everybody scrapes.
        from hub.observe.metrics import Store, exposition

        self.counts.now(self.streams.behind)
        history = await self._history()
        age = None if history is None or history.oldest is None else max(0.0, time.time() - history.oldest)
        known = (history.entries, history.bytes, age, history.waiting, history.waiting_seconds) if history else ()
        store = Store(history is not None, *known)
        text, media_type = exposition(
            self.counts, store, version=_version(), scheme=self._scheme, accept=request.headers.get("Accept", "")
        )
        return Response(text, headers={"Content-Type": media_type, **_NO_STORE})

    async def stats(self, _request: Request) -> Response:
        """How it is, as JSON; of streams the process that answers tells, of numbers all of them."""
        history = await self._history()
        self.tick()
        (begin, *first), (end, *last) = self._seconds[0], self._seconds[-1]
        pairs = zip(("updates_per_second", "subscriptions_per_second"), first, last, strict=True)
        rates = {name: round((now - before) / max(end - begin, 1.0), 2) for name, before, now in pairs}
        furthest = None
        if self._scheme in ("memory", "lmdb"):  # whose positions are numbers in a row
            reading = [each for each in self.streams.open if each.phase in (Phase.READING, Phase.WAITING_FOR_READER)]
            furthest = max((self.streams.log.position - each.cursor for each in reading), default=0)
        return JSONResponse(
            {
                "version": _version(),
                "uptime_seconds": round(time.time() - self._began, 1),
                "state": self.lifecycle.state.name.lower(),
                "transport": {"url": redact(self.transport.url), "up": history is not None},
                "history": self._shown(history),
                "subscribers": {
                    "connected": self.counts.total("subscribers"),
                    "behind": self.counts.total("behind"),
                    "furthest_behind_entries": furthest,
                },
                "topics": self._top_topics(),
                "last_minute": rates,
                "totals": {name: self.counts.total(f"{name}_total") for name in ("updates", "subscribers")},
            },
            headers=_NO_STORE,
        )

    async def export(self, request: Request) -> Response:
        """The whole history, private updates too, as lines of JSON; ``?after=ID`` goes on after an event.

        Raises `Problem` 404 and 503.
        """
        parts = exported(self.transport, request.query_params.get("after"))
        try:
            first = await anext(parts, b"")
        except NothingAfter as error:
            raise Problem(404, str(error)) from None
        except TransportError:
            raise unavailable("the store of this hub does not answer; try again") from None

        async def whole() -> AsyncIterator[bytes]:
            yield first
            async for part in parts:
                yield part

        return StreamingResponse(whole(), media_type="application/jsonl", headers=_NO_STORE)

    @property
    def _scheme(self) -> str:
        return self.transport.url.partition("://")[0]

    async def _history(self) -> History | None:
        """None: the store does not answer, or is not open."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.transport.history()
        except (TransportError, TimeoutError):
            return None

    def _shown(self, history: History | None) -> dict[str, Any]:
        if history is None:
            return {}
        return {
            "entries": history.entries,
            "bytes": history.bytes,
            "oldest": {"id": history.oldest_id, "time": history.oldest},
            "newest": {"id": history.newest_id},
        }

    def _top_topics(self) -> list[dict[str, Any]]:
        """What is subscribed to by how many, the most first."""
        totals: dict[str, int] = {}
        for audience, number in self.streams.audiences.sizes():
            for matcher in audience:
                totals[matcher.pattern] = totals.get(matcher.pattern, 0) + number
        top = sorted(totals.items(), key=lambda each: -each[1])[:TOP]
        return [{"topic": self._named(topic), "subscribers": number} for topic, number in top]

    def _named(self, topic: str) -> str:
        return topic if self.name_topics else sha256(topic.encode(errors="surrogatepass")).hexdigest()[:12]


def _version() -> str:
    return version("mercure-hub")
