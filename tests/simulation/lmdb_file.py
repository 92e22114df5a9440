"""An LMDB file and the locks around it: what is committed stays, what was not is gone with its process.

`LMDB` stands in the place of the module. Tables are sorted lists that a transaction copies when it changes them; a
commit takes time, during which the process may be killed, before or after it counts. `Locks` stands in the place of
``fcntl`` and ``os`` where files are locked.
"""

import errno
import fcntl
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lmdb

from tests.simulation.world import Process, World, thread, worlds


class Table:
    """Rows in order. ``dupsort``: a key may have several values, in order as well."""

    def __init__(self, dupsort: bool = False) -> None:
        self.dupsort = dupsort
        self.rows: list[tuple[bytes, bytes]] = []

    def copy(self) -> "Table":
        made = Table(self.dupsort)
        made.rows = list(self.rows)
        return made

    def first(self, key: bytes) -> int:
        return bisect_left(self.rows, (key, b""))

    def get(self, key: bytes) -> bytes | None:
        at = self.first(key)
        return self.rows[at][1] if at < len(self.rows) and self.rows[at][0] == key else None

    def put(self, key: bytes, value: bytes) -> None:
        at = bisect_left(self.rows, (key, value)) if self.dupsort else self.first(key)
        if at < len(self.rows) and self.rows[at][0] == key and (not self.dupsort or self.rows[at][1] == value):
            self.rows[at] = (key, value)
        else:
            self.rows.insert(at, (key, value))

    def delete(self, key: bytes, value: bytes) -> bool:
        at = bisect_left(self.rows, (key, value)) if self.dupsort and value else self.first(key)
        if (
            at < len(self.rows)
            and self.rows[at][0] == key
            and (not (self.dupsort and value) or self.rows[at][1] == value)
        ):
            del self.rows[at]
            return True
        return False


class File:
    """``on_commit`` gets the rows of updates that were added, and that went. ``full``, ``broken``: commits fail."""

    def __init__(self, world: World, on_commit: Callable[[list[bytes], list[bytes]], None]) -> None:
        self.world, self.on_commit = world, on_commit
        self.tables: dict[bytes, Table] = {}
        self.transactions = 0
        self.full = self.broken = False
        self.writer: object = None
        self.readers = 0


class LMDB:
    """The module. What it does not say itself is lmdb's own."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(lmdb, name)

    def open(self, path: str, map_size: int, **options: Any) -> "Environment":
        return Environment(self._file, map_size)


class DiskError(lmdb.Error):
    """What the system says is in its code, as in lmdb's own."""

    def __init__(self, code: int) -> None:
        super().__init__("the disk")
        self.__dict__["code"] = code


class Environment:
    def __init__(self, file: File, map_size: int) -> None:
        self._file, self._map_size = file, map_size

    def info(self) -> dict[str, int]:
        return {"map_size": self._map_size, "last_txnid": self._file.transactions}

    def set_mapsize(self, size: int) -> None:
        self._map_size = size or self._map_size

    def close(self) -> None: ...

    def begin(self, write: bool = False) -> "Transaction":
        return Transaction(self._file, write)

    def open_db(
        self, name: bytes, txn: "Transaction | None" = None, create: bool = True, dupsort: bool = False, **_: Any
    ) -> bytes:
        tables = txn.tables if txn is not None else self._file.tables
        if name not in tables:
            if not create:
                raise lmdb.NotFoundError("no such table")
            assert txn is not None
            txn.tables[name] = Table(dupsort)
            txn.changed.add(name)
        return name


