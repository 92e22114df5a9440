"""A directory that an older version has written is brought into the newer format, and nothing of it is lost."""

import gzip
from pathlib import Path
from typing import Any

import lmdb
import pytest

from transports import InvalidTransport, Update, open_transport
from transports.lmdb import tables
from transports.lmdb.rows import row_of

OLD = Path(__file__).parent / "format-1.mdb.gz"
"""60 updates, written by version 0.1 as it was on 23 November 2026."""


def an_update(number: int) -> Update:
    more: dict[str, Any] = {"type": "price", "retry": number + 1} if number % 5 == 0 else {}
    more |= {"idempotency_key": f"key {number}", "fingerprint": f"print {number}"} if number % 7 == 0 else {}
    topics = ("https://example.com/books/1", f"é{number % 3}")
    return Update(f"urn:example:{number}", topics, "\r\nline\u2028 é" * (number % 9), number % 2 == 0, **more)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "data.mdb").write_bytes(gzip.decompress(OLD.read_bytes()))
    return tmp_path / "hub"


@pytest.mark.parametrize("lock", ["", "?lock=shared"])
async def test_version_0_1_is_read(store: Path, lock: str) -> None:
    """Every update with all that it has, at its place; its ids and keys are known, and what is new follows it."""
    for _ in range(2):
        transport = open_transport(f"lmdb://{store}{lock}")
        await transport.open()
        found = [each.update for each in await transport.read(0, 100)]
        assert found[:60] == [an_update(number) for number in range(60)]
        assert await transport.position_of("urn:example:41") == 42
        repeated = await transport.append(an_update(7))
        assert (repeated.position, repeated.repeated) == (8, True)
        page = await transport.page(0, 100, 1 << 20)
        assert page.events[:60] == [an_update(number).to_event() for number in range(60)]
        dated = await transport.dated(0, 1)
        assert 1.76e9 < (dated[0].time or 0) < 1.9e9
        await transport.append(an_update(61))
        await transport.close()


async def test_a_migration_that_was_interrupted_goes_on(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows say themselves which format they have: some may be new already."""
    monkeypatch.setattr(tables, "_TOGETHER", 7)
    environment = lmdb.open(str(store), max_dbs=8, lock=False)
    calls = 0

    def put(self: Update, milliseconds: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return row_of(self, milliseconds)

    monkeypatch.setattr(tables, "row_of", put)
    with pytest.raises(KeyboardInterrupt):
        tables.tables_of(environment)
    environment.close()
    monkeypatch.setattr(tables, "row_of", row_of)
    transport = open_transport(f"lmdb://{store}")
    await transport.open()
    assert [each.update for each in await transport.read(0, 100)] == [an_update(number) for number in range(60)]
    await transport.close()


async def test_a_newer_format_is_refused(store: Path) -> None:
    """It ends the start with a sentence, and changes nothing."""
    with lmdb.open(str(store), max_dbs=8, lock=False) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as txn:
            txn.put(b"format", b"3", db=meta)
    with pytest.raises(InvalidTransport, match="written by another version of the hub"):
        await open_transport(f"lmdb://{store}").open()
