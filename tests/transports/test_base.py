"""Updates as they are stored."""

import json

from hypothesis import given
from hypothesis import strategies as some

from transports import Update

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


def test_unknown_fields() -> None:
    """A field of a later version is ignored."""
    update = Update("urn:uuid:1", ("https://example.com/",))
    later = {**json.loads(update.to_json()), "later": 1}
    assert Update.from_json(json.dumps(later).encode()) == update
