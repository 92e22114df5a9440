"""Everybody outside: publishers and subscribers, what happens to their connections, and what they write down."""

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from hub.client.sse_parser import Event, Parser
from tests.simulation import clients, network
from tests.simulation.clients import PATH, Way
from tests.simulation.ledger import Connection, Ended, Publication
from tests.simulation.replica import Replica
from tests.simulation.scenario import TOPICS, Listening
from tests.simulation.world import EPOCH, Process

if TYPE_CHECKING:
    from tests.simulation.run import Run

REFUSED = (401, 403, 429, 507)
"""What a hub answers that has certainly not stored it."""
SLOW = 0.02
"""Seconds between two reads from which on a subscriber counts as slow."""
TRIES = 6
"""How often a publisher repeats an update under its idempotency key."""
ROOM = 1 << 16
"""Bytes that a connection has room for; a subscriber says itself how many."""
NO_ROOM = 100
"""Bytes for who takes nothing: the head of a response is longer, so that even that waits."""


class Crowd:
    """One process that is never harmed. `scenario.Event`s that happen to clients are its methods."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.process = Process(run.world, "clients")
        self.room = ROOM
        self.listed = False
        self.texts: dict[str, str] = {}
        """The data of each update."""
        self._tasks: list[asyncio.Task[None]] = []
        self._touched: set[str] = set()
        """Subscribers whose connections were broken, or who stopped to read."""
        self._sockets: dict[str, network.Connection] = {}
        self._stalled: dict[str, float] = {}
        self._away: dict[str, float] = {}
        self._queues: list[asyncio.Queue[Publication]] = [asyncio.Queue() for _ in range(run.scenario.publishers)]

    def begin(self) -> None:
        """They come."""
        for who in self.run.scenario.listening:
            self.spawn(self._subscriber(who))
        for number in range(len(self._queues)):
            self.spawn(self._publisher(number))

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
        self._stalled[name] = self.run.world.now + seconds

    def leave(self, name: str, seconds: float) -> None:
        self._away[name] = self.run.world.now + seconds
        if (connection := self._sockets.get(name)) is not None:
            connection.socket.on_data()

    def hang_up(self, publisher: int) -> None:
        """Its connection breaks, maybe before it has its answers."""
        if (connection := self._sockets.get(f"publisher {publisher}")) is not None:
            connection.socket.broken()
            connection.socket.other.broken()

    def publish(self, publishers: Any, id: str, topics: Any, private: bool, with_key: bool, size: int) -> None:
        self.texts[id] = f"{id} " + "x" * size
        for publisher in publishers:
            publication = Publication(id, topics, private, f"key-{id}" if with_key else None, self.run.world.now)
            self.run.ledger.publications.append(publication)
            self._queues[publisher].put_nowait(publication)

    def spawn(self, coroutine: Any) -> None:
        """Have it run beside everything else."""
        self.process.loop.call_soon(lambda: self._tasks.append(self.process.loop.create_task(coroutine)))

    async def _publisher(self, number: int) -> None:
        queue, connection = self._queues[number], None
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < 4:
                batch.append(queue.get_nowait())
            for _ in range(TRIES):
                connection = await self._publish(batch, connection, number)
                # What may be in the log is repeated under its key alone.
                batch = [
                    each for each in batch if (each.key is not None or each.status in REFUSED) and each.status != 200
                ]
                if not batch or self.run.over:
                    break
                await asyncio.sleep(self.run.world.random.uniform(0.05, 1.5))

    async def _publish(
        self, batch: list[Publication], connection: network.Connection | None, number: int = 0
    ) -> network.Connection | None:
        """Send all of them and wait for the answers, in their order; the connection if it may be used again."""
        for each in batch:
            each.status = 0
        if connection is None:
            try:
                connection = self._connected()
            except OSError:
                return None
        self._sockets[f"publisher {number}"] = connection
        way = list(Way)[number % len(Way)]
        try:
            for each in batch:
                each.sent = self.run.world.now
                connection.write(clients.request_of(each, self.texts[each.id], self.run.key, way))
            async with asyncio.timeout(clients.PATIENCE):
                await self._answers(batch, connection)
        except OSError:  # TimeoutError is one
            pass
        except ValueError as error:
            self.run.ledger.faults.append(f"a publisher got {error}")
        for each in batch:
            each.unsure = each.unsure or each.status not in (200, *REFUSED)
        if all(each.status == 200 for each in batch):
            return connection
        connection.close()
        return None

    def _connected(self) -> network.Connection:
        """To whichever hub there is. Raises ConnectionRefusedError."""
        hub = self.run.reached()
        if hub is None:
            raise ConnectionRefusedError
        return network.Connection(self.process.loop, hub.listener.connected())

    async def _answers(self, batch: list[Publication], connection: network.Connection) -> None:
        """Raises ConnectionError, ValueError."""
        response = clients.Response()
        while len(response.ended) < len(batch):
            whole = len(response.ended)
            await response.read(connection)
            for each, (status, body) in zip(batch[whole:], response.ended[whole:], strict=False):
                each.status, each.answered, each.answer = status, self.run.world.now, body.decode()
                self.run.world.tell(f"{each.id}: {status}")

    def _now(self) -> float:
        return self.run.world.now

    async def _subscriber(self, who: Listening) -> None:
        parser = Parser("earliest" if who.earliest else "")
        while not self.run.over:
            away = self._away.get(who.name, 0.0) - self.run.world.now
            if away > 0 and not self.run.calm:
                await asyncio.sleep(away)
            hub = self.run.reached()
            if hub is not None:
                parser = await self._follow(who, parser, hub)
            await asyncio.sleep(self.run.world.random.uniform(0.01, 0.5))

    async def _follow(self, who: Listening, parser: Parser, hub: Replica) -> Parser:
        """One connection; the parser with the cursor for the next."""
        cursor = parser.last_event_id or None
        expires = None if self.run.calm or who.lifetime is None else int(EPOCH + self.run.world.now + who.lifetime)
        bearer = clients.token(self.run.key, clients.grants(who), expires)
        over = float("inf") if expires is None else expires - EPOCH
        made = Connection(who.name, hub.name, cursor, None, 0.0, over, self.run.key)
        self.room = NO_ROOM if self._stalls(who.name) else who.room
        try:
            connection = network.Connection(self.process.loop, hub.listener.connected())
        except OSError:
            return parser
        self.room = ROOM
        connection.write(clients.request_stream(who, cursor, bearer))
        self._sockets[who.name] = connection
        parser = Parser(cursor or "")
        try:
            await self._read(who, connection, made, parser)
        except (ConnectionError, TimeoutError):
            made.ended, made.over = Ended.CUT, self.run.world.now
            if hub.disturbed:
                made.blameless = "its hub was killed, or stood still"
            elif who.slowness >= SLOW or who.name in self._touched:
                made.blameless = "it did not read, or its connection was broken"
        except ValueError as error:
            if "401" not in str(error) and "403" not in str(error):
                self.run.ledger.faults.append(f"{who.name} got {error}")
        finally:
            connection.close()
        return parser

    async def _read(self, who: Listening, connection: network.Connection, made: Connection, parser: Parser) -> None:
        silence = 3 * self.run.scenario.settings["heartbeat"] + 5
        stream, asked_at = clients.stream(connection, made, parser, self._now), self._now()
        async with aclosing(stream):
            while True:
                while self._stalls(who.name):
                    await asyncio.sleep(0.2)
                connection.socket.other.room = who.room
                async with asyncio.timeout(silence):
                    events = await anext(stream, None)
                if events is None:
                    return
                if made.begun and made not in self.run.ledger.connections:
                    if any(self.run.skews.values()) or self.run.clocks_set >= asked_at:
                        made.expires = float("inf")  # by whose clock?
                    self.run.ledger.connections.append(made)
                    self.run.world.tell(f"{who.name} listens at {made.hub} after {made.asked}, told {made.told}")
                self._check(who, events)
                if self._away.get(who.name, 0.0) > self.run.world.now and not self.run.calm:
                    made.ended, made.over = Ended.LEFT, self.run.world.now
                    return
                if who.slowness and not self.run.calm:
                    await asyncio.sleep(self.run.world.random.uniform(0, 2 * who.slowness))

    def _stalls(self, name: str) -> bool:
        return self._stalled.get(name, 0.0) > self.run.world.now and not self.run.calm

    def _check(self, who: Listening, events: list[Event]) -> None:
        for event in events:
            self.run.world.tell(f"{who.name} gets {event.id}")
            if event.data != self.texts.get(event.id, event.data):
                self.run.ledger.faults.append(f"{who.name} got other data than was published as {event.id}")

    async def mark(self) -> None:
        """Something for everybody, again until all have got it: who has no cursor may have been away."""
        turn = 0
        while not self.run.over and not self.all_marked():
            turn += 1
            waiting = [
                Publication(f"marker{turn}.{n}", (n,), False, f"key-marker{turn}.{n}", self.run.world.now)
                for n in range(TOPICS)
            ]
            self.run.ledger.publications += waiting
            self.run.ledger.markers.update({each.id: each.topics[0] for each in waiting})
            self.texts.update({each.id: each.id for each in waiting})
            while waiting and not self.run.over:
                await self._publish(waiting, None)
                waiting = [each for each in waiting if each.status != 200]
                await asyncio.sleep(0.2)
            await asyncio.sleep(2.0)

    def all_marked(self) -> bool:
        for subscriber in self.run.ledger.subscribers:
            events = (
                event for c in self.run.ledger.connections if c.subscriber == subscriber.name for event, _ in c.events
            )
            if not self.run.ledger.markers or subscriber.selects - {
                self.run.ledger.markers.get(event, -1) for event in events
            }:
                return False
        return True

    async def list_subscriptions(self) -> None:
        """What each hub lists, until it is what is there: streams come and go meanwhile."""
        bearer = clients.token(self.run.key, (("subscribe", ("*",)),))
        for hub in list(self.run.hubs):
            if hub.hub is None or not hub.hub.lifecycle.serving:
                continue  # the second of a pair
            for _ in range(20):
                connection = network.Connection(self.process.loop, hub.listener.connected())
                status, body = await clients.fetched(connection, f"{PATH}/subscriptions", bearer)
                connection.close()
                listed = [each["topic"] for each in json.loads(body)["subscriptions"]] if status == 200 else []
                there = [
                    matcher.pattern
                    for one in self.run.hubs
                    if one.hub is not None
                    for stream in one.hub.streams.open
                    for matcher in stream.audience.key[0]
                ]
                self.run.ledger.listed[hub.name] = (sorted(listed), sorted(there))
                if sorted(listed) == sorted(there):
                    break
                await asyncio.sleep(0.3)
        self.listed = True
