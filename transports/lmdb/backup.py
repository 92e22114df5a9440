"""A directory that holds the same entries as another one, at the same positions: made from outside, row by row.

The directory appears under its name once it is whole, so that a copy which was killed is none.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import lmdb

from transports.contract import Dated, InvalidTransport
from transports.lmdb.environment import Environment, Options
from transports.lmdb.rows import row_of
from transports.lmdb.tables import digest, number

TOGETHER = 1000
SMALLEST_MAP = 1 << 30
"""Bytes of the map of a copy, until they do not suffice."""
PART = ".part"
"""What the name ends in until the copy is whole."""


def restore(directory: Path, entries: Iterable[Dated]) -> int:
    """Write the entries, in their order, to a new directory that ``lmdb://`` can open; how many there are.

    Raises `InvalidTransport`: there is a directory of that name, or it can't be made.
    """
    url = f"lmdb://{directory}"
    if directory.exists():
        raise InvalidTransport(url, "it is there already; name another directory, or move it away")
    part = directory.with_name(directory.name + PART)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        count = _fill(part, iter(entries))
        os.rename(part, directory)
    except OSError as error:
        raise InvalidTransport(url, f"it can't be made: {error.strerror}") from None
    return count


def _fill(directory: Path, entries: Iterator[Dated]) -> int:
    map_size = SMALLEST_MAP
    environment = Environment(directory, Options(map_size=map_size))
    environment.open()
    count = 0
    try:
        while batch := list(islice(entries, TOGETHER)):
            try:
                _put(environment, batch)
            except lmdb.MapFullError:
                # Nobody knows beforehand how much there is.
                environment.close()
                map_size *= 4
                environment = Environment(directory, Options(map_size=map_size))
                environment.open()
                _put(environment, batch)
            count += len(batch)
    finally:
        environment.close()
    return count


def _put(environment: Environment, batch: Iterable[Dated]) -> None:
    with environment.transaction(write=True) as txn:
        tables = environment.tables
        for (position, update), time in batch:
            at = number(position)
            txn.put(at, row_of(update, round(1000 * (time or 0))), db=tables.updates, append=True)
            txn.put(digest(update.id), at, db=tables.ids)
            if update.idempotency_key:
                txn.put(digest(update.idempotency_key), at, db=tables.keys, overwrite=False)
