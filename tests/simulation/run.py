"""One scenario from beginning to end: hubs, stores, clients, what happens to them, and the ledger of it."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from signal import SIGHUP, SIGTERM
from typing import Any

from hub.client.sse_parser import Event, Parser
from hub.config.settings import Settings
from hub.server.server import Surroundings, _serve
from hub.server.sockets import Listener as Listening_
from hub.web.hub import Hub
from tests.simulation import clients, network, postgres_server, redis_server
from tests.simulation.clients import KEYS, PATH
from tests.simulation.ledger import Connection, Ended, Ledger, Publication, Stored, Subscriber
from tests.simulation.lmdb_file import File
from tests.simulation.scenario import LASTS, STORES, TOPICS, Listening, Scenario
from tests.simulation.surroundings import bound, installed
from tests.simulation.world import EPOCH, Process, World
from transports import Update
from transports.lmdb.rows import update_of
from transports.memory import MemoryTransport

BACK = (0.3, 2.0)
"""Seconds until a hub that has ended is started again."""
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
SEEN = 13.0
"""Seconds within which a hub that was killed has been announced by another: its lease, and two beats."""
RESTING = 60.0
"""Seconds within which all has to be well again after the last fault."""
REFUSED = (401, 403, 429, 507)
"""What a hub answers that has certainly not stored it."""
SLOW = 0.02
"""Seconds between two reads up to which a subscriber does not count as slow."""
TRIES = 6
"""How often a publisher repeats an update under its idempotency key."""


class Replica:
    """A hub as a process: started, told to end, killed; ``code`` is there once it has ended."""

    def __init__(self, run: "Run", name: str, place: int) -> None:
        self.run, self.name, self.place = run, name, place
        self.process = Process(run.world, name)
        self.process.skew = run.skews[place]
        self.listener = network.Listener(run.world, lambda: run.room)
        self.hub: Hub | None = None
        self.code: int | None = None
        self.ending = self.disturbed = False
        self.key_there = run.key
        """The key that it has read last."""
        self.process.loop.call_soon(self._begin)

    def _settings(self) -> Settings:
        self.key_there = self.run.key
        key = KEYS[self.run.key]
        settings = self.run.scenario.settings
        return Settings(
            transport_url=self.run.url, anonymous=True, publisher_jwt_key=key, subscriber_jwt_key=key, **settings
        )

    def _begin(self) -> None:
        self.hub = Hub(self._settings())
        aturn = Surroundings(reread=self._settings)
        serving = _serve(self.hub, [Listening_(self.listener)], aturn, None, None, None)  # type: ignore[arg-type]
        self._serving = self.process.loop.create_task(serving)
        self._serving.add_done_callback(self._done)

    def _done(self, serving: asyncio.Task[int]) -> None:
        error = serving.exception()
        self.code = -1 if error is not None else serving.result()
        if error is not None:
            self.run.ledger.faults.append(f"{self.name}: its server raised {error!r}")
        self.run.world.later(0.001, self._gone)

    def _gone(self) -> None:
        if self.process.alive:
            self.run.tell(f"{self.name} has ended with {self.code}")
            if self.ending or self.code == 0:
                self._leave_nothing()
            self.process.end()
            self.run.hub_gone(self)

    def _leave_nothing(self) -> None:
        """What an orderly end must have let go of."""
        hub, left = self.hub, self.run.ledger.left
        assert hub is not None
        tasks = [each for each in asyncio.all_tasks(self.process.loop) if not each.done()]
        left += [f"{self.name} leaves a task: {each.get_coro()}" for each in tasks]
        left += [f"{self.name} leaves the descriptor {each}" for each in self.process.descriptors]
        left += [f"{self.name} leaves a thread" for _ in self.process.threads]
        if hub.streams.open or hub.streams.live:
            left.append(f"{self.name} leaves {len(hub.streams.open)} streams, {hub.streams.live} of them live")
        if list(hub.streams.audiences.sizes()):
            left.append(f"{self.name} leaves audiences")
        if hub.lifecycle.publishing:
            left.append(f"{self.name} leaves {hub.lifecycle.publishing} publications")

    def serving(self) -> bool:
        return self.process.alive and self.listener.listening and not self.process.paused

    def kill(self) -> None:
        self.disturbed = True
        if self.process.alive:
            self.process.end()
            self.run.hub_gone(self)

    def terminate(self) -> None:
        self.ending = True
        self.process.loop.signal(SIGTERM)
        self.run.world.later(GRACE, self.kill)


class Run:
    """``ledger``: what there is to judge, after `play`."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = world = World(scenario.seed, scenario.pace)
        self.tell = world.tell
        forgets = scenario.size is not None or scenario.store == "memory"
        self.ledger = Ledger(faults=world.faults, forgets=forgets)
        self.skews = Counter[int]()
        self.room = 1 << 16
        self.key = 0
        self.url = self._url()
        self.file = File(world, self._committed)
        self.redis = redis_server.Server(world, self._added)
        self.postgres = postgres_server.Server(world, lambda row: self._stored(Update.from_json(row.update)))
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
        self._logs = 0
        self._started = 0
        self.clients = Process(world, "clients")
        self.texts: dict[str, str] = {}
        self._touched: set[str] = set()
        """Subscribers whose connections were broken, or who stopped to read."""
        self._sockets: dict[str, network.Connection] = {}
        self._stalled: dict[str, float] = {}
        self._away: dict[str, float] = {}
        self._queues: list[asyncio.Queue[Publication]] = [asyncio.Queue() for _ in range(scenario.publishers)]

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
        if update.idempotency_key:
            ledger.keys[update.idempotency_key] = update.id

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

    def _added(self, fields: dict[bytes, bytes]) -> None:
        self._stored(Update.from_json(fields[b"update"]))

    # Hubs.

    def start(self, place: int) -> None:
        self._started += 1
        name = f"hub{place}.{self._started}"
        self.tell(f"{name} starts")
        self._logs += 1
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
            self._excuse(hub)

    def _excuse(self, hub: Replica) -> None:
        """What stands still cannot end a stream in time."""
        for each in self.ledger.connections:
            if each.hub == hub.name and each.ended is Ended.OPEN:
                each.expires, each.key = float("inf"), 1

    def resume(self, place: int) -> None:
        for hub in self.hubs:
            if hub.place == place:
                hub.process.paused = False

    def set_clock(self, place: int, seconds: float) -> None:
        self.skews[place] += seconds  # type: ignore[assignment]
        for hub in self.hubs:
            if hub.place == place:
                hub.process.skew = self.skews[place]

    def reset(self, name: str) -> None:
        self._touched.add(name)
        if (connection := self._sockets.get(name)) is not None:
            connection.socket.broken()
            connection.socket.other.broken()

    def swallow(self, name: str) -> None:
        self._touched.add(name)
        if (connection := self._sockets.get(name)) is not None:
            connection.socket.swallows = connection.socket.other.swallows = True

    def heal(self) -> None:
        for connection in self._sockets.values():
            connection.socket.heal()
            connection.socket.other.heal()

    def stall(self, name: str, seconds: float) -> None:
        self._touched.add(name)
        self._stalled[name] = self.world.now + seconds

    def leave(self, name: str, seconds: float) -> None:
        self._away[name] = self.world.now + seconds
        if (connection := self._sockets.get(name)) is not None:
            connection.socket.on_data()

    def rotate(self) -> None:
        """Other keys, and all hubs are told to read them."""
        self.key = 1
        for hub in list(self.hubs):
            self._reload(hub)

    def reload(self, place: int) -> None:
        if (hub := self._of(place)) is not None:
            self._reload(hub)

    def _reload(self, hub: Replica) -> None:
        hub.process.loop.signal(SIGHUP)

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

    def freeze_store(self) -> None:
        self._server.freeze()

    def thaw_store(self) -> None:
        self._server.thaw()

    def fall_behind(self) -> None:
        self._server.keep()

    def fail_over(self) -> None:
        lost = {each.decode() for each in self._server.fail_over()}
        self.ledger.lost.update(dict.fromkeys(lost, self.world.now))
        self.tell(f"the store has lost {sorted(each for each in lost if each.startswith('u'))}")

    def publish(self, publishers: Any, id: str, topics: Any, private: bool, with_key: bool, size: int) -> None:
        self.texts[id] = f"{id} " + "x" * size
        for publisher in publishers:
            publication = Publication(id, topics, private, f"key-{id}" if with_key else None, self.world.now)
            self.ledger.publications.append(publication)
            self._queues[publisher].put_nowait(publication)

    # Clients.

    def _spawn(self, coroutine: Any) -> None:
        self.clients.loop.call_soon(lambda: self._clients.append(self.clients.loop.create_task(coroutine)))

    async def _publisher(self, number: int) -> None:
        queue, connection = self._queues[number], None
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < 4:
                batch.append(queue.get_nowait())
            for _ in range(TRIES):
                connection = await self._publish(batch, connection, named=number % 2 == 1)
                # What may be in the log is repeated under its key alone.
                batch = [
                    each for each in batch if (each.key is not None or each.status in REFUSED) and each.status != 200
                ]
                if not batch or self.over:
                    break
                await asyncio.sleep(self.world.random.uniform(0.05, 1.5))

    async def _publish(
        self, batch: list[Publication], connection: network.Connection | None, *, named: bool = False
    ) -> network.Connection | None:
        """Send all of them and wait for the answers, in their order; the connection if it may be used again."""
        for each in batch:
            each.status = 0
        if connection is None:
            try:
                connection = self._connected()
            except OSError:
                return None
        try:
            for each in batch:
                each.sent = self.world.now
                connection.write(clients.request_of(each, self.texts[each.id], self.key, named=named))
            async with asyncio.timeout(clients.PATIENCE):
                await self._answers(batch, connection)
        except OSError:  # TimeoutError is one
            pass
        except ValueError as error:
            self.ledger.faults.append(f"a publisher got {error}")
        if all(each.status == 200 for each in batch):
            return connection
        connection.close()
        return None

    def _connected(self) -> network.Connection:
        """To whichever hub there is. Raises ConnectionRefusedError."""
        hub = self.reached()
        if hub is None:
            raise ConnectionRefusedError
        return network.Connection(self.clients.loop, hub.listener.connected())

    async def _answers(self, batch: list[Publication], connection: network.Connection) -> None:
        """Raises ConnectionError, ValueError."""
        response = clients.Response()
        while len(response.ended) < len(batch):
            data = await connection.read()
            if not data:
                raise ConnectionResetError
            whole = len(response.ended)
            response.feed(data)
            for each, (status, body) in zip(batch[whole:], response.ended[whole:], strict=False):
                each.status, each.answered, each.answer = status, self.world.now, body.decode()
                self.tell(f"{each.id}: {status}")

    def _now(self) -> float:
        return self.world.now

    async def _subscriber(self, who: Listening) -> None:
        parser = Parser("earliest" if who.earliest else "")
        while not self.over:
            away = self._away.get(who.name, 0.0) - self.world.now
            if away > 0 and not self.calm:
                await asyncio.sleep(away)
            hub = self.reached()
            if hub is not None:
                parser = await self._follow(who, parser, hub)
            await asyncio.sleep(self.world.random.uniform(0.01, 0.5))

    async def _follow(self, who: Listening, parser: Parser, hub: Replica) -> Parser:
        """One connection; the parser with the cursor for the next."""
        cursor = parser.last_event_id or None
        expires = None if self.calm or who.lifetime is None else int(EPOCH + self.world.now + who.lifetime)
        bearer = clients.token(self.key, clients.grants(who), expires)
        made = Connection(who.name, hub.name, cursor, None, 0.0, float("inf"), self.key)
        if expires is not None and not any(self.skews.values()):
            made.expires = expires - EPOCH
        self.room = who.room
        try:
            connection = network.Connection(self.clients.loop, hub.listener.connected())
        except OSError:
            return parser
        self.room = 1 << 16
        connection.write(clients.request_stream(who, cursor, bearer))
        self._sockets[who.name] = connection
        parser = Parser(cursor or "")
        try:
            await self._read(who, connection, made, parser)
        except (ConnectionError, TimeoutError):
            made.ended, made.over = Ended.CUT, self.world.now
            if hub.disturbed:
                made.blameless = "its hub was killed, or stood still"
            elif who.slowness > SLOW or who.name in self._touched:
                made.blameless = "it did not read, or its connection was broken"
        except ValueError as error:
            if "401" not in str(error) and "403" not in str(error):
                self.ledger.faults.append(f"{who.name} got {error}")
        finally:
            connection.close()
        if made.begun:
            self.ledger.connections.append(made) if made not in self.ledger.connections else None
        return parser

    async def _read(self, who: Listening, connection: network.Connection, made: Connection, parser: Parser) -> None:
        silence = 3 * self.scenario.settings["heartbeat"] + 5
        stream = clients.stream(connection, made, parser, self._now)
        async with aclosing(stream):
            while True:
                async with asyncio.timeout(silence):
                    events = await anext(stream, None)
                if events is None:
                    return
                if made.begun and made not in self.ledger.connections:
                    self.ledger.connections.append(made)
                    self.tell(f"{who.name} listens at {made.hub} after {made.asked}, told {made.told}")
                self._check(who, events)
                if self._away.get(who.name, 0.0) > self.world.now and not self.calm:
                    made.ended, made.over = Ended.LEFT, self.world.now
                    return
                while self._stalled.get(who.name, 0.0) > self.world.now and not self.calm:
                    await asyncio.sleep(0.2)
                if who.slowness and not self.calm:
                    await asyncio.sleep(self.world.random.uniform(0, 2 * who.slowness))

    def _check(self, who: Listening, events: list[Event]) -> None:
        for event in events:
            self.tell(f"{who.name} gets {event.id}")
            if event.data != self.texts.get(event.id, event.data):
                self.ledger.faults.append(f"{who.name} got other data than was published as {event.id}")

    # From beginning to end.

    def play(self) -> Ledger:
        self._clients: list[asyncio.Task[None]] = []
        world, scenario = self.world, self.scenario
        for place in range(scenario.hubs):
            self.start(place)
        for who in scenario.listening:
            self.ledger.subscribers.append(Subscriber(who.name, who.selects, who.may))
            self._spawn(self._subscriber(who))
        for number in range(scenario.publishers):
            self._spawn(self._publisher(number))
        for event in scenario.events:
            world.at(event.time, partial(self._happen, event.what, event.arguments))
        world.run(lambda: False, LASTS)
        self._mend()
        well = world.run(self._is_well, world.now + RESTING)
        if not well:
            self.ledger.faults.append("not all hubs serve again")
        world.run(lambda: False, world.now + 2.0)
        self.ledger.calm = world.now
        self._spawn(self._mark())
        world.run(self._all_marked, world.now + RESTING)
        if scenario.settings["subscriptions"]:
            world.run(lambda: False, world.now + SEEN)
            self._listed = False
            self._spawn(self._list())
            world.run(lambda: self._listed, world.now + RESTING)
        self._end()
        return self.ledger

    def _happen(self, what: str, arguments: tuple[Any, ...]) -> None:
        if what != "publish":
            self.tell(f"-- {what} {arguments}")
        getattr(self, what)(*arguments)

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
        self.heal()
        self.calm = self.world.calm = True

    def _is_well(self) -> bool:
        there = {each.place for each in self.hubs if each.listener.listening and not each.ending}
        old = [each for each in self.hubs if each.ending]
        return len(there) == self.scenario.hubs and not old

    async def _mark(self) -> None:
        """Something for everybody, again until all have got it: who has no cursor may have been away."""
        turn = 0
        while not self.over and not self._all_marked():
            turn += 1
            waiting = [
                Publication(f"marker{turn}.{n}", (n,), False, f"key-marker{turn}.{n}", self.world.now)
                for n in range(TOPICS)
            ]
            self.ledger.publications += waiting
            self.ledger.markers.update({each.id: each.topics[0] for each in waiting})
            self.texts.update({each.id: each.id for each in waiting})
            while waiting and not self.over:
                await self._publish(waiting, None)
                waiting = [each for each in waiting if each.status != 200]
                await asyncio.sleep(0.2)
            await asyncio.sleep(2.0)

    def _all_marked(self) -> bool:
        for subscriber in self.ledger.subscribers:
            events = (
                event for c in self.ledger.connections if c.subscriber == subscriber.name for event, _ in c.events
            )
            if not self.ledger.markers or subscriber.selects - {self.ledger.markers.get(event, -1) for event in events}:
                return False
        return True

    async def _list(self) -> None:
        """What each hub lists, until it is what is there: streams come and go meanwhile."""
        bearer = clients.token(self.key, (("subscribe", ("*",)),))
        for hub in list(self.hubs):
            if hub.hub is None or not hub.hub.lifecycle.serving:
                continue  # the second of a pair
            for _ in range(20):
                connection = network.Connection(self.clients.loop, hub.listener.connected())
                status, body = await clients.fetched(connection, f"{PATH}/subscriptions", bearer)
                connection.close()
                listed = [each["topic"] for each in json.loads(body)["subscriptions"]] if status == 200 else []
                there = [
                    matcher.pattern
                    for one in self.hubs
                    if one.hub is not None
                    for stream in one.hub.streams.open
                    for matcher in stream.audience.key[0]
                ]
                self.ledger.listed[hub.name] = (sorted(listed), sorted(there))
                if sorted(listed) == sorted(there):
                    break
                await asyncio.sleep(0.3)
        self._listed = True

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
            self.ledger.faults += [f"{hub.name} does not end: {_waiting(hub)}" for hub in self.hubs]


def _waiting(hub: Replica) -> str:
    """Where its tasks stand."""
    places = []
    for task in asyncio.all_tasks(hub.process.loop):
        place: Any = task.get_coro()
        chain: list[str] = []
        while (frame := getattr(place, "cr_frame", None)) is not None:
            chain.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            place = place.cr_await
        places.append(" > ".join(chain))
    return "; ".join(sorted(places))


def _observe_memory(run: Run) -> None:
    """What a hub keeps in its memory is seen as it comes."""
    append = MemoryTransport._append

    def observed(self: MemoryTransport, update: Update) -> Any:
        if update.idempotency_key in self._keys:
            return append(self, update)
        receipt = append(self, update)
        if receipt.repeated:
            run.ledger.twice.append(str(update.idempotency_key))
        run._stored(update, run._logs)
        return receipt

    MemoryTransport._append = observed  # type: ignore[method-assign]


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


Told = Callable[[str], None]