class Transaction:
    def __init__(self, file: File, write: bool) -> None:
        self._file, self._write = file, write
        # LMDB without its own locks: who comes in while another writes may read pages that are being changed.
        if file.writer is not None or (write and file.readers):
            raise AssertionError("two transactions at once in a file without locks")
        world, process = file.world, worlds[-1].current
        assert process is not None
        self._process = process
        if write:
            file.writer = self
        else:
            file.readers += 1
        process.on_death.append(self._leave)
        self.tables = dict(file.tables)
        self.changed: set[bytes] = set()
        self._added: list[bytes] = []
        self._gone: list[bytes] = []
        if world.random.random() < 0.2:
            self._pause(1e-4)

    def _pause(self, seconds: float) -> None:
        if (running := thread()) is not None:
            running.wait(self._file.world.random.random() * seconds)

    def _leave(self) -> None:
        if self._write:
            self._file.writer = None
        else:
            self._file.readers -= 1

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        try:
            if self._write and kind is None and self.changed:
                self._commit()
        finally:
            self._leave()
            self._process.on_death.remove(self._leave)

    def _commit(self) -> None:
        file, random = self._file, self._file.world.random
        self._pause(0.002)
        if file.full or file.broken:
            raise DiskError(errno.ENOSPC if file.full else errno.EIO)
        file.tables = self.tables
        file.transactions += 1
        file.on_commit(self._added, self._gone)
        if random.random() < 0.5:
            self._pause(0.002)

    def table(self, name: bytes | None) -> Table:
        if name is None:
            main = Table()
            main.rows = sorted((each, b"") for each in self.tables)
            return main
        return self.tables[name]

    def mine(self, name: bytes) -> Table:
        assert self._write
        if name not in self.changed:
            self.changed.add(name)
            self.tables[name] = self.tables[name].copy()
        return self.tables[name]

    def get(self, key: bytes, default: Any = None, db: bytes | None = None) -> Any:
        found = self.table(db).get(key)
        return default if found is None else found

    def put(self, key: bytes, value: bytes, db: bytes) -> None:
        self.mine(db).put(key, value)

    def delete(self, key: bytes, value: bytes = b"", db: bytes = b"") -> bool:
        if db == b"updates" and (row := self.mine(db).get(key)) is not None:
            self._gone.append(row)
        return self.mine(db).delete(key, value)

    def stat(self, db: bytes) -> dict[str, int]:
        entries = len(self.table(db).rows)
        pages = 1 + entries // 20
        return {"entries": entries, "psize": 4096, "branch_pages": 0, "leaf_pages": pages, "overflow_pages": 0}

    def cursor(self, db: bytes | None = None) -> "Cursor":
        return Cursor(self, db)


class Cursor:
    def __init__(self, txn: Transaction, db: bytes | None) -> None:
        self._txn, self._db, self._at = txn, db, 0

    @property
    def _rows(self) -> list[tuple[bytes, bytes]]:
        return self._txn.table(self._db).rows

    def first(self) -> bool:
        self._at = 0
        return bool(self._rows)

    def last(self) -> bool:
        self._at = max(0, len(self._rows) - 1)
        return bool(self._rows)

    def item(self) -> tuple[bytes, bytes]:
        return self._rows[self._at] if self._at < len(self._rows) else (b"", b"")

    def key(self) -> bytes:
        return self.item()[0]

    def value(self) -> bytes:
        return self.item()[1]

    def set_range(self, key: bytes) -> bool:
        self._at = self._txn.table(self._db).first(key)
        return self._at < len(self._rows)

    def set_key(self, key: bytes) -> bool:
        return self.set_range(key) and self.key() == key

    def set_range_dup(self, key: bytes, value: bytes) -> bool:
        self._at = bisect_left(self._rows, (key, value))
        return self._at < len(self._rows) and self.key() == key

    def last_dup(self) -> bool:
        self._at = bisect_right(self._rows, self.key(), key=lambda row: row[0]) - 1
        return True

    def prev_dup(self) -> bool:
        if self._at and self._rows[self._at - 1][0] == self.key():
            self._at -= 1
            return True
        return False

    def next_nodup(self) -> bool:
        self._at = bisect_right(self._rows, self.key(), key=lambda row: row[0])
        return self._at < len(self._rows)

    def iternext(self, keys: bool = True, values: bool = True) -> Iterator[Any]:
        for row in self._rows[self._at :]:
            yield row if keys and values else row[0] if keys else row[1]

    def __iter__(self) -> Iterator[Any]:
        return self.iternext()

    def iternext_dup(self) -> Iterator[bytes]:
        key = self.key()
        for row in self._rows[self._at :]:
            if row[0] != key:
                return
            yield row[1]

    def putmulti(self, rows: list[tuple[bytes, bytes]], append: bool = False) -> None:
        assert self._db is not None
        table = self._txn.mine(self._db)
        if self._db == b"updates":
            self._txn._added += [row for _, row in rows]
        for key, value in rows:
            if append and table.rows and key <= table.rows[-1][0]:
                raise lmdb.KeyExistsError("not behind the last")
            table.put(key, value)


