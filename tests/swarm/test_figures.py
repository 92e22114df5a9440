"""The measuring itself: what is lost, late or twice is seen, and breaks the bar."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.swarm.figures import Figures, broken_bars, figures, in_the_gap, longest
from tests.swarm.measure import Run
from tests.swarm.picture import picture
from tests.swarm.report import table
from tests.swarm.strategies import GOOD, Strategy
from tests.swarm.witness import Container

ROW = Strategy("row", "a row", gap=0.5)


def near(value: float) -> Any:
    """Equal to what is nearly the value."""
    return pytest.approx(value)


def connection(*events: str, **more: Any) -> dict[str, Any]:
    return {"address": "10.0.0.2", "opened": 0.0, "closed": 99.0, "clean": True, "events": list(events), **more}


def entry(data: str, answered: float) -> dict[str, Any]:
    return {"data": data, "id": data, "sent": answered, "answered": answered, "attempts": 1, "address": "10.0.0.2"}


def run() -> Run:
    """Six publishers, one subscriber that came back once, nothing wrong."""
    ledger = [entry(f"{number}-{count}", 10 + count * 0.1 + number / 100) for count in range(3) for number in range(6)]
    data = [each["data"] for each in ledger]
    both = [connection(*data[:9], closed=10.1), connection(*data[9:], opened=10.15)]
    load = {
        "stopped": 10.3,
        "ledger": ledger,
        "subscribers": [{"gave_up": "", "connections": both}],
        "idle": [],
        "history": data,
        "behind": 0,
        "stalls": [],
        "troubles": [],
    }
    container = Container("1", "row_hub.1.x", "hub:a", "10.0.0.2", [(9.0, "start"), (9.5, "health_status: healthy")])
    container.held.append((9.1, 10.3))
    return Run(ROW, [(10.0, 10.3, "update", "completed")], [container], load, "", [])


def test_nothing_wrong() -> None:
    """A run in which all went well keeps every bar."""
    found = figures(run())
    assert found == Figures("completed", near(0.05), near(0.1), 0, 18, 0, 0, 0, 0, 1, 0, near(0.05), near(0.3), 0)
    assert broken_bars(ROW, found) == []


def test_only_what_was_done_makes_a_gap() -> None:
    """A silence counts whole if it touches an act, and not at all if nothing was done in it."""
    times = [0.0, 1.0, 4.0, 5.0, 9.0]
    assert longest(times, (), [(4.5, 6.0)]) == 4.0
    assert longest(times, (), [(1.5, 2.0)]) == 3.0
    assert longest(times, [(2.0, 3.5)], [(1.5, 2.0)]) == 1.5
    assert longest(times, (), [(4.2, 4.8)]) == 1.0
    assert longest(times) == 4.0
    assert longest([9.0]) == float("inf")


def test_what_happened_in_the_gap() -> None:
    """Beside a gap stands how long the disk stood still in it, and what publishers met then."""
    late = spoil("no publish at the end")
    late.disk += [(10.1, 10.45), (11.0, 12.0)]
    late.load["troubles"] = [(10.4, "10.0.0.2", "503"), (10.5, "10.0.0.3", "503"), (9.0, "10.0.0.2", "refused")]
    assert in_the_gap(late) == "in the gap the disk stood still for 0.20 s, publishers met 2 times 503"
    assert in_the_gap(run()) == "in the gap the disk stood still for 0.00 s, publishers met nothing"


def spoil(what: str) -> Run:
    """The same run with one thing wrong."""
    spoiled = run()
    subscriber = spoiled.load["subscribers"][0]
    if what == "missed":
        subscriber["connections"][1]["events"].remove("3-2")
    elif what == "forgotten":
        spoiled.load["history"].remove("3-2")
    elif what == "twice":
        subscriber["connections"][0]["events"].append("0-0")
    elif what == "stored twice":
        spoiled.load["history"].append("0-0")
    elif what == "gave up":
        subscriber["gave_up"] = "503 application/problem+json"
    elif what == "behind":
        spoiled.load["behind"] = 1
    elif what == "cut":
        subscriber["connections"][0]["clean"] = False
    elif what == "no publish at the end":
        spoiled.load["stopped"] = 11.0
    elif what == "rolled back":
        spoiled.acts[0] = (10.0, 10.3, "update", "rollback_completed")
    return spoiled


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("missed", "1 acknowledged updates lost"),
        ("forgotten", "1 acknowledged updates lost"),
        ("twice", "1 updates twice on one connection"),
        ("stored twice", "1 updates stored twice"),
        ("gave up", "1 subscribers cut off"),
        ("behind", "1 subscribers cut off"),
        ("cut", "1 streams cut"),
        ("no publish at the end", "0.75 s without a 2xx, the bar is 0.5 s"),
        ("rolled back", "the update ended as rollback_completed, not completed"),
    ],
)
def test_what_is_wrong_is_seen(what: str, sentence: str) -> None:
    """Each thing that must not be breaks its bar, and only that."""
    assert broken_bars(ROW, figures(spoil(what))) == [sentence]


def test_a_machine_that_stands_still() -> None:
    """The time in which the load itself did not run is nobody's outage; the rest of the gap counts."""
    stalled = spoil("no publish at the end")
    stalled.load["stalls"] = [[10.3, 10.7]]
    assert figures(stalled).gap == pytest.approx(0.35)
    assert broken_bars(ROW, figures(stalled)) == []


def test_a_strategy_that_is_shown_to_fail() -> None:
    """It may do what it likes."""
    assert broken_bars(replace(ROW, good=False), figures(spoil("missed"))) == []


def test_the_table_has_the_error() -> None:
    """An update that rolled back is shown with what the hub said."""
    failed = spoil("rolled back")
    failed.log = 'row_hub.1.y@vm    | mercure-hub: "lmdb:///data/hub": invalid transport: timeout: host …\n'
    line = table([failed]).splitlines()[3]
    assert '| `rollback_completed`: `mercure-hub: "lmdb:///data/hub": invalid transport: timeout: host …` |' in line


def test_the_picture_is_drawn() -> None:
    """It is well-formed, has a lane for each container, and shows the outage."""
    shown = run()
    shown.load["ledger"].append(entry("0-3", 12.0))
    root = ElementTree.fromstring(picture(shown))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "row_hub.1" in texts
    assert "1.8 s" in texts


def test_every_good_strategy_has_its_bar() -> None:
    """Only where a hub or its server was killed may publishing stand still for longer."""
    assert {each.name for each in GOOD if each.gap is None} == {"killed", "redis-restarted", "postgres-restarted"}


def test_who_is_told_to_come_back_has_no_stream() -> None:
    """A stream that only says when to come back does not end the time without one."""
    changed = run()
    (one,) = changed.load["subscribers"]
    first, last = one["connections"]
    told = {**first, "events": [], "opened": 10.12, "closed": 10.13}
    one["connections"] = [first, told, {**last, "opened": 10.2}]
    assert figures(changed).back == near(0.1)
