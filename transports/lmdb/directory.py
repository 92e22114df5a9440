"""What an ``lmdb:`` URL says, and whether its directory can be used."""

import errno
import os
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from transports.contract import LOCK_TIMEOUT
from transports.lmdb.environment import Options
from transports.lmdb.file import file_system_of, is_networked
from transports.urls import count, duration, parameters, size_in_bytes, split

SMALLEST_MAP = 1 << 20
MOUNTS = Path("/proc/self/mountinfo")
_KNOWN = frozenset({"lock", "lock_timeout", "size", "ttl", "sync", "map_size", "network_fs", "index"})


@dataclass(frozen=True)
class Parameters:
    """``lock_timeout``: seconds; infinite for one of a pair.

    ``network_fs``: whether a network file system will do for a shared lock.
    """

    directory: Path
    shared: bool
    lock_timeout: float
    options: Options
    network_fs: bool = False

    @classmethod
    def of(cls, url: str) -> Self:
        """ValueError names what is wrong."""
        parts = split(url)
        if parts.fragment:
            raise ValueError("it has a fragment; write # in a directory's name as %23")
        said = parameters(parts.query, _KNOWN)
        options = Options(
            size=count(said["size"]) if "size" in said else None,
            ttl=duration(said["ttl"]) if "ttl" in said else None,
            sync=_one_of("sync", said.get("sync", "on"), "on", "off") == "on",
            map_size=size_in_bytes(said.get("map_size", "1GiB")),
            index=_one_of("index", said.get("index", "none"), "topics", "none") == "topics",
        )
        if not SMALLEST_MAP <= options.map_size < 1 << 46:
            raise ValueError("map_size is between 1MiB and 64TiB")
        shared = _one_of("lock", said.get("lock", "exclusive"), "exclusive", "shared") == "shared"
        network_fs = _one_of("network_fs", said.get("network_fs", "no"), "yes", "no") == "yes"
        directory = _directory(parts.netloc + parts.path)
        wait = said.get("lock_timeout", "")
        lock_timeout = inf if wait == "forever" else duration(wait) if wait else LOCK_TIMEOUT
        return cls(directory, shared, lock_timeout, options, network_fs)


def _directory(path: str) -> Path:
    path = unquote(path)
    if not path.strip("/") or "\0" in path:
        raise ValueError("it names no directory; write lmdb:///absolute/directory or lmdb://relative/directory")
    return Path(os.path.abspath(path))


def _one_of(name: str, value: str, *choices: str) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {' or '.join(choices)}, not {value!r}")
    return value


def make(directory: Path) -> None:
    """Create the directory's last level, for its owner only: there are private updates in it. OSError."""
    directory.mkdir(mode=0o700, exist_ok=True)


def in_use(error: TimeoutError) -> str:
    """The lock's holder, as `locks.hold` has named it, and the ways out."""
    return (
        f"timeout: {error} holds the lock; wait for it in standby with lock_timeout=60s, "
        "open the directory with lock=shared everywhere, or use a redis:// URL"
    )


def unusable(directory: Path, error: OSError) -> str:
    """The cause in one sentence, with the way out."""
    if isinstance(error, FileNotFoundError):
        return f"{directory.parent} does not exist; create it, or mount a volume there"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename or directory} is not a directory; name another place"
    if isinstance(error, IsADirectoryError):
        return f"{error.filename or directory} is a directory where a file of the store should be; move it away"
    if error.errno == errno.EROFS:
        return f"{directory} is on a read-only file system; mount a volume there, or name another place"
    return (
        f"{error.filename or directory} can't be used by uid {os.getuid()} ({error.strerror}); "
        "give it read and write access, or name another directory"
    )


def network_file_system(directory: Path) -> str:
    """The kind of network file system that a directory lies on; empty where it lies on none, or nobody can tell."""
    try:
        kind = file_system_of(directory, MOUNTS.read_text(errors="replace"))
    except OSError:
        return ""
    return kind if is_networked(kind) else ""
