"""What every transport must do, as tests that any transport can run: `TransportContract`, `SharedTransportContract`.

`TopicIndexContract` and `SharedTopicIndexContract` are for those that find the entries of topics.

Override the fixture ``opened`` where parameters are given in another way than in a query, ``peer`` where a second
process needs more than the URL.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

import pytest

from transports import (
    DEAD,
    EARLIEST,
    Entry,
    HistoryTrimmed,
    IdempotencyConflict,
    Receipt,
    TopicIndex,
    Transport,
    TransportClosed,
    Update,
    open_transport,
)
from transports.testing.peer import Peer

DEADLINE = 30.0
TOPICS = ("https://example.com/books/1", "https://example.com/books/{id}")

Opened = Callable[..., Awaitable[Transport]]
StartPeer = Callable[[], Awaitable[Peer]]


def an_update(name: object, **fields: object) -> Update:
    return Update(f"urn:uuid:{name}", TOPICS, **fields)  # type: ignore[arg-type]


async def fill(transport: Transport, names: Iterable[object]) -> list[Receipt]:
    return [await transport.append(an_update(name)) for name in names]


async def collect(transport: Transport, after: int, count: int) -> list[Entry]:
    """The first ``count`` entries of a tail, or all of its last batch."""
    entries: list[Entry] = []
    async with asyncio.timeout(DEADLINE), aclosing(transport.tail(after)) as tail:  # type: ignore[type-var]
        async for batch in tail:
            assert batch
            entries += batch
            if len(entries) >= count:
                break
    return entries


async def waiting(transport: Transport, after: int) -> "asyncio.Task[Sequence[Entry]]":
    """A tail's next batch, asked for and, as far as the transport answers in order, not there yet."""
    task: asyncio.Task[Sequence[Entry]] = asyncio.create_task(anext(transport.tail(after)))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await transport.last()
    return task


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.update.id for entry in entries]


A, B, LONG = "https://example.com/a", "https://example.com/b", "https://example.com/" + "x" * 600


def under(name: object, *topics: str, **fields: object) -> Update:
    return Update(f"urn:uuid:{name}", topics, **fields)  # type: ignore[arg-type]


