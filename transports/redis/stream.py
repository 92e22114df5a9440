"""The stored format: how updates lie in a Redis stream, and the script that appends to all keys at once."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from transports.contract import Position, Update
from transports.strangers import update_of_a_stranger

FORGET = """
local updates, ids, keys, again = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function forget_id(entry, id)
  local first, last = (redis.call('HGET', ids, id) or ''):match('^(%S+) (%S+)$')
  if first ~= entry then return end
  local following = redis.call('HGET', again, entry)
  if following then
    redis.call('HDEL', again, entry)
    redis.call('HSET', ids, id, following .. ' ' .. last)
  else
    redis.call('HDEL', ids, id)
  end
end

local function forget(entry)
  local named = {}
  for n = 1, #entry[2], 2 do named[entry[2][n]] = entry[2][n + 1] end
  if not named.id then -- a stranger's, whose id is in its JSON at most
    local ok, said = pcall(cjson.decode, named.update or '')
    named.id = ok and type(said) == 'table' and type(said.id) == 'string' and said.id or nil
  end
  if named.id then forget_id(entry[1], named.id) end
  if named.key and redis.call('HGET', keys, named.key) == entry[1] then redis.call('HDEL', keys, named.key) end
  redis.call('XDEL', updates, entry[1])
end
"""
"""What two scripts begin with: the keys, and how an entry goes with all that names it."""

APPEND = (
    FORGET
    + """
local update, id, key, size, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

if key ~= '' then
  local first = redis.call('HGET', keys, key)
  local entry = first and redis.call('XRANGE', updates, first, first)[1]
  if entry then
    redis.call('HSET', keys, key, first) -- a write, so that WAIT counts the replicas that have come this far
    return entry
  end
end

local newest = redis.call('XREVRANGE', updates, '+', '-', 'COUNT', 1)[1]
if not newest then redis.call('DEL', ids, keys, again) end -- names of a stream that somebody has deleted

-- ids: event id -> "first last"; again: an entry -> the next one with its id, up to the last.
local known = redis.call('HGET', ids, id)
local fields = {'update', update, 'id', id, 'previous', newest and newest[1] or '0-0'}
if key ~= '' then
  fields[7], fields[8] = 'key', key
end
local added = redis.call('XADD', updates, '*', unpack(fields))
if known then
  local first, last = known:match('^(%S+) (%S+)$')
  redis.call('HSET', again, last, added)
  redis.call('HSET', ids, id, first .. ' ' .. added)
else
  redis.call('HSET', ids, id, added .. ' ' .. added)
end
if key ~= '' then redis.call('HSET', keys, key, added) end

local now = tonumber(added:match('^%d+'))
for _ = 1, 16 do
  local excess = size > 0 and redis.call('XLEN', updates) > size
  if not excess and ttl == 0 then break end
  local oldest = redis.call('XRANGE', updates, '-', '+', 'COUNT', 1)[1]
  local late = ttl > 0 and tonumber(oldest[1]:match('^%d+')) < now - ttl
  if oldest[1] == added or not (excess or late) then break end
  forget(oldest)
end
return added
"""
)
"""Its answer: the new entry's id, or the whole entry that has the idempotency key. At most 16 are trimmed at once."""

TRIM = (
    FORGET
    + """
local newest = redis.call('XREVRANGE', updates, '+', '-', 'COUNT', 1)[1]
for _, oldest in ipairs(redis.call('XRANGE', updates, '-', '+', 'COUNT', ARGV[1])) do
  if oldest[1] ~= newest[1] then forget(oldest) end
end
return redis.call('XLEN', updates)
"""
)
"""Delete so many of the oldest, but never the newest, with commands that a server without memory still takes."""

INDEX = """
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1] then
  redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[1] .. ' ' .. ARGV[1])
end
return 1
"""
"""Make a stranger's entry known by its event id, unless an earlier one is."""


def digest(script: str) -> str:
    """What EVALSHA calls a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


SCRIPTS = {digest(script): script for script in (APPEND, INDEX, TRIM)}
APPENDING, INDEXING, TRIMMING = SCRIPTS


class Keys(NamedTuple):
    """The names in Redis; one hash tag, so that a Cluster keeps them together."""

    updates: str
    ids: str
    keys: str
    again: str
    check: str
    nodes: str

    @classmethod
    def of(cls, prefix: str) -> Self:
        return cls(*(f"{{{prefix}}}:{name}" for name in cls._fields))

    def presence(self, node: str) -> str:
        """Where the node's subscriptions are."""
        return f"{self.nodes}:{node}"


class Raw(NamedTuple):
    """An entry as Redis has it."""

    position: Position
    fields: dict[bytes, bytes]

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Self:
        flat = reply[1] or []  # None: deleted meanwhile
        return cls(position_from(reply[0]), dict(zip(flat[::2], flat[1::2], strict=True)))

    @property
    def previous(self) -> Position | None:
        """Where the entry before this one stood when this one was added; None: a stranger has not said so."""
        try:
            return position_from(self.fields[b"previous"])
        except (KeyError, ValueError):
            return None

    def update(self) -> Update:
        """Raises `NO_UPDATE`."""
        return update_of_a_stranger(self.fields[b"update"])


def position_from(stream_id: bytes) -> Position:
    """ValueError if it is no stream id."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    return int(milliseconds) << 64 | int(sequence)


def stream_id(position: Position) -> str:
    """The reverse of `position_from`."""
    return f"{position >> 64}-{position & (1 << 64) - 1}"
