"""Active subscriptions in Redis: a hash of the nodes' counts, and for each node a hash of its subscriptions."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from transports.presence import Presence
from transports.redis.pipeline import Pipeline
from transports.redis.stream import Keys, digest

PART = 500
"""Subscriptions that one command takes: what a script is given lies on Lua's stack."""

ENTER = """
local count = redis.call('HGET', KEYS[1], ARGV[1])
if count == '-1' then return 0 end
if not count then redis.call('HSET', KEYS[1], ARGV[1], 0) end
if ARGV[2] then redis.call('HSET', KEYS[2], unpack(ARGV, 2)) end
return 1
"""

BEAT = """
local count = redis.call('HGET', KEYS[1], ARGV[1])
if count and count ~= '-1' then redis.call('HINCRBY', KEYS[1], ARGV[1], 1) end
return redis.call('HGETALL', KEYS[1])
"""

EXPIRE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], -1)
return 1
"""

FORGET = """
redis.call('DEL', KEYS[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
"""

SCRIPTS = {digest(script): script for script in (ENTER, BEAT, EXPIRE, FORGET)}
_NUMBER = re.compile(rb"-?[0-9]{1,18}")
_ENTERING, _BEATING, _EXPIRING, _FORGETTING = SCRIPTS


class RedisPresence(Presence):
    """``line``: where to ask while the transport is open; raises `TransportClosed` outside of that."""

    def __init__(self, line: Callable[[], Pipeline], keys: Keys) -> None:
        self._line, self._keys = line, keys

    async def enter(self, node: str, subscriptions: Mapping[str, bytes]) -> bool:
        pairs = list(subscriptions.items())
        parts = [pairs[at : at + PART] for at in range(0, len(pairs), PART)] or [[]]
        entered = [await self._run(_ENTERING, node, *chain.from_iterable(part)) for part in parts]
        return all(entered)

    async def leave(self, node: str, ids: Sequence[str]) -> None:
        for at in range(0, len(ids), PART):
            await self._line().ask("HDEL", self._keys.presence(node), *ids[at : at + PART])

    async def beat(self, node: str) -> Mapping[str, int]:
        flat = await self._run(_BEATING, node)
        return {name.decode(): int(count) for name, count in _pairs(flat) if _NUMBER.fullmatch(count)}

    async def expire(self, node: str, count: int) -> bool:
        return bool(await self._run(_EXPIRING, node, count))

    async def of(self, node: str) -> Mapping[str, bytes]:
        flat = await self._line().ask("HGETALL", self._keys.presence(node))
        return {id.decode(): document for id, document in _pairs(flat)}

    async def forget(self, node: str) -> None:
        await self._run(_FORGETTING, node)

    async def all(self) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for node in await self._line().ask("HKEYS", self._keys.nodes):
            found |= await self.of(node.decode())
        return found

    async def _run(self, script: str, node: str, *arguments: Any) -> Any:
        keys = (self._keys.nodes, self._keys.presence(node))
        return await self._line().ask("EVALSHA", script, 2, *keys, node, *arguments)


def _pairs(flat: Sequence[bytes]) -> Sequence[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