class TransportContract:
    durable = True

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError("override this fixture with a fresh URL")

    @pytest.fixture
    async def opened(self, url: str) -> AsyncIterator[Opened]:
        transports: list[Transport] = []

        async def open_one(**parameters: object) -> Transport:
            query = "&".join(f"{name}={value}" for name, value in parameters.items())
            separator = "&" if "?" in url else "?"
            transport = open_transport(f"{url}{separator}{query}" if query else url)
            transports.append(transport)
            await transport.open()
            return transport

        yield open_one
        for transport in transports:
            await transport.close()

    @pytest.fixture
    async def transport(self, opened: Opened) -> Transport:
        return await opened()

    async def test_an_empty_log(self, transport: Transport) -> None:
        """An empty log ends at position 0 and the id "earliest", and holds nothing."""
        assert await transport.last() == (0, EARLIEST)
        assert await transport.read(0, 10) == []
        assert await transport.position_of(EARLIEST) is None

    async def test_what_goes_in_comes_out(self, transport: Transport) -> None:
        """An entry is the very update that was appended, at the receipt's position."""
        update = Update("urn:uuid:1", TOPICS, "data", True, "type", 1500, "key", "fingerprint")
        receipt = await transport.append(update)
        assert receipt == Receipt(receipt.position, update.id)
        assert receipt.position > 0
        assert list(await transport.read(0, 10)) == [Entry(receipt.position, update)]

    async def test_positions_grow(self, transport: Transport) -> None:
        """Each append stands after the one before, and the last is the newest."""
        positions = [receipt.position for receipt in await fill(transport, range(5))]
        assert positions == sorted(set(positions))
        assert await transport.last() == (positions[-1], "urn:uuid:4")

    async def test_pages(self, transport: Transport) -> None:
        """Pages follow each other without a gap, hold no more than asked, and are empty at the end."""
        receipts = await fill(transport, range(7))
        after, pages = 0, []
        while page := await transport.read(after, 3):
            pages.append(page)
            after = page[-1].position
        assert [entry.position for page in pages for entry in page] == [r.position for r in receipts]
        assert all(len(page) <= 3 for page in pages)
        assert await transport.read(receipts[-1].position + 1000, 3) == []

    @pytest.mark.parametrize(
        "data",
        ["", "\r\n\n\r", "\0", "\u2028\u2029\x85", "é😀\u202e", "x" * (1 << 20)],
        ids=["empty", "CR LF", "NUL", "line separators", "beyond ASCII", "1 MiB"],
    )
    async def test_any_text(self, transport: Transport, data: str) -> None:
        """Data is kept character by character."""
        await transport.append(an_update(1, data=data))
        (entry,) = await transport.read(0, 1)
        assert entry.update.data == data

    async def test_long_ids(self, transport: Transport) -> None:
        """Ids of 64 KiB that differ at their end only are two ids."""
        names = ["a" * (64 << 10) + end for end in "12"]
        first, second = await fill(transport, names)
        assert await transport.position_of(f"urn:uuid:{names[0]}") == first.position
        assert await transport.position_of(f"urn:uuid:{names[1]}") == second.position
        assert await transport.last() == (second.position, second.id)

    async def test_an_id_used_again(self, transport: Transport) -> None:
        """Of several entries with one id, the earliest is the one that is found."""
        first, *_ = await fill(transport, ["a", "b", "a", "a"])
        assert await transport.position_of("urn:uuid:a") == first.position
        assert await transport.position_of("urn:uuid:c") is None

    async def test_concurrent_appends(self, opened: Opened) -> None:
        """1,000 appends at once are all there, where their receipts say, also after a new start."""
        transport = await opened()
        receipts = await asyncio.gather(*(transport.append(an_update(n)) for n in range(1000)))
        if self.durable:
            await transport.close()
            transport = await opened()
        entries = await collect(transport, 0, 1000)
        assert [(e.position, e.update.id) for e in entries] == sorted((r.position, r.id) for r in receipts)
        assert len({receipt.position for receipt in receipts}) == 1000

    async def test_a_new_start(self, opened: Opened) -> None:
        """A durable log goes on after `close` and `open`: its history, ids and keys are there, positions grow on.

        One that is not starts empty.
        """
        transport = await opened()
        first = await transport.append(an_update(1, idempotency_key="k"))
        await transport.close()
        transport = await opened()
        if not self.durable:
            assert await transport.last() == (0, EARLIEST)
            return
        assert await transport.last() == (first.position, first.id)
        assert await transport.position_of(first.id) == first.position
        assert (await transport.append(an_update(2, idempotency_key="k"))).repeated
        assert (await transport.append(an_update(3))).position > first.position

    async def test_submit(self, transport: Transport) -> None:
        """An append without a task has the same receipt, once, and the entry is there once it is told."""
        told: asyncio.Queue[Receipt | BaseException] = asyncio.Queue()
        transport.submit(an_update(1), told.put_nowait)
        async with asyncio.timeout(DEADLINE):
            receipt = await told.get()
        assert isinstance(receipt, Receipt)
        assert told.empty()
        assert await transport.last() == (receipt.position, receipt.id) == (receipt.position, "urn:uuid:1")

    async def test_pages_as_they_go_out(self, transport: Transport) -> None:
        """A page has the events of what `read` returns, each with its topics and privacy; ``size`` cuts it short."""
        updates = [an_update(n, data="x" * n, private=n % 2 == 0) for n in range(6)]
        for update in updates:
            await transport.append(update)
        entries = await transport.read(0, 10)
        page = await transport.page(0, 10, 1 << 20)
        assert list(page.positions) == [entry.position for entry in entries]
        assert list(page.events) == [entry.update.to_event() for entry in entries]
        seen = [page.kinds[which] for which in page.which]
        assert [(each.topics, each.private) for each in seen] == [(u.topics, u.private) for u in updates]
        assert len(await transport.page(entries[0].position, 10, 1)) == 1
        assert len(await transport.page(entries[-1].position, 10, 1 << 20)) == 0

    async def test_a_tail_from_the_start(self, transport: Transport) -> None:
        """A tail from 0 that runs beside appends sees each entry once, in order."""
        reader = asyncio.create_task(collect(transport, 0, 400))
        receipts = await asyncio.gather(*(transport.append(an_update(n)) for n in range(200)))
        receipts += await fill(transport, range(200, 400))
        assert [e.position for e in await reader] == sorted(r.position for r in receipts)

    async def test_a_tail_from_the_end(self, transport: Transport) -> None:
        """A tail from the newest position waits, and sees only later entries."""
        *_, newest = await fill(transport, range(3))
        task = await waiting(transport, newest.position)
        assert not task.done()
        await transport.append(an_update("new"))
        async with asyncio.timeout(DEADLINE):
            assert ids(await task) == ["urn:uuid:new"]

    async def test_many_tails(self, transport: Transport) -> None:
        """Fifty tails see the same entries in the same order."""
        readers = [asyncio.create_task(collect(transport, 0, 100)) for _ in range(50)]
        await asyncio.gather(*(transport.append(an_update(n)) for n in range(100)))
        first, *others = await asyncio.gather(*readers)
        assert len(first) == 100
        assert all(other == first for other in others)

    async def test_idempotency(self, transport: Transport) -> None:
        """A known idempotency key adds nothing; the receipt is the first entry's."""
        first = await transport.append(an_update(1, idempotency_key="k", fingerprint="f"))
        again = await transport.append(an_update(2, idempotency_key="k", fingerprint="f"))
        assert again == Receipt(first.position, first.id, repeated=True)
        assert await transport.last() == (first.position, first.id)

    async def test_idempotency_conflict(self, transport: Transport) -> None:
        """A known idempotency key with another fingerprint is refused, and only that append fails."""
        await transport.append(an_update(1, idempotency_key="k", fingerprint="f"))
        wrong = an_update(2, idempotency_key="k", fingerprint="other")
        results = await asyncio.gather(
            *(transport.append(update) for update in (an_update(3), wrong, an_update(4))), return_exceptions=True
        )
        assert isinstance(results[1], IdempotencyConflict)
        assert ids(await transport.read(0, 10)) == ["urn:uuid:1", "urn:uuid:3", "urn:uuid:4"]

    async def test_one_key_at_once(self, transport: Transport) -> None:
        """Of concurrent appends with one idempotency key exactly one is added; all get its receipt."""
        same = [transport.append(an_update(n, idempotency_key="k")) for n in range(50)]
        receipts = await asyncio.gather(*same)
        assert len({(receipt.position, receipt.id) for receipt in receipts}) == 1
        assert [receipt.repeated for receipt in receipts].count(False) == 1
        assert len(await transport.read(0, 100)) == 1

    async def test_no_key(self, transport: Transport) -> None:
        """Updates without an idempotency key, or with an empty one, are all added."""
        for key in (None, None, "", ""):
            await transport.append(an_update(1, idempotency_key=key))
        assert len(await transport.read(0, 10)) == 4

    async def test_trimmed_history(self, opened: Opened) -> None:
        """A reader before the first entry left gets `HistoryTrimmed`; read from 0, there is whatever is left."""
        transport = await opened(size=3)
        receipts = await fill(transport, range(10))
        assert ids(await transport.read(0, 10)) == ["urn:uuid:7", "urn:uuid:8", "urn:uuid:9"]
        assert len(await transport.read(receipts[6].position, 10)) == 3
        for gone in (receipts[0], receipts[5]):
            with pytest.raises(HistoryTrimmed):
                await transport.read(gone.position, 10)
            with pytest.raises(HistoryTrimmed):
                await anext(transport.tail(gone.position))
        # Who follows from 0 has seen the log empty.
        with pytest.raises(HistoryTrimmed):
            await anext(transport.tail(0))

    async def test_trimmed_names(self, opened: Opened) -> None:
        """Ids and idempotency keys leave history with their entry, and not before."""
        transport = await opened(size=3)
        await transport.append(an_update("old", idempotency_key="k"))
        second, *_ = await fill(transport, ["old", "x"])
        assert (await transport.append(an_update("late", idempotency_key="k"))).repeated
        await fill(transport, ["y"])
        assert await transport.position_of("urn:uuid:old") == second.position
        assert not (await transport.append(an_update("late", idempotency_key="k"))).repeated
        assert await transport.position_of("urn:uuid:old") is None

    async def test_the_newest_stays(self, opened: Opened) -> None:
        """Trimming never takes the newest entry."""
        transport = await opened(size=1)
        *_, newest = await fill(transport, range(4))
        assert await transport.last() == (newest.position, newest.id)
        assert ids(await transport.read(0, 10)) == [newest.id]

    @pytest.mark.parametrize("begin", [0, 1], ids=["from 0", "from an entry"])
    async def test_a_tail_never_skips(self, opened: Opened, begin: int) -> None:
        """A tail that trimming overtakes says so, also one that began in the empty log."""
        transport = await opened(size=3)
        await fill(transport, range(begin))
        after, _ = await transport.last()
        tail = transport.tail(after)
        task: asyncio.Task[Sequence[Entry]] = asyncio.create_task(anext(tail))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await transport.last()
        receipts = await fill(transport, range(10, 30))
        expected = [receipt.position for receipt in receipts]
        async with aclosing(tail), asyncio.timeout(DEADLINE):  # type: ignore[type-var]
            seen: list[int] = []
            try:
                seen += [entry.position for entry in await task]
                while len(seen) < len(expected):
                    seen += [entry.position for entry in await anext(tail)]
            except HistoryTrimmed:
                pass
        assert seen == expected[: len(seen)]

    async def test_closed(self, url: str, opened: Opened) -> None:
        """Before `open` and after `close`, which may come twice, everything else is refused."""
        closed = await opened()
        await closed.close()
        await closed.close()
        for transport in (open_transport(url), closed):
            for use in _uses(transport):
                with pytest.raises(TransportClosed):
                    await use

    async def test_close_ends_tails(self, transport: Transport) -> None:
        """A tail ends when the transport is closed."""
        task = await waiting(transport, 0)
        await transport.close()
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StopAsyncIteration):
                await task

    async def test_close_finishes_appends(self, opened: Opened) -> None:
        """`close` ends no append: each has a receipt for a durable entry, or was refused."""
        transport = await opened()
        tasks = [asyncio.create_task(transport.append(an_update(n))) for n in range(50)]
        await asyncio.sleep(0)
        await transport.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        done = [result.id for result in results if isinstance(result, Receipt)]
        assert all(isinstance(result, Receipt | TransportClosed) for result in results)
        if self.durable:
            assert ids(await (await opened()).read(0, 100)) == done

    async def test_cancelled(self, transport: Transport) -> None:
        """Cancelled appends, reads and tails leave the transport usable, and what is in it whole."""
        tail = await waiting(transport, 0)
        tasks = [asyncio.create_task(transport.append(an_update(n))) for n in range(20)]
        tasks += [asyncio.create_task(transport.read(0, 10)) for _ in range(20)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        for task in (tail, *tasks):
            task.cancel()
        await asyncio.gather(tail, *tasks, return_exceptions=True)
        last = await transport.append(an_update("last"))
        entries = await collect(transport, 0, 1)
        assert len(set(ids(entries))) == len(entries)
        assert await transport.last() == (last.position, "urn:uuid:last")
        await transport.check()

    async def test_check(self, transport: Transport) -> None:
        """A check leaves nothing that a cursor would see."""
        receipt = await transport.append(an_update(1))
        await transport.check()
        assert await transport.last() == (receipt.position, receipt.id)
        assert len(await transport.read(0, 10)) == 1

    async def test_present(self, transport: Transport) -> None:
        """What a node enters is listed, under it and among all, until it leaves; the rest stays."""
        presence = transport.presence
        assert await presence.enter("a", {f"/{n}": b"{%d}" % n for n in range(1200)})
        assert await presence.enter("b", {"/caf\u00e9": b"\x00\r\n"})
        await presence.leave("a", [f"/{n}" for n in range(1, 1200)])
        await presence.leave("a", ["/none"])
        assert await presence.of("a") == {"/0": b"{0}"}
        assert await presence.all() == {"/0": b"{0}", "/caf\u00e9": b"\x00\r\n"}
        assert not await presence.of("c")

    async def test_beats(self, transport: Transport) -> None:
        """A beat counts its node up and tells all; a node that was never entered is not made by it."""
        presence = transport.presence
        await presence.enter("a", {})
        await presence.enter("b", {})
        before = await presence.beat("a")
        after = await presence.beat("a")
        assert before.keys() == after.keys() == {"a", "b"}
        assert after["a"] == before["a"] + 1
        assert after["b"] == before["b"]
        assert "c" not in await presence.beat("c")

    async def test_expired(self, transport: Transport) -> None:
        """Only a node that has not counted is declared dead; its subscriptions stay until it is forgotten."""
        presence = transport.presence
        await presence.enter("a", {"/1": b"{}"})
        count = (await presence.beat("b"))["a"]
        await presence.beat("a")
        assert not await presence.expire("a", count)
        assert await presence.expire("a", count + 1)
        assert not await presence.enter("a", {"/2": b"{}"})
        assert (await presence.beat("a"))["a"] == DEAD
        assert await presence.expire("a", DEAD)
        assert await presence.of("a") == {"/1": b"{}"}
        await presence.forget("a")
        assert await presence.beat("a") == {}
        assert await presence.all() == {}
        assert not await presence.expire("a", DEAD)

    async def test_presence_outlives_its_process(self, opened: Opened) -> None:
        """What a process leaves behind is there for the next one, which has to announce its end."""
        if self.durable:
            first = await opened()
            await first.presence.enter("a", {"/1": b"{}"})
            await first.close()
            assert await (await opened()).presence.of("a") == {"/1": b"{}"}


def _uses(transport: Transport) -> list[Awaitable[object]]:
    return [
        transport.append(an_update(1)),
        anext(transport.tail(0)),
        transport.read(0, 1),
        transport.position_of("urn:uuid:1"),
        transport.last(),
        transport.check(),
        transport.presence.enter("a", {}),
        transport.presence.leave("a", ["1"]),
        transport.presence.beat("a"),
        transport.presence.expire("a", 0),
        transport.presence.of("a"),
        transport.presence.all(),
        transport.presence.forget("a"),
    ]


class SharedTransportContract(TransportContract):
    """What several processes on one URL may rely on."""

    @pytest.fixture
    async def peer(self, url: str) -> AsyncIterator[StartPeer]:
        """Starts another process on the URL."""
        peers: list[Peer] = []

        async def start() -> Peer:
            peers.append(await Peer.start(url))
            return peers[-1]

        yield start
        for peer in peers:
            await peer.kill()

    async def test_one_order(self, transport: Transport, peer: StartPeer) -> None:
        """What two processes append at once, both see in one order, each entry once."""
        other = await peer()
        there = asyncio.create_task(other.ask("append", names=[f"there-{n}" for n in range(200)]))
        here = await asyncio.gather(*(transport.append(an_update(f"here-{n}")) for n in range(200)))
        theirs = [Receipt(*receipt) for receipt in await there]
        entries = await collect(transport, 0, 400)
        assert await other.ask("tail", after=0, count=400) == [[e.position, e.update.id] for e in entries]
        assert [(e.position, e.update.id) for e in entries] == sorted((r.position, r.id) for r in here + theirs)

    async def test_one_key_on_both(self, transport: Transport, peer: StartPeer) -> None:
        """Two processes that append the same idempotency keys at once add one entry for each."""
        other = await peer()
        names = [str(n) for n in range(100)]
        there = asyncio.create_task(other.ask("append", names=names, keys=names))
        here = await asyncio.gather(*(transport.append(an_update(n, idempotency_key=n)) for n in names))
        theirs = [Receipt(*receipt) for receipt in await there]
        assert len(await collect(transport, 0, 100)) == 100
        assert [r[:2] for r in here] == [r[:2] for r in theirs]
        assert all(a.repeated != b.repeated for a, b in zip(here, theirs, strict=True))

    async def test_each_sees_the_other(self, transport: Transport, peer: StartPeer) -> None:
        """A tail and a question in one process see what another one appends."""
        other = await peer()
        task = await waiting(transport, 0)
        ((position, event_id, _),) = await other.ask("append", names=["there"])
        async with asyncio.timeout(DEADLINE):
            assert ids(await task) == [event_id]
        assert await transport.position_of(event_id) == position
        assert (await transport.append(an_update("here"))).position > position
        assert (await other.ask("tail", after=position, count=1))[0][1] == "urn:uuid:here"

    async def test_a_killed_peer(self, transport: Transport, peer: StartPeer) -> None:
        """kill -9 of a process in the middle of its appends leaves the other one working, with all that it was told."""
        other = await peer()
        told = [Receipt(*receipt) for receipt in await other.ask("append", names=list("abc"))]
        await other.send("append", names=[str(n) for n in range(5000)])
        await collect(transport, told[-1].position, 1)
        await other.kill()
        last = await transport.append(an_update("after"))
        assert await transport.last() == (last.position, last.id)
        assert ids(await transport.read(0, 3)) == [receipt.id for receipt in told]

    async def test_presence_of_both(self, transport: Transport, peer: StartPeer) -> None:
        """Two processes list each other's subscriptions, and the one sees the other die."""
        other = await peer()
        await other.ask("enter", node="there", ids=["/there"])
        await transport.presence.enter("here", {"/here": b"{}"})
        assert await transport.presence.all() == {"/here": b"{}", "/there": b"{}"}
        counts = await transport.presence.beat("here")
        await other.kill()
        assert await transport.presence.expire("there", counts["there"])


class TopicIndexContract(TransportContract):
    """What one that finds the entries of topics promises besides. ``indexed``: the parameters with which it does."""

    indexed: Mapping[str, object] = MappingProxyType({})

    @pytest.fixture
    async def index(self, opened: Opened) -> tuple[Transport, TopicIndex]:
        return await self.with_index(opened)

    async def with_index(self, opened: Opened, **parameters: object) -> tuple[Transport, TopicIndex]:
        """Opened as its index needs it, and the index once it is whole."""
        transport = await opened(**self.indexed, **parameters)
        async with asyncio.timeout(DEADLINE):
            while transport.index is None:
                await asyncio.sleep(0.01)
        return transport, transport.index

    async def test_the_entries_of_a_topic(self, index: tuple[Transport, TopicIndex]) -> None:
        """They come in their order, each once, in pages that follow each other up to the end of the log."""
        transport, found = index
        topics = [(A,), (B,), (A, B), (LONG + "1",), (LONG + "2",), ("*", A)] * 5
        receipts = [await transport.append(under(n, *each, data="é\n")) for n, each in enumerate(topics)]
        for wanted in ([A], [B, A], [LONG + "1"], ["https://example.com/none"], [A, A]):
            expected = [r.position for r, each in zip(receipts, topics, strict=True) if set(wanted) & set(each)]
            seen, after = list[int](), 0
            while not seen or after < receipts[-1].position:
                page = await found.page_of(wanted, after, 4, 1 << 20)
                its = [page.kinds[which].topics for which in page.which]
                seen += [position for position, of in zip(page.positions, its, strict=True) if set(of) & set(wanted)]
                assert after < page.reached <= receipts[-1].position
                assert all(after < position <= page.reached for position in page.positions)
                after = page.reached
                if not expected:
                    break
            assert seen == expected
        page = await found.page_of([A], receipts[20].position, 100, 1)
        assert len(page) == 1
        assert page.reached == page.positions[0]
        place = [receipt.position for receipt in receipts].index(page.positions[0])
        assert page.events[0] == under(place, data="é\n").to_event()

    async def test_a_topics_entries_that_are_gone(self, opened: Opened) -> None:
        """They leave the index with history, and who stood before them is told."""
        transport, found = await self.with_index(opened, size=3)
        receipts = [await transport.append(under(n, A if n % 2 else B)) for n in range(10)]
        assert [*(await found.page_of([A], 0, 10, 1 << 20)).positions] == [receipts[n].position for n in (7, 9)]
        assert (await found.page_of([A], receipts[6].position, 10, 1 << 20)).positions[0] == receipts[7].position
        with pytest.raises(HistoryTrimmed):
            await found.page_of([A], receipts[0].position, 10, 1 << 20)
        for n in range(3):
            await transport.append(under(f"b{n}", B))
        assert await found.topics("", 10) == [B]
        assert (await found.newest_of([A, B], 2)).keys() == {B}

    async def test_the_newest_of_topics(self, index: tuple[Transport, TopicIndex]) -> None:
        """The newest of each first, as many as asked."""
        transport, found = index
        assert await found.newest_of([A], 2) == {}
        updates = [under(n, *each) for n, each in enumerate([(A,), (B,), (A,), (A, B), (LONG + "1",), (LONG + "2",)])]
        receipts = [await transport.append(each) for each in updates]
        entries = [Entry(receipt.position, update) for receipt, update in zip(receipts, updates, strict=True)]
        newest = await found.newest_of([A, B, LONG + "1", "https://example.com/none"], 2)
        assert {topic: [*each] for topic, each in newest.items()} == {
            A: [entries[3], entries[2]],
            B: [entries[3], entries[1]],
            LONG + "1": [entries[4]],
        }

    async def test_the_topics_of_history(self, index: tuple[Transport, TopicIndex]) -> None:
        """Each once, those that begin so alone, and no more than asked."""
        transport, found = index
        for topic in (A, B, A, f"{A}/1", f"{A}/2", "é", "a relative one"):
            await transport.append(under(topic, topic))
        assert sorted(await found.topics("", 10)) == sorted([A, B, f"{A}/1", f"{A}/2", "é", "a relative one"])
        assert sorted(await found.topics(A, 10)) == [A, f"{A}/1", f"{A}/2"]
        assert len(await found.topics(A, 2)) == 2
        assert await found.topics("https://example.com/none", 10) == []

    async def test_an_index_that_is_made_later(self, opened: Opened) -> None:
        """It has what was there before, and goes on also where another opening did not ask for it."""
        if not self.durable:
            return
        plain = await opened()
        receipts = [await plain.append(under(n, A)) for n in range(30)]
        await plain.close()
        transport, found = await self.with_index(opened)
        receipts += [await transport.append(under(n, A)) for n in range(30, 40)]
        assert len(await found.page_of([A], 0, 100, 1 << 20)) == 40
        await transport.close()
        again = await opened()
        receipts.append(await again.append(under(40, A)))
        async with asyncio.timeout(DEADLINE):
            while again.index is None:
                await asyncio.sleep(0.01)
        assert [*(await again.index.page_of([A], 0, 100, 1 << 20)).positions] == [each.position for each in receipts]


class SharedTopicIndexContract(TopicIndexContract, SharedTransportContract):
    """The same, between processes."""

    async def test_an_index_for_both(self, transport: Transport, opened: Opened, peer: StartPeer) -> None:
        """What a process adds that has not asked for the index is in it, also what it added before."""
        other = await peer()
        await transport.append(an_update("here"))
        await transport.close()
        transport, found = await self.with_index(opened)
        await other.ask("append", names=["there"])
        await transport.append(an_update("here again"))
        page = await found.page_of(TOPICS[:1], 0, 10, 1 << 20)
        assert [event.partition(b"\n")[0] for event in page.events] == [
            b"id: urn:uuid:here",
            b"id: urn:uuid:there",
            b"id: urn:uuid:here again",
        ]
