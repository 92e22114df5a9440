"""A hub in this process: every part wired once, every route in one list, and their life from `open` to `close`."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, request_response
from starlette.types import ASGIApp, Scope

from hub.auth.authorization import Authorizer, own_origin
from hub.auth.jwks import RemoteSet
from hub.auth.sources import Rings, rings_of
from hub.client.sse_parser import Event
from hub.config.settings import Settings
from hub.fanout.audiences import Audiences
from hub.fanout.dispatcher import Dispatcher
from hub.fanout.stream import Log, Stream, Streams
from hub.fanout.timers import TimerWheel
from hub.fanout.wire import Again, Offer
from hub.generations import PATH
from hub.lifecycle import Lifecycle, State
from hub.matching.matchers import Matcher, Matching
from hub.observe.counts import Counts, Ended, Role
from hub.observe.refusals import Refusals
from hub.observe.siblings import has_siblings
from hub.observe.traces import traces_for
from hub.presence.active import ActiveSubscriptions
from hub.presence.documents import ROOT
from hub.problems import Problem
from hub.web.access import access_logged
from hub.web.admin import Admin
from hub.web.app import Application, Authorize
from hub.web.cors import Cors
from hub.web.health import Ready, live
from hub.web.limits import Limits
from hub.web.metadata import METADATA_PATH, Metadata, Methods
from hub.web.pages import Pages
from hub.web.pages.playground import ROOT as PLAYGROUND
from hub.web.pages.playground import Playground
from hub.web.publication import form_of
from hub.web.publish import Publish, failure_of
from hub.web.repeats import Repeats
from hub.web.subscribe import Subscribe
from hub.web.subscriptions import Subscriptions
from transports import TransportError, open_transport
from transports.urls import redact

DEFAULT_URL = f"https://localhost{PATH}"
"""The base of relative topics and patterns where no URL of the hub is set; only absolute ones notice."""
LETTING_GO = 0.05
"""Seconds between two streams that end, at most: a few need not wait for the whole drain."""
LAST_CALL = 1.0
"""Seconds that stalled readers get after the drain before they are cut off."""
SETTLING = 5.0
"""Seconds that appends under way and their dispatch may take at the end."""

NOT_OPEN = "the hub is not open: enter hub.running(), or give your application hub.lifespan"

logger = logging.getLogger(__name__)


class Hub:
    """All parts of one process, wired once. Raises `InvalidTransport` and `InvalidKey` for settings that can't work."""

    def __init__(self, settings: Settings, counts: Counts | None = None, *, authorize: Authorize | None = None) -> None:
        """``counts``: this process's row of numbers, where it has others beside it.

        ``authorize``: what a request may do by the program's own word, such as its session's; ``Grants.to(…)``, or None
        for a request that its token decides about.
        """
        self._authorize = authorize
        self.beside: ASGIApp | None = None
        """What answers the paths that are none of the hub's routes; 404 without it."""
        self.counts = counts or Counts.alone()
        self.traces = traces_for(settings.traces)
        self.refusals = Refusals(self.counts, tell_client=settings.tell_reasons)
        self.transport = open_transport(settings.transport_url)
        self.lifecycle = Lifecycle()
        self.matching = Matching(_hub_url(settings.resource_identifier))
        self._rings = rings_of(settings)
        self.authorizer = _authorizer(settings, self.matching, self._rings)
        self.log = Log(self.transport)
        self._wheel = TimerWheel()
        audiences = Audiences(self.matching)
        self.streams = Streams(
            self.log,
            audiences,
            self._wheel,
            heartbeat=settings.heartbeat,
            dispatch_timeout=settings.dispatch_timeout,
            counts=self.counts,
            traces=self.traces,
        )
        self.active = ActiveSubscriptions(self.transport, self.matching) if settings.subscriptions else None
        self.streams.on_lost = self._ended
        self._dispatcher = Dispatcher(self.log, audiences, self.streams)
        if self.active is not None:
            self._dispatcher.on_return = self.active.doubt
        self._tasks: list[asyncio.Task[None]] = []
        self._fetching: dict[RemoteSet, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self.failed = False
        self.on_failure: Callable[[], None] = lambda: None
        """Called when the hub can't go on: the server then ends the process, so that another is started."""
        self._hurried = asyncio.Event()
        self.settings = settings
        self.cors = Cors(settings.cors_origins)
        self.limits = Limits(settings.max_connections, settings.max_subscriptions_per_client, settings.publish_rate)
        self.admin = Admin(self.transport, self.lifecycle, self.streams, self.counts, name_topics=settings.stats_topics)
        shared = (self.lifecycle, self.authorizer, self.matching, self.cors)
        self._publish = Publish(
            self.transport, *shared, settings.max_request_body_size, self.counts, self.limits, self.traces
        )
        self._repeats = Repeats()
        self._subscribe = Subscribe(
            self.streams,
            *shared,
            settings.max_request_body_size,
            settings.write_timeout,
            settings.protocol,
            self.limits,
            self.traces,
            self.active,
            settings.strict_protocol,
        )
        named = [each.identifier for each in settings.issuers if each.authorization_server]
        self.metadata = Metadata(
            settings.protocol,
            settings.resource_identifier,
            tuple(dict.fromkeys((*settings.authorization_servers, *named))),
            settings.cookie_name,
            settings.subscriptions,
        )

    def _ended(self, stream: Stream) -> None:
        self.limits.ended(stream)
        if self.active is not None:
            self.active.end(stream)

    def direct(self, scope: Scope, body: bytes, offer: Offer) -> Again | bool:
        """`hub.fanout.wire.Direct`: the two hot paths, before the router and the middleware."""
        if scope["path"] != PATH or self.settings.access_log or self.traces.on or self._authorize:
            return False
        if not self.answers_on(scope) or self.crowded:
            return False
        if scope["method"] == "POST":
            return self._publish.direct(scope, body, offer)
        return scope["method"] == "GET" and self._subscribe.direct(scope, offer)

    async def answer_problem(self, request: Request, problem: Exception) -> Response:
        """Starlette's exception handler for `Problem`: counted, told to the operator, and to the client."""
        assert isinstance(problem, Problem)  # noqa: S101 - registered for this type alone
        publishes = request.method == "POST"
        if publishes and request.scope["path"] == PATH:
            self.counts.failed(failure_of(problem))
        client = request.client.host if request.client else "-"
        self.refusals.tell(problem, Role.PUBLISHER if publishes else Role.SUBSCRIBER, client)
        return await self.metadata.answer_problem(request, problem)

    def tick(self) -> None:
        """Once a second, by whoever serves."""
        self.counts.now(self.streams.behind)
        self.refusals.flush()
        self.admin.tick()

    @property
    def crowded(self) -> bool:
        """Whether there are more connections than there may be."""
        return self.limits.crowded(len(self.streams.open))

    def answers_on(self, scope: Scope) -> bool:
        """Whether the request's origin is one of ``public_urls``, where those are set."""
        urls = self.settings.public_urls
        return not urls or own_origin(HTTPConnection(scope)) in urls

    @cached_property
    def asgi(self) -> Application:
        """The application, with CORS and problem details. It serves once the hub is open (`open`, `running`)."""
        logged = [Middleware(access_logged)] if self.settings.access_log else []
        app = Application(
            routes=self.routes(),
            middleware=[*logged, Middleware(self.cors.around)],
            exception_handlers={Problem: self.answer_problem},
        )
        app.beside = self.beside
        app.direct = self.direct
        app.repeats = self._repeats
        app.authorize = self._authorize
        app.was_opened = lambda: self._loop is not None
        app.answers_on = self.answers_on
        app.is_crowded = (lambda: self.crowded) if self.limits.max_connections else None
        return app

    @cached_property
    def admin_asgi(self) -> Starlette:
        """What the hub tells its operator alone; on another address than `asgi`."""
        return Starlette(
            routes=[Route(path, Methods(methods)) for path, methods in {**self.health, **self.admin.endpoints}.items()],
            exception_handlers={Problem: self.metadata.answer_problem},
        )

    def routes(self) -> list[BaseRoute]:
        subscribe: ASGIApp = self._subscribe
        endpoints: dict[str, dict[str, ASGIApp]] = {
            PATH: {"GET": subscribe, "QUERY": subscribe, "POST": self._publish},
            **self.health,
            **Pages(self.settings, self.lifecycle, self.authorizer).endpoints(),
        }
        if self.settings.playground:
            endpoints[f"{PLAYGROUND}/{{rest:path}}"] = {
                "GET": request_response(Playground(self.settings.cookie_name).answer)
            }
        if self.settings.metrics:
            endpoints["/metrics"] = {"GET": request_response(self.admin.metrics)}
        if self.metadata.published:
            endpoints[METADATA_PATH] = {"GET": request_response(self.metadata.document)}
        if self.active is not None:
            listed = Subscriptions(self.transport, self.lifecycle, self.authorizer, self.settings.protocol)
            endpoints |= {f"{ROOT}{rest}": {"GET": listed} for rest in ("", "/{rest:path}")}
        return [Route(path, Methods(methods)) for path, methods in endpoints.items()]

    @cached_property
    def health(self) -> dict[str, dict[str, ASGIApp]]:
        """The paths that say how it is, each with the endpoints of its methods."""
        answers = {"live": live, "ready": Ready(self.transport, self.lifecycle).answer}
        prefixes = ("/mercure/health", f"/mercure/health/{self.settings.name}")
        paths = {f"{each}/{name}": answer for each in prefixes for name, answer in answers.items()}
        return {path: {"GET": request_response(answer)} for path, answer in {**paths, "/healthz": live}.items()}

    async def open(self) -> None:
        """Open the store, which may wait for its lock, and begin to serve, unless the end has begun meanwhile.

        Keys that have to be fetched are there by then, or it was said that they can't be. Raises `InvalidTransport`.
        """
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        await asyncio.gather(self.transport.open(), self._fetch(self._rings.remote))
        if self.lifecycle.draining:
            return
        self.lifecycle.move(State.STORING)
        await self._dispatcher.start()
        if self.lifecycle.draining:
            return
        parts = [self._wheel.run, self._dispatcher.run]
        if self.active is not None:
            parts += [self.active.announce, self.active.watch]
        self._tasks = [asyncio.ensure_future(self._watched(part)) for part in parts]
        self.lifecycle.move(State.SERVING)
        logger.info("the store is open: %s", redact(self.settings.transport_url))

    async def _fetch(self, remote: Sequence[RemoteSet]) -> None:
        """Fetch these sets, and keep them and no others fresh from now on."""
        for each in set(self._fetching) - set(remote):
            self._fetching.pop(each).cancel()
        await asyncio.gather(*(each.fetch() for each in remote))
        for each in remote:
            each.on_change = self._close_strangers
            if each not in self._fetching:
                self._fetching[each] = asyncio.ensure_future(self._watched(each.run))

    async def reload(self, settings: Settings) -> None:
        """Take the keys of these settings, all or none, and close the streams whose token they would not verify.

        Raises `InvalidKey`: a file can't be read or has no key in it. Nothing has changed then.
        """
        rings = rings_of(settings, self._rings.remote)
        await self._fetch(rings.remote)
        before = [len(ring.keys) for ring in self._rings[:2]]
        self._rings = rings
        self.authorizer.use_keys(rings.publisher, rings.subscriber)
        closed = self._close_strangers()
        logger.info(
            "keys were read again: %d for publishers (%d before), %d for subscribers (%d before); %d streams closed",
            *(number for pair in zip((len(ring.keys) for ring in rings[:2]), before, strict=True) for number in pair),
            closed,
        )

    def _close_strangers(self) -> int:
        """Close the streams whose token would not be verified any more; how many."""
        self.authorizer.forget()
        self._repeats.clear()
        strangers = [each for each in self.streams.open if not self.authorizer.holds(each.verified)]
        for stream in strangers:
            stream.finish(Ended.KEYS)
        return len(strangers)

    async def _watched(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Without its dispatcher or its timers a hub looks well and serves nobody, or serves expired tokens."""
        try:
            await part()
        except Exception:
            logger.exception("a part of the hub failed; the hub ends")
            self.failed = True
            self.lifecycle.drain()
            self.on_failure()
            self.streams.finish(Ended.DRAIN)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Open for the time of the block, and drained at its end. Raises `InvalidTransport`."""
        await self.open()
        if self.settings.transport_url.startswith("memory://") and has_siblings():
            logger.warning(
                "memory:// is this process's own, and others beside it serve the same: a subscriber hears of the"
                " updates of one of them only; use lmdb:// with lock=shared, redis:// or postgresql://, or one worker"
            )
        try:
            yield self
        finally:
            await self.drain(self.settings.drain)
            await self.close()

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """The same as an ASGI application's lifespan: ``Starlette(lifespan=hub.lifespan)``."""
        async with self.running():
            yield

    async def publish(
        self,
        topic: str | Sequence[str],
        data: object = "",
        *,
        private: bool = False,
        id: str | None = None,
        type: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Publish as a program of this process, which needs no token; the update's id, once it is durable.

        ``topic``: several as a sequence, the canonical one first. ``data``: text, or anything that JSON can say.
        ``retry``: milliseconds. Everything else is as over HTTP (Mercure, "Publication").
        Raises `hub.Problem` with the ``status`` that a request would get: 400 or 413 for what can't be published, 422
        for an idempotency key of another update, 507 where the store is full, 503 where it is away.
        """
        self._check_place()
        form = form_of(topic, data, private=private, id=id, type=type, retry=retry)
        return await self._publish.store(form, idempotency_key)

    def publish_threadsafe(self, topic: str | Sequence[str], data: object = "", **fields: Any) -> Future[str]:
        """`publish` from a thread without an event loop; ``result()`` is the id. Raises `RuntimeError`: not open."""
        if self._loop is None:
            raise RuntimeError(NOT_OPEN)
        if asyncio._get_running_loop() is self._loop:
            raise RuntimeError(
                "this is the hub's own event loop, where result() would wait for ever: await hub.publish()"
            )
        return asyncio.run_coroutine_threadsafe(self.publish(topic, data, **fields), self._loop)

    def subscribe(self, *topics: str, type: str = "topic", last_event_id: str | None = None) -> AsyncIterator[Event]:
        """Receive what is published to these topics, private updates too, as a program of this process.

        ``type``: of all of them: ``topic`` (exact, a URI Template or ``*``), ``exact`` or ``urlpattern``.
        ``last_event_id``: begin after that event, or with ``earliest``; None: with what is new. Ends with the hub.
        Raises `HistoryLost` where the log no longer has what comes after that event, `hub.Problem` 400 for a matcher
        that is none, and 503 where the store is away.
        """
        self._check_place()
        return self._subscribe.within(tuple(Matcher(type, topic) for topic in topics), last_event_id)

    async def subscriptions(self) -> list[dict[str, Any]]:
        """The active subscriptions' documents (Mercure, "Active Subscriptions"); none without ``subscriptions``."""
        self._check_place()
        return [json.loads(document) for document in (await self.transport.presence.all()).values()]

    def _check_place(self) -> None:
        """Raises RuntimeError: the hub is not open, or in another process or event loop than this."""
        if self._loop is None:
            raise RuntimeError(NOT_OPEN)
        if self._process != os.getpid():
            raise RuntimeError("the hub was opened before a fork: open one in each process")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("the hub was opened in another event loop: use publish_threadsafe from there")

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, close the store as soon as possible, and the streams spread over ``seconds``.

        A store that only one process can have is released at once, because the next one waits for it. The live
        streams have everything by then; those that are behind come back with their cursor.
        """
        was_serving = self.lifecycle.serving
        self.lifecycle.drain()
        if was_serving and not self.transport.shared:
            await self._release()
        await self._let_go(seconds)

    def ending(self) -> tuple[int, float]:
        """How many streams will be let go, and over how many seconds."""
        return len(self.streams.open), self.settings.drain

    def hurry(self) -> None:
        """Let go of the streams without taking time over it; what is being stored is waited for all the same."""
        self._hurried.set()

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(SETTLING):
                await self.lifecycle.published()
                await self.log.reached((await self.transport.last())[0])
        except (TimeoutError, TransportError) as error:
            logger.warning("the store is closed with work under way: %r", error)
        await self.transport.close()

    async def _let_go(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begin, streams = loop.time(), list(self.streams.open)
        pause = min(LETTING_GO, seconds / max(1, len(streams)))
        for number, stream in enumerate(streams):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(begin + number * pause):
                    await self._hurried.wait()
            stream.finish(Ended.DRAIN)
        end = loop.time() + LAST_CALL
        while self.streams.open and loop.time() < end:
            self.streams.finish(Ended.DRAIN)
            await asyncio.sleep(LETTING_GO)
        for stream in list(self.streams.open):
            stream.wire.abort()

    async def close(self) -> None:
        """Let go of everything that is left. Twice is fine."""
        await self.lifecycle.published()
        if self.active is not None:
            await self.active.close()
        tasks = [*self._tasks, *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.transport.close()


def _hub_url(resource_identifier: str | None) -> str:
    """The identifier, if it is a URL of a hub: it may be any URI."""
    if resource_identifier is not None and resource_identifier.startswith(("https://", "http://")):
        parts = urlsplit(resource_identifier)
        return resource_identifier if parts.path == PATH else f"{parts.scheme}://{parts.netloc}{PATH}"
    return DEFAULT_URL


def _authorizer(settings: Settings, matching: Matching, rings: Rings) -> Authorizer:
    return Authorizer(
        matching=matching,
        publisher=rings.publisher,
        subscriber=rings.subscriber,
        anonymous=settings.anonymous,
        resource_identifier=settings.resource_identifier,
        protocol=settings.protocol,
        cookie_name=settings.cookie_name,
        publish_origins=settings.publish_origins,
    )


def create_app(settings: Settings) -> Starlette:
    """The hub as an ASGI application for any server: its lifespan opens the store, and drains at the end."""
    hub = Hub(settings)
    hub.asgi.router.lifespan_context = hub.lifespan
    return hub.asgi
