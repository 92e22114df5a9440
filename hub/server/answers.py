"""Answers to the requests that are taken past the parser: each has its place, and all of a turn are written together.

Theory of operation. In a turn of the event loop many connections have sent something. To read, judge and write for one
after the other costs up to half as much again, for the kernel's code and the interpreter's drive each other out of the
processor's caches. So an answer waits in its `Owed` until all that came in this turn is read, and a `Turn` has them
written then, one connection after the other, with one write for all answers of a connection. Who sends one request
and waits for its answer loses nothing by it: what is on the loop's list is done before it waits for anything new.

What must hold: answers go out before what they set off. A `Turn` is expected before a publication is taken, so that a
push to thousands of subscribers, which is put on the loop's list after it, does not hold up the publisher. And a
connection that owes an answer is not closed as idle in between: `HeadBounds` looks before it ends one.
"""

import asyncio
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

from hub.fanout.wire import RawHeaders


class Owing(Protocol):
    """A connection that owes answers."""

    def answer_soon(self) -> None:
        """One of them is there now."""

    def write_owed(self) -> None:
        """Write those that are there."""


class Owed:
    """The place of an answer among those that a connection owes, and the answer once it is there."""

    __slots__ = ("_connection", "answer")

    def __init__(self, connection: Owing) -> None:
        self._connection = connection
        self.answer: tuple[RawHeaders, bytes, int] | None = None

    def reply(self, headers: RawHeaders, body: bytes, status: int = 200) -> None:
        """`hub.fanout.wire.Replies`."""
        self.answer = (headers, body, status)
        self._connection.answer_soon()


class Turn:
    """One turn of an event loop, at whose end answers are written."""

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "Turn"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._writing: list[Owing] = []
        self.expected = False
        """Whether what is owed is written in this turn: looked at for each request, before `expect`."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Turn":
        """There is one for each loop."""
        found = cls._of_loops.get(loop)
        if found is None:
            found = cls._of_loops[loop] = cls()
        return found

    def expect(self) -> None:
        """There may be answers soon: they are written before what is put on the loop's list from now on."""
        self.expected = True
        asyncio.get_running_loop().call_soon(self._write)

    def add(self, connection: Owing) -> None:
        """It has answers to write."""
        self._writing.append(connection)
        if not self.expected:
            self.expect()

    def _write(self) -> None:
        writing, self._writing = self._writing, []
        self.expected = False
        for connection in writing:
            connection.write_owed()
