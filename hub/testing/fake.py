"""A hub without a store, a socket or a subscriber: what is published is checked as a hub checks it, and remembered."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hub.generations import PATH
from hub.matching.matchers import Matcher, Matching
from hub.web.publication import form_of, update_from
from hub.web.publication import idempotency_key as checked_key


class Published(NamedTuple):
    """One update as a program has published it. ``data``: the text that a subscriber would get."""

    id: str
    topics: tuple[str, ...]
    data: str
    private: bool
    type: str | None
    retry: int | None

    @property
    def json(self) -> Any:
        """The data, where it is JSON."""
        return json.loads(self.data)


@dataclass
class FakeHub:
    """In the place of `hub.Hub` or a client. ``fails``: raised by the next publications, while it is set."""

    published: list[Published] = field(default_factory=list)
    fails: Exception | None = None
    _matching: Matching = field(default_factory=lambda: Matching(f"https://hub.example{PATH}"))
    _keys: dict[str, str] = field(default_factory=dict)

    async def publish(
        self,
        topic: str | Sequence[str],
        data: object = "",
        *,
        private: bool = False,
        id: str | None = None,
        type: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """As `hub.Hub.publish`: raises `hub.Problem` for what a hub would refuse."""
        if self.fails is not None:
            raise self.fails
        form = form_of(topic, data, private=private, id=id, type=type, retry=retry)
        update = update_from(form, self._matching)
        key = checked_key([idempotency_key]) if idempotency_key is not None else None
        if key is not None and key in self._keys:
            return self._keys[key]
        self.published.append(Published(update.id, update.topics, update.data, private, type, retry))
        if key is not None:
            self._keys[key] = update.id
        return update.id

    def publish_threadsafe(self, topic: str | Sequence[str], data: object = "", **fields: Any) -> Future[str]:
        """As `hub.Hub.publish_threadsafe`."""
        done: Future[str] = Future()
        try:
            done.set_result(asyncio.run(self.publish(topic, data, **fields)))
        except Exception as error:
            done.set_exception(error)
        return done

    def to(self, pattern: str) -> list[Published]:
        """What was published to a topic: exact, a URI Template or ``*``."""
        wanted = (Matcher("topic", pattern),)
        return [each for each in self.published if self._matching.any(wanted, each.topics)]
