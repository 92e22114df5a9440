"""The tables of the LMDB log, and which of the oldest rows go.

    updates   position -> the row of `transports.lmdb.rows`
    ids       SHA-256 of an event id -> position, the earliest first where an id was used again
    keys      SHA-256 of an idempotency key -> position
    nodes     node -> its count, in decimal digits
    presence  node, NUL, SHA-256 of a subscription's id -> the id, NUL, its document
    topics    with index=topics: the first bytes of a topic -> positions
    meta      format -> the version of this layout; indexed -> yes, once `topics` has all of them

Numbers are 8 bytes, big-endian.
"""

from __future__ import annotations  # lmdb's types exist for the type checker only

import os
import struct
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import lmdb

from transports.contract import Position, Update
from transports.lmdb.rows import milliseconds_of, rest_of, row_of, visibility_of

DATA = "data.mdb"
"""The file's name in its directory, which LMDB chooses."""
FORMAT = b"2"
_FORMAT_1 = b"1"
"""Version 0.1 began with it: a row was its milliseconds, then the update's JSON. Opening it makes it format 2."""
_TOGETHER = 1000
"""Rows that one transaction brings into the newer format."""
FILL = 0.75
"""The share of the map above which the oldest go, whatever ``size`` says.

The rest is what a transaction copies before it changes it: in a full map LMDB can't even delete more than a few rows.
"""


INDEXED = b"indexed"
TOPIC_KEY = 448
"""Bytes of a topic in the index; LMDB's keys have at most 511. Those that share them are told apart by their rows."""

PAGE_BYTES = 4 << 20
"""A page of history ends once it holds so much, however many entries were asked for."""


class BadStore(Exception):
    """The directory can't serve as a log; the text says why, and the way out."""


class Tables(NamedTuple):
    """The sub-databases."""

    updates: lmdb._Database
    ids: lmdb._Database
    keys: lmdb._Database
    nodes: lmdb._Database
    presence: lmdb._Database
    meta: lmdb._Database
    topics: lmdb._Database | None = None
    """Where there is an index of topics."""


def number(value: int) -> bytes:
    """8 bytes whose order is that of the numbers."""
    return value.to_bytes(8)


def digest(text: str) -> bytes:
    """A key of bounded length: LMDB takes at most 511 bytes. Lone surrogates are text as well."""
    return sha256(text.encode(errors="surrogatepass")).digest()


def trim(
    txn: lmdb.Transaction[bytes],
    tables: Tables,
    limit: int,
    *,
    size: int | None,
    before: float | None,
    room: float,
) -> int:
    """Remove at most ``limit`` of the oldest updates, never the newest, and what names them; says how many.

    Delete from the oldest while the log holds more than ``size`` updates, or the oldest was appended before
    ``before`` (milliseconds), or the tables take more than ``room`` bytes.
    """
    oldest = txn.cursor(tables.updates)
    for removed in range(limit):
        entries = txn.stat(tables.updates)["entries"]
        if entries < 2 or not oldest.first():
            return removed
        at, row = oldest.item()
        aged = before is not None and milliseconds_of(row) < before
        if not (aged or (size is not None and entries > size) or used(txn, tables) > room):
            return removed
        _remove(txn, tables, at, row)
    return limit


def used(txn: lmdb.Transaction[bytes], tables: Tables) -> int:
    """Bytes of the pages that all tables take."""
    return sum(size_of(txn, table) for table in tables if table is not None)


def size_of(txn: lmdb.Transaction[bytes], table: lmdb._Database) -> int:
    """Bytes of the pages that one table takes."""
    stat = txn.stat(table)
    return stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])


def _remove(txn: lmdb.Transaction[bytes], tables: Tables, at: bytes, row: bytes) -> None:
    with suppress(ValueError, KeyError, TypeError, struct.error):  # a damaged row names nothing, but goes
        update = rest_of(row)
        txn.delete(digest(update["id"]), at, db=tables.ids)
        if tables.topics is not None:
            for topic in visibility_of(row).topics:
                txn.delete(topic_key(topic), at, db=tables.topics)
        key = update.get("idempotency_key")
        if key and txn.get(digest(key), db=tables.keys) == at:
            txn.delete(digest(key), db=tables.keys)
    txn.delete(at, db=tables.updates)


def topic_key(topic: str) -> bytes:
    """As much of it as a key may have, so that topics that begin alike stand together."""
    return topic.encode(errors="surrogatepass")[:TOPIC_KEY]


