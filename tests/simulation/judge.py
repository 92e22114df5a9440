"""What must not have happened. Pure: a ledger in, sentences out; ``test_judge.py`` gives it bad ones of each kind."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.ledger import Connection, Ended, Ledger, Publication, Subscriber

LATE = 0.5
"""Seconds in which an event may still arrive that went out before."""
NOWHERE = (-1, -1)
STATUSES = {200, 401, 403, 429, 503, 507}


class Violation(NamedTuple):
    """``rule``: its name, one of `RULES`."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


def judge(ledger: Ledger) -> list[Violation]:
    """Everything that is wrong with it."""
    return [Violation(rule, what) for rule, check in RULES.items() for what in check(ledger)]


def unstored(ledger: Ledger) -> Iterator[str]:
    """What was acknowledged is in the log."""
    stored = {each.id: each.time for each in reversed(ledger.stored)}
    for each in ledger.publications:
        if each.status == 200 and stored.get(each.id, each.answered + 1) > each.answered:
            yield f"{each.id} was acknowledged at {each.answered:.4f} and not stored"


def answered(ledger: Ledger) -> Iterator[str]:
    """An answer is one that a hub may give, and belongs to its request; what is refused for good is not stored."""
    unclear = {each.id for each in ledger.publications if each.status in (200, 0) or each.unsure}
    stored = {each.id for each in ledger.stored} - unclear
    for each in ledger.publications:
        if each.status and each.status not in STATUSES:
            yield f"{each.id} was answered with {each.status}"
        elif each.status == 200 and each.answer != each.id:
            yield f"{each.id} was answered with the id {each.answer}"
        elif each.status in (401, 403, 507) and each.id in stored:
            yield f"{each.id} was refused with {each.status} and stored"


def repeated(ledger: Ledger) -> Iterator[str]:
    """A log has one entry for an idempotency key, and for an update that was sent once."""
    for each in ledger.twice:
        yield f"the key {each} was stored twice"
    entries = Counter(each.id for each in ledger.stored)
    for publication in ledger.publications:
        if publication.key is None and entries[publication.id] > 1:
            yield f"{publication.id}, which has no key, was stored {entries[publication.id]} times"


def of(ledger: Ledger, subscriber: Subscriber) -> list[Connection]:
    return [each for each in ledger.connections if each.subscriber == subscriber.name]


def gets(subscriber: Subscriber, publication: Publication) -> bool:
    topics = set(publication.topics)
    return bool(topics & subscriber.selects) and (not publication.private or bool(topics & subscriber.may))


def is_gap(ledger: Ledger, had_any: bool, connection: Connection) -> bool:
    """Does the subscriber learn there that something may be missing? Who has got nothing yet has no place to name."""
    if sum(each.id == connection.asked for each in ledger.stored) > 1:
        return True  # its publisher repeated it, and the later one counts after a log has begun anew
    nowhere = connection.asked is None or (connection.asked == "earliest" and ledger.forgets)
    return connection.told != connection.asked or (nowhere and not had_any)


def lost(ledger: Ledger) -> Iterator[str]:
    """Of all that was stored while a subscriber listened it gets everything, or is told that something is gone."""
    stored = {each.id: each for each in ledger.stored}
    for subscriber in ledger.subscribers:
        connections = of(ledger, subscriber)
        if not connections:
            continue
        received = {event for each in connections for event, _ in each.events}
        # What is told goes for everything up to the first event that comes then.
        gaps = [
            max([each.begun, *(stored[event].time for event, _ in each.events[:1] if event in stored)])
            for at, each in enumerate(connections)
            if at and is_gap(ledger, _had_any(connections[:at]), each)
        ]
        begun = connections[0].begun
        last = max((stored[event].time for event in received if event in ledger.markers), default=0.0)
        for each in ledger.publications:
            entry = stored.get(each.id)
            if entry is None or each.id in received or each.id in ledger.lost or not gets(subscriber, each):
                continue
            if begun < entry.time <= last and not any(gap >= entry.time for gap in gaps):
                yield f"{subscriber.name} never got {each.id}, stored at {entry.time:.4f}, and was not told"


def _had_any(connections: list[Connection]) -> bool:
    return any(each.events or each.asked not in (None, "earliest") for each in connections)


def _events(connections: list[Connection]) -> Iterator[tuple[str, float]]:
    for each in connections:
        yield from each.events


def stuck(ledger: Ledger) -> Iterator[str]:
    """When all is well again, everybody hears of it."""
    for subscriber in ledger.subscribers:
        received = {ledger.markers[event] for event, _ in _events(of(ledger, subscriber)) if event in ledger.markers}
        for topic in sorted(subscriber.selects & set(ledger.markers.values()) - received):
            yield f"{subscriber.name} got nothing more of topic {topic}"


