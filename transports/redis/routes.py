"""The ways to the server that has the log: its address, its Sentinels, or a node of its Cluster that points at it."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from hiredis import pack_command
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AskError, MovedError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

CONNECTING = 2.0
TRYING = 0.7
"""Seconds that one of several servers may take; two of three may stand still and the third is still asked in time."""
CLOSING = 0.2
HOPS = 3
"""Nodes of a cluster that point at another one before the first is taken for confused."""

Command = tuple[Any, ...]

_KINDS = {"redis": Connection, "rediss": SSLConnection, "unix": UnixDomainSocketConnection}


class HostPort(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def told_by(cls, wire: "RedisConnection", error: AskError) -> "HostPort":
        """Where a node of a cluster points. A node that does not know its name gives none and means its own host."""
        return cls(error.host or wire.host, error.port)


class RedisConnection(Protocol):
    """What we use of redis-py's connections, which have no types of their own."""

    host: str

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def can_read(self) -> bool: ...
    async def disconnect(self) -> None: ...
    async def read_response(self) -> Any: ...
    async def send_packed_command(self, command: Iterable[bytes], check_health: bool = True) -> None: ...


async def connected(scheme: str, server: Mapping[str, Any]) -> RedisConnection:
    """redis-py's own timeouts would end a long XREAD, and cost a timer a reply: the caller has one already."""
    options = {"socket_timeout": None, "socket_connect_timeout": CONNECTING, "protocol": 2}
    kind: Any = _KINDS[scheme]
    wire = cast("RedisConnection", kind(**server, **options))
    try:
        await wire.connect()
    except BaseException:
        await drop(wire)
        raise
    return wire


async def drop(wire: RedisConnection) -> None:
    """Let go of a connection, whatever state it is in. The end of TLS is two-sided, and is waited for in bounds."""
    with suppress(RedisError, OSError):
        async with asyncio.timeout(CLOSING):
            await wire.disconnect()


def packed(commands: Sequence[Command]) -> list[bytes]:
    """As they go out. redis-py's asynchronous connections do it in Python, at six times the cost."""
    return [pack_command(command) for command in commands]


async def exchange(wire: RedisConnection, commands: Sequence[Command]) -> list[Any]:
    """One round trip. A command that the server refuses has a `ResponseError` for its reply."""
    await wire.send_packed_command(packed(commands), check_health=False)
    replies = list[Any]()
    for _ in commands:
        try:
            replies.append(await wire.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


class Route(ABC):
    """A way to the server that has the log now."""

    @abstractmethod
    async def connected(self) -> RedisConnection:
        """A new connection to it. Raises redis-py's errors, and OSError."""

    async def asking(self, wire: RedisConnection, error: AskError) -> RedisConnection:
        """A new connection to the node that ``error``, the answer on ``wire``, points at for one command."""
        raise error


class DirectRoute(Route):
    """``server``: what redis-py's connection of that scheme takes."""

    def __init__(self, scheme: str, server: Mapping[str, Any]) -> None:
        self._scheme, self._server = scheme, server

    async def connected(self) -> RedisConnection:
        return await connected(self._scheme, self._server)


class _ManyServers(Route):
    """The address that led to the log is asked first the next time; the one that is being tried, last."""

    def __init__(self, addresses: Iterable[HostPort], options: Mapping[str, Any]) -> None:
        self._addresses, self._options = deque(addresses), options

    async def connected(self) -> RedisConnection:
        problem: BaseException | None = None
        for address in list(self._addresses):
            self._addresses.remove(address)
            self._addresses.append(address)
            try:
                async with asyncio.timeout(TRYING):
                    wire = await self._by(address)
            except (RedisError, OSError) as error:
                problem = error
                continue
            self._addresses.remove(address)
            self._addresses.appendleft(address)
            return wire
        late = f"it has not answered for {TRYING:g} s" if isinstance(problem, TimeoutError) else problem
        raise RedisConnectionError(f"{self._nobody}: {late}") from problem

    @abstractmethod
    async def _by(self, address: HostPort) -> RedisConnection:
        """The server that has the log, as far as the one at that address knows."""

    _nobody: str

    async def _at(self, address: HostPort) -> RedisConnection:
        return await connected("redis", {**self._options, **address._asdict()})


class SentinelRoute(_ManyServers):
    """``service``: what the Sentinels call the primary. ``login``: the credentials that they ask for.

    The steps are those of https://redis.io/docs/latest/develop/reference/sentinel-clients/.
    """

    _nobody = "no sentinel names a primary that is one"

    def __init__(
        self, addresses: Iterable[HostPort], options: Mapping[str, Any], service: str, login: Mapping[str, Any]
    ) -> None:
        super().__init__(addresses, options)
        self._service, self._login = service, login

    async def _by(self, address: HostPort) -> RedisConnection:
        sentinel = await connected("redis", {**self._login, **address._asdict()})
        try:
            (named,) = await exchange(sentinel, [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)])
        finally:
            await drop(sentinel)
        if isinstance(named, ResponseError):
            raise named
        if named is None:
            raise ResponseError("the sentinel knows no service of that name")
        return await self._primary(HostPort(named[0].decode(), int(named[1])))

    async def _primary(self, address: HostPort) -> RedisConnection:
        wire = await self._at(address)
        try:
            (role,) = await exchange(wire, [("ROLE",)])
        except BaseException:
            await drop(wire)
            raise
        if isinstance(role, ResponseError) or role[0] != b"master":
            await drop(wire)
            raise role if isinstance(role, ResponseError) else ReadOnlyError("it is a replica")
        return wire


class ClusterRoute(_ManyServers):
    """``key``: one that has the hash tag of all. Whichever node is asked points at the one that has its slot."""

    _nobody = "no node leads to the one that has the log"

    def __init__(self, addresses: Iterable[HostPort], options: Mapping[str, Any], key: str) -> None:
        super().__init__(addresses, options)
        self._key = key

    async def _by(self, address: HostPort) -> RedisConnection:
        for _ in range(HOPS):
            wire = await self._at(address)
            try:
                (reply,) = await exchange(wire, [("EXISTS", self._key)])
            except BaseException:
                await drop(wire)
                raise
            if isinstance(reply, int | AskError) and not isinstance(reply, MovedError):
                return wire
            await drop(wire)
            if not isinstance(reply, MovedError):
                raise reply
            address = HostPort.told_by(wire, reply)
        raise reply

    async def asking(self, wire: RedisConnection, error: AskError) -> RedisConnection:
        async with asyncio.timeout(TRYING):
            return await self._at(HostPort.told_by(wire, error))
