"""Updates as they are stored, and as they go out."""

import json

from hypothesis import given
from hypothesis import strategies as some
from sse_starlette.event import ServerSentEvent

from transports import Entry, Page, Update, Visibility
from transports.lmdb.rows import milliseconds_of, page_of, rest_of, row_of, update_of

TEXT = some.text(some.characters(exclude_categories=["Cs"]))
UPDATES = some.builds(
    Update,
    id=TEXT,
    topics=some.lists(TEXT, min_size=1).map(tuple),
    data=TEXT,
    private=some.booleans(),
    type=some.none() | TEXT,
    retry=some.none() | some.integers(min_value=0),
    idempotency_key=some.none() | TEXT,
    fingerprint=some.none() | TEXT,
)


@given(UPDATES)
def test_round_trip(update: Update) -> None:
    """Whatever is stored is read back the same."""
    assert Update.from_json(update.to_json()) == update


@given(UPDATES)
def test_plain_json(update: Update) -> None:
    """The stored form is a UTF-8 JSON object without the fields that are not set, for programs other than ours."""
    fields = json.loads(update.to_json().decode())
    assert fields["topics"] == list(update.topics)
    assert None not in fields.values()


@given(UPDATES)
def test_an_event_says_what_the_librarys_says(update: Update) -> None:
    """Field for field the same as sse-starlette's, whatever an update holds, and with nothing injected."""
    data = update.data.replace("\r\n", "\n").replace("\r", "\n")
    theirs = ServerSentEvent(data, event=update.type, id=update.id, retry=update.retry, sep="\n").encode()
    ours = update.to_event()
    assert sorted(ours.split(b"\n")) == sorted(theirs.split(b"\n"))
    assert ours.endswith(b"\n\n")


@given(UPDATES, some.integers(min_value=0, max_value=2**63))
def test_a_row_holds_an_update_and_its_event(update: Update, milliseconds: int) -> None:
    """What LMDB stores is read back the same, and its event goes out as it stands."""
    row = row_of(update, milliseconds)
    assert (milliseconds_of(row), update_of(row), rest_of(row)["id"]) == (milliseconds, update, update.id)
    assert list(page_of([row], [1]).events) == [update.to_event()]


@given(some.lists(UPDATES, max_size=5), some.integers(min_value=0, max_value=8), some.booleans())
def test_a_page_holds_what_its_entries_would(updates: list[Update], until: int, private: bool) -> None:
    """From stored rows or from entries: the same events, cut at a position and filtered by their address."""
    entries = [Entry(position, update) for position, update in enumerate(updates, 3)]

    def wants(address: Visibility) -> bool:
        return private or not address.private

    expected = [each.update.to_event() for each in entries if each.position <= until and wants(each.update)]  # type: ignore[arg-type]
    for page in (
        Page.of(entries, 10**9),
        page_of([row_of(update, 0) for update in updates], range(3, 3 + len(updates))),
    ):
        assert page.until(until).text(wants) == b"".join(expected)
        assert page.text(lambda _: True) == b"".join(update.to_event() for update in updates)


@given(some.lists(UPDATES), some.integers(min_value=1, max_value=500))
def test_a_page_ends_with_the_entry_that_fills_it(updates: list[Update], size: int) -> None:
    """It holds at least one entry, and without the last one less than its size."""
    page = Page.of([Entry(position, update) for position, update in enumerate(updates)], size)
    assert bool(page) == bool(updates)
    assert sum(map(len, page.events[:-1])) < size
    assert len(page) == len(updates) or sum(map(len, page.events)) >= size


def test_unknown_fields() -> None:
    """A field of a later version is ignored."""
    update = Update("urn:uuid:1", ("https://example.com/",))
    later = {**json.loads(update.to_json()), "later": 1}
    assert Update.from_json(json.dumps(later).encode()) == update