def index_of(env: lmdb.Environment, tables: Tables, txn: lmdb.Transaction[bytes] | None = None) -> Tables:
    """With the index of topics, if the file has one: whoever made it, all have to keep it."""
    try:
        return tables._replace(topics=env.open_db(b"topics", txn=txn, create=False, dupsort=True, dupfixed=True))
    except (lmdb.NotFoundError, lmdb.ReadonlyError):
        return tables


def make_index(env: lmdb.Environment, tables: Tables) -> Tables:
    """An index of all the rows that there are, a part in each transaction; one that was interrupted is made anew."""
    with env.begin(write=True) as txn:
        if txn.get(INDEXED, db=tables.meta) is not None:
            return index_of(env, tables, txn)
        tables = tables._replace(topics=env.open_db(b"topics", txn=txn, dupsort=True, dupfixed=True))
    assert tables.topics is not None  # noqa: S101 - it was opened here
    after = 0
    while True:
        with env.begin(write=True) as txn:
            cursor = txn.cursor(tables.updates)
            if not cursor.set_range(number(after + 1)):
                txn.put(INDEXED, b"yes", db=tables.meta)
                return tables
            for at, row in [*islice(cursor.iternext(), _TOGETHER)]:
                with suppress(ValueError, KeyError, TypeError, struct.error):  # a damaged row has no topics
                    for topic in visibility_of(row).topics:
                        txn.put(topic_key(topic), at, db=tables.topics)
                after = int.from_bytes(at)


def tables_of(env: lmdb.Environment, *, index: bool = False) -> Tables:
    """Open the tables, made where the file is new; the index as well, if it is wanted or there. Raises `BadStore`."""
    with env.begin(write=True) as txn:
        ours = not any(txn.cursor()) or txn.get(b"meta") is not None
        if not ours:
            raise BadStore("data.mdb belongs to another program; name another directory")
        meta = env.open_db(b"meta", txn=txn)
        found = txn.get(b"format", db=meta)
        if found not in (None, FORMAT, _FORMAT_1):
            raise BadStore(
                f"written by another version of the hub (format {found!r}, this one knows {FORMAT!r}); "
                "run that version, or name another directory"
            )
        if found is None:  # else nothing is written: a store opens on a full disk too
            txn.put(b"format", FORMAT, db=meta)
        tables = Tables(
            env.open_db(b"updates", txn=txn),
            env.open_db(b"ids", txn=txn, dupsort=True, dupfixed=True),
            env.open_db(b"keys", txn=txn),
            env.open_db(b"nodes", txn=txn),
            env.open_db(b"presence", txn=txn),
            meta,
        )
    if found == _FORMAT_1:
        _migrate(env, tables)
    return make_index(env, tables) if index else index_of(env, tables)


def _migrate(env: lmdb.Environment, tables: Tables) -> None:
    """Bring each row into the newer format, a part in each transaction; one that was interrupted goes on.

    A row of format 1 says so itself: JSON begins where one of format 2 has the length of less than 2 GB.
    """
    after = 0
    while True:
        with env.begin(write=True) as txn:
            cursor = txn.cursor(tables.updates)
            if not cursor.set_range(number(after + 1)):
                txn.put(b"format", FORMAT, db=tables.meta)
                return
            for at, row in [*islice(cursor.iternext(), _TOGETHER)]:
                if row[8:9] == b"{":
                    txn.put(at, row_of(Update.from_json(row[8:]), milliseconds_of(row)), db=tables.updates)
                after = int.from_bytes(at)


def newest(txn: lmdb.Transaction[bytes], tables: Tables) -> Position:
    """The last position given out; 0 if none was."""
    cursor = txn.cursor(tables.updates)
    return int.from_bytes(cursor.key()) if cursor.last() else 0


def rows_from(cursor: lmdb.Cursor[bytes], limit: int, size: int = PAGE_BYTES) -> list[bytes]:
    """At most ``limit`` rows from where the cursor stands, and no more than ``size`` bytes and one row."""
    rows: list[bytes] = []
    for row in cursor.iternext(keys=False, values=True):
        rows.append(row)
        size -= len(row)
        if size <= 0 or len(rows) >= limit:
            break
    return rows


def identity(directory: Path) -> tuple[int, int] | None:
    """Device and inode of the directory's file; None if it is gone."""
    try:
        found = os.stat(directory / DATA)
    except OSError:
        return None
    return found.st_dev, found.st_ino
