"""Sockets: bytes that take their time, buffers that are full, connections that break, numbers that are given again.

A connection is two `Socket`s, and what one has sent and the other has not read is bounded, as in a kernel. The hub's
side has a `Transport` as asyncio's are, and a descriptor for ``os.write``. A `Network` can be cut: what is sent while
a connection `Socket.swallows` arrives when it no longer does, as TCP has it.
"""

import asyncio
from collections.abc import Callable
from socket import AF_INET
from typing import Any

from tests.simulation.world import Process, World
from transports.grouping import settle

SHORT = 0.1
"""How often the kernel takes only a part of what it has room for."""


class Socket:
    """One end. ``room``: bytes that may be under way to the other end, or wait there to be read."""

    def __init__(self, world: World, room: int) -> None:
        self.world, self.room = world, room
        self.other: Socket
        self.arrived = bytearray()
        self.underway = 0
        """Bytes that this end has sent and the other has not read."""
        self.ended = False
        """The other end will send no more; seen once everything before it was read."""
        self.reset = False
        self.closed = False
        self.swallows = False
        self.on_data: Callable[[], object] = lambda: None
        self.on_room: Callable[[], object] = lambda: None
        self._last = 0.0
        self._held: list[Callable[[], object]] = []

    def _arrive(self, event: Callable[[], object]) -> None:
        """In the order in which it was sent, at a time that the seed draws."""
        seconds = 1e-4 + self.world.random.expovariate(1000.0)
        self._last = max(self._last, self.world.now + seconds)
        self.world.at(self._last, lambda: self._held.append(event) if self.swallows else event())

    def heal(self) -> None:
        self.swallows = False
        held, self._held = self._held, []
        for event in held:
            event()

    def send(self, data: bytes | bytearray) -> int:
        """Raises BlockingIOError, and OSError once the connection is over."""
        if self.reset or self.closed:
            raise BrokenPipeError
        room = min(self.room - self.underway, len(data))
        if room <= 0:
            raise BlockingIOError
        if self.world.random.random() < SHORT:
            room = 1 + int(self.world.random.random() * room)
        part = bytes(memoryview(data)[:room])
        self.underway += room
        self._arrive(lambda: self.other._take(part))
        return room

    def _take(self, part: bytes) -> None:
        if self.closed:  # nobody reads it: the kernel answers with a reset
            self.other.broken()
            return
        self.arrived += part
        self.on_data()

    def read(self) -> bytes:
        """What has arrived. Raises ConnectionResetError."""
        if self.reset:
            raise ConnectionResetError
        data = bytes(self.arrived)
        self.arrived.clear()
        self.other.underway -= len(data)
        if data:
            self.other.on_room()
        return data

    def close(self) -> None:
        """With data that was not read, the other end is reset."""
        if self.closed:
            return
        self.closed = True
        self.on_data = self.on_room = lambda: None
        self._arrive(self.other.broken if self.arrived else self.other._end)

    def _end(self) -> None:
        self.ended = True
        self.on_data()

    def broken(self) -> None:
        """A reset has come."""
        if not self.reset and not self.closed:
            self.reset = True
            self.on_data()
            self.on_room()


def pair(world: World, room: int) -> tuple[Socket, Socket]:
    ends = Socket(world, room), Socket(world, room)
    ends[0].other, ends[1].other = ends[1], ends[0]
    return ends


