"""What may happen in a world: drawn from a seed before it begins, so that a part of it can be left out."""

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

TOPICS = 4
LASTS = 10.0
"""Seconds in which things happen; then all is mended, and everybody has to come to rest."""


class Store(NamedTuple):
    """``query``: what its URL may say besides. ``hubs``: how many there are. ``many``: may a second one be open?"""

    scheme: str
    query: str
    hubs: tuple[int, ...]
    many: bool


STORES = {
    "memory": Store("memory://", "", (1,), False),
    "lmdb": Store("lmdb:///log", "lock_timeout=60s", (1,), False),
    "pair": Store("lmdb:///log", "lock_timeout=forever", (2,), False),
    "shared": Store("lmdb:///log", "lock=shared", (1, 2, 3), True),
    "redis": Store("redis://redis", "", (1, 2, 3), True),
    "postgres": Store("postgresql://postgres/db", "", (1, 2, 3), True),
}


class Event(NamedTuple):
    """Something that happens at a time; ``what`` names a method of `run.Run` or `crowd.Crowd`."""

    time: float
    what: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.time:7.3f} {self.what}{self.arguments}"


class Listening(NamedTuple):
    """A subscriber. ``template``: asks with one matcher for all topics. ``lifetime``: seconds that its tokens last."""

    name: str
    selects: frozenset[int]
    may: frozenset[int]
    template: bool
    earliest: bool
    lifetime: float | None
    room: int
    slowness: float


class Bound(NamedTuple):
    """A constant of the product that is smaller than it is, so that a small world meets what comes beyond it."""

    module: str
    name: str
    value: int


@dataclass(frozen=True)
class Scenario:
    """``seed``: also what everything that is not written here is drawn from. ``pace``: of the machine, see `World`."""

    seed: int
    store: str
    size: int | None
    hubs: int
    settings: dict[str, Any]
    listening: tuple[Listening, ...]
    events: tuple[Event, ...]
    publishers: int
    pace: float
    bounds: tuple[Bound, ...] = ()


BOUNDS = (
    Bound("hub.fanout.dispatcher", "TURN", 1),
    Bound("hub.fanout.stream", "PAGE", 2),
    Bound("hub.fanout.stream", "PAGE_SIZE", 2000),
    Bound("hub.fanout.stream", "PUSH_SIZE", 1000),
    Bound("hub.fanout.stream", "WORTH_CACHING", 1),
    Bound("hub.presence.active", "PART", 1),
    Bound("hub.web.publish", "LARGE", 500),
    Bound("transports.memory", "PAGE", 3),
    Bound("transports.lmdb.transport", "PAGE", 3),
    Bound("transports.lmdb.transport", "RECENT", 2),
    Bound("transports.lmdb.thread", "READS", 1),
    Bound("transports.redis.transport", "PAGE", 2),
    Bound("transports.postgres.transport", "PAGE", 2),
    Bound("transports.strangers", "OWN", 1),
)


def scenario_of(seed: int, store: str = "") -> Scenario:
    """What the seed stands for."""
    random = Random(seed)
    kind = random.choice(list(STORES))
    kind = store or kind
    hubs = random.choice(STORES[kind].hubs)
    publishers = random.randint(1, 3)
    size = random.choice([None, None, None, 8, 30])
    listening = tuple(_listening(random, f"s{number}") for number in range(random.randint(2, 5)))
    if random.random() < 0.4:  # all alike are one audience
        listening = tuple(listening[0]._replace(name=each.name, room=each.room) for each in listening)
    settings = {
        "heartbeat": random.choice([1.0, 3.0, 15.0]),
        "dispatch_timeout": random.choice([2.0, 5.0]),
        "write_timeout": random.choice([0.0, 0.0, 5.0]),
        "drain": random.choice([0.2, 1.0]),
        "subscriptions": random.random() < 0.5,
    }
    hedging = size is None  # where a key is forgotten with its entry, the second is another update
    events = [_publication(random, number, publishers, hedging) for number in range(random.randint(6, 30))]
    moments = [each.time for each in events]
    for _ in range(random.choice([0, 1, 1, 2, 2, 3, 4, 6])):
        # Often at the very moment of a publication.
        moment = random.choice(moments) + random.uniform(0, 0.004)
        time = max(0.5, moment if random.random() < 0.4 else random.uniform(0.5, LASTS - 1))
        events += _fault(random, kind, time, hubs, publishers, listening)
    if random.random() < 0.3:
        events += _storm(random, publishers, listening)
    apart = Random(f"refused {seed}")  # so that the other worlds are what they are without it
    if kind == "postgres" and apart.random() < 0.2:
        events += _refused(apart, publishers)
    pace = random.choice([2e-5, 2e-5, 2e-5, 5e-4])
    often = {"TURN"}
    if any(each.what == "fail_over" for each in events):
        often.add("WORTH_CACHING")  # pages that were kept when the store went back in time
    bounds = tuple(each for each in BOUNDS if random.random() < (0.75 if each.name in often else 0.25))
    return Scenario(seed, kind, size, hubs, settings, listening, tuple(sorted(events)), publishers, pace, bounds)


