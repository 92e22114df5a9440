"""The judge finds what is wrong in ledgers that are made wrong by hand, and nothing in a good one."""

from collections.abc import Callable

import pytest

from tests.simulation.judge import RULES, judge
from tests.simulation.ledger import Connection, Ended, Ledger, Publication, Stored, Subscriber


def a_publication(id: str, stored: float, *, private: bool = False) -> Publication:
    return Publication(id, (0,), private, f"key-{id}", stored - 0.1, stored + 0.1, 200, id)


def good() -> Ledger:
    """Two subscribers of one topic, one of whom comes back; one private update; a hub that began and ended."""
    ids = ("u0", "u1", "u2", "m0")
    publications = [a_publication(id, number + 1.0, private=id == "u1") for number, id in enumerate(ids)]
    first = Connection("s0", "hub", None, None, 0.5, 99.0, events=[("u0", 1.1)], ended=Ended.PROPERLY, over=1.5)
    again = Connection("s0", "hub", "u0", "u0", 2.5, 99.0, events=[("u1", 2.6), ("u2", 3.1), ("m0", 4.1)])
    other = Connection("s1", "hub", None, None, 0.5, 99.0, events=[("u0", 1.1), ("u2", 3.1), ("m0", 4.1)])
    return Ledger(
        publications=publications,
        connections=[first, again, other],
        subscribers=[
            Subscriber("s0", frozenset({0}), frozenset({0})),
            Subscriber("s1", frozenset({0}), frozenset()),
        ],
        stored=[Stored(id, number + 1.0) for number, id in enumerate(ids)],
        markers={"m0": 0},
        listed={"hub": (["a", "b"], ["a", "b"])},
        announced=[("/s0", True, "e0"), ("/s0", False, "e1"), ("/s1", True, "e2")],
        calm=2.0,
        over=5.0,
    )


def acknowledged_before_it_was_stored(ledger: Ledger) -> None:
    ledger.stored[0] = Stored("u0", 1.2)


def acknowledged_and_never_stored(ledger: Ledger) -> None:
    ledger.publications.append(a_publication("gone", 3.5))


def an_answer_of_another_request(ledger: Ledger) -> None:
    ledger.publications[0].answer = "u1"


def an_answer_that_no_hub_gives(ledger: Ledger) -> None:
    ledger.publications[0].status = 500


def refused_and_stored(ledger: Ledger) -> None:
    ledger.publications[0].status = 507


def a_key_stored_twice(ledger: Ledger) -> None:
    ledger.twice.append("key-u0")


def stored_twice_without_a_key(ledger: Ledger) -> None:
    ledger.publications[0].key = None
    ledger.stored.append(Stored("u0", 3.5))


def acknowledged_and_not_delivered(ledger: Ledger) -> None:
    del ledger.connections[1].events[1]


def stored_while_it_was_away_and_not_delivered(ledger: Ledger) -> None:
    del ledger.connections[1].events[0]


def nothing_more(ledger: Ledger) -> None:
    del ledger.connections[2].events[-1]


def delivered_late(ledger: Ledger) -> None:
    ledger.connections[2].events[-1] = ("m0", 5.1)


def delivered_twice(ledger: Ledger) -> None:
    ledger.connections[2].events.append(("m0", 4.2))


def out_of_order(ledger: Ledger) -> None:
    events = ledger.connections[2].events
    events[0], events[1] = ("u2", 3.1), ("u0", 3.1)


def what_it_had_already(ledger: Ledger) -> None:
    ledger.connections[1].events.insert(0, ("u0", 2.55))


def what_no_log_has(ledger: Ledger) -> None:
    ledger.connections[2].events.append(("invented", 4.2))


def told_of_another_event(ledger: Ledger) -> None:
    ledger.connections[1].told = "u1"


def a_private_update_for_a_stranger(ledger: Ledger) -> None:
    ledger.connections[2].events.insert(1, ("u1", 2.1))


def what_was_not_asked_for(ledger: Ledger) -> None:
    ledger.subscribers[1] = Subscriber("s1", frozenset({1}), frozenset())


def a_token_that_was_over(ledger: Ledger) -> None:
    ledger.connections[2].expires = 2.0


def a_key_that_was_taken_away(ledger: Ledger) -> None:
    ledger.rotated["hub"] = 2.0


def an_end_without_an_end(ledger: Ledger) -> None:
    ledger.connections[0].ended = Ended.CUT


def listed_and_gone(ledger: Ledger) -> None:
    ledger.listed["hub"] = (["a", "b", "b"], ["a", "b"])


def there_and_not_listed(ledger: Ledger) -> None:
    ledger.listed["hub"] = (["a"], ["a", "b"])


def ended_twice(ledger: Ledger) -> None:
    ledger.announced.append(("/s0", False, "e3"))


def begun_after_its_end(ledger: Ledger) -> None:
    ledger.announced.append(("/s0", True, "e3"))


def a_task_left_behind(ledger: Ledger) -> None:
    ledger.left.append("hub leaves a task")


def an_exception_that_nobody_caught(ledger: Ledger) -> None:
    ledger.faults.append("hub: Task exception was never retrieved")


BAD: dict[Callable[[Ledger], None], str] = {
    acknowledged_before_it_was_stored: "unstored",
    acknowledged_and_never_stored: "unstored",
    an_answer_of_another_request: "answered",
    an_answer_that_no_hub_gives: "answered",
    refused_and_stored: "answered",
    a_key_stored_twice: "repeated",
    stored_twice_without_a_key: "repeated",
    acknowledged_and_not_delivered: "lost",
    stored_while_it_was_away_and_not_delivered: "lost",
    nothing_more: "stuck",
    delivered_late: "late",
    delivered_twice: "twice",
    out_of_order: "order",
    what_it_had_already: "order",
    what_no_log_has: "order",
    told_of_another_event: "told",
    a_private_update_for_a_stranger: "stranger",
    what_was_not_asked_for: "stranger",
    a_token_that_was_over: "outlived",
    a_key_that_was_taken_away: "outlived",
    an_end_without_an_end: "cut",
    listed_and_gone: "presence",
    there_and_not_listed: "presence",
    ended_twice: "presence",
    begun_after_its_end: "presence",
    a_task_left_behind: "left",
    an_exception_that_nobody_caught: "faults",
}


def test_nothing_is_wrong_with_a_good_ledger() -> None:
    """Nobody is accused without a reason."""
    assert judge(good()) == []


@pytest.mark.parametrize(("make_bad", "rule"), BAD.items(), ids=lambda part: getattr(part, "__name__", part))
def test_a_bad_ledger_is_rejected(make_bad: Callable[[Ledger], None], rule: str) -> None:
    """Each is found by the rule that it breaks."""
    ledger = good()
    make_bad(ledger)
    assert rule in {each.rule for each in judge(ledger)}


def test_each_rule_has_a_ledger_that_breaks_it() -> None:
    """A rule that nothing breaks might be one that finds nothing."""
    assert set(BAD.values()) == set(RULES)


def test_a_loss_that_its_subscriber_was_told_of_is_none() -> None:
    """A stream that begins at the earliest after all says that something may be missing."""
    ledger = good()
    del ledger.connections[1].events[0]
    ledger.connections[1].told = "earliest"
    assert judge(ledger) == []


def test_a_cut_that_came_from_outside_is_nobodys_fault() -> None:
    """A hub that was killed ends no stream properly."""
    ledger = good()
    ledger.connections[0].ended, ledger.connections[0].blameless = Ended.CUT, "its hub was killed"
    assert judge(ledger) == []
