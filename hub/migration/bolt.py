"""A reader of Bolt files (go.etcd.io/bbolt), as far as a history needs it: the pairs of one bucket, in their order.

Theory of operation. The file is pages of one size, numbered from 0. Each begins with its number, what it is, how many
elements it has and how many pages more it takes:

    page      id u64, flags u16, count u16, overflow u32, then its elements          (16 bytes)
    meta      magic u32, version u32, page size u32, flags u32, root bucket (16 bytes), freelist u64,
              pages u64, transaction u64, FNV-1a checksum of all of that u64
    branch    per element: position u32, key size u32, page u64                       (16 bytes)
    leaf      per element: flags u32, position u32, key size u32, value size u32      (16 bytes)

All numbers are little-endian; a position counts from its own element. The first two pages are meta pages, written in
turn: the valid one with the newer transaction counts. It names the page of the root bucket, a tree whose leaves are
buckets by their names. A bucket's value is the page of its root u64 and a sequence u64; a small bucket has 0 there, and
its only page follows inline. Every number of the file is looked at before it is used: a file that was torn, or made by
somebody else, ends in `InvalidBolt` and never in an endless walk.

Bolt copies pages on write, so that a file which nobody has open is whole, however its hub ended. One that is open is
locked; we take the lock, shared, while we read. ``tests/hub/migration/test_bolt.py`` reads files that the real library
has written.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MAGIC, VERSION = 0xED0CDAED, 2
_PAGE = struct.Struct("<QHHI")
_META = struct.Struct("<IIIIQQQQQQ")
_BRANCH = struct.Struct("<IIQ")
_LEAF = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")
_IS_BRANCH, _IS_LEAF = 0x01, 0x02
_LEAF_OF_A_BUCKET = 0x01
_PAGE_SIZES = [1 << bits for bits in range(9, 17)]
_DEEPEST = 64
"""Levels of a tree: no file on earth has so many pages."""


class InvalidBolt(ValueError):
    """The file is none, is damaged, has no such bucket, or is in use; a sentence that says which."""


@contextmanager
def opened(path: Path) -> Iterator["BoltFile"]:
    """The file, read-only and locked against its writers. Raises `InvalidBolt`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidBolt(f"{path} cannot be read: {error.strerror}") from None
    try:
        try:
            import fcntl  # Windows has none, and no Bolt file of a Go hub's container either

            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            pages = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except BlockingIOError:
            raise InvalidBolt(f"{path} is in use: stop the hub that has it open, or take a copy") from None
        except (OSError, ValueError):
            raise InvalidBolt(f"{path} is not a Bolt file") from None
        with pages:
            yield BoltFile(path, pages)
    finally:
        os.close(descriptor)


class _Tree(NamedTuple):
    """A page whose elements count from ``start``, within ``pages``."""

    start: int
    end: int


class BoltFile:
    """``pages``: the file's content. Raises `InvalidBolt` where that is none."""

    def __init__(self, path: Path, pages: mmap.mmap | bytes) -> None:
        self._path, self._pages = path, pages
        self._size, self._root = self._newest_meta()

    def pairs(self, bucket: str) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a bucket of the root, in the order of the keys. Raises `InvalidBolt`."""
        for flags, key, value in self._leaves(self._tree_at(self._root), 0):
            if key == bucket.encode() and flags & _LEAF_OF_A_BUCKET:
                root, _ = _BUCKET.unpack_from(self._pages, value.start)
                inline = _Tree(value.start + _BUCKET.size, value.end)
                for _, each, content in self._leaves(self._tree_at(root) if root else inline, 0):
                    yield each, bytes(self._pages[content.start : content.end])
                return
        raise InvalidBolt(f"{self._path} has no bucket {bucket!r}")

    def _newest_meta(self) -> tuple[int, int]:
        """The page size, and the number of the root bucket's page."""
        found = []
        for size in (0, *_PAGE_SIZES):  # the first meta page says how large pages are, unless it is the torn one
            meta = self._meta_at(size)
            if meta is not None and size in (0, meta[1]):
                found.append(meta)
        if not found:
            raise InvalidBolt(f"{self._path} is not a Bolt file, or its first pages are damaged")
        _, size, root = max(found)
        return size, root

    def _meta_at(self, start: int) -> tuple[int, int, int] | None:
        """Transaction, page size and root page of a valid meta page; None: there is none."""
        if start + _PAGE.size + _META.size > len(self._pages):
            return None
        at = start + _PAGE.size
        magic, version, size, _, root, _, _, _, transaction, checksum = _META.unpack_from(self._pages, at)
        said = self._pages[at : at + _META.size - 8]
        if (magic, version) != (MAGIC, VERSION) or checksum != fnv_1a(said) or size not in _PAGE_SIZES:
            return None
        return transaction, size, root

    def _tree_at(self, page: int) -> _Tree:
        start = page * self._size
        if page < 2 or start + self._size > len(self._pages):
            raise self._damaged(page)
        number, _, _, overflow = _PAGE.unpack_from(self._pages, start)
        end = start + (overflow + 1) * self._size
        if number != page or end > len(self._pages):
            raise self._damaged(page)
        return _Tree(start, end)

    def _leaves(self, tree: _Tree, depth: int) -> Iterator[tuple[int, bytes, _Tree]]:
        """Flags, key, and where the value stands, of each leaf element under a page."""
        start, end = tree
        _, flags, count, _ = _PAGE.unpack_from(self._pages, start)
        element = _LEAF if flags & _IS_LEAF else _BRANCH
        first = start + _PAGE.size
        if not flags & (_IS_LEAF | _IS_BRANCH) or depth > _DEEPEST or first + count * element.size > end:
            raise self._damaged(start // self._size)
        for at in range(first, first + count * element.size, element.size):
            if element is _BRANCH:
                _, _, page = _BRANCH.unpack_from(self._pages, at)
                yield from self._leaves(self._tree_at(page), depth + 1)
                continue
            kind, position, key_size, value_size = _LEAF.unpack_from(self._pages, at)
            value = at + position + key_size
            if value + value_size > end:
                raise self._damaged(start // self._size)
            yield kind, bytes(self._pages[at + position : value]), _Tree(value, value + value_size)

    def _damaged(self, page: int) -> InvalidBolt:
        return InvalidBolt(f"{self._path} is damaged at page {page}; a copy from before may not be")


def fnv_1a(content: bytes) -> int:
    """The checksum of a meta page: FNV-1a of 64 bits."""
    found = 0xCBF29CE484222325
    for byte in content:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found
