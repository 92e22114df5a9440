"""``POST /.well-known/mercure``: form -> update -> grant -> append -> 200 with the id (Mercure, "Publication")."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from os import urandom
from typing import NamedTuple, TypeVar

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.authorization import Authorizer
from hub.cors import Cors
from hub.errors import Problem
from hub.forms import pairs
from hub.grants import Grants
from hub.lifecycle import HOLD, Lifecycle, unavailable
from hub.matchers import MAX_TOPIC, Matching, invalid_character
from hub.wire import Offer, gone
from transports import (
    EARLIEST,
    IdempotencyConflict,
    Receipt,
    Transport,
    TransportClosed,
    TransportError,
    TransportFull,
    TransportUnavailable,
    Update,
)

MAX_TOPICS = 1000
MAX_KEY = 255
"""Characters in an idempotency key."""
BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send its body."""
LARGE = 64 * 1024
"""Bytes of a form from which on it is decoded beside the event loop."""
DISCARD = 16 * 1024 * 1024
"""Bytes of a body that is too large that are read all the same: a client that is cut off does not see the answer."""

ASK_AGAIN = 0.5
"""Seconds until a request that is held in standby is offered again to whoever has the store by then."""

FORM = "application/x-www-form-urlencoded"

Form = dict[str, list[str]]
R = TypeVar("R")

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


def parse_form(body: bytes) -> Form:
    """The fields of an ``application/x-www-form-urlencoded`` body, by name; `Problem` 400 or 413."""
    try:
        fields = pairs(body, MAX_TOPICS + 100)
    except UnicodeDecodeError:
        raise Problem(400, "the form is not valid UTF-8") from None
    except OverflowError:
        raise Problem(413, f"the form has too many fields; {MAX_TOPICS} topics are the most") from None
    form: Form = {}
    for name, value in fields:
        form.setdefault(name, []).append(value)
    return form


def update_from(form: Form, matching: Matching) -> Update:
    """The update that a form describes; `Problem` 400 or 413 says which field is wrong. Unknown fields are ignored."""
    topics = _topics(form.get("topic", []), matching)
    event_type = _line(form, "type")
    if event_type == "mercure":
        raise Problem(400, "the type 'mercure' is reserved for the hub's own events")
    return Update(
        id=_id(form),
        topics=topics,
        data=form.get("data", [""])[0],
        private="private" in form,
        type=event_type,
        retry=_retry(form),
    )


def _topics(topics: Sequence[str], matching: Matching) -> tuple[str, ...]:
    if not topics:
        raise Problem(400, "the field 'topic' is missing")
    if len(topics) > MAX_TOPICS:
        raise Problem(413, f"{len(topics)} topics; {MAX_TOPICS} are the most")
    for topic in topics:
        _check_text("topic", topic)
        if topic == "*":
            raise Problem(400, "the topic '*' is reserved: it is the wildcard of matchers")
        if matching.is_reserved(topic):
            raise Problem(400, "a topic addresses the hub's own namespace, which only the hub publishes to")
    return tuple(dict.fromkeys(topics))


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TOPIC:
        raise Problem(413, f"the field '{name}' is longer than {MAX_TOPIC} characters")
    if invalid_character(text):
        raise Problem(400, f"the field '{name}' holds a control or an invisible format character")


def _line(form: Form, name: str) -> str | None:
    """A field that becomes one line of the stream: a line break in it would inject others."""
    text = form.get(name, [""])[0]
    _check_text(name, text)
    return text or None


def _id(form: Form) -> str:
    text = _line(form, "id")
    if text is None:
        return _random_urn()
    if text.startswith("#") or text == EARLIEST:
        raise Problem(400, f"an id must not start with '#' and must not be '{EARLIEST}'")
    return text


def _random_urn() -> str:
    """``uuid.uuid4().urn`` (RFC 9562 section 5.4) at a third of its time."""
    text = urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"urn:uuid:{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def _retry(form: Form) -> int | None:
    text = _line(form, "retry")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise Problem(400, "the field 'retry' is a number of milliseconds, digits only, 10 at most")
    return int(text)


def idempotency_key(values: Sequence[str]) -> str | None:
    """The ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a quoted string, or bare as many send it."""
    if not values:
        return None
    text = values[0].strip()
    if quoted := _STRING.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    elif '"' in text:
        raise Problem(400, 'the header Idempotency-Key is not a string such as "8e03978e-40d5-43dd-bc93-6894a57f9324"')
    if len(values) > 1 or not text or len(text) > MAX_KEY or not text.isascii() or invalid_character(text):
        raise Problem(400, f"the header Idempotency-Key takes one key of 1 to {MAX_KEY} ASCII characters")
    return text


