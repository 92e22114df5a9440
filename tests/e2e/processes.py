"""Hubs in processes of their own, as an operator starts them, and clients that come back as a browser does."""

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from hub.client.sse_parser import Event, Parser
from hub.generations import PATH
from tests.hub.serving import PUBLISHER, TOPIC

ROOT = Path(__file__).parents[2]
COMMAND = "from hub.cli.commands import main; main()"
DEADLINE = 15.0
"""Seconds after which a test stops waiting."""
PAUSE = 0.005
"""Seconds between two looks at a condition, and until a client tries again."""
RECONNECT = 0.02
"""Seconds until a subscriber reconnects."""
LOST = (OSError, asyncio.IncompleteReadError)

Address = tuple[str, int]


async def until(condition: Callable[[], object], within: float = DEADLINE) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(PAUSE)


def measured(what: str, seconds: Iterable[float]) -> None:
    """The smallest, the middle and the largest of these times."""
    found = sorted(seconds)
    shown = dict.fromkeys((found[0], found[len(found) // 2], found[-1]))
    survived(f"{what}: {', '.join(f'{1000 * each:.0f}' for each in shown)} ms")


def survived(what: str) -> None:
    """Shown with ``-s``, and kept in the file that FIGURES names: `make soak` writes its table from it."""
    sys.stdout.write(f"\n{what}\n")
    if path := os.environ.get("FIGURES"):
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
        with Path(path).open("a") as figures:
            figures.write(f"{test}\t{what}\n")


def free_port() -> int:
    """A port that nobody has, below those that the kernel gives to clients."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port := random.randrange(20000, 30000)))
            return port


class Hub:
    """A started ``mercure-hub serve``."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self.process = process
        self.started = monotonic()
        self._stdout, self._stderr = stdout, stderr

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def _announced(self) -> re.Match[str] | None:
        assert self.running, self.stderr
        return re.search(rf"listening on https?://([\d.]+):(\d+){PATH}\n", self.stdout)

    async def listening(self) -> Address:
        """Wait until it says where."""
        await until(self._announced)
        found = self._announced()
        assert found
        return found[1], int(found[2])

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def obeys(self, number: signal.Signals) -> bool:
        """Does it catch that signal by now (proc(5), SigCgt)? It is bound to its address before it does."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().split()
        return bool(int(status[status.index("SigCgt:") + 1], 16) >> (number - 1) & 1)

    async def ended(self, within: float = DEADLINE) -> int:
        """Wait for its end; the exit code."""
        await until(lambda: not self.running, within)
        return int(self.process.returncode)


class Hubs:
    """Starts hubs, and kills at the end what still runs of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Hub] = []

    def start(
        self,
        transport_url: str,
        *arguments: str,
        listen: str = "127.0.0.1:0",
        dev: bool = True,
        command: str = COMMAND,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Hub:
        """Return at once; a later flag counts where one is given twice."""
        number = len(self.started)
        stdout, stderr = self.directory / f"hub-{number}.out", self.directory / f"hub-{number}.err"
        quiet = ("--log-level", "warning")  # what is expected on stderr is what a test is about
        flags = (*(["--dev"] if dev else []), *quiet, "--listen", listen, "--transport-url", transport_url, *arguments)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MERCURE_", "SERVER_NAME"))
        }
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-W", "default::ResourceWarning", "-c", command, "serve", *flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.directory,
                env=inherited | {"PYTHONPATH": str(ROOT), **environment},
            )
        self.started.append(Hub(process, stdout, stderr))
        return self.started[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hub in self.started:
            hub.process.kill()
            hub.process.wait()
            sys.stderr.write(hub.stderr)  # pytest shows it where a test has failed


class Answer(NamedTuple):
    """A response, without its body if that is chunked. ``headers``: their names in lower case."""

    status: int
    headers: dict[str, str]
    body: str


class Connection:
    """A client's end of one HTTP/1.1 connection. Everything raises one of `LOST` once it is broken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def to(cls, address: Address) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection(*address)
        try:
            if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
                # Where nobody listens, Linux may connect a port of a client's range to itself.
                raise ConnectionRefusedError
            yield cls(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    @property
    def port(self) -> int:
        """Ours."""
        return int(self._writer.get_extra_info("sockname")[1])

    async def request(self, method: str, target: str, headers: dict[str, str], body: str = "") -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: hub", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", body]).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        told = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        content = await self._reader.readexactly(int(told.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), told, content.decode())

    async def chunks(self) -> AsyncIterator[bytes]:
        """A chunked body's, up to the final chunk and the end of the connection."""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        assert await self._reader.read() == b"\r\n"

    async def publish(
        self, data: str, key: str | None = None, credentials: Mapping[str, str] = MappingProxyType(PUBLISHER)
    ) -> Answer:
        headers = {**credentials, "Content-Type": "application/x-www-form-urlencoded"}
        headers |= {"Idempotency-Key": f'"{key}"'} if key else {}
        return await self.request("POST", PATH, headers, urlencode({"topic": TOPIC, "data": data}))


async def get(address: Address, path: str) -> Answer:
    async with Connection.to(address) as connection:
        return await connection.request("GET", path, {})


class Receipt(NamedTuple):
    """A publish that was answered 200: when it was first sent, when it was answered, and by whom."""

    data: str
    id: str
    sent: float
    answered: float
    address: Address


class Publisher:
    """Publishes ``name 0``, ``name 1``, … one after another on a kept-alive connection to one of ``addresses``.

    With ``repeat``, what is not answered 200 is sent again under the same Idempotency-Key, to the next address;
    without, it is given up unless no connection was made. The list of addresses may change.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[Address],
        *,
        repeat: bool = True,
        credentials: Mapping[str, str] = MappingProxyType(PUBLISHER),
    ) -> None:
        self.name, self.addresses, self.repeat, self.credentials = name, addresses, repeat, credentials
        self.receipts: list[Receipt] = []
        self.refusals: list[Answer] = []
        self._numbers, self._tries = count(), count()

    async def publish(self, number: int | None = None) -> None:
        """Until ``number`` receipts are there; None: for ever."""
        pending: tuple[str, float] | None = None
        while number is None or len(self.receipts) < number:
            address = self.addresses[next(self._tries) % len(self.addresses)]
            with suppress(*LOST):
                async with Connection.to(address) as connection:
                    while number is None or len(self.receipts) < number:
                        pending = pending if pending and self.repeat else self._next()
                        if not await self._once(connection, address, *pending):
                            break
                        pending = None
            await asyncio.sleep(PAUSE)

    def _next(self) -> tuple[str, float]:
        return f"{self.name} {next(self._numbers)}", monotonic()

    async def _once(self, connection: Connection, address: Address, data: str, sent: float) -> bool:
        answer = await connection.publish(data, data if self.repeat else None, self.credentials)
        if answer.status == 200:
            self.receipts.append(Receipt(data, answer.body, sent, monotonic(), address))
            return True
        self.refusals.append(answer)
        return False


class End(NamedTuple):
    """How a stream ended. ``clean``: with the final chunk."""

    address: Address
    clean: bool
    at: float


class Subscriber:
    """An `EventSource`: reconnects with its last event id, to the next of ``addresses`` where one is refused.

    On a status other than 200 it gives up for good. The list of addresses may change.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        last_event_id: str | None = None,
        *,
        topic: str = TOPIC,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.addresses = addresses
        self._target, self._headers = f"{PATH}?{urlencode({'topic': topic})}", dict(headers)
        self.events: list[Event] = []
        self.ends: list[End] = []
        self.answers: list[Answer] = []
        """One for each connection."""
        self.port = 0
        """Ours, of the newest connection."""
        self._cursor = last_event_id

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events]

    async def follow(self) -> None:
        """Until it is cancelled, or gives up."""
        turn = 0
        while not self.answers or self.answers[-1].status == 200:
            address = self.addresses[turn % len(self.addresses)]
            begun = len(self.answers)
            try:
                async with Connection.to(address) as connection:
                    self.port = connection.port
                    await self._listen(connection)
                self.ends.append(End(address, True, monotonic()))
            except LOST:
                if len(self.answers) > begun:
                    self.ends.append(End(address, False, monotonic()))
                else:
                    turn += 1
            await asyncio.sleep(RECONNECT)

    async def _listen(self, connection: Connection) -> None:
        cursor = {} if self._cursor is None else {"Last-Event-ID": self._cursor}
        answer = await connection.request("GET", self._target, self._headers | cursor)
        self.answers.append(answer)
        if "transfer-encoding" not in answer.headers:
            return
        parser = Parser(self._cursor or "")
        async for chunk in connection.chunks():
            self.events.extend(parser.feed(chunk))
            self._cursor = parser.last_event_id or self._cursor


@asynccontextmanager
async def running(*clients: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """They run beside the block and end with it; what one of them raised comes out."""
    tasks = [asyncio.create_task(each) for each in clients]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


@asynccontextmanager
async def subscribed(
    number: int, addresses: Sequence[Address], last_event_id: str | None = None
) -> AsyncIterator[list[Subscriber]]:
    """So many subscribers whose first connection has been answered."""
    found = [Subscriber(addresses, last_event_id) for _ in range(number)]
    async with running(*(each.follow() for each in found)):
        await until(lambda: all(each.answers for each in found))
        yield found


async def ends_of(subscribers: Iterable[Subscriber]) -> list[End]:
    """All ends, once each connection has one: a process is gone before its readers have read what it sent last."""
    subscribers = list(subscribers)
    await until(lambda: all(len(each.ends) == len(each.answers) for each in subscribers))
    return [end for each in subscribers for end in each.ends]


async def replay(address: Address, receipts: Iterable[Receipt], after: str = "earliest") -> list[Event]:
    """What history holds after an event, up to the last of these receipts; fails when one of them isn't there."""
    wanted = {receipt.id for receipt in receipts}
    reader, seen = Subscriber([address], after), 0
    async with running(reader.follow()):

        def complete() -> bool:
            nonlocal seen
            wanted.difference_update(event.id for event in reader.events[seen:])
            seen = len(reader.events)
            return not wanted

        try:
            await until(complete)
        except TimeoutError:
            raise AssertionError(f"{len(wanted)} of what was answered 200 is lost") from None
        return reader.events[:]


def receipts_of(publishers: Iterable[Publisher], address: Address | None = None) -> list[Receipt]:
    """All of them, or those of one hub."""
    return [receipt for each in publishers for receipt in each.receipts if address in (None, receipt.address)]


def check_order(events: Sequence[Event], receipts: Iterable[Receipt]) -> None:
    """Nothing is there twice, and what was answered before another was sent stands before it."""
    by_id = {receipt.id: receipt for receipt in receipts}
    assert len({event.id for event in events}) == len(events)
    assert len({event.data for event in events}) == len(events)
    earliest_answer = float("inf")
    for event in reversed(events):
        if receipt := by_id.get(event.id):
            assert receipt.data == event.data
            assert receipt.sent <= earliest_answer
            earliest_answer = min(earliest_answer, receipt.answered)
