"""Histories out of a store or a running hub, into a store or a directory; with a bar on a terminal."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

import click

from hub.client import client
from hub.migration.history import updates_in as updates_in_bolt
from hub.portable import Imported, dated_from, import_updates, updates_in
from hub.portable import exported as lines_of
from transports import Dated, InvalidTransport, Transport, Update, open_transport


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    """A transport, opened and closed again."""
    transport = open_transport(url)
    try:
        await transport.open()
        yield transport
    finally:
        await transport.close()


def exported(admin: str, url: str | None, after: str | None) -> Iterator[bytes]:
    """The lines of a history, in parts; from the store at ``url``, or else from the hub at ``admin``."""
    if url is None:
        yield from client.stream(f"{admin}/export{f'?after={quote(after)}' if after else ''}")
        return
    with asyncio.Runner() as runner:
        parts = of_store(url, after)
        while part := runner.run(anext(parts, b"")):
            yield part


async def of_store(url: str, after: str | None) -> AsyncIterator[bytes]:
    """The same lines, asynchronously."""
    async with opened(url) as transport:
        async for part in lines_of(transport, after):
            yield part


def updates_of(file: IO[bytes], bolt: str | None, bucket: str) -> Iterable[Update | None]:
    """The updates of a Bolt file, or of lines."""
    return updates_in_bolt(Path(bolt), bucket) if bolt else updates_in(file)


def imported(url: str, updates: Iterable[Update | None]) -> Imported:
    """Append the updates to the store at ``url``; how many there are is shown on a terminal meanwhile."""
    hidden = not sys.stderr.isatty()

    async def run() -> Imported:
        async with opened(url) as transport:
            bar = click.progressbar(length=0, label="updates", show_pos=True, file=sys.stderr, hidden=hidden)
            with bar:
                return await import_updates(updates, transport, lambda count: bar.update(count - bar.pos))

    return asyncio.run(run())


def backed_up(directory: str, admin: str, url: str | None) -> int:
    """Copy a history to a new directory; how many updates it has. Raises `InvalidTransport`."""
    if os.path.lexists(directory):
        raise InvalidTransport(f"lmdb://{directory}", "it is there already; name another directory, or move it away")
    from transports.lmdb.backup import restore

    return restore(Path(directory).absolute(), _dated(exported(admin, url, None)))


def _dated(parts: Iterable[bytes]) -> Iterator[Dated]:
    rest, number = b"", 0
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            number += 1
            if line:
                yield dated_from(line, number)