class Transport(asyncio.Transport):
    """asyncio's over a `Socket`; it has the descriptor until right after ``connection_lost``."""

    def __init__(self, process: Process, socket: Socket, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80), "socket": self})
        self._process, self._loop, self._socket, self._protocol = process, process.loop, socket, protocol
        self._buffer = bytearray()
        self._closing = self._lost = self._paused = self._reading_paused = False
        self._eof_seen = False
        self._high = 64 * 1024
        self.number = process.descriptor(self)
        process.on_death.append(self._die)
        socket.on_data = lambda: self._loop.call_soon(self._read)
        socket.on_room = lambda: self._loop.call_soon(self._flush)
        protocol.connection_made(self)
        self._loop.call_soon(self._read)

    def fileno(self) -> int:
        return self.number

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.2", 80)

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.1", 1)

    def os_write(self, data: bytes) -> int:
        """``os.write`` to the descriptor."""
        return self._socket.send(data)

    def _die(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        if self._lost or self._reading_paused or self._closing:
            return
        try:
            data = self._socket.read()
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._protocol.data_received(data)
        if self._socket.ended and not self._socket.arrived and not self._eof_seen and not self._lost:
            self._eof_seen = True
            if not self._protocol.eof_received():
                self.close()

    def write(self, data: Any) -> None:
        if self._lost or not data:
            return
        count = 0
        if not self._buffer:
            try:
                count = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self._lose(error)
                return
        if count < len(data):
            self._buffer += memoryview(data)[count:]
            self._pause_or_resume()

    def _flush(self) -> None:
        if self._lost:
            return
        if self._socket.reset:
            self._read()
            return
        if not self._buffer:
            return
        try:
            del self._buffer[: self._socket.send(self._buffer)]
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        self._pause_or_resume()
        if self._buffer:
            return
        if self._closing:
            self._lost = True
            self._connection_lost(None)

    def _pause_or_resume(self) -> None:
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and len(self._buffer) <= self._high // 4:
            self._paused = False
            self._protocol.resume_writing()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._buffer:
            self._lost = True
            self._loop.call_soon(self._connection_lost, None)

    def abort(self) -> None:
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._buffer.clear()
        self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            del self._process.descriptors[self.number]
            self._process.on_death.remove(self._die)
            self._socket.close()

    def is_closing(self) -> bool:
        return self._closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._pause_or_resume()

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self._read)

    def is_reading(self) -> bool:
        return not self._reading_paused


class Listener:
    """A socket that is bound; connections are refused until it listens, and once its process is gone."""

    family = AF_INET

    def __init__(self, world: World, room: Callable[[], int]) -> None:
        self.world, self.room = world, room
        self.process: Process | None = None
        self.listening = False
        self.closed = False
        self._make: Callable[[], asyncio.Protocol] | None = None

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.2", 80)

    def listen(self, backlog: int = 0) -> None:
        self.listening = True

    def serve(self, process: Process, make: Callable[[], asyncio.Protocol]) -> "Listener":
        """As ``create_server`` does; it is its own server."""
        self.process, self._make, self.listening = process, make, True
        process.on_death.append(self.close)
        return self

    @property
    def sockets(self) -> list["Listener"]:
        return [self]

    def close(self) -> None:
        self.closed, self.listening = True, False

    def is_serving(self) -> bool:
        return self.listening

    async def wait_closed(self) -> None: ...

    def connected(self) -> Socket:
        """A client's end of a new connection. Raises ConnectionRefusedError."""
        if not self.listening:
            raise ConnectionRefusedError
        mine, theirs = pair(self.world, self.room())
        self.world.later(self.world.random.expovariate(2000.0), lambda: self._accept(theirs))
        return mine

    def _accept(self, socket: Socket) -> None:
        process, make = self.process, self._make
        if process is None or make is None or not process.alive or self.closed:
            socket.other.broken()
            return

        def accept() -> None:
            if self.closed:
                socket.other.broken()
            else:
                Transport(process, socket, make())

        process.loop.call_soon(accept)


class Connecting:
    """A client's socket in the hands of a process of the product."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def attach(self, process: Process, protocol: asyncio.Protocol) -> tuple[Transport, asyncio.Protocol]:
        return Transport(process, self._socket, protocol), protocol


class Connection:
    """A client's, for a coroutine that reads and writes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Socket) -> None:
        self.socket = socket
        self._loop = loop
        self._waiting: asyncio.Future[None] | None = None
        self._out = bytearray()
        socket.on_data = self._wake
        socket.on_room = lambda: loop.call_soon(self._flush)

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._loop.call_soon(settle, waiting, None)

    def write(self, data: bytes) -> None:
        """All of it, as soon as there is room."""
        self._out += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()

    async def read(self) -> bytes:
        """What has arrived, at least a byte; empty at the end. Raises ConnectionResetError."""
        while True:
            data = self.socket.read()
            if data or self.socket.ended:
                return data
            self._waiting = self._loop.create_future()
            await self._waiting

    def close(self) -> None:
        self.socket.close()
