"""The index of topics in PostgreSQL. It is begun by whoever wants it, kept by all, and filled by the hub that leads.

Theory of operation. From `begin_index` on the server's ``append`` adds what it appends, whoever asks; ``indexed_from``
says since when. The hub that leads (`leading`) then goes through what was there before, a page after the other, and
brings ``indexed_from`` down to 0: only then is it used. When a leader dies the next one begins anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transports.contract import Entry, HistoryTrimmed, Page, Position, TopicIndex, Update
from transports.postgres.lines import Questions
from transports.postgres.schema import named
from transports.strangers import NO_UPDATE, update_of_a_stranger

STATE = "SELECT indexed_from FROM mercure.format"
BEGIN = "SELECT mercure.begin_index()"
OLDER = (
    "SELECT position, update FROM mercure.updates WHERE position > $1 AND position < $2 ORDER BY position LIMIT 1000"
)
ADD = """
WITH gone AS (DELETE FROM mercure.topics WHERE position = ANY ($2))
INSERT INTO mercure.topics (topic, position)
  SELECT topic, given.position FROM unnest($1::text[], $2::bigint[]) AS given (topic, position)
    JOIN mercure.updates ON updates.position = given.position
"""
DONE = "UPDATE mercure.format SET indexed_from = 0"
PAGE = "SELECT positions, texts, reached, previous FROM mercure.page_of($1, $2, $3, $4)"
NEWEST = "SELECT topics, positions, texts FROM mercure.newest_of($1, $2)"
TOPICS = "SELECT mercure.topics_from($1, $2)"


class PostgresIndex(TopicIndex):
    """``reads``: where to ask while the transport is open."""

    def __init__(self, reads: Questions, schema: str) -> None:
        self._reads, self._schema = reads, schema

    async def page_of(self, topics: Sequence[str], after: Position, limit: int, size: int) -> Page:
        ((positions, texts, reached, previous),) = await self._ask(PAGE, list(topics), after, limit, size)
        if after and previous not in (None, after):
            raise HistoryTrimmed
        return Page.of(_entries(positions or (), texts or ()), size, max(after, reached or 0))

    async def topics(self, beginning: str, limit: int) -> Sequence[str]:
        return [topic for (topic,) in await self._ask(TOPICS, beginning, limit)]

    async def newest_of(self, topics: Sequence[str], depth: int) -> Mapping[str, Sequence[Entry]]:
        ((found, positions, texts),) = await self._ask(NEWEST, list(topics), depth)
        newest: dict[str, list[Entry]] = {}
        for topic, position, text in zip(found or (), positions or (), texts or (), strict=True):
            for entry in _entries((position,), (text,)):
                newest.setdefault(topic, []).append(entry)
        return newest

    async def _ask(self, query: str, *arguments: Any) -> Any:
        return await self._reads.ask(named(query, self._schema), *arguments)


class Filling:
    """The index as one process knows it. ``whole``: it may be used."""

    def __init__(self, schema: str, *, wanted: bool) -> None:
        self._schema, self._wanted = schema, wanted
        self._since: Position | None = None
        self._after = 0

    @property
    def whole(self) -> bool:
        return self._since == 0

    async def look(self, line: Questions) -> None:
        """See how far it is; begin it if it is wanted."""
        self._since = await line.value(named(STATE, self._schema))
        if self._since is None and self._wanted:
            await line.ask(named(BEGIN, self._schema))
            self._since = await line.value(named(STATE, self._schema))

    async def fill(self, line: Questions) -> None:
        """Add what is older; only for the one that leads."""
        while self._since:
            rows = await line.ask(named(OLDER, self._schema), self._after, self._since)
            pairs = [(topic, position) for position, text in rows for topic in _topics(text)]
            if pairs:
                await line.ask(named(ADD, self._schema), [each[0] for each in pairs], [each[1] for each in pairs])
            if not rows:
                await line.ask(named(DONE, self._schema))
                self._since = 0
            else:
                self._after = rows[-1][0]


def _topics(text: str) -> Sequence[str]:
    update = _update(text)
    return update.topics if update is not None else ()


def _entries(positions: Sequence[Position], texts: Sequence[str]) -> list[Entry]:
    found = zip(positions, map(_update, texts), strict=True)
    return [Entry(position, update) for position, update in found if update is not None]


def _update(text: str) -> Update | None:
    """None: what a stranger wrote there is none, which is told when the log is read."""
    try:
        return update_of_a_stranger(text)
    except NO_UPDATE:
        return None
