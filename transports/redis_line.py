"""One connection to Redis, on which the commands that wait together go out together; no command is sent twice."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from transports.base import TransportClosed, TransportError, TransportFull, TransportUnavailable

PATIENCE = 2.5
"""Seconds until whoever waits is told that the server does not answer; connecting is included."""

CONNECTING = 2.0
GROUP = 256
GROUP_BYTES = 8 << 20

_KINDS = {"redis": Connection, "rediss": SSLConnection, "unix": UnixDomainSocketConnection}


class Wire(Protocol):
    """What we use of redis-py's connections, which have no types of their own."""

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def can_read(self) -> bool: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def read_response(self) -> Any: ...
    async def send_packed_command(self, command: Iterable[bytes], check_health: bool = True) -> None: ...
    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]: ...


def wire(scheme: str, server: Mapping[str, Any]) -> Wire:
    """Not connected yet. redis-py's own timeouts would end a long XREAD, and cost a timer a reply: `Line` has one."""
    options = {"socket_timeout": None, "socket_connect_timeout": CONNECTING, "protocol": 2}
    kind: Any = _KINDS[scheme]
    return cast("Wire", kind(**server, **options))


class Job(NamedTuple):
    """A command, and the future of its reply."""

    future: asyncio.Future[Any]
    command: tuple[Any, ...]

    def fail(self, error: TransportError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Line:
    """Answers come in the order of the questions.

    While one group is under way the next one gathers. A group that fails takes those that wait with it, so that
    nobody waits longer than ``patience``. A failed command is never repeated: it may have taken place.
    """

    def __init__(self, wire: Wire, scripts: Mapping[str, str], patience: float = PATIENCE) -> None:
        self._wire, self._scripts, self._patience = wire, scripts, patience
        self._waiting: deque[Job] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, *command: Any) -> Any:
        """The reply. Raises `TransportUnavailable`, `TransportClosed`. Cancelled, the command may still take place."""
        if self._closed:
            raise TransportClosed
        job = Job(asyncio.get_running_loop().create_future(), command)
        self._waiting.append(job)
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        return await job.future

    async def _run(self) -> None:
        try:
            while group := self._group():
                await self._exchange(group)
        finally:
            self._running = None

    def _group(self) -> list[Job]:
        group: list[Job] = []
        size = 0
        while self._waiting and len(group) < GROUP and size < GROUP_BYTES:
            job = self._waiting.popleft()
            if not job.future.done():
                group.append(job)
                size += sum(len(part) for part in job.command if isinstance(part, bytes))
        return group

    async def _exchange(self, group: list[Job]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                replies = await self._replies([job.command for job in group])
        except BaseException as error:
            await self._drop()
            for job in (*group, *self._waiting):
                job.fail(TransportClosed() if self._closed else self._translated(error))
            self._waiting.clear()
            if not isinstance(error, RedisError | OSError | asyncio.CancelledError):
                raise
            return
        self._answer(group, replies)
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            await self._drop()  # the name may stand for another server by now

    def _answer(self, group: list[Job], replies: list[Any]) -> None:
        for job, reply in zip(group, replies, strict=True):
            if isinstance(reply, ResponseError):
                job.fail(self._translated(reply))
            elif not job.future.done():
                job.future.set_result(reply)

    async def _replies(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        await self._connect()
        replies = await self._sent(commands)
        if unknown := [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
            whole = [("EVAL", self._scripts[commands[n][1]], *commands[n][2:]) for n in unknown]
            for n, reply in zip(unknown, await self._sent(whole), strict=True):
                replies[n] = reply
        return replies

    async def _connect(self) -> None:
        """A connection that the server has closed meanwhile is found out before anything is sent."""
        if self._wire.is_connected and await self._wire.can_read():
            await self._drop()
        if not self._wire.is_connected:
            await self._wire.connect()

    async def _sent(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        await self._wire.send_packed_command(self._wire.pack_commands(commands), check_health=False)
        return [await self._reply() for _ in commands]

    async def _reply(self) -> Any:
        try:
            return await self._wire.read_response()
        except ResponseError as error:
            return error

    def _translated(self, error: BaseException) -> TransportError:
        kind = TransportFull if isinstance(error, OutOfMemoryError) else TransportUnavailable
        late = f"it has not answered for {self._patience:g} s" if isinstance(error, TimeoutError) else str(error)
        translated = kind(f"Redis: {late or type(error).__name__}")
        translated.__cause__ = error
        return translated

    async def _drop(self) -> None:
        with suppress(RedisError, OSError):
            await self._wire.disconnect(nowait=True)

    async def finish(self) -> None:
        """Refuse what is new, finish what is asked for, let go of the connection."""
        self._closed = True
        if self._running is not None:
            await asyncio.wait([self._running])
        await self._drop()

    async def abort(self) -> None:
        """Let go of the connection; who waits gets `TransportClosed`."""
        self._closed = True
        for job in self._waiting:
            job.fail(TransportClosed())
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._drop()
