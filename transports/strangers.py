"""What comes out of a store that any program may write to: ours is known, what is no update is skipped and told."""

import logging

from transports.contract import Position, Update
from transports.episode import Seldom

QUIET = 60.0
"""Seconds between two lines in the log about entries that are no updates."""

NO_UPDATE = (ValueError, KeyError, TypeError, RecursionError)
"""What `update_of_a_stranger` raises."""


OWN = 512
"""Appends of this process that are kept until its tail has them, each of less than `OWN_SIZE`."""
OWN_SIZE = 16 << 10

Text = str | bytes


class Own:
    """What this process appended and its tail has not seen yet: the tail need not decode it."""

    def __init__(self) -> None:
        self._kept: dict[Position, tuple[Text, Update]] = {}

    def keep(self, position: Position, text: Text, update: Update) -> None:
        if len(text) < OWN_SIZE:
            self._kept[position] = text, update
            if len(self._kept) > OWN:
                del self._kept[next(iter(self._kept))]

    def update(self, position: Position, text: Text) -> Update:
        """What stands there. Raises `NO_UPDATE`."""
        kept, update = self._kept.pop(position, ("", None))
        return update_of_a_stranger(text) if update is None or kept != text else update


def update_of_a_stranger(text: Text) -> Update:
    """The reverse of `Update.to_json`. Raises `NO_UPDATE` if there is none that can be sent to a browser."""
    update = Update.from_json(text)
    line = update.id + (update.type or "")
    "".join((line, update.data, *update.topics)).encode()
    if not update.id or not update.topics or any(character in line for character in "\r\n\0"):
        raise ValueError("an update has an id and topics; its id and type are one line")
    if not isinstance(update.private, bool) or not isinstance(update.retry, int | None):
        raise TypeError("private is true or false, retry is a number")
    if not isinstance(update.type, str | None):
        raise TypeError("type is text")
    return update


class Skipped:
    """Counts what is skipped. ``where``: the log's name in its store."""

    def __init__(self, logger: logging.Logger, where: str) -> None:
        self._logger, self._where = logger, where
        self._before, self._tell = 0, Seldom(QUIET)

    def add(self, entry: object, error: Exception) -> None:
        if self._tell.due():
            told = (self._where, entry, type(error).__name__, self._before)
            self._logger.warning("%s: entry %s is no update (%s) and is skipped, as %d before", *told)
        self._before += 1