def _listening(random: Random, name: str) -> Listening:
    selects = frozenset(random.sample(range(TOPICS), random.randint(1, TOPICS)))
    template = len(selects) == TOPICS or random.random() < 0.2
    selects = frozenset(range(TOPICS)) if template else selects
    may = frozenset(random.sample(range(TOPICS), random.choice([0, 1, 2, TOPICS])))
    lifetime = random.choice([None, None, 1.5, 3.0])
    room = random.choice([1500, 8_000, 64_000])
    slowness = random.choice([0.0, 0.0, 0.02, 0.3])
    return Listening(name, selects, may, template, random.random() < 0.3, lifetime, room, slowness)


def _publication(random: Random, number: int, publishers: int, hedging: bool) -> Event:
    topics = tuple(random.sample(range(TOPICS), random.choice([1, 1, 1, 2])))
    size = random.choice([0, 10, 10, 100, 1000, 6000, 30_000])
    # Several at the same moment wait together in a store, and come behind one another on a connection.
    time = random.choice([random.uniform(0, LASTS), LASTS / 4, LASTS / 2, LASTS / 2 + 0.001])
    with_key = random.random() < 0.5
    what = (f"u{number}", topics, random.random() < 0.3, with_key, size)
    # Who can't wait asks twice, under the same key.
    askers = random.sample(
        range(publishers), min(publishers, 2 if hedging and with_key and random.random() < 0.2 else 1)
    )
    return Event(time, "publish", (tuple(askers), *what))


def _storm(random: Random, publishers: int, listening: tuple[Listening, ...]) -> list[Event]:
    """All subscribers lose their connections, and come back while much is published."""
    time = random.uniform(2.0, LASTS - 3)
    events = [Event(time, "reset", (each.name,)) for each in listening]
    for number in range(25):
        what = (f"v{number}", (random.randrange(TOPICS),), False, False, random.choice([0, 0, 3000]))
        events.append(Event(time + random.uniform(0, 0.6), "publish", ((random.randrange(publishers),), *what)))
    return events


def _burst(random: Random, time: float, publishers: int) -> list[Event]:
    """A publisher pipelines."""
    publisher, number = random.randrange(publishers), random.randrange(1_000_000)
    events = []
    for count in range(random.randint(4, 9)):
        what = (f"w{number}.{count}", (random.randrange(TOPICS),), False, random.random() < 0.5, 10)
        events.append(Event(time + min(count, 1) * 0.0005, "publish", ((publisher,), *what)))
    return events


def _refused(random: Random, publishers: int) -> list[Event]:
    """A publisher's second request comes while its first waits for an append that a full store refuses.

    The one whose heads are like no other's (`clients.Way.TERSE`), if there is one: each takes the way by the parser.
    """
    time, publisher = random.uniform(1.0, LASTS - 4), min(1, publishers - 1)
    return [
        Event(time, "fill"),
        *(Event(time, "publish", ((publisher,), f"y{count}", (0,), False, True, 10)) for count in range(2)),
        Event(time + 3.0, "empty"),
    ]


