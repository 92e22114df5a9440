"""The file behind an LMDB environment, looked at before it is mapped: is it whole, and where does it lie?

A map of a file that is shorter than its tree says ends the process with SIGBUS when the missing page is touched. So
the pages that the tree needs are looked up with ordinary reads. LMDB's format (version 1, native byte order): a page
begins with its own number (8 bytes), 2 unused, 2 of flags, 2 that say where its node pointers end, or, for what is too
large for a page, 4 with the number of pages it takes. Two meta pages come first; the one with the later transaction
counts. It holds the roots of two trees: the free pages and the main one, whose leaves hold the roots of the others.
"""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

_META = struct.Struct("=16xIIQQ48s48sQQ")
_TREE = struct.Struct("=IHHQQQQQ")
_PAGE = struct.Struct("=QHHHH")
_NODE = struct.Struct("=HHHH")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_NO_ROOT = 2**64 - 1
_BRANCH, _LEAF, _FIXED = 0x01, 0x02, 0x20
_BIG, _SUBTREE = 0x01, 0x02

NETWORKED = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse", "ceph", "lustre", "afs", "virtiofs"})
"""File systems that another machine changes too, as Linux names them; also ``fuse.…``.

Neither a shared map nor flock can be relied on there.
"""


class DamagedFile(Exception):
    """What is wrong with the file; the text has no subject."""


def check_file(path: Path) -> None:
    """Raises `DamagedFile` if the file ends before the pages of its tree do, and OSError. A new file is whole.

    A file may rightly end before its last page: one that was taken and given back in one transaction is not written.
    So a short file has its whole tree walked, and any other only the page of each root.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _check(descriptor)
    except OSError as error:
        error.filename = error.filename or os.fspath(path)  # reads know none
        raise
    finally:
        os.close(descriptor)


def _check(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    metas = [meta for meta in map(_meta_of, _heads(descriptor)) if meta is not None]
    if not metas:
        return  # LMDB's own words for what is no file of its own will do
    _magic, _version, _address, _map, free, main, last, _txn = max(metas, key=lambda meta: meta[-1])
    page_size = _TREE.unpack(free)[0]
    short = size < (last + 1) * page_size
    for tree in (free, main):
        for page in _pages(descriptor, page_size, _TREE.unpack(tree)[-1], whole=short):
            if (page + 1) * page_size > size:
                raise DamagedFile(f"ends after {size} bytes, before page {page} that its tree needs")


def _heads(descriptor: int) -> Iterator[bytes]:
    first = os.pread(descriptor, _META.size, 0)
    yield first
    if len(first) == _META.size:
        page_size = _TREE.unpack(_META.unpack(first)[4])[0]
        if 512 <= page_size <= 65536:
            yield os.pread(descriptor, _META.size, page_size)


def _meta_of(head: bytes) -> tuple[int, int, int, int, bytes, bytes, int, int] | None:
    if len(head) < _META.size:
        return None
    meta = _META.unpack(head)
    return meta if meta[:2] == (_MAGIC, _VERSION) else None


def _pages(descriptor: int, page_size: int, root: int, *, whole: bool) -> Iterator[int]:
    """The pages of the tree below a root, each before it is read. Not ``whole``: the root and those of its subtrees."""
    waiting = [] if root == _NO_ROOT else [(root, True)]
    while waiting:
        page, go_on = waiting.pop()
        yield page
        content = os.pread(descriptor, page_size, page * page_size)
        number, _pad, flags, lower, _upper = _PAGE.unpack_from(content)
        if number != page or not flags & (_BRANCH | _LEAF) or not _PAGE.size <= lower <= page_size:
            raise DamagedFile(f"has something else where page {page} of its tree should be")
        if not go_on:
            continue
        try:
            below, large = _references(content, flags, lower)
        except struct.error:
            raise DamagedFile(f"has a damaged page {page} in its tree") from None
        waiting += [(each, whole) for each in below]
        for first in large if whole else ():
            yield first
            head = os.pread(descriptor, _PAGE.size, first * page_size)
            yield first + struct.unpack_from("=I", head, 12)[0] - 1


def _references(content: bytes, flags: int, lower: int) -> tuple[list[int], list[int]]:
    """The pages of trees that one page names, and the first pages of what is too large for it. struct.error."""
    below: list[int] = []
    large: list[int] = []
    if flags & _FIXED:
        return below, large
    for at in struct.unpack_from(f"={(lower - _PAGE.size) // 2}H", content, _PAGE.size):
        low, high, kind, length = _NODE.unpack_from(content, at)
        data = at + _NODE.size + length
        if flags & _BRANCH:
            below.append(low | high << 16 | kind << 32)
        elif kind & _SUBTREE:
            root = _TREE.unpack_from(content, data)[-1]
            below += [] if root == _NO_ROOT else [root]
        elif kind & _BIG:
            large.append(struct.unpack_from("=Q", content, data)[0])
    return below, large


def file_system_of(directory: Path, mounts: str) -> str:
    """The kind of file system that a directory lies on, as ``/proc/self/mountinfo`` names it (proc(5)); "" if unknown.

    ``mounts``: what that file says. The mount that is deepest and was made last counts.
    """
    path = os.path.realpath(directory)
    found = ("", "")
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        # Blanks in a name are written as \\040.
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(found[0]):
            found = (point, after.split(" ")[0])
    return found[1]


def is_networked(kind: str) -> bool:
    """Whether other machines may change what lies on such a file system."""
    return kind in NETWORKED or kind.startswith("fuse.")
