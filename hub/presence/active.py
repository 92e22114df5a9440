"""The subscriptions that this process holds: announced when they begin and end, and kept alive in between.

The store lists every process's subscriptions (`transports.Presence`). Each begins and ends with one update in the log,
also when its process is killed: another one then notices, and announces the ends.

Theory of operation. `begin` and `end` only queue changes, so that a stream never waits for the store. `announce`
takes them in parts: what begins is entered in the store, then published; what ends is marked as ended in the store,
then published, then removed. A client that lists the store and then follows the log therefore sees each change at least
once, and a process that dies in between leaves a row that tells another one what is still to be announced. Begin and
end have idempotency keys of their own, so that the log has each of them once, however many announce it.

`watch` counts this process up every `BEAT` seconds. A count that stands still for `LEASE` seconds, under the eyes of
an observer that could see the store all the time, is a dead process's: it is marked dead, its ends are announced, and
it is forgotten. A process that finds itself marked dead goes on under another name, with other subscribers: an id
that has ended stays ended.

A store that was away may be an older one when it is back: a replica took over that lacks the last changes. So what it
lists of this process is compared then with what is held (`_compare`): whatever else it lists has ended, and what it
lacks is announced again. ``tests/hub/presence/test_active.py`` kills, freezes, empties and goes back in time.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import uuid4

from hub.auth.grants import Grants
from hub.matching.matchers import Matcher, Matching
from hub.presence.documents import Subscription, event
from transports import DEAD, Transport, TransportClosed, TransportError, TransportFull

BEAT = 2.0
"""Seconds between two signs of life: one command for all subscriptions of a process."""
LEASE = 10.0
"""Seconds without a beat after which a process counts as dead, if the judging process could read all the while."""
PART = 256
"""Subscriptions that are announced at once; their updates share a commit."""
CROWDED = 10_000
"""Changes that may wait; then those are left out that nobody has heard of and that are over already."""
ANNOUNCE_RETRY = 0.5
SETTLING = 5.0
"""Seconds that the last announcements may take at the end."""

logger = logging.getLogger(__name__)


class Change(NamedTuple):
    """A subscription begins or ends."""

    active: bool
    subscription: Subscription


class ActiveSubscriptions:
    """One node of the store's presence. ``lease`` and ``beat``: seconds.

    A node that was declared dead although it lives, because it was frozen, or whose store was emptied, becomes another
    node: its subscriptions begin anew, as those of other subscribers.
    """

    def __init__(self, transport: Transport, matching: Matching, *, lease: float = LEASE, beat: float = BEAT) -> None:
        self._transport, self._presence, self._matching = transport, transport.presence, matching
        self._lease, self._beat = lease, beat
        self._node = uuid4().hex
        self._entered = False
        self._count = 0
        self._held: dict[Hashable, Sequence[Subscription]] = {}
        self._changes: deque[Change] = deque()
        self._crowded = CROWDED
        self._changed = asyncio.Event()
        self._settling = asyncio.Lock()
        self._late = False
        self._doubtful = False

    def begin(self, stream: Hashable, matchers: Iterable[Matcher], grants: Grants) -> None:
        """Begin a subscription for each of a subscriber's matchers."""
        self._hold(stream, [Subscription(m, "", grants.payload(m, self._matching)) for m in matchers])

    def end(self, stream: Hashable) -> None:
        """End a subscriber's subscriptions. Unknown streams are ignored."""
        self._change(False, self._held.pop(stream, ()))

    def _hold(self, stream: Hashable, subscriptions: Iterable[Subscription]) -> None:
        subscriber = uuid4().urn
        self._held[stream] = [each._replace(subscriber=subscriber) for each in subscriptions]
        self._change(True, self._held[stream])

    def _change(self, active: bool, subscriptions: Iterable[Subscription]) -> None:
        self._changes.extend(Change(active, each) for each in subscriptions)
        if len(self._changes) > self._crowded:
            self._changes = deque(_without_the_unheard(self._changes))
            # Looked at again when they have doubled: what is left is bounded by the subscriptions that are held.
            self._crowded = max(CROWDED, 2 * len(self._changes))
        self._changed.set()

    async def announce(self) -> None:
        """Tell the store and the log of every change, until the transport is closed. Outages are waited out."""
        with suppress(TransportClosed):
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._settle()

    async def _settle(self) -> None:
        async with self._settling:
            while self._changes:
                part = [self._changes.popleft() for _ in range(min(PART, len(self._changes)))]
                while part:
                    part = await self._pending_after(part)

    async def _pending_after(self, part: Sequence[Change]) -> list[Change]:
        """Announce the changes; return those that must be retried, after a pause."""
        node = self._node
        try:
            return await self._tell(node, part)
        except TransportClosed:
            raise
        except TransportError as error:
            return await self._retry_after_pause(node, part, error)

    async def _retry_after_pause(self, node: str, part: Sequence[Change], error: TransportError) -> list[Change]:
        """What is left of them after a while: what began under a node that is no more has begun anew."""
        if not self._late:
            what = "is full" if isinstance(error, TransportFull) else "does not answer"
            logger.warning("the store %s, subscriptions are announced later: %s", what, error)
        self._late = True
        await asyncio.sleep(ANNOUNCE_RETRY)
        return [each for each in part if not each.active or node == self._node]

    async def _tell(self, node: str, part: Sequence[Change]) -> list[Change]:
        """Announce the changes, for clients that list first and then follow. Return what is left to announce."""
        begun, ended = _documents(part, active=True), _documents(part, active=False)
        try:
            entered = bool(begun) and await self._enter(node, begun)
        except TransportFull as error:
            return self._ends_first(await self._retry_after_pause(node, part, error))
        if entered:
            await self._publish(begun, active=True)
        if ended:
            await self._end(node, ended)
        self._late = False
        return []

    def _ends_first(self, part: Iterable[Change]) -> list[Change]:
        """There is no room for what begins, and what ends makes some. Nobody has heard of what did both meanwhile."""
        left = sorted(_without_the_unheard([*part, *self._changes]), key=lambda change: change.active)
        ends = min(PART, sum(not change.active for change in left))
        self._changes = deque(left[ends:])
        return left[:ends]

    async def _end(self, node: str, documents: Mapping[str, bytes]) -> None:
        """Listed as ended until the log says so: if we die before it does, another tells it."""
        try:
            await self._enter(node, documents)
        except TransportFull:
            await self._presence.leave(node, list(documents))
        await self._publish(documents, active=False)
        await self._presence.leave(node, list(documents))

    async def _enter(self, node: str, documents: Mapping[str, bytes]) -> bool:
        if await self._presence.enter(node, documents):
            self._entered = True
            return True
        if node == self._node:
            self._begin_anew()
        return False

    async def _publish(self, documents: Mapping[str, bytes], *, active: bool) -> None:
        await asyncio.gather(*(self._transport.append(event(*each, active=active)) for each in documents.items()))

    def _begin_anew(self) -> None:
        logger.warning("this hub was taken for dead, or its store was emptied; its subscriptions are announced again")
        self._node, self._entered, self._count = uuid4().hex, False, 0
        self._changes = deque(change for change in self._changes if not change.active)
        for stream, subscriptions in list(self._held.items()):
            self._hold(stream, subscriptions)

    def doubt(self) -> None:
        """The store was away, and may lack what it had before."""
        self._doubtful = True

    async def _compare(self) -> None:
        """What is listed of this node and what is held become the same again; each change is told once, by its key."""
        async with self._settling:
            node, listed = self._node, await self._presence.of(self._node)
            held = {each.id: each for subscriptions in self._held.values() for each in subscriptions}
            over = [each for each in listed.items() if each[0] not in held and _is_document(each[1])]
            for at in range(0, len(over), PART):
                await self._publish(part := dict(over[at : at + PART]), active=False)
                await self._presence.leave(node, list(part))
        self._changes.extend(Change(True, each) for id, each in held.items() if id not in listed)
        self._changed.set()

    async def watch(self) -> None:
        """Give signs of life, and announce the ends of those who give none, until the transport is closed."""
        with suppress(TransportClosed):
            if not self._transport.shared:
                await self._bury_predecessors()
            watch = Watch(self._lease, 2 * self._beat)
            while True:
                try:
                    await self._look(watch)
                except TransportClosed:
                    raise
                except TransportError:
                    watch.restart()
                    self.doubt()
                await asyncio.sleep(self._beat)

    async def _look(self, watch: "Watch") -> None:
        own, entered = self._node, self._entered
        counts = await self._presence.beat(own)
        if own == self._node and entered:
            self._check(counts.get(own, DEAD))
        if self._doubtful and own == self._node:
            self._doubtful = False
            await self._compare()
        for node, count in watch.still(counts, asyncio.get_running_loop().time()):
            if node != self._node:
                await self._bury(node, count)

    def _check(self, count: int) -> None:
        """A count that is not above the one before is of a node that somebody has forgotten, and we entered again."""
        if count <= self._count:
            self._begin_anew()
        else:
            self._count = count

    async def _bury_predecessors(self) -> None:
        """With an exclusive store, every other node listed is dead."""
        while True:
            try:
                for node, count in (await self._presence.beat(self._node)).items():
                    if node != self._node:
                        await self._bury(node, count)
                return
            except TransportClosed:
                raise
            except TransportError:
                await asyncio.sleep(ANNOUNCE_RETRY)

    async def _bury(self, node: str, count: int) -> None:
        if not await self._presence.expire(node, count):
            return
        documents = [each for each in (await self._presence.of(node)).items() if _is_document(each[1])]
        for at in range(0, len(documents), PART):
            await self._publish(dict(documents[at : at + PART]), active=False)
            await self._presence.beat(self._node)  # a process that buries many must not count as dead itself meanwhile
        await self._presence.forget(node)

    async def close(self) -> None:
        """Announce what is left to be announced, and leave the store. The transport is still open."""
        if self._late:
            return  # an outage is not waited out at the end: another hub, or the next, tells what is left
        try:
            async with asyncio.timeout(SETTLING):
                for stream in list(self._held):
                    self.end(stream)
                await self._settle()
                self._entered = False
                await self._presence.forget(self._node)
        except TransportClosed:
            pass  # a store that only one process can have: the next one announces what this one left
        except (TimeoutError, TransportError) as error:
            logger.warning("the ends of subscriptions are left for another hub to announce: %r", error)


