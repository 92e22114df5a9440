"""Who gets what: subscribers with the same matchers and the same grants form one audience, matched once for all.

Theory of operation. An audience keeps its live members in two kinds of lists. Connections that were taken over stand
in ``_direct``, with their descriptors in a parallel list: walking a list of numbers in the order of its memory and
calling ``os.write`` for each is what a delivery costs. All others stand in ``_others`` and are sent to through their
wires.

A push may be spread over several turns of the event loop, so that 10,000 writes hold nobody up. `begin` makes all
members owed the bytes; each `push` gives them to some more. Until `pending` is False again:

    the first ``_written`` of the direct members and the first ``_handed`` of the others have got the bytes, the
    rest are owed them,
    a member that joins is owed them too, and one that leaves moves no other across the border: a gap before it is
    closed with the last of those that have got them, a gap behind it with the last of all (`leave`)

Two things hold at every ``await``: a member of the lists has nothing buffered in this process, so that nothing is
asked before a write; and a descriptor in the list is open and this member's. The kernel gives a closed number to the
next connection, to whom a private update would go: `leave` must therefore be called before the event loop closes the
socket, which it does right after ``connection_lost``. ``tests/hub/fanout/test_audiences.py`` tries joins and leaves
in all orders, ``test_stream.py`` churns connections under private updates and finds no stranger's.

The index (`Audiences`) finds the audiences of an update: exact matchers by their topic, others by how they begin.
"""

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from hub.fanout.wire import TakenOver, Wire
from hub.matching.matchers import Matcher, Matching
from transports import Update, Visibility

FEW = 8
"""Matchers that are tried one by one, for the memory that a set would take for each subscriber."""
_NONE = frozenset[str]()  # an empty set is 216 bytes too


class Member(Protocol):
    """A live subscriber in its audience's lists."""

    wire: Wire
    slot: int | None
    """Its index in the list it is in; None while it is in none."""

    def fall_behind(self) -> None:
        """Not all of a push went out: leave, and go on from the dispatcher's cursor."""


AudienceKey = tuple[tuple[Matcher, ...], tuple[Matcher, ...]]
"""What makes an audience: matchers and grants, each once and in order."""


