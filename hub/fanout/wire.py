"""How bytes reach one subscriber: a connection taken over from the server, or ASGI's ``send``.

Which of the two is in use never shows in behaviour. Both take whole events, so that a stream that is ended
always ends between two of them.

Theory of operation. *Taken over*: once the response head is out, `Offer.take_over` gives the connection's transport
to `TakenOver`, and the server forgets it. Bytes go straight to the descriptor; only what the kernel refuses goes
through the transport, whose buffer has its high water at 0, so that ``resume_writing`` means that it is empty again.
The descriptor is valid from `attach` to ``connection_lost``, which forgets it before the event loop closes it.
*ASGI*: the request's own task carries what `send` has put down, and a bounded backlog says when its reader is slow.

A wire tells its `Listener`, the stream, two things: ``drained`` after each `send` that said False, once nothing waits
any more, and ``lost``, once, whichever side ended the connection. ``tests/hub/fanout/test_stream.py`` runs on both.
"""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Protocol

from starlette.types import Receive, Scope, Send

CHATTER = 64 * 1024
"""Bytes that a subscriber may send while it listens; they are thrown away, more of them closes the connection."""
BACKLOG = 64 * 1024
"""Bytes that may wait for an ASGI server before its reader counts as slow."""


class Listener(Protocol):
    """What a wire tells its stream."""

    def drained(self) -> None:
        """Nothing waits for the reader any more; at least after each `Wire.send` that said False."""

    def lost(self) -> None:
        """The connection is over, from whichever side. Called once, and before its descriptor is closed."""


class Wire(ABC):
    """One subscriber's connection. After `Listener.lost` every method does nothing."""

    __slots__ = ("descriptor", "listener")

    descriptor: int
    """For ``os.write`` of `chunk`-framed bytes while nothing is waiting; -1 where that is not possible."""
    listener: Listener

    @abstractmethod
    def send(self, payload: bytes) -> bool:
        """Send one or more whole events. False: the reader is slow, some of it waits, `Listener.drained` follows."""

    @abstractmethod
    def waiting(self) -> int:
        """Bytes that wait in this process for the reader; 0 when it keeps up."""

    @abstractmethod
    def finish(self) -> None:
        """End the stream properly after what was sent: the final chunk, then the connection."""

    @abstractmethod
    def abort(self) -> None:
        """End it now, whatever waits."""


CONNECTION = "mercure_hub.connection"
"""The key in ``scope["extensions"]`` under which our server offers an `Offer`."""


RawHeaders = list[tuple[bytes, bytes]]
"""As ASGI has them: the names in lower case."""


class Offer(Protocol):
    """A connection as our server offers it, with one request running."""

    def reply(self, headers: RawHeaders, body: bytes, status: int = 200) -> None: ...

    def begin(self, headers: RawHeaders, first: bytes) -> None: ...

    def take_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None: ...

    def abort(self) -> None: ...

    def closed(self) -> asyncio.Future[None]: ...


class Replies(Protocol):
    """The part of an `Offer` that a request needs which is answered with a body of known length."""

    def reply(self, headers: RawHeaders, body: bytes, status: int = 200) -> None: ...


class Again(Protocol):
    """What an application made of a head that it accepted, for further requests with the same one."""

    def __call__(self, body: bytes, idempotency_key: bytes | None, replies: Replies) -> bool:
        """Take a request, now or soon; False: nothing was done, its head is to be judged anew."""


class Direct(Protocol):
    """What an application can do without being called through ASGI, which costs a task and a turn of the loop."""

    def __call__(self, scope: Scope, body: bytes, offer: Offer) -> Again | bool:
        """Take a request that is there as a whole, now or soon; False: nothing was done, it goes through ASGI.

        An `Again`: it was taken, and so may others be that have the same head.
        """


def gone(scope: Scope) -> asyncio.Future[None] | None:
    """Done when the client has left, where the server can tell without reading the request's body."""
    offer: Offer | None = scope.get("extensions", {}).get(CONNECTION)
    return None if offer is None else offer.closed()


