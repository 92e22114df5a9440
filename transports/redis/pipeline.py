"""One connection to Redis, on which the commands that wait together go out together; none is executed twice.

Theory of operation. `Pipeline.ask` queues a command and waits for its reply; a group of those that wait goes out as one
packet (`transports.line`), and the replies arrive in request order. So a lone command costs one round trip, and 64 at
once cost the server a fraction of a read each.

A command that Redis may have executed is never retried: when a reply is lost, its caller gets `TransportUnavailable`
and has to ask, or repeat with an idempotency key. What was refused *before* it was executed is sent again: a script
that the server does not know (NOSCRIPT), keys that are moved or being moved in a Cluster (MOVED, ASK, TRYAGAIN). When
the connection was dropped, the next group connects to wherever the route says that the log is now.
``tests/transports/redis/test_transport.py`` loses replies, ``test_routes.py`` fails over and moves keys.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from transports.contract import TransportError, TransportFull, TransportUnavailable, tuple_of
from transports.grouping import Told
from transports.line import Line
from transports.redis.routes import Command, RedisConnection, Route, drop, exchange

PATIENCE = 2.5
"""Seconds until a caller is told that the server does not answer; connecting is included."""

AGAIN = 0.02
"""Seconds until a node of a cluster is asked again for keys that are being moved."""


class NotReplicated(ResponseError):
    """The command took place, but fewer replicas than asked for have it."""


class Job(NamedTuple):
    """A command, the future of its reply, and the bytes of what is large in it."""

    future: asyncio.Future[Any] | Told[Any]
    command: Command
    size: int


class Pipeline(Line[Job]):
    """Replies arrive in request order, within ``patience`` seconds.

    ``replicas``, ``wait``: how many replicas must have what a group wrote, after how many milliseconds.
    """

    _outside = (RedisError,)

    def __init__(
        self,
        route: Route,
        scripts: Mapping[str, str],
        patience: float = PATIENCE,
        *,
        replicas: int = 0,
        wait: int = 0,
    ) -> None:
        super().__init__(patience)
        self._route, self._scripts = route, scripts
        self._replicas, self._wait = replicas, wait
        self._wire: RedisConnection | None = None

    async def ask(self, *command: Any) -> Any:
        """The reply. Raises `TransportUnavailable`, `TransportClosed`. Cancelled, the command may still take place."""
        reply = asyncio.get_running_loop().create_future()
        self.send(reply, command, sum(len(part) for part in command if isinstance(part, bytes)))
        return await reply

    def send(self, reply: "asyncio.Future[Any] | Told[Any]", command: Command, size: int) -> None:
        """Queue a command; ``reply`` is set to what `ask` returns or raises. Raises `TransportClosed`."""
        self.put(tuple_of(Job, (reply, command, size)))

    async def _do(self, group: list[Job]) -> list[Any]:
        replies = await self._replies([job.command for job in group])
        if any(isinstance(reply, ReadOnlyError | ClusterDownError) for reply in replies):
            await self._drop()  # the log may be on another server by now
        return [self._translated(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    async def _replies(self, commands: list[Command]) -> list[Any]:
        """What was refused before it was tried is sent again, in its order, in the way or to the place it wants."""
        replies = await self._sent(await self._connected(), commands)
        while refused := [n for n, reply in enumerate(replies) if isinstance(reply, _REFUSALS)]:
            reason = replies[refused[0]]
            refused = [n for n in refused if type(replies[n]) is type(reason)]
            again = await self._sent_again([commands[n] for n in refused], reason)
            for n, reply in zip(refused, again, strict=True):
                replies[n] = reply
        return replies

    async def _sent_again(self, commands: list[Command], reason: ResponseError) -> list[Any]:
        if isinstance(reason, NoScriptError):
            return await self._sent(await self._connected(), [self._whole(command) for command in commands])
        if isinstance(reason, AskError) and not isinstance(reason, MovedError):
            return await self._sent_asking(commands, reason)
        if isinstance(reason, MovedError):
            await self._drop()
        await asyncio.sleep(AGAIN)
        return await self._sent(await self._connected(), commands)

    async def _sent_asking(self, commands: list[Command], reason: AskError) -> list[Any]:
        """To the node that takes over the keys, which takes nothing else yet (Redis Cluster, "ASK redirection")."""
        wire = await self._route.asking(await self._connected(), reason)
        try:
            pairs = [part for command in commands for part in (("ASKING",), self._whole(command))]
            return (await self._sent(wire, pairs))[1::2]
        finally:
            await drop(wire)

    def _whole(self, command: Command) -> Command:
        """With the script instead of its name, for a server that may not know it."""
        return ("EVAL", self._scripts[command[1]], *command[2:]) if command[0] == "EVALSHA" else command

    async def _connected(self) -> RedisConnection:
        """A connection that the server has closed meanwhile is found out before anything is sent."""
        if self._wire is not None and (not self._wire.is_connected or await self._wire.can_read()):
            await self._drop()
        if self._wire is None:
            self._wire = await self._route.connected()
        return self._wire

    async def _sent(self, wire: RedisConnection, commands: Sequence[Command]) -> list[Any]:
        if not self._replicas:
            return await exchange(wire, commands)
        *replies, taken = await exchange(wire, [*commands, ("WAIT", self._replicas, self._wait)])
        if isinstance(taken, int) and taken >= self._replicas:
            return replies
        short = NotReplicated(f"{taken} replicas have taken it, wait_replicas={self._replicas}; it may be in the log")
        return [reply if isinstance(reply, ResponseError) else short for reply in replies]

    def _translated(self, error: BaseException) -> TransportError:
        kind = TransportFull if isinstance(error, OutOfMemoryError) else TransportUnavailable
        translated = kind(f"Redis: {self._late(error)}")
        translated.__cause__ = error
        return translated

    async def _drop(self) -> None:
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await drop(wire)


_REFUSALS = (NoScriptError, AskError, TryAgainError)
