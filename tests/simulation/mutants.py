"""``python -m tests.simulation.mutants``: bugs that are planted one at a time, and how long it takes to find each.

A mutant is a text that stands once in a file of the product, and what a hurried hand might have written in its place.
Each is planted into a copy; the copy's own simulation then plays seeds, the first ones first, for at most `LIMIT`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LIMIT = 60
"""Seconds that finding one may take, on two cores."""


class Mutant(NamedTuple):
    """``path``: from the top of the repository."""

    what: str
    path: str
    old: str
    new: str

    def mutated(self, text: str) -> str:
        """ValueError: the text is no longer there, or not once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.what}: what it replaces stands {text.count(self.old)} times in {self.path}")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "a turn of the loop between 'my cursor equals the dispatcher's' and 'I am live'",
        "hub/fanout/stream.py",
        "        if self.cursor == position:\n            self._go_live()\n",
        "        if self.cursor == position:\n            asyncio.get_running_loop().call_soon(self._go_live)\n",
    ),
    Mutant(
        "the dispatcher's cursor advances before the push",
        "hub/fanout/dispatcher.py",
        "        self._log.ahead = batch[-1].position\n",
        "        self._log.advance(batch[-1].position)\n",
    ),
    Mutant(
        "who falls behind in the middle of a push goes on from where the dispatcher began it",
        "hub/fanout/stream.py",
        "        self.cursor = log.position if self.audience.owes(self) else log.ahead\n",
        "        self.cursor = log.position\n",
    ),
    Mutant(
        "a descriptor stays in its audience's list after its connection is closed",
        "hub/fanout/stream.py",
        "        self.audience.leave(self)\n        if self.task",
        "        asyncio.get_running_loop().call_soon(self.audience.leave, self)\n        if self.task",
    ),
    Mutant(
        "what the kernel did not take of a push is sent as a whole again",
        "hub/fanout/wire.py",
        "self._transport.write(memoryview(framed)[count:])",
        "self._transport.write(framed)",
    ),
    Mutant(
        "a stream that ends is aborted",
        "hub/fanout/wire.py",
        '            self._transport.write(b"0\\r\\n\\r\\n")\n            self._transport.close()\n',
        '            self._transport.write(b"0\\r\\n\\r\\n")\n            self._transport.abort()\n',
    ),
    Mutant(
        "a deadline in the middle of an event counts as a stalled reader",
        "hub/fanout/stream.py",
        "        if self.phase is Phase.ENDED:\n            self.wire.abort()\n",
        "        if self.phase is Phase.ENDED or (self.phase is not Phase.LIVE and waiting and waiting == self.unread):\n"
        "            self.wire.abort()\n",
    ),
    Mutant(
        "private updates go to whoever asks for their topic",
        "hub/fanout/audiences.py",
        "return (audience for audience in found if not update.private or audience.may_read(update))",
        "return iter(found)",
    ),
    Mutant(
        "a subscriber of a faster replica does not wait for its own dispatcher",
        "hub/fanout/stream.py",
        "                await log.reached(self.cursor)\n",
        "",
    ),
    Mutant(
        "a cursor that history no longer has is told as if it had",
        "hub/web/subscribe.py",
        "headers = self._raw_headers_after(EARLIEST if position is None else asked)",
        "headers = self._raw_headers_after(asked)",
    ),
    Mutant(
        "a token's end does not end its stream",
        "hub/web/subscribe.py",
        "return now + min(lasts, inf if expires is None else expires - time.time())",
        "return now + lasts",
    ),
    Mutant(
        "a key that is taken away leaves its streams open",
        "hub/web/hub.py",
        "            stream.finish(Ended.KEYS)\n",
        "            stream.cursor = stream.cursor\n",
    ),
    Mutant(
        "a stream begins although the drain has let go of all others",
        "hub/web/subscribe.py",
        "        if self.lifecycle.draining or over:\n",
        "        if over:\n",
    ),
    Mutant(
        "a token may run out while the log is asked where its stream begins",
        "hub/web/subscribe.py",
        "        if self.lifecycle.draining or over:\n",
        "        if self.lifecycle.draining:\n",
    ),
    Mutant(
        "LMDB: a page after a cursor that was trimmed begins with what is left",
        "transports/lmdb/store.py",
        "            if after < int.from_bytes(cursor.key()) - 1 and not (after == 0 and from_start):\n"
        "                raise HistoryTrimmed\n",
        "",
    ),
    Mutant(
        "memory: a page after a cursor that was trimmed begins with what is left",
        "transports/memory.py",
        "        if after < first - 1 and not (after == 0 and from_start):\n            raise HistoryTrimmed\n",
        "",
    ),
    Mutant(
        "Redis: an entry of another log than the cursor's is taken for the next one",
        "transports/redis/transport.py",
        "            trimmed = previous != after\n",
        "            trimmed = False\n",
    ),
    Mutant(
        "PostgreSQL: the log is listened to after it was read",
        "transports/postgres/transport.py",
        "                commit = lines.following.next_commit()\n"
        "                rows = await self._following(lines.following, after)\n",
        "                rows = await self._following(lines.following, after)\n"
        "                commit = lines.following.next_commit()\n",
    ),
    Mutant(
        "LMDB: an idempotency key is looked up before the transaction, in what the last commit left",
        "transports/lmdb/store.py",
        "            first = key and (keys.get(key) or self._first_with(txn, key))\n",
        "            first = key and self._first_with(txn, key)\n",
    ),
    Mutant(
        "Redis: the entry that has an idempotency key is not asked for",
        "transports/redis/stream.py",
        "  local entry = first and redis.call('XRANGE', updates, first, first)[1]\n  if entry then\n",
        "  local entry = first and redis.call('XRANGE', updates, first, first)[1]\n  if entry and size < 0 then\n",
    ),
    Mutant(
        "LMDB: the lock of a transaction is let go of before its commit",
        "transports/lmdb/environment.py",
        "        with self._locked(write), self._begin(write) as txn:\n            yield txn\n",
        "        with self._begin(write) as txn, self._locked(write):\n            yield txn\n",
    ),
    Mutant(
        "LMDB: two hubs hold the directory's lock",
        "transports/lmdb/locks.py",
        "        except BlockingIOError:\n            return False\n        name",
        "        except BlockingIOError:\n            pass\n        name",
    ),
    Mutant(
        "LMDB: an append is acknowledged before it is committed",
        "transports/lmdb/transport.py",
        "        _submit(self._working(), update, answer)\n\n    async def forward",
        "        _submit(self._working(), update, lambda _: None)\n        answer(Receipt(1, update.id))\n\n    async def forward",
    ),
    Mutant(
        "the relay answers before the append",
        "transports/lmdb/relay.py",
        "            self._relay.submit(update, self._appended)\n",
        "            self._relay.submit(update, lambda _: None)\n            self._appended(Receipt(1, update.id))\n",
    ),
    Mutant(
        "a hub's own newest entries are taken for an unbroken run",
        "transports/lmdb/transport.py",
        "            if self._run and entry.position != self._run[-1].position + 1:  # another process came in between\n",
        "            if self._run is None:\n",
    ),
    Mutant(
        "a tail that has a hub's own newest entry does not look for those of others",
        "transports/lmdb/transport.py",
        "not (looked == heard and self._recent.ends_at(after))",
        "not self._recent.ends_at(after)",
    ),
    Mutant(
        "a group whose answer was lost is sent once more",
        "transports/line.py",
        "                replies = await self._do(group)\n        except BaseException as error:\n",
        "                try:\n                    replies = await self._do(group)\n                except Exception:\n"
        "                    await self._drop()\n                    replies = await self._do(group)\n"
        "        except BaseException as error:\n",
    ),
    Mutant(
        "who puts the next append when told of a failure is forgotten",
        "transports/line.py",
        "            self._waiting.clear()\n            for job in failed:\n"
        "                settle(job.future, TransportClosed() if self._closed else self._translated(error))\n",
        "            for job in failed:\n"
        "                settle(job.future, TransportClosed() if self._closed else self._translated(error))\n"
        "            self._waiting.clear()\n",
    ),
    Mutant(
        "pages of a store that went back in time are kept",
        "hub/fanout/dispatcher.py",
        "        self._log.forget()\n",
        "",
    ),
    Mutant(
        "LMDB: what came while its caller's time ran out does not end the refusals",
        "transports/lmdb/thread.py",
        "        self._stalled = False\n        for future",
        "        for future",
    ),
    Mutant(
        "a store that went back in time is believed",
        "hub/presence/active.py",
        "        self._doubtful = True\n",
        "        self._doubtful = False\n",
    ),
    Mutant(
        "nobody announces the ends of a hub that was killed",
        "hub/presence/active.py",
        "        if not await self._presence.expire(node, count):\n            return\n",
        "        return\n",
    ),
    Mutant(
        "a subscription that ends stays listed",
        "hub/presence/active.py",
        "        await self._publish(documents, active=False)\n        await self._presence.leave(node, list(documents))\n",
        "        await self._publish(documents, active=False)\n",
    ),
)


