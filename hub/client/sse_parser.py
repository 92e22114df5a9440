"""Server-sent events, as a reader sees them: bytes in any portions become events (WHATWG HTML, section 9.2)."""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\n|\r")


class Event(NamedTuple):
    """What a stream hands out; ``id`` is the newest that the stream named."""

    id: str
    type: str
    data: str

    def __str__(self) -> str:
        """The event as it stood in the stream, less what goes without saying."""
        head = [f"id: {self.id}"] if self.id else []
        head += [f"event: {self.type}"] if self.type != "message" else []
        return "".join(f"{line}\n" for line in (*head, *(f"data: {line}" for line in self.data.split("\n"))))


class Parser:
    """Server-sent events out of bytes in any portions (WHATWG HTML, section 9.2.6).

    ``last_event_id`` is the cursor to come back with; ``retry`` the stream's wish, in seconds. What follows the last
    blank line is an event that never was.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: float | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._at_start = True
        self._after_return = False
        self._pieces: list[str] = []
        self._id = last_event_id
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` completes."""
        for line in self._lines(self._decode(chunk)):
            if line:
                self._field(line)
                continue
            self.last_event_id = self._id
            data, type, self._data, self._type = self._data, self._type, [], ""
            if data:
                yield Event(self._id, type or "message", "\n".join(data))

    def _lines(self, text: str) -> list[str]:
        """The lines that ``text`` ends. A CR ends one at once; an LF that opens the next portion belongs to it."""
        if not text:
            return []
        if self._at_start:
            text, self._at_start = text.removeprefix("\ufeff"), False
        if self._after_return and text:
            text, self._after_return = text.removeprefix("\n"), False
        if not text:
            return []
        self._after_return = text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        if lines:
            lines[0] = "".join((*self._pieces, lines[0]))
            self._pieces.clear()
        self._pieces.append(rest)
        return lines

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            # Python refuses to read numbers of thousands of digits.
            self.retry = int(value.lstrip("0")[:15] or "0") / 1000