class Audience:
    """The live subscribers that get exactly the same updates.

    Two parallel lists serve the taken-over connections: walking a list of numbers is what the fan-out costs.
    A connection whose descriptor can't be written to directly stands in ``others``.
    """

    __slots__ = (
        "_descriptors",
        "_direct",
        "_exact",
        "_framed",
        "_handed",
        "_matching",
        "_others",
        "_patterns",
        "_payload",
        "_written",
        "key",
        "last_push",
        "size",
    )

    def __init__(self, matching: Matching, key: AudienceKey) -> None:
        self.key = key
        self._matching = matching
        many = len(key[0]) > FEW
        self._exact = frozenset(m.pattern for m in key[0] if _indexed(m) is not m) if many else _NONE
        self._patterns = tuple(m for m in key[0] if _indexed(m) is m) if many else key[0]
        self._descriptors: list[int] = []
        self._direct: list[Member] = []
        self._others: list[Member] = []
        self._payload: bytes | None = None
        self._framed = b""
        self._written = self._handed = 0
        self.last_push = 0.0
        """Event loop time of the newest push, in seconds."""
        self.size = 0
        """Streams of this audience, live or behind."""

    @property
    def topics(self) -> Sequence[str]:
        """All that its matchers select, where they are exact; else none."""
        matchers = self.key[0]
        return [each.pattern for each in matchers] if all(each.is_exact for each in matchers) else ()

    def wants(self, update: Update | Visibility) -> bool:
        """Does a matcher select the update, and a grant allow it if it is private? (Mercure, "Subscribers")"""
        chosen = not self._exact.isdisjoint(update.topics) or self._matching.any(self._patterns, update.topics)
        return chosen and (not update.private or self.may_read(update))

    def may_read(self, update: Update | Visibility) -> bool:
        """Does a grant match one of a private update's topics? Which matcher selected it does not count."""
        return self._matching.any(self.key[1], update.topics)

    def join(self, member: Member) -> None:
        """From now on the member rides on `push`. Nothing of it may wait in user space."""
        members = self._direct if member.wire.descriptor >= 0 else self._others
        member.slot = len(members)
        members.append(member)
        if members is self._direct:
            self._descriptors.append(member.wire.descriptor)

    def leave(self, member: Member) -> None:
        """Take the member out of the lists, at once: its descriptor's number may soon be a stranger's."""
        slot = member.slot
        if slot is None:
            return
        member.slot = None
        if self._is_direct(member, slot):
            self._written = self._take_out(self._direct, slot, self._written)
            self._descriptors.pop()
        else:
            self._handed = self._take_out(self._others, slot, self._handed)

    def _is_direct(self, member: Member, slot: int) -> bool:
        return slot < len(self._direct) and self._direct[slot] is member

    def _take_out(self, members: list[Member], slot: int, reached: int) -> int:
        """How many of them a push under way has reached then; ``reached``: before."""
        if slot < reached:
            # The gap goes to the end of those who have got it, so that nobody gets it twice or never.
            reached -= 1
            self._move(members, reached, slot)
            slot = reached
        self._move(members, len(members) - 1, slot)
        members.pop()
        return reached

    def _move(self, members: list[Member], slot: int, to: int) -> None:
        if slot != to:
            member = members[to] = members[slot]
            if members is self._direct:
                self._descriptors[to] = self._descriptors[slot]
            member.slot = to

    @property
    def pending(self) -> bool:
        """Is a push under way?"""
        return self._payload is not None

    def owes(self, member: Member) -> bool:
        """Is a push under way that this live member has not got yet?"""
        slot = member.slot
        if slot is None:
            return self.pending
        return self.pending and slot >= (self._written if self._is_direct(member, slot) else self._handed)

    def begin(self, payload: bytes, framed: bytes, now: float) -> None:
        """From now on, and until `push` is over with it, all members are owed these bytes. ``framed``: as a `chunk`."""
        self.last_push = now
        self._payload, self._framed, self._written, self._handed = payload, framed, 0, 0

    def push(self, most: int) -> tuple[int, Sequence[Member]]:
        """Give the bytes to at most so many of those who are owed them; the push is over when `pending` says so.

        Says how many that were, and which of them could not take all: they must leave.
        """
        payload = self._payload
        if payload is None:
            return 0, []
        begin, end = self._written, min(self._written + most, len(self._direct))
        slow = self._push_direct(self._framed, begin, end) if end > begin else []
        self._written = end
        written = end - begin
        begin, end = self._handed, min(self._handed + most - written, len(self._others))
        slow.extend(member for member in self._others[begin:end] if not member.wire.send(payload))
        self._handed = end
        if self._written == len(self._direct) and self._handed == len(self._others):
            self._payload, self._framed, self._written, self._handed = None, b"", 0, 0
        return written + end - begin, slow

    def _push_direct(self, framed: bytes, begin: int, end: int) -> list[Member]:
        refused: list[tuple[int, int]] = []
        write, size = os.write, len(framed)
        for slot, descriptor in enumerate(self._descriptors[begin:end], begin):
            try:
                count = write(descriptor, framed)
            except BlockingIOError:
                count = 0
            except OSError:
                count = -1
            if count != size:
                refused.append((slot, count))
        members = [(self._direct[slot], count) for slot, count in refused]
        return [member for member, count in members if not _sent(member.wire, framed, count)]


T = TypeVar("T", bound=Hashable)


class _Sets(Generic[T]):
    """Sets by key. Most have one member, such as a user's own topic: a set for each would be a quarter KiB."""

    def __init__(self) -> None:
        self._at: dict[object, T | dict[T, None]] = {}

    def at(self, key: object) -> Iterable[T]:
        present = self._at.get(key)
        if present is None:
            return ()
        return present if isinstance(present, dict) else (present,)

    def add(self, key: object, member: T) -> bool:
        """Whether it is the first."""
        present = self._at.get(key)
        if present is None:
            self._at[key] = member
        elif isinstance(present, dict):
            present[member] = None
        else:
            self._at[key] = {present: None, member: None}
        return present is None

    def remove(self, key: object, member: T) -> bool:
        """Whether it was the last."""
        present = self._at[key]
        if isinstance(present, dict):
            del present[member]
            if present:
                return False
        del self._at[key]
        return True


