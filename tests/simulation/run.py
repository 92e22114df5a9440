"""One scenario from beginning to end: hubs, stores, what happens to them, and the ledger of it."""

import json
import logging
from collections import Counter, defaultdict
from functools import partial
from signal import SIGHUP
from typing import Any

from tests.simulation import postgres_server, redis_server
from tests.simulation.clients import PATH
from tests.simulation.crowd import Crowd
from tests.simulation.ledger import Ended, Ledger, Stored, Subscriber
from tests.simulation.lmdb_file import File
from tests.simulation.replica import GRACE, Replica
from tests.simulation.scenario import LASTS, STORES, Scenario
from tests.simulation.surroundings import bound, installed, put
from tests.simulation.world import World
from transports import Update
from transports.lmdb.rows import update_of
from transports.memory import MemoryTransport

BACK = (0.3, 2.0)
"""Seconds until a hub that has ended is started again."""
SEEN = 13.0
"""Seconds within which a hub that was killed has been announced by another: its lease, and two beats."""
ARRIVES = 0.1
"""Seconds until everybody has the rest of what one has of the last commit."""
RESTING = 60.0
"""Seconds within which all has to be well again after the last fault."""


class Run:
    """``ledger``: what there is to judge, after `play`."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = world = World(scenario.seed, scenario.pace)
        self.tell = world.tell
        forgets = scenario.size is not None or scenario.store == "memory"
        self._kept: int | None = None
        """How much had been stored when a replica fell behind."""
        self.ledger = Ledger(faults=world.faults, forgets=forgets)
        self.skews = defaultdict[int, float](float)
        self.clocks_set = float("-inf")
        """When one was last, or set right."""
        self.key = 0
        """Of `clients.KEYS` that which counts now."""
        self.url = self._url()
        self.file = File(world, self._committed)
        self.redis = redis_server.Server(world, self._added)
        self.postgres = postgres_server.Server(world, self._added)
        installed(world, self.file, self.redis, self.postgres)
        bound(scenario.bounds)
        _observe_memory(self)
        _listen_to_logs(self)
        self._held = Counter[str]()
        """Idempotency keys in LMDB's log."""
        self.hubs: list[Replica] = []
        self.calm = False
        """The last fault is over: what ends is started at once, and nothing is slow."""
        self.over = False
        self._started = 0
        self.crowd = Crowd(self)

    def _url(self) -> str:
        store = STORES[self.scenario.store]
        parameters = [store.query] if store.query else []
        if self.scenario.size is not None:
            parameters.append(f"size={self.scenario.size}")
        return store.scheme + ("?" + "&".join(parameters) if parameters else "")

    # What the stores tell.

    def _stored(self, update: Update, log: int = 0) -> None:
        ledger = self.ledger
        ledger.stored.append(Stored(update.id, self.world.now, log))
        if update.topics[0].startswith(PATH):
            ledger.announced.append((update.topics[0], json.loads(update.data)["active"], update.id))

    def _committed(self, added: list[bytes], gone: list[bytes]) -> None:
        held = self._held
        for update in map(update_of, added):
            if update.idempotency_key:
                if held.get(update.idempotency_key):
                    self.ledger.twice.append(update.idempotency_key)
                held[update.idempotency_key] += 1
            self._stored(update)
        for update in map(update_of, gone):
            if update.idempotency_key:
                held[update.idempotency_key] -= 1

    def _added(self, update: Update, keys: list[str]) -> None:
        """``keys``: idempotency keys of the entries that the log had before."""
        if update.idempotency_key and update.idempotency_key in keys:
            self.ledger.twice.append(update.idempotency_key)
        self._stored(update)

    # Hubs.

    def start(self, place: int) -> None:
        self._started += 1
        name = f"hub{place}.{self._started}"
        self.tell(f"{name} starts")
        self.hubs.append(Replica(self, name, place))

    def hub_gone(self, hub: Replica) -> None:
        self.tell(f"{hub.name} is gone")
        self.hubs.remove(hub)
        if self.over or any(each.place == hub.place and not each.ending for each in self.hubs):
            return
        pause = 0.3 if self.calm else self.world.random.uniform(*BACK)
        self.world.later(pause, lambda: self._start_again(hub.place))

    def _start_again(self, place: int) -> None:
        if not self.over and not any(each.place == place and not each.ending for each in self.hubs):
            self.start(place)

    def _of(self, place: int) -> Replica | None:
        return next((each for each in self.hubs if each.place == place and not each.ending), None)

    def reached(self) -> Replica | None:
        """Where a client's connection leads to: a balancer knows who listens."""
        listening = [each for each in self.hubs if each.listener.listening and each.process.alive]
        return self.world.random.choice(listening) if listening else None

    # What happens.

    def kill(self, place: int) -> None:
        if (hub := self._of(place)) is not None:
            hub.kill()

    def terminate(self, place: int) -> None:
        if (hub := self._of(place)) is not None:
            hub.terminate()

    def update(self, place: int, start_first: bool) -> None:
        """A rolling update: the new one starts before or after the old one has ended."""
        hub = self._of(place)
        if hub is None:
            return
        if start_first:
            hub.ending = True
            self.start(place)
            self.world.later(self.world.random.uniform(0.2, 3.0), hub.terminate)
        else:
            hub.terminate()

    def pause(self, place: int) -> None:
        if (hub := self._of(place)) is not None:
            hub.process.paused = hub.disturbed = True
            self.ledger.stood_still.add(hub.name)

    def resume(self, place: int) -> None:
        for hub in self.hubs:
            if hub.place == place:
                hub.process.paused = False

    def set_clock(self, place: int, seconds: float) -> None:
        self.skews[place] += seconds
        self.clocks_set = self.world.now
        for hub in self.hubs:
            if hub.place == place:
                hub.process.skew = self.skews[place]

    def rotate(self) -> None:
        """Other keys, and all hubs are told to read them."""
        self.key = 1
        for hub in list(self.hubs):
            self._reload(hub)

    def reload(self, place: int) -> None:
        if (hub := self._of(place)) is not None:
            self._reload(hub)

    def _reload(self, hub: Replica) -> None:
        if not hub.process.loop.signal(SIGHUP):
            hub.kill()
            return

        def note() -> None:
            if hub.key_there == 1:
                self.ledger.rotated.setdefault(hub.name, self.world.now)
            elif hub.process.alive and self.key == 1:
                self.world.later(0.1, note)

        if self.key == 1:
            note()

    @property
    def _server(self) -> Any:
        return self.redis if self.scenario.store == "redis" else self.postgres

    def fill(self) -> None:
        self.file.full = self.redis.full = self.postgres.full = True

    def empty(self) -> None:
        self.file.full = self.redis.full = self.postgres.full = False

    def break_disk(self) -> None:
        self.file.broken = True

    def mend_disk(self) -> None:
        self.file.broken = False

    def stop_store(self) -> None:
        self._server.stop()

    def start_store(self) -> None:
        self._server.start()

    def cut_store(self) -> None:
        self._server.cut()

    def lose_reply(self) -> None:
        self._server.lose_reply()

    def freeze_store(self) -> None:
        self._server.freeze()

    def thaw_store(self) -> None:
        self._server.thaw()

    def fall_behind(self) -> None:
        self._server.keep()
        self._kept = len(self.ledger.stored)

    def fail_over(self) -> None:
        self._server.fail_over()
        # Also what was trimmed meanwhile: the replica never had it.
        lost = {each.id for each in self.ledger.stored[self._kept :]} if self._kept is not None else set[str]()
        self._kept = None
        self.ledger.lost |= lost
        self.tell(f"the store has lost {sorted(each for each in lost if each.startswith('u'))}")

    # From beginning to end.

    def play(self) -> Ledger:
        world, scenario = self.world, self.scenario
        for place in range(scenario.hubs):
            self.start(place)
        for who in scenario.listening:
            self.ledger.subscribers.append(Subscriber(who.name, who.selects, who.may))
        self.crowd.begin()
        for event in scenario.events:
            world.at(event.time, partial(self._happen, event.what, event.arguments))
        world.run(lambda: False, LASTS)
        self._mend()
        well = world.run(self._is_well, world.now + RESTING)
        if not well:
            self.ledger.faults.append("not all hubs serve again")
        world.run(lambda: False, world.now + 2.0)
        self.ledger.calm = world.now
        self.crowd.spawn(self.crowd.mark())
        world.run(self.crowd.all_marked, world.now + RESTING)
        world.run(lambda: False, world.now + ARRIVES)
        if scenario.settings["subscriptions"]:
            world.run(lambda: False, world.now + SEEN)
            self.crowd.spawn(self.crowd.list_subscriptions())
            world.run(lambda: self.crowd.listed, world.now + RESTING)
        self._end()
        return self.ledger

    def _happen(self, what: str, arguments: tuple[Any, ...]) -> None:
        if what != "publish":
            self.tell(f"-- {what} {arguments}")
        getattr(self.crowd if hasattr(Crowd, what) else self, what)(*arguments)

    def _mend(self) -> None:
        self.tell("-- all is mended")
        self.empty()
        self.mend_disk()
        for server in (self.redis, self.postgres):
            server.start()
            server.thaw()
        for hub in self.hubs:
            hub.process.paused, hub.process.skew = False, 0.0
        self.skews.clear()
        self.clocks_set = self.world.now
        self.crowd.heal()
        self.calm = self.world.calm = True

    def _is_well(self) -> bool:
        there = {each.place for each in self.hubs if each.listener.listening and not each.ending}
        old = [each for each in self.hubs if each.ending]
        return len(there) == self.scenario.hubs and not old

    def _end(self) -> None:
        """Everybody is told to end, and does."""
        self.over = True
        for connection in self.ledger.connections:
            if connection.ended is Ended.OPEN:
                connection.blameless = "the end"
        self.ledger.over = self.world.now
        for hub in list(self.hubs):
            hub.terminate()
        if not self.world.run(lambda: not self.hubs, self.world.now + GRACE - 1):
            self.ledger.faults += [f"{hub.name} does not end: {hub.waits_for()}" for hub in self.hubs]


def _observe_memory(run: Run) -> None:
    """What a hub keeps in its memory is seen as it comes."""
    append = MemoryTransport._append

    def observed(self: MemoryTransport, update: Update) -> Any:
        if update.idempotency_key in self._keys:
            return append(self, update)
        receipt = append(self, update)
        if receipt.repeated:
            run.ledger.twice.append(str(update.idempotency_key))
        run._stored(update, run._started)
        return receipt

    put(MemoryTransport, _append=observed)


class _Logged(logging.Handler):
    def __init__(self, run: Run) -> None:
        super().__init__(logging.ERROR)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        current = self._run.world.current
        if record.exc_info and current is not None and current.alive:
            self._run.world.faults.append(f"{current.name} says: {record.getMessage()}: {record.exc_info[1]!r}")


def _listen_to_logs(run: Run) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Logged(run)]
    root.setLevel(logging.ERROR)
