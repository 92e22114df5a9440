"""A second process on the same URL, which obeys one JSON line at a time. Run as a script, it is that process."""

import asyncio
import json
import os
import signal
import sys
from itertools import repeat
from pathlib import Path
from typing import Any, Self

from transports import Receipt, Transport, TransportError, Update, open_transport


class Peer:
    """The other process, as the tests see it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, url: str, *, ready: bool = True, **setup: Any) -> Self:
        """Start it; unless not ``ready``, return once it has opened the URL."""
        root = Path(__file__).parents[2]
        peer = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "transports.testing.peer", url, json.dumps(setup)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
                limit=1 << 24,
            )
        )
        if ready:
            assert await peer.answer() == "open"
        return peer

    async def send(self, command: str, **arguments: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
        await self.process.stdin.drain()

    async def answer(self) -> Any:
        assert self.process.stdout
        async with asyncio.timeout(30):
            return json.loads(await self.process.stdout.readline() or b"null")

    async def ask(self, command: str, **arguments: Any) -> Any:
        await self.send(command, **arguments)
        return await self.answer()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """kill -9, unless it has ended."""
        if self.process.returncode is None:
            self.process.kill()
        await self._ended()

    async def end(self) -> int:
        """Let it close and end; its exit code."""
        assert self.process.stdin
        self.process.stdin.close()
        return await self._ended()

    async def _ended(self) -> int:
        assert self.process.stdin
        assert self.process.stdout
        async with asyncio.timeout(30):
            await self.process.stdout.read()
            self.process.stdin.close()
            return await self.process.wait()


async def append(
    transport: Transport, names: list[str], keys: list[str] | None = None, data: str = ""
) -> list[Receipt]:
    updates = [
        Update(f"urn:uuid:{name}", ("https://example.com/books/1",), data, idempotency_key=key)
        for name, key in zip(names, keys or repeat(None), strict=False)
    ]
    return await asyncio.gather(*map(transport.append, updates))


async def endless(transport: Transport, data: str = "") -> None:
    """Append for ever, 32 at a time, and say after each round what was acknowledged."""
    for n in range(1 << 30):
        say(await append(transport, [f"{n}-{m}" for m in range(32)], data=data))


async def fail(transport: Transport, names: list[str], data: str) -> list[str]:
    """Append one after another; the class of what was raised, or the id."""
    outcomes = []
    for name in names:
        try:
            outcomes.append((await append(transport, [name], data=data))[0].id)
        except TransportError as error:
            outcomes.append(type(error).__name__)
    return outcomes


async def tail(transport: Transport, after: int, count: int) -> list[tuple[int, str]]:
    entries: list[tuple[int, str]] = []
    async for batch in transport.tail(after):
        entries += [(entry.position, entry.update.id) for entry in batch]
        if len(entries) >= count:
            break
    return entries


async def enter(transport: Transport, node: str, ids: list[str]) -> bool:
    return await transport.presence.enter(node, dict.fromkeys(ids, b"{}"))


async def limit_files(transport: Transport, size: int) -> None:
    """No file may grow beyond that many bytes; -1 lifts the limit."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


async def stop_inside(transport: Transport) -> None:
    """Stop this process while it is in a writing transaction."""
    store = transport._worker.store  # type: ignore[attr-defined]
    with store._environment.transaction(write=True):
        say("inside")
        os.kill(os.getpid(), signal.SIGSTOP)


COMMANDS = {command.__name__: command for command in (append, endless, fail, tail, enter, limit_files, stop_inside)}


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def serve(url: str, uid: int | None = None, poll: float | None = None) -> None:
    transport = open_transport(url)
    if poll is not None:
        sys.modules["transports.lmdb.transport"].POLL = poll  # type: ignore[attr-defined]
    if uid is not None:
        os.setgroups([])
        os.setuid(uid)
    try:
        await transport.open()
    except TransportError as error:
        return say(str(error))
    say("open")
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, arguments = json.loads(line)
        say(await COMMANDS[command](transport, **arguments))
    await transport.close()
    return None


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1], **json.loads(sys.argv[2])))