def _unseen_loss(random: Random, listening: tuple[Listening, ...]) -> list[Event]:
    """A replica takes over that lacks what one who reads on does not select."""
    reader = random.choice([each for each in listening if len(each.selects) < TOPICS] or listening)
    time = random.uniform(3.0, LASTS - 2)
    selected, number = sorted(reader.selects), random.randrange(1_000_000)
    others = sorted(set(range(TOPICS)) - reader.selects) or selected
    moments = [(time - 0.5, selected)] + [(time + 0.01 * count, others) for count in range(1, random.randint(3, 5))]
    return [
        Event(time, "fall_behind"),
        Event(time + 0.1, "reset", (reader.name,)),
        Event(time + 0.7, "fail_over"),
        Event(time + 1.0, "reset", (reader.name,)),
        *(
            Event(moment, "publish", ((0,), f"x{number}.{count}", (random.choice(topics),), False, False, 10))
            for count, (moment, topics) in enumerate(moments)
        ),
    ]


def _late_stream(random: Random, name: str, hubs: int) -> list[Event]:
    """All hubs are told to end while a store stands still that somebody waits for who takes nothing."""
    time = random.uniform(1.0, 5.0)
    return [
        Event(time, "freeze_store"),
        Event(time, "stall", (name, 9.0)),
        Event(time + 0.01, "reset", (name,)),
        *(Event(time + 0.6, "terminate", (each,)) for each in range(hubs)),
        Event(time + random.uniform(1.6, 4.0), "thaw_store"),
    ]


def _fault(
    random: Random, store: str, time: float, hubs: int, publishers: int, listening: tuple[Listening, ...]
) -> list[Event]:
    hub, name = random.randrange(hubs), random.choice(listening).name
    lasts, soon = random.choice([0.05, 0.5, 3.0, 6.0]), time + random.uniform(0, 0.01)
    kinds = [
        [Event(time, "kill", (hub,))],
        [Event(time, "terminate", (hub,))],
        [Event(time, "update", (hub, random.random() < 0.5 and store != "memory"))],
        [Event(time, "pause", (hub,)), Event(time + lasts, "resume", (hub,))],
        [Event(time, "set_clock", (hub, random.choice([-3600.0, -2.0, 2.0, 3600.0])))],
        [Event(time, "reset", (name,))],
        [Event(time, "swallow", (name,)), Event(time + lasts, "heal")],
        [Event(time, "stall", (name, lasts))],
        [Event(time, "leave", (name, lasts))],
        [Event(time, "hang_up", (random.randrange(publishers),))],
        [Event(time, "rotate")],
        [Event(time, "reload", (hub,))],
    ]
    of_store: list[list[Event]] = []
    if store in ("lmdb", "pair", "shared"):
        of_store += [
            [Event(time, "fill"), Event(time + lasts, "empty")],
            [Event(time, "break_disk"), Event(time + lasts, "mend_disk")],
            [Event(time, "pause", (hub,)), Event(time + 6.0, "resume", (hub,))],
        ]
    if store in ("redis", "postgres"):
        of_store += [
            [Event(time, "stop_store"), Event(time + lasts, "start_store")],
            [Event(time, "cut_store")],
            [
                Event(time, "freeze_store"),
                Event(time + lasts / 4, "reset", (name,)),
                Event(time + lasts / 2, "terminate", (hub,)),
                Event(time + lasts, "thaw_store"),
            ],
            [Event(time, "freeze_store"), Event(time + lasts, "thaw_store")],
            [Event(soon, "fill"), Event(soon + lasts, "empty"), *_burst(random, time, publishers)],
            [Event(soon, "lose_reply"), *_burst(random, time, publishers)],
            [Event(max(0.0, time - lasts), "fall_behind"), Event(time, "fail_over")],
            *[_unseen_loss(random, listening)] * (3 if hubs == 1 else 1),
            *[_late_stream(random, name, hubs) for _ in range(2)],
        ]
    return random.choice(of_store if of_store and random.random() < 0.5 else kinds)
