"""``POST /.well-known/mercure``: form -> update -> grant -> append -> 200 with the id (Mercure, "Publication")."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from hub.auth.authorization import Authorizer
from hub.auth.grants import Grants
from hub.fanout.wire import Again, Offer, RawHeaders, Replies, gone
from hub.lifecycle import HOLD, Lifecycle, unavailable
from hub.matching.matchers import Matching
from hub.observe.counts import Counts, Failure
from hub.observe.traces import Note, Traces
from hub.problems import Problem
from hub.web.cors import Cors
from hub.web.forms import check_form, read_body
from hub.web.limits import Limits
from hub.web.publication import Form, KnownForms, fingerprint, parse_form, update_from
from hub.web.publication import idempotency_key as key_from
from transports import (
    Answer,
    ForwardsInStandby,
    IdempotencyConflict,
    Receipt,
    Transport,
    TransportClosed,
    TransportError,
    TransportFull,
    TransportUnavailable,
    Update,
    awaited,
)

LARGE = 64 * 1024
"""Bytes of a form from which on it is decoded beside the event loop."""

ASK_AGAIN = 0.5
"""Seconds until a request that is held in standby is offered again to the hub that then has the store."""

R = TypeVar("R")

logger = logging.getLogger(__name__)

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


def problem_of(error: BaseException) -> Problem | None:
    """What a publisher is told when its update could not be stored; None: the fault is ours."""
    if isinstance(error, IdempotencyConflict):
        return Problem(422, "this Idempotency-Key was used for another request; each request takes its own")
    if isinstance(error, TransportFull):
        return Problem(507, "the store of this hub is full")
    if isinstance(error, TransportUnavailable | TransportClosed | TimeoutError | asyncio.CancelledError):
        return unavailable("the store of this hub does not answer; try again")
    return None


class Permission(NamedTuple):
    """What the head of a request says: what its token grants, and its idempotency key."""

    grants: Grants
    key: str | None


@dataclass(frozen=True)
class Publish:
    """The endpoint. Nothing of the request is acknowledged before the transport has it."""

    transport: Transport
    lifecycle: Lifecycle
    authorizer: Authorizer
    matching: Matching
    cors: Cors
    max_body: int
    counts: Counts
    limits: Limits
    traces: Traces

    def direct(self, scope: Scope, body: bytes, offer: Offer) -> Again | bool:
        """`hub.fanout.wire.Direct`: store an update whose request is sound and not large."""
        try:
            grants = self._permission(HTTPConnection(scope)).grants
        except Problem:
            return False  # it is told why through ASGI
        accepted = Accepted(self, grants, self.cors.headers(scope))
        key = next((value for name, value in scope["headers"] if name == b"idempotency-key"), None)
        return accepted if accepted(body, key, offer) else False

    def submit(self, update: Update, answer: Answer) -> None:
        """Begin to store it, which `Lifecycle.published` waits for. Raises `TransportError`."""
        self.lifecycle.publishing += 1
        try:
            self.transport.submit(update, answer)
        except BaseException:
            self.lifecycle.published_one()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with self.traces.span("mercure.publish", request.headers) as note, self._place():
            try:
                response = await self._publish(request, note)
            except MemoryError:
                raise unavailable("this hub has no memory for the request; try again") from None
        await response(scope, receive, send)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Where the store is not open yet, one of the places of those who wait for it. Raises `Problem`."""
        if self.lifecycle.draining:
            raise _not_open()
        if self.lifecycle.holds_store:
            yield
            return
        with self.lifecycle.place() as free:
            if not free:
                raise _not_open()
            yield

    async def store(self, form: Form, key: str | None = None) -> str:
        """Publish from within this process, whose program needs no token; the update's id. Raises `Problem`."""
        update = update_from(form, self.matching)
        if key is not None:
            update = update._replace(
                idempotency_key=key_from([key]), fingerprint=fingerprint(urlencode(form, True).encode())
            )
        try:
            with self._place(), self.traces.span("mercure.publish") as note:
                note("mercure.update.id", update.id)
                return (await self._append(update, None)).id
        except Problem as problem:
            self.counts.failed(failure_of(problem))
            raise

    async def _publish(self, request: Request, note: Note) -> Response:
        permission = self._permission(request)
        body = await read_body(request, self.max_body)
        # A hostile 4 MiB takes three seconds to decode: in a thread, they are nobody else's.
        form = parse_form(body) if len(body) < LARGE else await asyncio.to_thread(parse_form, body)
        update = self._update(permission, body, form)
        receipt = await self._append(update, gone(request.scope))
        note("http.response.status_code", 200)
        note("mercure.update.id", receipt.id)
        note("mercure.update.private", update.private)
        return PlainTextResponse(receipt.id)

    def _permission(self, request: HTTPConnection) -> Permission:
        """Raises `Problem`."""
        check_form(request.scope["headers"], "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data=text")
        grants = self.authorizer.publisher(request)
        return Permission(grants, key_from(request.headers.getlist("Idempotency-Key")))

    def _update(self, permission: Permission, body: bytes, form: Form) -> Update:
        """Raises `Problem`."""
        update = update_from(form, self.matching)
        self.authorizer.allow_publish(permission.grants, update.topics)
        self.limits.take_one(permission.grants)
        if permission.key is not None:
            update = update._replace(idempotency_key=permission.key, fingerprint=fingerprint(body))
        return update

    async def _append(self, update: Update, left: asyncio.Future[None] | None) -> Receipt:
        """``left``: done when whoever asks has left. Raises `Problem`."""
        receipt = await self._forward_to_lock_holder(update, left)
        if receipt is not None:
            return receipt
        if self.lifecycle.draining:
            raise unavailable("this hub is shutting down; try again")
        return await self._append_counted(partial(awaited, self.transport.submit), update)

    async def _forward_to_lock_holder(self, update: Update, left: asyncio.Future[None] | None) -> Receipt | None:
        """In standby, the hub that has the store appends it. None: the store is ours by now. Raises `Problem`."""
        clock = asyncio.get_running_loop().time
        end = clock() + HOLD
        while not self.lifecycle.holds_store:
            if clock() >= end or (left is not None and left.done()):
                raise _not_open()
            if isinstance(self.transport, ForwardsInStandby):
                receipt = await self._append_counted(self.transport.forward_to_holder, update)
                if receipt is not None:
                    return receipt
            await self.lifecycle.wait_until_storing(left, ASK_AGAIN)
        return None

    async def _append_counted(self, append: Callable[[Update], Awaitable[R]], update: Update) -> R:
        """The result of an append, which `Lifecycle.published` waits for. Raises `Problem`."""
        self.lifecycle.publishing += 1
        began = monotonic()
        try:
            result = await append(update)
            if result is not None:
                self.counts.publish.observe(monotonic() - began)
            return result
        except (TransportError, TimeoutError) as error:
            raise (problem_of(error) or error) from None
        finally:
            self.lifecycle.published_one()


