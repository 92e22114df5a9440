"""Publishers with a ledger and subscribers that come back as a browser does. Standard library: runs in a container.

It says READY once all streams are open, goes on until the file ``stop`` appears in the folder given, lets the
subscribers catch up, reads the history, and writes ``load.json`` there. All times are of the host's clock.
"""

import asyncio
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

HOST, PORT, HUB = "hub", 3000, "/.well-known/mercure"
TOPIC, SILENT = "https://example.com/load", "https://example.com/silence"
PUBLISHERS = 6
"""Half of them keep their connection; the others connect for each update, as a PHP process does."""
EVERY = 0.05
"""Seconds between two updates of one publisher."""
AGAIN = 0.02
"""Seconds until a publisher asks for the name again, when no address has served it."""
PUBLISH_RETRY = 3.0
"""Seconds until a subscriber reconnects: Chromium's."""
AT_ONCE = 0.5
"""Seconds that a publisher's connection may take: the address of a hub that was killed answers nothing at all."""
PATIENCE = 15.0
"""Seconds that an answer may take; a hub in standby holds requests."""
SETTLING = 40.0
"""Seconds that subscribers get at the end to come back and catch up."""
NOTICE = 0.02
"""Seconds by which the load may itself be late."""
LOST = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def addresses() -> list[str]:
    """What the name stands for now, in any order; OSError: nothing."""
    found = await asyncio.get_running_loop().getaddrinfo(HOST, PORT, family=2, type=1)
    return random.sample(each := [str(info[4][0]) for info in found], len(each))


async def connect(address: str, patience: float = 2.0) -> Streams:
    async with asyncio.timeout(patience):
        return await asyncio.open_connection(address, PORT, limit=1 << 20)


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(": ") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value for name, _, value in fields}


class Publisher:
    """Publishes ``NUMBER-COUNT`` again and again, each until it is answered 2xx, with one Idempotency-Key."""

    def __init__(self, number: int, token: str) -> None:
        self.number, self.token = number, token
        self.ledger: list[dict[str, Any]] = []
        self.troubles: list[tuple[float, str, str]] = []
        self._kept: tuple[str, Streams] | None = None

    async def run(self, stopped: asyncio.Event) -> None:
        count, due = 0, time.monotonic() + EVERY * self.number / PUBLISHERS
        while not stopped.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + EVERY, time.monotonic())
            await self._publish(f"{self.number}-{count}", stopped)
            count += 1
        self._drop()

    async def _publish(self, data: str, stopped: asyncio.Event) -> None:
        sent, attempts = time.time(), 0
        while not stopped.is_set() or attempts == 0:
            for address in await self._candidates():
                attempts += 1
                try:
                    event_id = await self._post(address, data)
                except LOST as error:
                    self.troubles.append((time.time(), address, str(error) or type(error).__name__))
                    self._drop()
                    continue
                entry = {"data": data, "id": event_id, "sent": sent, "answered": time.time()}
                self.ledger.append(entry | {"attempts": attempts, "address": address})
                return
            attempts += 1
            await asyncio.sleep(AGAIN)

    async def _candidates(self) -> list[str]:
        kept = [self._kept[0]] if self._kept else []
        if kept:
            return kept
        try:
            return await addresses()
        except OSError as error:
            self.troubles.append((time.time(), "", f"no address: {error.strerror}"))
            return []

    async def _post(self, address: str, data: str) -> str:
        if self._kept is None:
            self._kept = (address, await connect(address, AT_ONCE))
        reader, writer = self._kept[1]
        body = urlencode({"topic": TOPIC, "data": data})
        writer.write(
            f"POST {HUB} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {self.token}\r\n"
            f'Idempotency-Key: "{data}"\r\nContent-Type: application/x-www-form-urlencoded\r\n'
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        async with asyncio.timeout(PATIENCE):
            status, fields = await head(reader)
            content = (await reader.readexactly(int(fields.get("content-length", 0)))).decode()
        if self.number % 2 or fields.get("connection") == "close":
            self._drop()
        if status // 100 != 2:
            raise OSError(f"{status} {content[:120]}")
        return content

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept[1][1].close()
            self._kept = None


class Subscriber:
    """An EventSource (HTML, "Server-sent events"): back after ``retry``; gives up on an answer that isn't a stream."""

    def __init__(self, topic: str) -> None:
        self.topic, self.cursor, self.retry = topic, "", PUBLISH_RETRY
        self.connections: list[dict[str, Any]] = []
        self.gave_up = ""
        self.newest: dict[str, int] = {}

    async def follow(self) -> None:
        while not self.gave_up:
            with suppress(*LOST):
                for address in await addresses():
                    with suppress(*LOST):
                        await self._connect(address)
                        break
            await asyncio.sleep(self.retry)

    async def _connect(self, address: str) -> None:
        reader, writer = await connect(address)
        said: dict[str, Any] = {"address": address, "asked": self.cursor, "events": []}
        try:
            cursor = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
            target = f"{HUB}?topic={quote(self.topic, safe='')}"
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n{cursor}\r\n".encode())
            async with asyncio.timeout(90):
                status, fields = await head(reader)
        except BaseException:
            writer.close()
            raise
        said |= {"opened": time.time(), "status": status, "told": fields.get("last-event-id")}
        said["stream"] = "transfer-encoding" in fields
        self.connections.append(said)
        try:
            if status != 200 or not fields.get("content-type", "").startswith("text/event-stream"):
                self.gave_up = f"{status} {fields.get('content-type')}"
                return
            await self._listen(reader, said["events"], "transfer-encoding" in fields)
            said["clean"] = True
        except LOST:
            said["clean"] = False
        finally:
            said["closed"] = time.time()
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, events: list[str], chunked: bool) -> None:
        rest = b""
        while chunked and (size := int(await reader.readuntil(b"\r\n"), 16)):
            rest += (await reader.readexactly(size + 2))[:-2]
            *blocks, rest = rest.split(b"\n\n")
            for block in blocks:
                self._event(block, events)
        if not chunked:
            for block in (await reader.read()).split(b"\n\n"):
                self._event(block, events)

    def _event(self, block: bytes, events: list[str]) -> None:
        data = None
        for line in block.decode().split("\n"):
            name, _, value = line.partition(": ")
            if name == "id":
                self.cursor = value
            elif name == "data":
                data = value
            elif name == "retry":
                self.retry = int(value) / 1000
        if data is not None:
            events.append(data)
            publisher, _, count = data.partition("-")
            self.newest[publisher] = max(self.newest.get(publisher, -1), int(count))