@contextmanager
def planted(mutant: Mutant) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A copy with the bug in it; what is yielded starts its simulation."""
    with TemporaryDirectory() as place:
        for name in ("hub", "transports", "tests/simulation"):
            shutil.copytree(ROOT / name, Path(place, name), ignore=shutil.ignore_patterns("__pycache__"))
        Path(place, "tests", "__init__.py").touch()
        changed = Path(place, mutant.path)
        changed.write_text(mutant.mutated(changed.read_text()))
        environment = {**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"}

        def simulated(*arguments: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "tests.simulation", *arguments]
            return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True)

        yield simulated


def look_for(mutant: Mutant) -> tuple[float, str]:
    """How long it took in seconds, and the line that says how it was found; empty: it was not."""
    with planted(mutant) as simulated:
        began = monotonic()
        with simulated("1-1000000", "--until") as playing:
            try:
                said, _ = playing.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                playing.kill()
                said = ""
        return monotonic() - began, next((line for line in said.splitlines() if line.startswith("seed ")), "")


def main() -> int:
    wanted = re.compile("|".join(sys.argv[1:]))
    missed = 0
    for mutant in MUTANTS:
        if not wanted.search(mutant.what):
            continue
        seconds, line = look_for(mutant)
        missed += not line
        print(f"{seconds:5.1f} s  {mutant.what}\n         {line[:150] or 'not found'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
