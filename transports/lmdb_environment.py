"""An LMDB environment as we use it: opened, opened anew, entered in one transaction at a time, its faults translated.

LMDB is opened without its own locks, which tell processes apart by pids, and every container has the same ones. So no
reader may be inside while a writer commits: one thread in a process, `locks.Turnstile` between processes.
"""

from __future__ import annotations  # lmdb's types exist for the type checker only

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import lmdb

from transports.base import TransportError, TransportFull, TransportUnavailable
from transports.lmdb_tables import BadStore, identity, tables_of

HEADROOM = 1.25
"""How much larger than its file the map of a store is that has outgrown ``map_size``: trimming it takes room first."""

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}

Locked = Callable[[bool], AbstractContextManager[None]]


@dataclass(frozen=True)
class Options:
    """``size``: updates that history keeps. ``ttl``: seconds that it keeps them. ``map_size``: bytes."""

    size: int | None = None
    ttl: float | None = None
    sync: bool = True
    map_size: int = 1 << 30


def _unlocked(write: bool) -> AbstractContextManager[None]:
    return nullcontext()


class Environment:
    """``locked``: what to hold during a transaction, told whether it writes."""

    def __init__(self, directory: Path, options: Options, locked: Locked = _unlocked) -> None:
        self._directory = directory
        self._options = options
        self._locked = locked
        self._env: lmdb.Environment | None = None

    def open(self) -> None:
        """Make the environment ready. Raises `BadStore`."""
        try:
            # Two processes that create the file at once would each write its head: only a writer may open.
            with self._locked(True):
                self._open()
        except lmdb.InvalidError:
            raise BadStore("data.mdb is not an LMDB file; move it away, or name another directory") from None
        except lmdb.VersionMismatchError:
            raise BadStore("data.mdb was written by another version of LMDB; name another directory") from None
        except lmdb.Error as error:
            raise BadStore(f"LMDB can't open data.mdb: {error}") from error
        except UnicodeEncodeError:
            raise BadStore("the directory's name is not UTF-8, which LMDB needs; name another directory") from None
        except (OSError, OverflowError) as error:
            raise BadStore(f"can't open data.mdb: {error}") from error

    def _open(self) -> lmdb.Environment:
        with ExitStack() as undo:
            env = lmdb.open(
                os.fspath(self._directory),
                map_size=self._options.map_size,
                max_dbs=8,
                lock=False,
                sync=self._options.sync,
                readahead=False,
                mode=0o600,
            )
            undo.callback(env.close)
            if (size := env.info()["map_size"]) > self._options.map_size:
                env.set_mapsize(int(size * HEADROOM))
            self._tables = tables_of(env)
            self._file = identity(self._directory)
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
        return self._environment().info()["last_txnid"]

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[lmdb.Transaction[bytes]]:
        with self._locked(write), self._begin(write) as txn:
            yield txn

    def _begin(self, write: bool) -> lmdb.Transaction[bytes]:
        try:
            return self._environment().begin(write=write)
        except lmdb.MapResizedError:  # by another process, whose map_size is larger
            self._environment().set_mapsize(0)
        except lmdb.PanicError:  # a commit failed in the file's head: LMDB asks for a new environment
            self.close()
        return self._environment().begin(write=write)

    def _environment(self) -> lmdb.Environment:
        try:
            return self._env or self._open()
        except BadStore as error:
            raise TransportUnavailable(f"{self._directory}: {error}") from error

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> TransportError:
        if isinstance(error, lmdb.MapFullError):
            fault: TransportError = TransportFull(f"{self._directory} has no room; raise map_size")
        elif getattr(error, "code", getattr(error, "errno", None)) in _NO_ROOM:
            fault = TransportFull(f"{self._directory} has no room ({error}); free some space on its volume")
        else:
            fault = TransportUnavailable(f"{self._directory} does not work: {error}")
        fault.__cause__ = error
        return fault