def late(ledger: Ledger) -> Iterator[str]:
    """When all is well, what is new comes at once to whoever is live."""
    stored = {each.id: each.time for each in ledger.stored}
    for each in ledger.connections:
        for event, time in each.events:
            came = stored.get(event, 0.0)
            if max(ledger.calm, each.begun + LATE) < came and time > came + LATE and each.told in (None, each.asked):
                yield f"{each.subscriber} got {event} at {time:.4f}, stored at {came:.4f}"


def twice(ledger: Ledger) -> Iterator[str]:
    """On one connection each entry comes once."""
    entries = Counter(each.id for each in ledger.stored)
    for each in ledger.connections:
        seen = Counter(event for event, _ in each.events)
        for event, count in seen.items():
            if count > max(1, entries[event]):
                yield f"{each.subscriber} got {event} {count} times on the connection of {each.begun:.4f}"


def order(ledger: Ledger) -> Iterator[str]:
    """Events come in the order of the log, and after the one that the subscriber named."""
    places: dict[str, list[tuple[float, int, int]]] = {}
    for number, entry in enumerate(ledger.stored):
        places.setdefault(entry.id, []).append((entry.time, entry.log, number))

    def place(event: str, time: float) -> tuple[int, int]:
        """Of the entry that it then was: what two logs have had has two."""
        came = [each for each in places.get(event, ()) if each[0] <= time]
        return came[-1][1:] if came else NOWHERE

    def again(event: str) -> bool:
        """Which of several entries it was is not known: its publisher repeated it after its key was forgotten."""
        return len(places.get(event, ())) > 1

    for each in ledger.connections:
        known = each.told == each.asked and not again(each.asked or "")
        before = place(each.asked or "", each.begun) if known else NOWHERE
        for event, time in each.events:
            this = place(event, time)
            if this == NOWHERE:
                yield f"{each.subscriber} got {event} at {time:.4f}, which no log ever had"
            elif this <= before and event not in ledger.lost and not again(event):
                yield f"{each.subscriber} got {event} at {time:.4f} after a later one"
            before = before if again(event) else max(before, this)


def told(ledger: Ledger) -> Iterator[str]:
    """A stream goes on after the event that was asked for, or from the earliest."""
    for each in ledger.connections:
        if each.asked is not None and each.told not in (each.asked, "earliest"):
            yield f"{each.subscriber} asked for what comes after {each.asked} and was told {each.told}"


def stranger(ledger: Ledger) -> Iterator[str]:
    """Nobody gets what it has not asked for, or what is private and not for it."""
    publications = {each.id: each for each in ledger.publications}
    for subscriber in ledger.subscribers:
        for each in of(ledger, subscriber):
            for event, time in each.events:
                if event in publications and not gets(subscriber, publications[event]):
                    yield f"{subscriber.name} got {event} at {time:.4f}, which is not for it"


def outlived(ledger: Ledger) -> Iterator[str]:
    """A stream ends with its token, and with the key that its token was signed with."""
    stored = {each.id: each.time for each in reversed(ledger.stored)}
    for each in ledger.connections:
        if each.hub in ledger.stood_still:
            continue
        rotated = ledger.rotated.get(each.hub, float("inf")) if each.key == 0 else float("inf")
        for event, _ in each.events:
            time = stored.get(event, 0.0)  # a slow reader may find much later what went out in time
            if time > each.expires + LATE:
                yield f"{each.subscriber} got {event}, stored at {time:.4f}; its token was over at {each.expires:.4f}"
            if time > rotated + LATE and each.begun < rotated:
                yield f"{each.subscriber} got {event}, stored at {time:.4f}; its key was gone at {rotated:.4f}"


def cut(ledger: Ledger) -> Iterator[str]:
    """A stream ends between two events and says so, if nothing outside has broken it."""
    for each in ledger.connections:
        if each.ended is Ended.CUT and not each.blameless:
            yield f"the stream of {each.subscriber} from {each.hub} broke off at {each.over:.4f}"


def presence(ledger: Ledger) -> Iterator[str]:
    """Who is listed is there, and who is there is listed; while the log has it, each begins once, then ends once."""
    for hub, (listed, there) in ledger.listed.items():
        if listed != there:
            yield f"{hub} lists subscriptions to {listed}, there are {there}"
    states: dict[str, bool] = {}
    for subscription, active, event in ledger.announced:
        if event in ledger.lost:
            continue
        if not ledger.forgets and subscription in states and states[subscription] <= active:
            yield f"{subscription} {'began' if active else 'ended'} once more"
        states[subscription] = active


def left(ledger: Ledger) -> Iterator[str]:
    """A hub that has ended leaves nothing behind."""
    yield from ledger.left


def faults(ledger: Ledger) -> Iterator[str]:
    """Nothing is raised that nobody expects."""
    yield from ledger.faults


RULES = {
    rule.__name__: rule
    for rule in (
        faults,
        unstored,
        answered,
        repeated,
        lost,
        stuck,
        late,
        twice,
        order,
        told,
        stranger,
        outlived,
        cut,
        presence,
        left,
    )
}
"""What went wrong in one way often goes wrong in others: those that say most come first."""