async def until(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


def listening(subscriber: Subscriber) -> bool:
    """Whether it has a stream, and not only been told when to come back for one."""
    return any(each["stream"] and "closed" not in each for each in subscriber.connections)


async def watch_itself(stalls: list[tuple[float, float]]) -> None:
    """From when to when the load itself could not run: a busy machine is no fault of the hub's."""
    while True:
        before = time.time()
        await asyncio.sleep(NOTICE)
        if (late := time.time() - before - NOTICE) > NOTICE:
            stalls.append((before + NOTICE, before + NOTICE + late))


async def main(folder: Path, subscribers: int, idle: int) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
    token, stopped = os.environ["TOKEN"], asyncio.Event()
    publishers = [Publisher(number, token) for number in range(PUBLISHERS)]
    listeners = [Subscriber(TOPIC) for _ in range(subscribers)]
    silent = [Subscriber(SILENT) for _ in range(idle)]
    stalls: list[tuple[float, float]] = []
    following = [asyncio.create_task(each.follow()) for each in [*listeners, *silent]]
    if not await until(lambda: all(map(listening, [*listeners, *silent])), 90):
        sys.exit("not all streams could be opened")
    following.append(asyncio.create_task(watch_itself(stalls)))
    publishing = [asyncio.create_task(each.run(stopped)) for each in publishers]
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    await until((folder / "stop").exists, 600)
    stopped_at = time.time()
    stopped.set()
    await asyncio.wait(publishing, timeout=PATIENCE * 2)
    last = {str(each.number): int(each.ledger[-1]["data"].split("-")[1]) for each in publishers if each.ledger}

    def caught_up(each: Subscriber) -> bool:
        return bool(each.gave_up) or all(each.newest.get(name, -1) >= count for name, count in last.items())

    await until(lambda: all(map(caught_up, listeners)), SETTLING)
    behind = sum(not caught_up(each) for each in listeners)
    history = Subscriber(TOPIC)
    history.cursor = "earliest"
    following.append(asyncio.create_task(history.follow()))
    await until(lambda: caught_up(history), 15)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    result = {
        "stopped": stopped_at,
        "ledger": [entry for each in publishers for entry in each.ledger],
        "troubles": sorted(trouble for each in publishers for trouble in each.troubles),
        "subscribers": [{"connections": each.connections, "gave_up": each.gave_up} for each in listeners],
        "idle": [{"connections": each.connections, "gave_up": each.gave_up} for each in silent],
        "history": [data for each in history.connections for data in each["events"]],
        "behind": behind,
        "stalls": stalls,
    }
    (folder / "load.json").write_text(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
