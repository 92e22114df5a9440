"""Who gets what: the index finds exactly those whom matching one by one would find."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.fanout.audiences import Audience, Audiences
from hub.fanout.wire import ASGI, TakenOver, Wire, chunk
from hub.matching.matchers import Matcher, Matching
from transports import Update

MATCHING = Matching("https://hub.example/.well-known/mercure")
TOPICS = ["a", "b", "https://example.com/books/1", "https://example.com/books/2"]
MATCHERS = [
    *(Matcher("exact", topic) for topic in TOPICS),
    *(Matcher("topic", pattern) for pattern in (*TOPICS, "https://example.com/books/{id}", "*")),
    Matcher("urlpattern", "https://example.com/books/:id"),
    Matcher("urlpattern", "*"),
]
some_matchers = st.lists(st.sampled_from(MATCHERS), min_size=1, max_size=3) | st.just(MATCHERS)
grants = st.lists(st.sampled_from(MATCHERS), max_size=2)
updates = st.builds(
    Update, st.just("id"), st.lists(st.sampled_from(TOPICS), min_size=1).map(tuple), st.just(""), st.booleans()
)


async def _nowhere(_message: object) -> None: ...


@dataclass(eq=False)
class Reader:
    """A member that only stands in lists."""

    wire: Wire = field(default_factory=lambda: ASGI(_nowhere, None))
    slot: int | None = None

    def fall_behind(self) -> None: ...


@given(st.lists(st.tuples(some_matchers, grants), max_size=8), updates)
def test_the_index_finds_exactly_the_audiences_that_want_it(
    subscriptions: list[tuple[list[Matcher], list[Matcher]]], update: Update
) -> None:
    """What the dictionaries find is what `wants` says of each, once, before and after others have left."""
    audiences = Audiences(MATCHING)
    entered = [audiences.enter(*subscription) for subscription in subscriptions]
    for kept in (entered, entered[::2]):
        for audience in entered[1::2] if kept is not entered else []:
            audiences.exit(audience)
        found = list(audiences.of(update))
        assert len(found) == len(set(found))
        assert set(found) == {audience for audience in kept if audience.wants(update)}


@given(some_matchers, grants, updates)
def test_wants_is_a_matcher_and_for_private_updates_a_grant(
    matchers: list[Matcher], granted: list[Matcher], update: Update
) -> None:
    """A private update needs a grant on any of its topics, whichever topic the matcher selected."""

    def matched(candidates: list[Matcher]) -> bool:
        return any(MATCHING.matches(matcher, topic) for matcher in candidates for topic in update.topics)

    audience = Audiences(MATCHING).enter(matchers, granted)
    assert audience.wants(update) == (matched(matchers) and (not update.private or matched(granted)))


def test_a_template_a_user_is_not_tried_for_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """What 10,000 users subscribed to with templates of their own costs an update for one of them nothing."""
    matching = Matching("https://hub.example/.well-known/mercure")
    audiences = Audiences(matching)
    mine = [audiences.enter([Matcher("topic", f"https://example.com/users/{n}/{{+any}}")], []) for n in range(10_000)]
    matches, tried = matching.matches, []

    def counted(matcher: Matcher, topic: str) -> bool:
        tried.append(matcher)
        return matches(matcher, topic)

    monkeypatch.setattr(matching, "matches", counted)
    assert list(audiences.of(Update("id", ("https://example.com/users/4711/books/1",)))) == [mine[4711]]
    assert len(tried) == 1


def test_an_empty_house_keeps_nothing() -> None:
    """When the last stream of the last audience is over, the index is empty."""
    audiences = Audiences(MATCHING)
    entered = [audiences.enter([matcher], []) for matcher in MATCHERS for _ in range(2)]
    for audience in entered:
        audiences.exit(audience)
    beginnings = (audiences._templates, audiences._url_patterns)
    kept = [audiences._all, audiences._index._at]
    kept += [part for each in beginnings for part in (each._matchers._at, each._lengths)]
    assert not any(kept)


def test_equal_matchers_and_grants_share_an_audience() -> None:
    """Order and repetition make no difference; other grants do."""
    audiences = Audiences(MATCHING)
    first, second = MATCHERS[:2]
    assert audiences.enter([first, second], []) is audiences.enter([second, first, first], [])
    assert audiences.enter([first], []) is not audiences.enter([first], [second])


@given(st.lists(st.integers(min_value=0, max_value=20), max_size=60))
def test_members_come_and_go_in_any_order(turns: list[int]) -> None:
    """A member is in the lists once, at its own slot; leaving twice is nothing."""
    audience = Audience(MATCHING, ((), ()))
    readers = [Reader() for _ in range(21)]
    inside: set[int] = set()
    for turn in turns:
        if turn in inside:
            audience.leave(readers[turn])
            audience.leave(readers[turn])
        else:
            audience.join(readers[turn])
        inside ^= {turn}
        assert {number for number, reader in enumerate(readers) if reader.slot is not None} == inside
        slots = [readers[number].slot for number in inside]
        assert [audience._others[slot] for slot in slots if slot is not None] == [readers[number] for number in inside]


class Socketlike(TakenOver):
    """A wire with a descriptor that nobody writes to."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.descriptor = number


class Indirect(ASGI):
    """A wire without a descriptor that counts what is sent through it."""

    __slots__ = ("_got", "_number")

    def __init__(self, number: int, got: Counter[int]) -> None:
        super().__init__(_nowhere, None)
        self._number, self._got = number, got

    def send(self, payload: bytes) -> bool:
        self._got[self._number] += 1
        return True


@given(st.data())
def test_whoever_is_live_gets_a_push_once(data: st.DataObject) -> None:
    """However members come and go between the parts of a push: each that is live at its end got it once.

    Those whose descriptor is written to, and those that are sent to through their wire. No part is too large.
    """
    audience = Audience(MATCHING, ((), ()))
    got: Counter[int] = Counter()
    direct = data.draw(st.lists(st.booleans(), min_size=12, max_size=12))
    readers = [Reader(Socketlike(n) if is_direct else Indirect(n, got)) for n, is_direct in enumerate(direct)]
    for reader in readers[:8]:
        audience.join(reader)

    def write(descriptor: int, framed: bytes) -> int:
        got[descriptor] += 1
        return len(framed)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hub.fanout.audiences.os.write", write)
        audience.begin(b"x", chunk(b"x"), 0.0)
        while audience.pending:
            for reader in data.draw(st.lists(st.sampled_from(readers), unique=True, max_size=3)):
                number = readers.index(reader)
                if reader.slot is None:
                    # It comes from the log, which it has read as far as the audience has come.
                    got[number] = 0
                    audience.join(reader)
                else:
                    assert audience.owes(reader) == (not got[number])
                    audience.leave(reader)
            most, before = data.draw(st.integers(min_value=1, max_value=4)), got.total()
            assert audience.push(most) == (got.total() - before, [])
            assert got.total() - before <= most
    assert {got[readers.index(reader)] for reader in readers if reader.slot is not None} <= {1}
    for members in (audience._direct, audience._others):
        assert [reader.slot for reader in members] == list(range(len(members)))
    assert [reader.wire.descriptor for reader in audience._direct] == audience._descriptors
