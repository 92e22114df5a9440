"""An LMDB environment as we use it: opened, opened anew, entered in one transaction at a time, its faults translated.

LMDB is opened without its own locks, which tell processes apart by pids, and every container has the same ones. So no
reader may be inside while a writer commits: one thread in a process, `locks.Turnstile` between processes.
"""

from __future__ import annotations  # lmdb's types exist for the type checker only

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import lmdb

from transports.contract import TransportError, TransportFull, TransportUnavailable
from transports.lmdb.file import DamagedFile, check_file
from transports.lmdb.tables import DATA, BadStore, identity, index_of, tables_of

HEADROOM = 1.25
"""How much larger than its file the map of a store is that has outgrown ``map_size``: trimming it takes room first."""

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
FULL = 64 * 1024
"""Free bytes of a volume below which a write that was cut short counts as a full volume."""

Locked = Callable[[bool], AbstractContextManager[None]]


@dataclass(frozen=True)
class Options:
    """``size``: updates that history keeps. ``ttl``: seconds that it keeps them. ``map_size``: bytes."""

    size: int | None = None
    ttl: float | None = None
    sync: bool = True
    map_size: int = 1 << 30
    index: bool = False
    """Of the topics."""


def unlocked(write: bool) -> AbstractContextManager[None]:
    """What a store of one process holds."""
    return nullcontext()


class Environment:
    """``locked``: what to hold during a transaction, told whether it writes.

    ``tables`` and ``identity``, of the file that was opened, are there from `open` on.
    """

    def __init__(self, directory: Path, options: Options, locked: Locked = unlocked) -> None:
        self.directory = directory
        self.options = options
        self._locked = locked
        self._env: lmdb.Environment | None = None

    def open(self) -> None:
        """Make the environment ready. Raises `BadStore`, and OSError for files that can't be used."""
        try:
            # Two processes that create the file at once would each write its head: only a writer may open.
            with self._locked(True):
                self._open()
        except DamagedFile as error:
            raise BadStore(f"data.mdb {error}; restore a backup of it, or move it away") from None
        except lmdb.InvalidError:
            raise BadStore("data.mdb is not an LMDB file; move it away, or name another directory") from None
        except lmdb.VersionMismatchError:
            raise BadStore("data.mdb was written by another version of LMDB; name another directory") from None
        except lmdb.Error as error:
            raise BadStore(f"LMDB can't open data.mdb: {error}; restore a backup of it, or move it away") from error
        except UnicodeEncodeError:
            raise BadStore("the directory's name is not UTF-8, which LMDB needs; name another directory") from None
        except OverflowError as error:
            raise BadStore(f"can't open data.mdb: {error}") from error

    def _open(self) -> lmdb.Environment:
        check_file(self.directory / DATA)
        with ExitStack() as undo:
            env = lmdb.open(
                os.fspath(self.directory),
                map_size=self.options.map_size,
                max_dbs=8,
                lock=False,
                sync=self.options.sync,
                readahead=False,
                mode=0o600,
            )
            undo.callback(env.close)
            if (size := env.info()["map_size"]) > self.options.map_size:
                env.set_mapsize(int(size * HEADROOM))
            self.tables = tables_of(env, index=self.options.index)
            self.identity = identity(self.directory)
            undo.pop_all()
        self._env = env
        return env

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def commits(self) -> int:
        """How many transactions have changed this store since it was made."""
        return self._opened().info()["last_txnid"]

    def capacity(self) -> int:
        """Bytes that the file may come to: ``map_size``, or less where its volume, or a limit, has no room for that."""
        try:
            taken = os.stat(self.directory / DATA).st_blocks * 512
        except OSError:
            return self.options.map_size
        return max(1, min(self.options.map_size, taken + self._free(), _limit()))

    def _free(self) -> int:
        """Bytes that the volume has left for us."""
        volume = os.statvfs(self.directory)
        return volume.f_bavail * volume.f_frsize

    def has_no_room(self, error: Exception) -> bool:
        """Whether more room would have helped. A write that is cut short is EIO in LMDB, whatever the reason."""
        if isinstance(error, lmdb.MapFullError):
            return True
        code = getattr(error, "code", getattr(error, "errno", None))
        if code != errno.EIO:
            return code in _NO_ROOM
        try:
            size = os.stat(self.directory / DATA).st_size
            return self._free() < FULL or size + FULL > _limit()
        except OSError:
            return False

    def look_for_index(self, txn: lmdb.Transaction[bytes]) -> None:
        """Another process may have begun one: from then on whoever adds to the log adds to it."""
        if self.tables.topics is None and self._env is not None:
            self.tables = index_of(self._env, self.tables, txn)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[lmdb.Transaction[bytes]]:
        """One transaction, under the lock. Raises `TransportUnavailable`, and what LMDB raises: see `faults`."""
        with self._locked(write), self._begin(write) as txn:
            yield txn

    def _begin(self, write: bool) -> lmdb.Transaction[bytes]:
        try:
            return self._opened().begin(write=write)
        except lmdb.MapResizedError:  # by another process, whose map_size is larger
            self._opened().set_mapsize(0)
        except lmdb.PanicError:  # a commit failed in the file's head: LMDB asks for a new environment
            self.close()
        return self._opened().begin(write=write)

    def _opened(self) -> lmdb.Environment:
        try:
            return self._env or self._open()
        except (BadStore, OSError) as error:
            raise TransportUnavailable(f"{self.directory}: {error}") from error

    @contextmanager
    def faults(self) -> Iterator[None]:
        """What LMDB and the system raise comes out as `fault` has it."""
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise self.fault(error) from error

    def fault(self, error: Exception) -> TransportError:
        """`TransportFull` where more room would help, else `TransportUnavailable`; each says what to do."""
        if isinstance(error, lmdb.MapFullError):
            fault: TransportError = TransportFull(f"{self.directory} has no room; raise map_size")
        elif self.has_no_room(error):
            fault = TransportFull(f"{self.directory} has no room ({error}); free some space on its volume")
        else:
            fault = TransportUnavailable(f"{self.directory} does not work: {error}")
        fault.__cause__ = error
        return fault


def _limit() -> int:
    """Bytes that any file of this process may have (setrlimit(2), RLIMIT_FSIZE)."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return 1 << 62 if soft == resource.RLIM_INFINITY else soft
