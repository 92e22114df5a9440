"""The real dispatcher, audiences, streams and log on wires that fill up, break and close: nobody misses or repeats."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from random import Random

import pytest

from hub.fanout.audiences import Audiences
from hub.fanout.dispatcher import Dispatcher
from hub.fanout.stream import Log, Phase, Stream, Streams
from hub.fanout.timers import TimerWheel
from hub.fanout.wire import TakenOver, chunk
from hub.matching.matchers import Matcher, Matching
from transports import Update
from transports.memory import MemoryTransport

MATCHING = Matching("https://hub.example/.well-known/mercure")
A, B, ALL = Matcher("exact", "a"), Matcher("exact", "b"), Matcher("topic", "*")
MATCHERS = [(A,), (B,), (A, B), (ALL,)]
GRANTS = [(), (A,), (ALL,)]
TOPICS = [("a",), ("b",), ("a", "b"), ("c",)]


class Kernel:
    """Descriptors, of which the one that was closed last is the next to be given out."""

    def __init__(self) -> None:
        self.wires: dict[int, Pipe] = {}
        self.free = list(range(100))

    def write(self, descriptor: int, framed: bytes) -> int:
        count = self.wires[descriptor].accept(framed)
        if framed and not count:
            raise BlockingIOError
        return count


class Pipe(TakenOver):
    """A connection with room for some bytes until its reader reads."""

    def __init__(self, kernel: Kernel, direct: bool, room: float) -> None:
        super().__init__()
        self.kernel, self.open, self.got, self.buffer = kernel, True, b"", b""
        self.room = self.size = room
        self.number = kernel.free.pop()
        kernel.wires[self.number] = self
        self.descriptor = self.number if direct else -1

    def accept(self, framed: bytes) -> int:
        assert self.open, "a descriptor that was closed"
        count = int(min(len(framed), self.room))
        self.room -= count
        self.got += framed[:count]
        return count

    def send(self, payload: bytes) -> bool:
        framed = chunk(payload)
        return self.sent(framed, 0 if self.buffer else self.accept(framed))

    def sent(self, framed: bytes, count: int) -> bool:
        self.buffer += framed[count:]
        return not self.buffer

    def waiting(self) -> int:
        return len(self.buffer)

    def read(self) -> None:
        """The reader takes what there is."""
        self.room, waited = self.size, self.buffer
        self.buffer = self.buffer[self.accept(self.buffer) :]
        if waited and not self.buffer:
            self.listener.drained()

    def close(self) -> None:
        self.open, self.descriptor = False, -1
        self.listener.lost()
        del self.kernel.wires[self.number]
        self.kernel.free.append(self.number)


class House:
    """A dispatcher with its subscribers, and what each of them has to get."""

    def __init__(self, random: Random) -> None:
        self.random, self.kernel = random, Kernel()
        self.transport = MemoryTransport("memory://")
        self.log, self.audiences = Log(self.transport), Audiences(MATCHING)
        self.streams = Streams(self.log, self.audiences, TimerWheel(), heartbeat=0, dispatch_timeout=0)
        self.dispatcher = Dispatcher(self.log, self.audiences, self.streams)
        self.updates: list[Update] = []
        self.everybody: list[tuple[Stream, Pipe, int]] = []

    @property
    def present(self) -> list[Pipe]:
        return [pipe for _, pipe, _ in self.everybody if pipe.open]

    async def publish(self) -> None:
        topics, private = self.random.choice(TOPICS), self.random.random() < 0.4
        self.updates.append(Update(f"u{len(self.updates)}", topics, "x" * 20, private))
        await self.transport.append(self.updates[-1])

    def enter(self) -> None:
        pipe = Pipe(self.kernel, self.random.random() < 0.8, self.random.choice([100, 200, inf]))
        audience = self.audiences.enter(self.random.choice(MATCHERS), self.random.choice(GRANTS))
        end = len(self.updates)
        known = self.random.choice([self.log.passed(audience), self.random.randint(max(0, end - 5), end)])
        stream = Stream(self.streams, pipe, audience, known, inf)
        self.everybody.append((stream, pipe, known))
        stream.start()

    async def turn(self) -> None:
        match self.random.randrange(6):
            case 0 | 1:
                await self.publish()
            case 2 if len(self.present) < 50:
                self.enter()
            case 3 if self.present:
                self.random.choice(self.present).close()
            case 4:
                for pipe in self.present:
                    pipe.read()
            case 5 if live := [stream for stream, _, _ in self.everybody if stream.phase is Phase.LIVE]:
                # As when a heartbeat does not go out, which may be in the middle of a push.
                slow = self.random.choice(live)
                slow.fall_behind()
                slow.drained()
        if self.random.random() < 0.8:
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Everybody reads until all are live."""
        async with asyncio.timeout(10):
            while self.log.position < len(self.updates) or any(
                s.phase in (Phase.READING, Phase.WAITING_FOR_READER) for s in self.streams.open
            ):
                for pipe in self.present:
                    pipe.read()
                await asyncio.sleep(0)

    def check(self) -> None:
        for stream, pipe, known in self.everybody:
            wanted = [update.id for update in self.updates[known:] if stream.audience.wants(update)]
            got = re.findall(r"^id: (\w+)\n", pipe.got.decode(), re.MULTILINE)
            assert got == (wanted if pipe.open else wanted[: len(got)])


@contextmanager
def kernel_of(house: House, turn: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hub.fanout.audiences.os.write", house.kernel.write)
        patched.setattr("hub.fanout.dispatcher.TURN", turn)
        patched.setattr("hub.fanout.stream.PAGE", turn)
        yield


async def live(house: House) -> None:
    await house.transport.open()
    dispatching = asyncio.ensure_future(house.dispatcher.run())
    for _ in range(80):
        await house.turn()
    await house.settle()
    house.check()
    for pipe in house.present:
        pipe.close()
    await house.transport.close()
    await dispatching
    assert not house.streams.open
    assert not house.audiences._all


@pytest.mark.parametrize("turn", [1, 2, 3])
async def test_each_subscriber_gets_an_unbroken_run(turn: int) -> None:
    """However they come, fall behind, catch up and go while pushes last: what each wants from its cursor on, once."""
    for seed in range(100):
        house = House(Random(seed))
        with kernel_of(house, turn):
            await live(house)
