"""Bolt files that the real library has written are read; damaged ones end in one sentence."""

import asyncio
import fcntl
import gzip
import os
import random
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hub.cli.commands import main
from hub.migration.bolt import InvalidBolt, opened
from hub.migration.history import update_of, updates_in
from hub.portable import import_updates
from tests.e2e.processes import Hubs, Receipt, replay
from tests.hub.cli.test_commands import run
from tests.needs import needs
from transports import Transport, Update, open_transport

HERE = Path(__file__).parent
MANY = 10_000
ROUNDS = 400


def expected(number: int) -> Update:
    """What the writer has put there."""
    data = "line\n" * (number % 100) + str(number) if number % 1000 != 999 else "large " * 5000
    topics = (f"https://example.com/books/{number % 10}", "https://example.com/é")
    special: dict[str, Any] = {"type": "price", "retry": number or None} if number % 7 == 0 else {}
    return Update(f"urn:uuid:{number:08}", topics, data, number % 3 == 0, **special)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """300 updates, written by go.etcd.io/bbolt 1.3.7."""
    (tmp_path / "small.db").write_bytes(gzip.decompress((HERE / "small.db.gz").read_bytes()))
    return tmp_path / "small.db"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 updates, written now by the library itself."""
    needs("go")
    folder = tmp_path_factory.mktemp("bolt")
    command = ["go", "build", "-o", str(folder / "writer"), "."]
    subprocess.run(command, cwd=HERE / "writer", check=True, env={**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false"})
    subprocess.run([folder / "writer", folder / "mercure.db", str(MANY)], check=True)
    return folder / "mercure.db"


def updates(path: Path) -> list[Update | None]:
    with opened(path) as file:
        return [update_of(key, value) for key, value in file.pairs("updates")]


def test_a_file_is_read_in_order(small: Path) -> None:
    """Every update with its fields, in the order in which it was published."""
    assert updates(small) == [expected(number) for number in range(300)]


@pytest.mark.timeout(300)
def test_a_large_file_is_read_in_order(large: Path) -> None:
    """A tree of several levels, and values that take more than a page."""
    assert updates(large) == [expected(number) for number in range(MANY)]


@pytest.mark.timeout(300)
async def test_an_old_id_is_a_place_in_the_history(large: Path, hubs: Hubs, tmp_path: Path) -> None:
    """10,000 updates go into LMDB in their order; a subscriber that comes back with an old id gets what follows it."""
    store = ("--bolt", str(large), "--transport-url", f"lmdb://{tmp_path}/hub")
    result = await asyncio.to_thread(run, "import", *store)
    assert result.stdout == f"{MANY} imported, 0 were there, 0 are no updates\n"
    assert (await asyncio.to_thread(run, "import", *store)).stdout.startswith("0 imported")
    address = await hubs.start(f"lmdb://{tmp_path}/hub").listening()
    public = [number for number in range(MANY) if number % 3 and number % 10 == 1]
    receipts = [Receipt("", f"urn:uuid:{number:08}", 0, 0, address) for number in public]
    history = await replay(address, receipts)
    assert [event.id for event in history] == [receipt.id for receipt in receipts]
    later = await replay(address, receipts[-1:], after=receipts[100].id)
    assert [event.id for event in later] == [receipt.id for receipt in receipts[101:]]


async def imported(transport: Transport, path: Path) -> tuple[int, int, int]:
    return await import_updates(updates_in(path), transport)


async def test_an_import_is_repeated_safely(small: Path) -> None:
    """What is there is left out, so that one that was interrupted can be done again."""
    transport = open_transport("memory://")
    await transport.open()
    for number in range(0, 300, 2):
        await transport.append(expected(number))
    assert await imported(transport, small) == (150, 150, 0)
    assert await imported(transport, small) == (0, 300, 0)
    await transport.close()


def test_a_file_in_use_is_refused(small: Path) -> None:
    """The Go hub holds its file's lock for life: what is being written is not read."""
    with small.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(InvalidBolt, match="is in use"), opened(small):
            pass


def test_a_torn_meta_page_has_a_twin(small: Path) -> None:
    """The page that was written last may be torn by a crash: the other one counts, with what it knows."""
    whole = small.read_bytes()
    for page in (0, 4096):
        small.write_bytes(whole[: page + 30] + b"\xff" * 20 + whole[page + 50 :])
        found = updates(small)
        assert len(found) >= 250
        assert found == [expected(number) for number in range(len(found))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a Bolt file"), (b"x" * 9000, "not a Bolt file"), (b"\0" * 65536, "not a Bolt file")],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """Its name is in the sentence."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidBolt, match=reason):
        updates(tmp_path / "file")


def test_a_missing_bucket_is_named(small: Path) -> None:
    """``bucket_name`` may have been another."""
    with pytest.raises(InvalidBolt, match="has no bucket 'other'"), opened(small) as file:
        list(file.pairs("other"))


def test_a_damaged_file_ends_in_one_sentence(small: Path) -> None:
    """Whatever stands in its pages: what could be read, or `InvalidBolt`; never another error, never without end."""
    random.seed(20261126)
    whole = small.read_bytes()
    for _ in range(ROUNDS):
        damaged = bytearray(whole[: random.choice([len(whole), random.randrange(len(whole))])])
        for _ in range(random.randrange(1, 30)):
            if damaged:
                at = random.choice([random.randrange(len(damaged)), random.randrange(0, len(damaged), 4096)])
                damaged[at : at + random.randrange(1, 9)] = random.randbytes(random.randrange(1, 9))
        small.write_bytes(damaged)
        with suppress(InvalidBolt):
            assert len(updates(small)) < 10_000


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"[]", b"null", b'{"Topics": []}', b'{"Topics": "x"}', b'{"Topics": [1]}', b"[" * 5000, b"\xff",
     b'{"Topics": ["a"], "Data": 1}', b'{"Topics": ["a"], "Private": "x"}', b'{"Topics": ["a"], "Retry": "1"}'],
)  # fmt: skip
def test_what_is_no_update_is_passed_over(value: bytes) -> None:
    """Somebody else's pairs are counted, and nothing is made of them."""
    assert update_of(b"\0" * 8 + b"id", value) is None or value == b'{"Topics": "x"}'


def test_an_update_of_an_old_hub() -> None:
    """What a field lacks is empty; the id stands in the key too."""
    assert update_of(b"\0" * 8 + b"id", b'{"Topics": ["a"]}') == Update("id", ("a",))


def test_the_command_says_what_is_wrong(small: Path) -> None:
    """A file or a store that can't be used is one line and exit code 2."""
    assert main.commands["import"].help
    for arguments, said in (
        (("--bolt", "/none", "--transport-url", "memory://"), "/none cannot be read"),
        (("--bolt", str(small), "--transport-url", "bogus://"), "unknown scheme"),
        (("--bolt", str(small), "--bucket", "x", "--transport-url", "memory://"), "has no bucket 'x'"),
    ):
        result = run("import", *arguments)
        assert result.exit_code == 2
        assert said in result.stderr
