"""What stands between the hub and the machine, replaced by the world: clocks, chance, descriptors, drivers.

`installed` changes this process, until `removed`: one world at a time.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import asyncpg

import transports.lmdb.environment
import transports.lmdb.locks
import transports.lmdb.relay
import transports.lmdb.thread
import transports.lmdb.transport
import transports.postgres.schema
import transports.postgres.server
import transports.postgres.transport
import transports.redis.transport
import transports.redis.url
from tests.simulation import postgres_server, redis_server
from tests.simulation.lmdb_file import LMDB, File, Locks, Pings
from tests.simulation.network import Connecting, Listener
from tests.simulation.scenario import Bound
from tests.simulation.world import EPOCH, SimpleQueue, Thread, World, worlds

OURS = ("hub", "transports")
CLOCKS: tuple[Callable[[], Any], ...] = (time.time, time.monotonic, time.time_ns)


def prepare() -> None:
    """What takes time and is the same for all worlds. Every module is loaded by now."""
    for each in CLOCKS:
        _places(each)


def installed(world: World, file: File, redis: redis_server.Server, postgres: postgres_server.Server) -> None:
    worlds.append(world)
    _clocks(world)
    _chance(world)
    _descriptors(world)
    _lmdb(world, file)
    put(transports.redis.url.Parameters, route=lambda self, key: redis_server.Route(redis))
    put(transports.redis.routes, packed=list)
    _postgres(postgres)


def removed() -> None:
    """Everything is what it was before."""
    while _replaced:
        where, name, value = _replaced.pop()
        setattr(where, name, value)


_replaced: list[tuple[Any, str, Any]] = []
"""Where, what it is called, and what was there."""


def put(where: Any, **there: Any) -> None:
    """In the place of what is called so in a module or a class. AttributeError: it is called otherwise now."""
    for name, value in there.items():
        _replaced.append((where, name, getattr(where, name)))
        setattr(where, name, value)


def bound(bounds: Sequence[Bound]) -> None:
    """Smaller constants of the product; each is read where it is written."""
    for module, name, value in bounds:
        there = sys.modules[module]
        assert isinstance(getattr(there, name), int)
        put(there, **{name: value})


def _clocks(world: World) -> None:
    def wall() -> float:
        return world.current.wall_clock() if world.current is not None else EPOCH + world.now

    for real, ours in zip(CLOCKS, (wall, lambda: world.now, lambda: int(wall() * 1e9)), strict=True):
        _replace(real, ours)


def _replace(real: Callable[[], Any], ours: Callable[[], Any]) -> None:
    put(time, **{real.__name__: ours})
    for module, attribute in _places(real):
        put(module, **{attribute: ours})


@cache
def _places(real: Callable[[], Any]) -> list[tuple[ModuleType, str]]:
    """Where our own modules have a name for it."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in OURS]
    return [(module, attribute) for module in modules for attribute, value in vars(module).items() if value is real]


def _chance(world: World) -> None:
    drawn = random.Random(world.random.random())
    random.seed(world.random.random())
    put(os, urandom=drawn.randbytes)
    put(random, _urandom=drawn.randbytes)


def _descriptors(world: World) -> None:
    write = os.write

    def written(number: int, data: bytes) -> int:
        if world.current is None or number < 1000:
            return write(number, data)
        there = world.current.descriptors.get(number)
        if there is None:
            raise OSError("a descriptor is written to that is not open")
        return int(there.os_write(data))

    put(os, write=written)


def _lmdb(world: World, file: File) -> None:
    locks = Locks(world)
    put(transports.lmdb.thread, Thread=Thread, SimpleQueue=SimpleQueue)
    put(transports.lmdb.locks, fcntl=locks, os=locks)
    put(transports.lmdb.environment, lmdb=LMDB(file), check_file=lambda path: None)
    put(
        transports.lmdb.transport,
        make=lambda directory: None,
        network_file_system=lambda directory: "",
        Peers=Pings(world),
    )
    held: list[Listener] = []

    def bound(directory: Any) -> Listener:
        held[:] = [Listener(world, lambda: 64_000)]
        return held[0]

    def connected(directory: Any) -> Connecting:
        if not held:
            raise FileNotFoundError
        return Connecting(held[0].connected())

    put(transports.lmdb.relay, _bound=bound, _connected=connected)


class _Asyncpg(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        return getattr(asyncpg, name)


def _postgres(server: postgres_server.Server) -> None:
    async def connect(way: object, **options: object) -> postgres_server.Link:
        return await postgres_server.connect(server)

    async def fit(connection: object, schema: str, *, migrate: bool) -> None:
        await asyncio.sleep(0)

    put(transports.postgres.server, asyncpg=_Asyncpg(connect=connect))
    put(transports.postgres.schema, fit=fit)
