"""A Redis server as the transport sees it: streams, hashes, and the very scripts, run by Lua.

A command is executed at once, when it arrives; its answer takes its time, and is lost where the connection breaks
meanwhile. `Server.fail_over` has a replica take over that had everything up to a moment ago. Semantics are those that
`tests/transports/redis` meets at a real server.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from tests.simulation.store_server import StoreServer
from tests.simulation.world import EPOCH, Process, World
from transports import Update
from transports.grouping import settle
from transports.redis.stream import position_from

Id = tuple[int, int]

LUA = LuaRuntime(encoding=None, unpack_returned_tuples=False)
_COMPILED: dict[bytes, Any] = {}


class Stream:
    def __init__(self) -> None:
        self.entries: dict[Id, list[bytes]] = {}
        """In order: what comes is larger than what was there."""
        self.last: Id = (0, 0)

    def copy(self) -> "Stream":
        made = Stream()
        made.entries, made.last = dict(self.entries), self.last
        return made


def _text(entry: Id) -> bytes:
    return b"%d-%d" % entry


def _bytes(part: Any) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


class Server(StoreServer):
    """Its log, and what is kept for a replica that falls behind."""

    links: list["Link"]  # type: ignore[assignment]

    def __init__(self, world: World, on_append: Callable[[Update, list[str]], None]) -> None:
        super().__init__(world, on_append)
        self.keys: dict[bytes, Any] = {}
        self.scripts: set[bytes] = set()
        self._copy: dict[bytes, Any] | None = None
        self._lua = LUA.eval(b"function(f) redis = {call = f} end")
        LUA.globals()[b"cjson"] = LUA.table_from({b"decode": _decode})

    def stop(self) -> None:
        super().stop()
        self.scripts.clear()

    def keep(self) -> None:
        """What a replica has that falls behind from now on."""
        self._copy = {key: _copied(value) for key, value in self.keys.items()}

    def fail_over(self) -> None:
        """The replica takes over."""
        self.cut()
        if self._copy is not None:
            self.keys, self._copy = self._copy, None
        self.scripts.clear()

    def execute(self, command: Sequence[Any]) -> Any:
        """Raises `ResponseError`."""
        name, *arguments = [_bytes(each) for each in command]
        if name == b"EVALSHA":
            if arguments[0] not in self.scripts:
                raise NoScriptError("No matching script")
            return self._evaluate(arguments[0], arguments[1:])
        if name == b"EVAL":
            from transports.redis.stream import digest

            sha = digest(arguments[0].decode()).encode()
            self.scripts.add(sha)
            if sha not in _COMPILED:
                _COMPILED[sha] = LUA.eval(b"function(KEYS, ARGV) " + arguments[0] + b" end")
            return self._evaluate(sha, arguments[1:])
        return self._call(name, arguments)

    def _evaluate(self, sha: bytes, arguments: list[bytes]) -> Any:
        count = int(arguments[0])
        keys, rest = arguments[1 : 1 + count], arguments[1 + count :]
        if self.full and b"XADD" in arguments:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        self._lua(lambda *call: _to_lua(self._call(call[0], [_bytes(_number(each)) for each in call[1:]])))
        return _from_lua(_COMPILED[sha](LUA.table_from(keys), LUA.table_from(rest)))

    def _call(self, name: bytes, arguments: list[bytes]) -> Any:
        return getattr(self, "do_" + name.decode().lower())(*arguments)

    def do_info(self, *_: bytes) -> bytes:
        return b"redis_version:7.0.0\r\nredis_mode:standalone\r\n"

    def do_type(self, key: bytes) -> bytes:
        value = self.keys.get(key)
        return b"none" if value is None else b"stream" if isinstance(value, Stream) else b"hash"

    def do_time(self) -> list[bytes]:
        now = EPOCH + self.world.now
        return [b"%d" % now, b"%d" % (now % 1 * 1e6)]

    def do_set(self, key: bytes, value: bytes, *_: bytes) -> bytes:
        self.keys[key] = value
        return b"OK"

    def do_get(self, key: bytes) -> Any:
        return self.keys.get(key)

    def do_exists(self, key: bytes) -> int:
        return int(key in self.keys)

    def do_del(self, *keys: bytes) -> int:
        return sum(self.keys.pop(key, None) is not None for key in keys)

    def do_hget(self, key: bytes, field: bytes) -> Any:
        return self.keys.get(key, {}).get(field)

    def do_hset(self, key: bytes, *pairs: bytes) -> int:
        self.keys.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2], strict=True))
        return 1

    def do_hsetnx(self, key: bytes, field: bytes, value: bytes) -> int:
        self.keys.setdefault(key, {}).setdefault(field, value)
        return 1

    def do_hdel(self, key: bytes, *fields: bytes) -> int:
        found = self.keys.get(key, {})
        removed = sum(found.pop(field, None) is not None for field in fields)
        if key in self.keys and not found:
            del self.keys[key]
        return removed

    def do_hincrby(self, key: bytes, field: bytes, by: bytes) -> int:
        found = self.keys.setdefault(key, {})
        found[field] = b"%d" % (int(found.get(field, b"0")) + int(by))
        return int(found[field])

    def do_hgetall(self, key: bytes) -> list[bytes]:
        return [part for pair in self.keys.get(key, {}).items() for part in pair]

    def do_hkeys(self, key: bytes) -> list[bytes]:
        return list(self.keys.get(key, {}))

    def _stream(self, key: bytes) -> Stream:
        found = self.keys.get(key)
        return found if isinstance(found, Stream) else Stream()

    def do_xadd(self, key: bytes, id: bytes, *fields: bytes) -> bytes:
        stream = self.keys.setdefault(key, Stream())
        now = int((EPOCH + self.world.now) * 1000)
        stream.last = max((now, 0), (stream.last[0], stream.last[1] + 1))
        stream.entries[stream.last] = list(fields)
        *before, added = (dict(zip(each[::2], each[1::2], strict=True)) for each in stream.entries.values())
        self.added(Update.from_json(added[b"update"]), [each[b"key"].decode() for each in before if b"key" in each])
        for link in list(self.links):
            self.world.later(1e-5, link.look)
        return _text(stream.last)

    def do_xdel(self, key: bytes, id: bytes) -> int:
        return int(self._stream(key).entries.pop(_id(id), None) is not None)

    def do_xlen(self, key: bytes) -> int:
        return len(self._stream(key).entries)

    def do_memory(self, *_: bytes) -> int:
        return 1000

    def do_xrange(self, key: bytes, begin: bytes, end: bytes, *count: bytes) -> list[Any]:
        first = (0, 0) if begin == b"-" else _id(begin.lstrip(b"("))
        last = (1 << 64, 0) if end == b"+" else _id(end)
        open_ = begin.startswith(b"(")
        found = [
            [_text(at), list(fields)]
            for at, fields in self._stream(key).entries.items()
            if first <= at <= last and not (open_ and at == first)
        ]
        return found[: int(count[1])] if count else found

    def do_xrevrange(self, key: bytes, end: bytes, begin: bytes, *count: bytes) -> list[Any]:
        found = self.do_xrange(key, begin, end)[::-1]
        return found[: int(count[1])] if count else found

    def read_after(self, command: Sequence[Any]) -> Any:
        """XREAD COUNT … BLOCK … STREAMS key id, as if it did not block."""
        key, after = _bytes(command[6]), _bytes(command[7])
        found = self.do_xrange(key, b"(" + after, b"+", b"COUNT", _bytes(command[2]))
        return [[key, found]] if found else None


class Link:
    """A connection to the server, as `transports.redis.routes.RedisConnection` has them."""

    host = "redis"

    def __init__(self, server: Server, process: Process) -> None:
        self._server, self._process, self._loop = server, process, process.loop
        self.is_connected = True
        self._replies: list[asyncio.Future[Any]] = []
        self._blocked: tuple[Sequence[Any], float, asyncio.Future[Any]] | None = None
        self._queue: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        self._last = self._last_reply = 0.0
        server.links.append(self)
        process.on_death.append(self.closed)

    def closed(self) -> None:
        self.is_connected = False
        if self in self._server.links:
            self._server.links.remove(self)

    def broken(self) -> None:
        """For the client: whatever it waits for does not come."""
        self.closed()
        waiting, self._replies = self._replies, []

        def fail() -> None:
            for each in waiting:
                if not each.done():
                    each.set_exception(RedisConnectionError("Connection closed by server."))
                    each.exception()  # of several replies the first that fails is looked at

        if self._process.alive:
            self._process.loop.call_soon(fail)

    async def disconnect(self) -> None:
        if self.is_connected:
            self.closed()
            self._process.on_death.remove(self.closed)

    async def can_read(self) -> bool:
        return False

    async def send_packed_command(self, commands: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            raise RedisConnectionError("Connection closed by server.")
        world = self._server.world
        futures = [self._loop.create_future() for _ in commands]
        self._replies += futures
        self._last = max(self._last, world.now + 1e-4 + world.random.expovariate(2000.0))
        world.at(self._last, lambda: self._server.when_awake(lambda: self._arrive(commands, futures)))

    def _arrive(self, commands: Any, futures: Any) -> None:
        # What the kernel has is executed, also when the client has gone meanwhile.
        if self._server.up:
            self._queue += zip(commands, futures, strict=True)
            self._work()

    def _work(self) -> None:
        while self._queue and self._blocked is None:
            command, future = self._queue.pop(0)
            if command[0] == "XREAD":
                if (found := self._server.read_after(command)) is None:
                    until = self._server.world.now + command[4] / 1000
                    self._blocked = (command, until, future)
                    self._server.world.at(until, self.look)
                else:
                    self._answer(future, found)
                continue
            try:
                self._answer(future, self._server.execute(command))
            except ResponseError as error:
                self._answer(future, error)

    def look(self) -> None:
        """Something was added, or the time is over."""
        if self._blocked is None or not self.is_connected or not self._server.up:
            return
        command, until, future = self._blocked
        found = self._server.read_after(command)
        if found is not None or self._server.world.now >= until:
            self._blocked = None
            self._answer(future, found)
            self._work()

    def _answer(self, future: asyncio.Future[Any], reply: Any) -> None:
        world = self._server.world
        self._last_reply = max(self._last_reply, world.now + 1e-4 + world.random.expovariate(2000.0))

        def arrive() -> None:
            if self.is_connected and self._process.alive:
                self._process.loop.call_soon(settle, future, [reply])

        world.at(self._last_reply, lambda: self._server.when_awake(arrive))

    async def read_response(self) -> Any:
        if not self._replies:
            raise RedisConnectionError("Connection closed by server.")
        (reply,) = await asyncio.shield(self._replies[0])
        if self._replies:
            self._replies.pop(0)
        if isinstance(reply, ResponseError):
            raise reply
        return reply


class Route:
    """In the place of `transports.redis.routes.DirectRoute`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def connected(self) -> Link:
        world = self._server.world
        process = world.current
        assert process is not None
        await asyncio.sleep(world.random.expovariate(2000.0))
        if not self._server.up:
            raise RedisConnectionError("Connection refused.")
        return Link(self._server, process)


def _id(text: bytes) -> Id:
    position = position_from(text) if b"-" in text else int(text) << 64
    return position >> 64, position & (1 << 64) - 1


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, Stream | dict) else value


def _decode(text: bytes) -> Any:
    return _to_lua({key.encode(): value.encode() for key, value in json.loads(text).items() if isinstance(value, str)})


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def _to_lua(value: Any) -> Any:
    if value is None:
        return False
    if isinstance(value, list):
        return LUA.table_from([_to_lua(each) for each in value])
    return LUA.table_from(value) if isinstance(value, dict) else value


def _from_lua(value: Any) -> Any:
    if lua_type(value) == "table":
        return [_from_lua(value[at]) for at in range(1, len(value) + 1)]
    if isinstance(value, float):
        return int(value)
    return None if value is False else value