class _Beginnings:
    """Matchers by what all that they select begins with; a text is looked up once for each length of those."""

    def __init__(self) -> None:
        self._matchers: _Sets[Matcher] = _Sets()
        self._lengths: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._lengths)

    def add(self, beginning: str, matcher: Matcher) -> None:
        self._matchers.add(beginning, matcher)
        self._lengths[len(beginning)] += 1

    def remove(self, beginning: str, matcher: Matcher) -> None:
        self._matchers.remove(beginning, matcher)
        self._lengths[len(beginning)] -= 1
        if not self._lengths[len(beginning)]:
            del self._lengths[len(beginning)]

    def of(self, text: str) -> Iterator[Matcher]:
        """Those that may select it."""
        for length in self._lengths:
            yield from self._matchers.at(text[:length])


class Audiences:
    """All audiences, found by an update's topics.

    Through dictionaries: exact matchers by their topic, templates by how a topic begins, URL Patterns by how its place
    does (`hub.matching.plainpatterns`). So one user's are not tried for another's topic.
    """

    def __init__(self, matching: Matching) -> None:
        self._matching = matching
        self._all: dict[AudienceKey, Audience] = {}
        self._index: _Sets[Audience] = _Sets()
        self._templates, self._url_patterns = _Beginnings(), _Beginnings()

    def __bool__(self) -> bool:
        return bool(self._all)

    def enter(self, matchers: Iterable[Matcher], grants: Iterable[Matcher]) -> Audience:
        """The audience for these; to be left with `exit` once for each `enter`."""
        key = (_each_once(matchers), _each_once(grants))
        audience = self._all.get(key)
        if audience is None:
            audience = self._all[key] = Audience(self._matching, key)
            for place in set(map(_indexed, key[0])):
                if self._index.add(place, audience) and isinstance(place, Matcher):
                    self._beginnings_of(place).add(self._matching.beginning(place), place)
        audience.size += 1
        return audience

    def sizes(self) -> Iterator[tuple[Sequence[Matcher], int]]:
        """The matchers of each audience, and how many streams it has."""
        return ((key[0], audience.size) for key, audience in self._all.items())

    def _beginnings_of(self, matcher: Matcher) -> _Beginnings:
        return self._url_patterns if matcher.type == "urlpattern" and not matcher.is_wildcard else self._templates

    def exit(self, audience: Audience) -> None:
        """One stream of the audience is over; the last one takes the audience with it."""
        audience.size -= 1
        if not audience.size:
            del self._all[audience.key]
            for place in set(map(_indexed, audience.key[0])):
                if self._index.remove(place, audience) and isinstance(place, Matcher):
                    self._beginnings_of(place).remove(self._matching.beginning(place), place)

    def of(self, update: Update) -> Iterable[Audience]:
        """The audiences that get the update, each once."""
        found: dict[Audience, None] = {}
        for topic in update.topics:
            found.update(dict.fromkeys(self._index.at(topic)))
            for matcher in self._candidates(topic):
                if self._matching.matches(matcher, topic):
                    found.update(dict.fromkeys(self._index.at(matcher)))
        return (audience for audience in found if not update.private or audience.may_read(update))

    def _candidates(self, topic: str) -> Iterator[Matcher]:
        yield from self._templates.of(topic)
        if self._url_patterns:
            yield from self._url_patterns.of(self._matching.place(topic) or "")


def _sent(wire: Wire, framed: bytes, count: int) -> bool:
    assert isinstance(wire, TakenOver)  # noqa: S101 - only those have a descriptor
    return wire.sent(framed, count)


def _each_once(matchers: Iterable[Matcher]) -> tuple[Matcher, ...]:
    """The same for the same matchers; those of most requests are one, and not copied."""
    matchers = tuple(matchers)
    return matchers if len(matchers) < 2 else tuple(sorted(set(matchers)))


def _indexed(matcher: Matcher) -> str | Matcher:
    """The key of a matcher in the index: its topic if it has just one."""
    return matcher.pattern if matcher.is_exact else matcher
