"""What happened in a run, as those outside saw it: the judge knows nothing else."""

from dataclasses import dataclass, field
from enum import Enum


class Ended(Enum):
    """How a stream was over for its subscriber."""

    OPEN = "it is open"
    PROPERLY = "after a whole event, with the last chunk"
    CUT = "the connection ended"
    LEFT = "its subscriber has left"


@dataclass
class Publication:
    """An update as its publisher knows it. Times: seconds of the world.

    ``status``: 200, what it was refused with, or 0: nobody knows. ``answer``: the body of a 200. ``unsure``: whether
    it was sent before, and may have been stored then.
    """

    id: str
    topics: tuple[int, ...]
    private: bool
    key: str | None
    sent: float
    answered: float = 0.0
    status: int = 0
    answer: str = ""
    unsure: bool = False


@dataclass
class Connection:
    """One stream. ``asked``, ``told``: event ids, None where there was none. ``events``: ids, with their times.

    ``expires``: when its token does. ``key``: which key that was signed with. ``blameless``: why nobody is to blame
    for a cut, such as that its hub was killed.
    """

    subscriber: str
    hub: str
    asked: str | None
    told: str | None
    begun: float
    expires: float
    key: int = 0
    events: list[tuple[str, float]] = field(default_factory=list)
    ended: Ended = Ended.OPEN
    over: float = 0.0
    blameless: str = ""


@dataclass(frozen=True)
class Subscriber:
    """``selects``: topics; ``may``: those whose private updates its token allows."""

    name: str
    selects: frozenset[int]
    may: frozenset[int]


@dataclass(frozen=True)
class Stored:
    """An entry of a log when it came."""

    id: str
    time: float
    log: int = 0
    """Which log: a hub whose log is in its memory begins a new one."""


@dataclass
class Ledger:
    """``stored``: in order. ``lost``: what a store has lost that went back in time, ids."""

    publications: list[Publication] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)
    """Idempotency keys of which a second entry came while the log had the first."""
    markers: dict[str, int] = field(default_factory=dict)
    """Updates that were published when all was well again, with their topics."""
    listed: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    """For each hub at the end: the topics of the subscriptions that it lists, and of the streams that are open."""
    announced: list[tuple[str, bool, str]] = field(default_factory=list)
    """Subscriptions that began and ended, in the order of the log, and the id of the update that says so."""
    rotated: dict[str, float] = field(default_factory=dict)
    """When each hub had read keys again, of which the old one is not one."""
    forgets: bool = False
    """Whether logs are trimmed, or end with their hub."""
    calm: float = 0.0
    over: float = 0.0
    """Between these two nothing is wrong with the world."""
    stood_still: set[str] = field(default_factory=set)
    """Hubs that were stopped for a while: nothing ends in time there."""
    left: list[str] = field(default_factory=list)
    """What a hub that has ended has left behind."""
    faults: list[str] = field(default_factory=list)