@lru_cache(1)
def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1).

    Thousands that come back at once are sent the same page: the last one is kept, so that each of those who are slow
    does not hold a copy of it.
    """
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class TakenOver(asyncio.Protocol, Wire):
    """A plain or TLS HTTP/1.1 connection whose response head is out and which the server has forgotten.

    A reader that keeps up has nothing buffered in user space: bytes go straight to the socket, and only what
    the kernel refuses goes through the transport, whose buffer tells when the reader is back.
    """

    __slots__ = ("_chatter", "_transport")

    def __init__(self) -> None:
        self.descriptor = -1
        self._chatter = 0
        self._transport: asyncio.Transport | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Take the transport. High water at 0: `resume_writing` then means that its buffer is empty."""
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        # On Windows a socket is no file.
        if transport.get_extra_info("ssl_object") is None and os.name == "posix":
            self.descriptor = transport.get_extra_info("socket").fileno()

    def send(self, payload: bytes) -> bool:
        if self._transport is None:
            return False
        framed = chunk(payload)
        if self.descriptor < 0 or self._transport.get_write_buffer_size():
            self._transport.write(framed)
            return not self._transport.get_write_buffer_size()
        return self.sent(framed, self.write(framed))

    def write(self, framed: bytes) -> int:
        """What the kernel takes of it now; -1: the connection is broken."""
        try:
            return os.write(self.descriptor, framed)
        except BlockingIOError:
            return 0
        except OSError:
            return -1

    def sent(self, framed: bytes, count: int) -> bool:
        """Deal with what `write` answered; True when nothing waits after all."""
        if count == len(framed) or self._transport is None:
            return True
        if count < 0:
            self._transport.abort()
            return False
        # A view: however many readers are slow, the bytes are there once.
        self._transport.write(memoryview(framed)[count:])
        return not self._transport.get_write_buffer_size()

    def waiting(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport else 0

    def finish(self) -> None:
        if self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._chatter += len(data)
        if self._chatter > CHATTER:
            self.abort()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self.listener.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        # The event loop closes the descriptor after this call; its number must be forgotten before.
        self.descriptor = -1
        self._transport = None
        self.listener.lost()


class ASGI(Wire):
    """Any ASGI server: the request's own task carries the bytes, so that ``send`` may suspend as it likes.

    `run` is that task. Bytes that arrive before it had its turn wait here, at most `BACKLOG` of them before the
    reader counts as slow.
    """

    __slots__ = ("_carrying", "_ended", "_offer", "_parts", "_send", "_size", "_wake")

    def __init__(self, send: Send, offer: Offer | None) -> None:
        self.descriptor = -1
        self._send = send
        self._offer = offer
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._wake = asyncio.Event()
        self._carrying: asyncio.Task[None] | None = None

    def send(self, payload: bytes) -> bool:
        self._parts.append(payload)
        self._size += len(payload)
        self._wake.set()
        return self._size <= BACKLOG

    def waiting(self) -> int:
        return self._size

    def finish(self) -> None:
        self._ended = True
        self._wake.set()

    def abort(self) -> None:
        if self._offer is not None:
            self._offer.abort()
        if self._carrying is not None:
            self._carrying.cancel()

    async def run(self, receive: Receive) -> None:
        """Carry bytes until the stream is finished or the client is gone."""

        async def disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        gone = asyncio.ensure_future(disconnected())
        self._carrying = asyncio.ensure_future(self._carry())
        try:
            await asyncio.wait({gone, self._carrying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.listener.lost()
            for task in (gone, self._carrying):
                await _settle(task)

    async def _carry(self) -> None:
        while self._parts or not self._ended:
            await self._wake.wait()
            self._wake.clear()
            parts, self._parts = self._parts, []
            if parts:
                await self._body(b"".join(parts), more=True)
                self._size -= sum(map(len, parts))
            if not self._parts:
                self.listener.drained()
        await self._body(b"", more=False)

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def _settle(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # a client that left in the middle of a send is no error of ours


Connection = tuple[Wire, Callable[[], Awaitable[None]] | None]
"""A wire, and what the request's own task must await to carry its bytes, if anything."""


def taken_over(offer: Offer) -> TakenOver | None:
    """The connection of a request whose response head is out; None where it has to stay with the server."""
    wire = TakenOver()
    transport = offer.take_over(wire)
    if transport is None:
        return None
    wire.attach(transport)
    return wire


def wire_for(scope: Scope, receive: Receive, send: Send) -> Connection:
    """The best wire for a request whose response head is out."""
    offer: Offer | None = scope.get("extensions", {}).get(CONNECTION)
    if offer is not None and (wire := taken_over(offer)) is not None:
        return wire, None
    asgi = ASGI(send, offer)
    return asgi, lambda: asgi.run(receive)