def _not_open() -> Problem:
    return unavailable("this hub is not open for updates now; try again")


def failure_of(problem: Problem) -> Failure:
    """What the publisher's problem is counted as."""
    by_status = {401: Failure.REFUSED, 403: Failure.REFUSED, 422: Failure.CONFLICT, 507: Failure.FULL}
    return by_status.get(problem.status, Failure.UNAVAILABLE if problem.status >= 500 else Failure.INVALID)


class Accepted:
    """`hub.fanout.wire.Again`: the grants of a token in a head that was accepted, for each request with that head."""

    __slots__ = ("_cors", "_forms", "_grants", "_headers", "_largest", "_publish")

    def __init__(self, publish: Publish, grants: Grants, cors: RawHeaders) -> None:
        self._publish, self._grants, self._cors = publish, grants, cors
        self._headers = [_TEXT, *cors]
        self._largest = min(LARGE, publish.max_body)
        self._forms = KnownForms(publish.matching, partial(publish.authorizer.allow_publish, grants))

    def __call__(self, body: bytes, idempotency_key: bytes | None, replies: Replies) -> bool:
        publish, grants = self._publish, self._grants
        if not publish.lifecycle.serving or len(body) > self._largest:
            return False
        if grants.expires is not None and grants.expires <= time():
            return False
        try:
            update = self._forms.update_of(body)
            if publish.limits.publish_rate:
                publish.limits.take_one(grants)
            if idempotency_key is not None:
                key = key_from([idempotency_key.decode("latin-1")])
                update = update._replace(idempotency_key=key, fingerprint=fingerprint(body))
            publish.submit(update, partial(self._stored, replies, monotonic()))
        except (Problem, TransportError):
            return False  # it is told why through ASGI
        return True

    def _stored(self, replies: Replies, began: float, result: Receipt | BaseException) -> None:
        publish = self._publish
        publish.lifecycle.published_one()
        if isinstance(result, Receipt):
            publish.counts.publish.observe(monotonic() - began)
            replies.reply(self._headers, result.id.encode())
            return
        if (problem := problem_of(result)) is not None:
            publish.counts.failed(failure_of(problem))
            response = problem.response()
        else:
            logger.error("an update could not be stored, by a fault of this program", exc_info=result)
            response = PlainTextResponse("Internal Server Error", 500, {"Connection": "close"})
        headers = [each for each in response.raw_headers if each[0] != b"content-length"]
        replies.reply([*headers, *self._cors], bytes(response.body), response.status_code)
