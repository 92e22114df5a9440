"""Answers to the requests that are taken past the parser: each has its place, and all of a turn are written together.

Theory of operation. In a turn of the event loop many connections have sent something. To read, judge and write for one
after the other costs up to half as much again, for the kernel's code and the interpreter's drive each other out of the
processor's caches. So an answer waits in its `Owed` until all that came in this turn is read, and a `Turn` has them
written then, one connection after the other, with one write for all answers of a connection. Who sends one request
and waits for its answer loses nothing by it: what is on the loop's list is done before it waits for anything new.

What must hold: answers go out before what they set off. A `Turn` is expected before a publication is taken, so that a
push to thousands of subscribers, which is put on the loop's list after it, does not hold up the publisher. And a
connection that owes an answer is not closed as idle in between: `HubProtocol` says when its time runs again.
"""

import asyncio
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

from hub.fanout.wire import RawHeaders


class Owed:
    """The place of an answer among those that a connection owes, and the answer once it is there."""

    __slots__ = ("_on_answer", "answer")

    def __init__(self, on_answer: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self.answer: tuple[RawHeaders, bytes, int] | None = None

    def reply(self, headers: RawHeaders, body: bytes, status: int = 200) -> None:
        """`hub.fanout.wire.Replies`."""
        self.answer = (headers, body, status)
        self._on_answer()


class Turn:
    """One turn of an event loop, at whose end answers are written."""

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "Turn"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._writing: list[Callable[[], None]] = []
        self._expected = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Turn":
        """There is one for each loop."""
        found = cls._of_loops.get(loop)
        if found is None:
            found = cls._of_loops[loop] = cls()
        return found

    def expect(self) -> None:
        """There may be answers soon: they are written before what is put on the loop's list from now on."""
        if not self._expected:
            self._expected = True
            asyncio.get_running_loop().call_soon(self._write)

    def add(self, write: Callable[[], None]) -> None:
        """A connection has answers, which this writes."""
        self._writing.append(write)
        self.expect()

    def _write(self) -> None:
        writing, self._writing = self._writing, []
        self._expected = False
        for write in writing:
            write()