def _documents(changes: Iterable[Change], *, active: bool) -> dict[str, bytes]:
    """Of those that begin, or of those that end."""
    chosen = [each.subscription for each in changes if each.active == active]
    return {each.id: each.document(active=active) for each in chosen}


def _is_document(document: bytes) -> bool:
    """Others may write to a store as well, and nobody but us would end over what is no JSON object."""
    try:
        return isinstance(json.loads(document), dict)
    except ValueError:
        return False


def _without_the_unheard(changes: Sequence[Change]) -> Iterator[Change]:
    """All but the subscriptions whose begin and end are both among them."""
    begun = {id(each.subscription) for each in changes if each.active}
    over = {id(each.subscription) for each in changes if not each.active} & begun
    return (each for each in changes if id(each.subscription) not in over)


class Watch:
    """Whose count has stood still for ``lease`` seconds of somebody who has looked at least every ``gap``. Pure."""

    def __init__(self, lease: float, gap: float) -> None:
        self._lease, self._gap = lease, gap
        self._since: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def restart(self) -> None:
        """The counts could not be seen: nobody is judged by the time that passed."""
        self._since.clear()

    def still(self, counts: Mapping[str, int], now: float) -> list[tuple[str, int]]:
        """The nodes with these counts that have not counted for a lease."""
        if now - self._looked > self._gap:
            self.restart()
        self._looked = now
        before = self._since
        self._since = {
            node: before[node] if before.get(node, (None,))[0] == count else (count, now)
            for node, count in counts.items()
        }
        return [(node, count) for node, (count, since) in self._since.items() if now - since >= self._lease]
