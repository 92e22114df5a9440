"""Subscription documents: their paths, their form in each generation, their events."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.generations import Generation, generations_in
from hub.matching.matchers import Matcher
from hub.presence.documents import ROOT, Subscription, collection, event, path, single
from hub.problems import Problem
from hub.web.publication import idempotency_key
from hub.web.subscriptions import Resource

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)
WHO = "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6"


@given(st.sampled_from(["exact", "urlpattern", "topic"]), TEXT, TEXT)
def test_a_path_names_one_subscription(kind: str, match: str, subscriber: str) -> None:
    """Each part is encoded once as a whole, so that a path leads back to what it was made of."""
    made = path(Matcher(kind, match), subscriber)
    assert [unquote(part) for part in made.removeprefix(f"{ROOT}/").split("/")][-2:] == [match, subscriber]
    assert made.isascii()
    found = Resource.of(made.removeprefix(f"{ROOT}/").split("/"), generations_in("0.x" if kind == "topic" else "both"))
    assert found is not None
    assert found.path == made
    assert not found.is_collection


def test_the_form_of_1_0() -> None:
    """The example of the specification ("Subscription Events")."""
    subscription = Subscription(Matcher("urlpattern", "https://example.com/:selector"), WHO, {"foo": "bar"})
    assert json.loads(subscription.document()) == {
        "id": "/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aselector/"
        "urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6",
        "type": "subscription",
        "match_type": "urlpattern",
        "match": "https://example.com/:selector",
        "subscriber": WHO,
        "active": True,
        "payload": {"foo": "bar"},
    }


def test_the_form_of_0_x() -> None:
    """JSON-LD, with the topic selector in the path."""
    assert json.loads(Subscription(Matcher("topic", "https://example.com/{selector}"), WHO).document()) == {
        "@context": "https://mercure.rocks/",
        "id": "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bselector%7D/"
        "urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6",
        "type": "Subscription",
        "topic": "https://example.com/{selector}",
        "subscriber": WHO,
        "active": True,
    }


def test_an_event_is_private_and_told_once() -> None:
    """Its topic is the subscription's id; who tells it again tells it under the same key, with another event id."""
    subscription = Subscription(Matcher("exact", "a"), WHO)
    begun, again, ended = (event(subscription.id, subscription.document(), active=n < 2) for n in range(3))
    assert (begun.topics, begun.private, begun.type) == ((subscription.id,), True, "mercure")
    assert begun.idempotency_key == again.idempotency_key != ended.idempotency_key
    assert len({begun.id, again.id, ended.id}) == 3
    assert json.loads(ended.data) == {**json.loads(begun.data), "active": False}
    assert event("x", Subscription(Matcher("topic", "a"), WHO).document(), active=True).type is None


def test_its_key_is_no_publishers() -> None:
    """A publisher who knows a subscription's id cannot take the key of its end, and so suppress or block it."""
    key = event("a", Subscription(Matcher("exact", "a"), WHO).document(), active=False).idempotency_key
    assert key
    with pytest.raises(Problem):
        idempotency_key([key])


@pytest.mark.parametrize(("payload", "expected"), [({"name": "\ud83d"}, {"name": "?"}), ({"\udc00": 1}, {"?": 1})])
def test_half_a_surrogate_pair(payload: Any, expected: Any) -> None:
    """A token's JSON may escape one alone; the document is UTF-8 all the same."""
    document = Subscription(Matcher("exact", "a"), WHO, payload).document()
    assert json.loads(document)["payload"] == expected
    assert event("a", document, active=True).data.encode()


def test_lists() -> None:
    """0.x tells the last event id in the document, 1.0 in a header; both list the documents as they are."""
    documents = [Subscription(Matcher("exact", text), WHO, {"é": 1}).document() for text in "ab"]
    assert json.loads(collection(ROOT, documents, "last", Generation.V1)) == {
        "id": ROOT,
        "type": "subscriptions",
        "subscriptions": [json.loads(each) for each in documents],
    }
    assert json.loads(collection(ROOT, [], 'l"', Generation.V0)) == {
        "@context": "https://mercure.rocks/",
        "id": ROOT,
        "type": "Subscriptions",
        "lastEventID": 'l"',
        "subscriptions": [],
    }
    assert single(documents[0], "last", Generation.V1) == documents[0]
    assert json.loads(single(documents[0], "last", Generation.V0))["lastEventID"] == "last"