class Locks:
    """flock(2) and the files that it is asked for. A lock goes with its descriptor, and with its process."""

    LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN
    O_RDWR = O_CREAT = 0

    def __init__(self, world: World) -> None:
        self._world = world
        self._paths: dict[int, str] = {}
        self._texts: dict[str, bytes] = {}
        self._held: dict[str, dict[int, int]] = {}
        self._waiting: list[Any] = []
        self._owners: dict[int, Process] = {}

    def open(self, path: Any, flags: int, mode: int = 0) -> int:
        process = self._world.current
        assert process is not None
        number = 10_000 + len(self._owners)
        self._paths[number], self._owners[number] = str(path), process
        process.on_death.append(lambda: self._let_go(number))
        return number

    def close(self, number: int) -> None:
        self._let_go(number)

    def _let_go(self, number: int) -> None:
        path = self._paths.pop(number, None)
        if path is not None and self._held.get(path, {}).pop(number, None) is not None:
            self._wake()

    def _wake(self) -> None:
        for each in self._waiting:
            each.wake()
        self._waiting.clear()

    def flock(self, number: int, flags: int) -> None:
        held = self._held.setdefault(self._paths[number], {})
        if flags & self.LOCK_UN:
            if held.pop(number, None) is not None:
                self._wake()
            return
        kind = flags & ~self.LOCK_NB
        while any(kind == self.LOCK_EX or other == self.LOCK_EX for at, other in held.items() if at != number):
            if flags & self.LOCK_NB:
                raise BlockingIOError
            waiting = thread()
            assert waiting is not None, "the event loop waits for a lock"
            self._waiting.append(waiting)
            waiting.wait(float("inf"))
        held[number] = kind

    def pwrite(self, number: int, text: bytes, at: int) -> None:
        self._texts[self._paths[number]] = text

    def ftruncate(self, number: int, size: int) -> None: ...

    def pread(self, number: int, size: int, at: int) -> bytes:
        return self._texts.get(self._paths[number], b"")

    def getpid(self) -> int:
        process = self._world.current
        assert process is not None
        return 1 + self._world.processes.index(process)


class Pings:
    """In the place of `transports.lmdb.wakeup.Peers`: a ping takes its time, or is lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._peers: dict[object, tuple[Process, Callable[[], None]]] = {}

    def __call__(self, directory: Any, pinged: Callable[[], None]) -> "Peer":
        process = self._world.current
        assert process is not None
        peer = Peer(self)
        self._peers[peer] = (process, pinged)
        return peer

    def ping(self, sender: object) -> None:
        random = self._world.random
        for peer in list(self._peers):
            if peer is not sender and (self._world.calm or random.random() < 0.8):
                self._world.later(random.expovariate(5000.0), partial(self._arrive, peer))

    def _arrive(self, peer: object) -> None:
        process, pinged = self._peers.get(peer, (None, None))
        if process is not None and pinged is not None and process.alive:
            process.loop.call_soon(pinged)

    def leave(self, peer: object) -> None:
        del self._peers[peer]


class Peer:
    def __init__(self, pings: Pings) -> None:
        self._pings = pings

    def ping(self) -> None:
        self._pings.ping(self)

    def close(self) -> None:
        self._pings.leave(self)