def check_content_type(value: str) -> None:
    """`Problem` 415 unless it is a form in UTF-8."""
    if value == FORM:
        return
    media_type, _, parameters = value.lower().partition(";")
    if media_type.strip() != FORM:
        raise Problem(415, f"the body must be {FORM}")
    charsets = re.findall(r"charset[^=;]*=\s*\"?([^\s\";]*)", parameters)
    if not {"utf-8", "utf8", "us-ascii"}.issuperset(charsets):
        raise Problem(415, "the charset of the form must be UTF-8")


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

    def direct(self, scope: Scope, body: bytes, offer: Offer) -> bool:
        """`hub.wire.Direct`: store an update whose request is sound and not large."""
        if not self.lifecycle.serving or len(body) > min(LARGE, self.max_body):
            return False
        try:
            update = self._update(self._permission(HTTPConnection(scope)), body, parse_form(body))
            appending = self.transport.submit(update)
        except (Problem, TransportError):
            return False  # it is told why through ASGI
        self.lifecycle.publishing += 1
        appending.add_done_callback(partial(self._appended, scope, offer))
        return True

    def _appended(self, scope: Scope, offer: Offer, appending: asyncio.Future[Receipt]) -> None:
        self.lifecycle.published_one()
        error = asyncio.CancelledError() if appending.cancelled() else appending.exception()
        if error is None:
            offer.reply([_TEXT, *self.cors.headers(scope)], appending.result().id.encode())
        else:
            offer.respond(self.cors.around(_failed(error)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if self.lifecycle.draining:
            raise _not_open()
        if self.lifecycle.storing.is_set():
            response = await self._publish(request)
        else:
            response = await self._publish_in_standby(request)
        await response(scope, receive, send)

    async def _publish_in_standby(self, request: Request) -> Response:
        with self.lifecycle.place() as free:
            if not free:
                raise _not_open()
            return await self._publish(request)

    async def _publish(self, request: Request) -> Response:
        permission = self._permission(request)
        body = await self._body(request)
        # A hostile 4 MiB takes three seconds to decode: in a thread, they are nobody else's.
        form = parse_form(body) if len(body) < LARGE else await asyncio.to_thread(parse_form, body)
        update = self._update(permission, body, form)
        receipt = await self._elsewhere(update, request.scope) or await self._append(update)
        return PlainTextResponse(receipt.id)

    def _permission(self, request: HTTPConnection) -> Permission:
        """Raises `Problem`."""
        check_content_type(request.headers.get("Content-Type", ""))
        grants = self.authorizer.publisher(request)
        return Permission(grants, idempotency_key(request.headers.getlist("Idempotency-Key")))

    def _update(self, permission: Permission, body: bytes, form: Form) -> Update:
        """Raises `Problem`."""
        update = update_from(form, self.matching)
        self.authorizer.allow_publish(permission.grants, update.topics)
        if permission.key is not None:
            update = update._replace(idempotency_key=permission.key, fingerprint=sha256(body).hexdigest()[:32])
        return update

    async def _body(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                body = await self._read(request)
        except TimeoutError:
            raise Problem(408, "the body did not arrive in time", {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Problem(400, "the body did not arrive whole", {"Connection": "close"}) from None
        if len(body) > self.max_body:
            raise Problem(413, f"the body is larger than {self.max_body} bytes", {"Connection": "close"})
        return bytes(body)

    async def _read(self, request: Request) -> bytearray:
        """The body, or just more of it than is allowed."""
        body = bytearray()
        discarded = 0
        async for part in request.stream():
            if len(body) <= self.max_body:
                body += part
            elif (discarded := discarded + len(part)) > DISCARD:
                break
        return body

    async def _elsewhere(self, update: Update, scope: Scope) -> Receipt | None:
        """In standby whoever has the store appends it. None: by now it is ours. Raises `Problem`."""
        clock = asyncio.get_running_loop().time
        end = clock() + HOLD
        while not self.lifecycle.storing.is_set():
            left = gone(scope)
            if clock() >= end or (left is not None and left.done()):
                raise _not_open()
            receipt = await self._told(self.transport.append_elsewhere, update)
            if receipt is not None:
                return receipt
            await self.lifecycle.wait_until_storing(left, ASK_AGAIN)
        return None

    async def _append(self, update: Update) -> Receipt:
        if self.lifecycle.draining:
            raise unavailable("this hub is ending; try again")
        return await self._told(self.transport.submit, update)

    async def _told(self, append: Callable[[Update], Awaitable[R]], update: Update) -> R:
        """What came of an append that `Lifecycle.published` waits for. Raises `Problem`."""
        self.lifecycle.publishing += 1
        try:
            return await append(update)
        except (TransportError, TimeoutError) as error:
            raise (problem_of(error) or error) from None
        finally:
            self.lifecycle.published_one()


def _not_open() -> Problem:
    return unavailable("this hub is not open for updates now; try again")


def _failed(error: BaseException) -> ASGIApp:
    """What answers a request whose append failed: the problem, or the exception itself, which the server logs."""
    problem = problem_of(error)
    if problem is not None:
        return problem.response()

    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    return fail
