"""How a process that waits for a directory's lock has its updates appended by the one that holds it.

The holder listens on a unix stream socket in the directory. A connection is one append, in lines: the holder says that
it is ready, the other sends the update, the holder answers with the receipt, with an error, or that it has stored
nothing. The other one hangs up. Before the holder has said that it is ready, nothing is sent that could be stored.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, cast

from transports.contract import (
    APPEND_TIMEOUT,
    Answer,
    IdempotencyConflict,
    Receipt,
    TransportError,
    TransportFull,
    TransportUnavailable,
    Update,
)
from transports.lmdb.thread import PATIENCE
from transports.lmdb.wakeup import address

NAME = "relay"
BACKLOG = 1024
LONGEST = 16 << 20
"""Bytes of an update as JSON. A longer one is not relayed."""
GREETING = 1.0
"""Seconds that a holder may take to say that it is ready: one that is stopped never does."""

Submit = Callable[[Update, Answer], None]

_READY = b"ready\n"
_ERRORS = {kind.__name__: kind for kind in (IdempotencyConflict, TransportFull, TransportUnavailable)}


class Relay:
    """The holder's side. ``submit`` appends an update.

    Where sockets can't be bound (some file systems) there is none, and a hub that waits for the lock keeps its updates.
    """

    def __init__(self, directory: Path, submit: Submit) -> None:
        self.submit = submit
        self.connections: set[_Connection] = set()
        self.closing = False
        self._directory = directory
        self._server: asyncio.AbstractServer | None = None

    @classmethod
    async def listen(cls, directory: Path, submit: Submit) -> Self:
        """Only for the holder of the directory's lock: a socket that is there already is a dead process's."""
        relay = cls(directory, submit)
        with suppress(OSError):
            await relay._listen(_bound(directory))
        return relay

    async def _listen(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_unix_server(lambda: _Connection(self), sock=bound, backlog=BACKLOG)
        except BaseException:
            bound.close()
            raise

    async def close(self) -> None:
        """Refuse requests that are not whole, and answer those being appended, before the lock is released."""
        self.closing = True
        if self._server is None:
            return
        self._server.close()
        with suppress(OSError):
            (self._directory / NAME).unlink()
        for connection in self.connections:
            connection.refuse()
        if self.connections:
            await asyncio.wait([each.closed for each in self.connections], timeout=PATIENCE)
        for connection in tuple(self.connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One append. The other side hangs up: to close a socket with data that was not read may lose our answer."""

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._line = bytearray()
        self._decided = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._relay.closing:
            self.transport.abort()
        else:
            self._relay.connections.add(self)
            self.transport.write(_READY)

    def connection_lost(self, _error: Exception | None) -> None:
        self._relay.connections.discard(self)
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._decided:
            return
        self._line += data
        if data.endswith(b"\n"):
            self._append()
        elif len(self._line) > LONGEST:
            self.refuse()

    def _append(self) -> None:
        try:
            update = Update.from_json(bytes(self._line))
        except (ValueError, KeyError, TypeError):
            self.refuse()
            return
        self._decided = True
        try:
            self._relay.submit(update, self._appended)
        except TransportError as error:
            self._answer(_reply_of(error))

    def _appended(self, result: Receipt | BaseException) -> None:
        if isinstance(result, Receipt):
            self._answer({"receipt": result})
            return
        self._answer(_reply_of(result))
        if not isinstance(result, TransportError):
            raise result  # ours: the loop logs it

    def refuse(self) -> None:
        """Unless it is being appended, it never will be."""
        if not self._decided:
            self._answer({})

    def _answer(self, answer: dict[str, Any]) -> None:
        self._decided = True
        if not self.transport.is_closing():
            self.transport.write(json.dumps(answer).encode() + b"\n")


def _reply_of(error: BaseException) -> dict[str, Any]:
    return {"error": type(error).__name__, "detail": str(error)}


async def relay(directory: Path, update: Update) -> Receipt | None:
    """Have the holder of the directory's lock append it. None: nobody took it, and nothing was stored.

    Raises what the holder's append raised; also `TransportUnavailable` when its answer was lost.
    """
    message, ready = update.to_json() + b"\n", False
    if len(message) > LONGEST:
        return None
    try:
        reader, writer = await asyncio.open_unix_connection(sock=_connected(directory))
    except OSError:
        return None
    try:
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(GREETING):
                ready = await reader.readline() == _READY
        if not ready:
            return None
        async with asyncio.timeout(APPEND_TIMEOUT):
            writer.write(message)
            return _outcome(await reader.readline())
    except OSError as error:
        raise _lost() from error
    finally:
        writer.transport.abort()


def _outcome(line: bytes) -> Receipt | None:
    if not line.endswith(b"\n"):
        raise _lost()
    said = json.loads(line)
    if "error" in said:
        raise _ERRORS.get(said["error"], TransportUnavailable)(said["detail"])
    return Receipt(*said["receipt"]) if "receipt" in said else None


def _lost() -> TransportUnavailable:
    return TransportUnavailable("the process that holds the lock has not answered; the update may be stored")


def _bound(directory: Path) -> socket.socket:
    stale = directory / NAME
    with _named(directory) as (bound, path):
        os.fchmod(bound.fileno(), 0o600)  # before there is a name: updates pass here without a token
        if stale.is_socket():
            stale.unlink()
        bound.bind(path)
    return bound


def _connected(directory: Path) -> socket.socket:
    """Never blocks: the kernel connects at once, or refuses because nobody listens or too many wait."""
    with _named(directory) as (connected, path):
        connected.setblocking(False)
        connected.connect(path)
    return connected


@contextmanager
def _named(directory: Path) -> Iterator[tuple[socket.socket, str]]:
    """A new socket, closed again when the block fails, and what a socket in the directory is called."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield made, address(str(directory), descriptor, NAME)
        finally:
            os.close(descriptor)
    except BaseException:
        made.close()
        raise
