"""Histories in hand: export, import and backup of stores and of running hubs, under load and killed in the middle."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import IO, Any

import pytest

from hub.portable import dated_from, line_of
from tests.e2e.processes import (
    ROOT,
    Address,
    Hub,
    Hubs,
    Publisher,
    check_order,
    free_port,
    receipts_of,
    replay,
    running,
    until,
)
from tests.hub.cli.test_commands import run
from tests.transports.postgresql import Postgres
from tests.transports.valkey import Valkey
from transports import Dated, Entry, Update, open_transport

MANY = 3000
COMMAND = [sys.executable, "-c", "from hub.cli.commands import main; main()"]


def an_update(number: int) -> Update:
    """With everything that an update can have, now and then."""
    more: dict[str, Any] = {"type": "price", "retry": number + 1} if number % 5 == 0 else {}
    more |= {"idempotency_key": f"key {number}", "fingerprint": f"print {number}"} if number % 7 == 0 else {}
    data = "\r\nline\u2028 é" * (number % 9)
    return Update(
        f"urn:example:{number}", ("https://example.com/books/1", f"é{number % 3}"), data, number % 2 == 0, **more
    )


async def filled(url: str, count: int) -> None:
    transport = open_transport(url)
    await transport.open()
    await asyncio.gather(*(transport.append(an_update(number)) for number in range(count)))
    await transport.close()


async def content(url: str) -> list[Dated]:
    """Everything that a store holds, with its times."""
    transport = open_transport(url)
    await transport.open()
    found: list[Dated] = []
    while page := await transport.dated(found[-1].entry.position if found else 0, 1000):
        found += page
    await transport.close()
    return found


async def command(*arguments: str, stdin: bytes | None = None, **environment: str) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), **environment},
    )
    out, err = await process.communicate(stdin)
    return int(process.returncode or 0), out, err


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *((source, target) for source in ("lmdb", "redis") for target in ("lmdb", "shared", "redis")),
        *(("lmdb", "postgresql"), ("postgresql", "lmdb")),
    ],
)
async def test_from_any_store_into_any_other(
    tmp_path: Path, request: pytest.FixtureRequest, source: str, target: str
) -> None:
    """What one holds the other holds afterwards, in the same order: ids, topics, data, privacy, types, keys."""
    ends = {
        "lmdb": f"lmdb://{tmp_path}/{{}}",
        "shared": f"lmdb://{tmp_path}/{{}}?lock=shared",
    }
    if "redis" in (source, target):
        valkey: Valkey = request.getfixturevalue("valkey")
        ends["redis"] = f"{valkey.url()}?prefix={{}}"
    if "postgresql" in (source, target):
        postgres: Postgres = request.getfixturevalue("postgres")
        ends["postgresql"] = f"{postgres.url()}?schema=log_{{}}"
    begin, end = ends[source].format("from"), ends[target].format("to")
    await filled(begin, 300)
    code, lines, said = await command("export", "--transport-url", begin)
    assert (code, said) == (0, b"")
    assert len(lines.splitlines()) == 300
    code, told, said = await command("import", "-", "--transport-url", end, stdin=lines)
    assert (code, told) == (0, b"300 imported, 0 were there, 0 are no updates\n"), said
    assert [each.entry.update for each in await content(end)] == [an_update(number) for number in range(300)]
    assert (await command("import", "--transport-url", end, stdin=lines))[1].startswith(b"0 imported, 300 were")


def kill(*arguments: str, stdout: IO[bytes] | int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """A command that will be killed."""
    return subprocess.Popen([*COMMAND, *arguments], stdout=stdout, cwd=ROOT)


async def start(hubs: Hubs, store: str) -> tuple[Hub, Address, str]:
    port = free_port()
    hub = hubs.start(store, "--admin-listen", f"127.0.0.1:{port}", "--drain", "100ms")
    return hub, await hub.listening(), f"127.0.0.1:{port}"


@pytest.mark.parametrize("store", ["lmdb://store", "memory://", "lmdb://store?lock=shared"])
async def test_a_running_hub_is_backed_up_under_load(hubs: Hubs, tmp_path: Path, store: str) -> None:
    """What was there at the begin is in the copy, at its positions, byte for byte; the hub goes on meanwhile."""
    hub, address, admin = await start(hubs, store)
    publishers = [Publisher(f"publisher {n}", [address]) for n in range(8)]
    async with running(*(each.publish() for each in publishers)):
        await until(lambda: len(receipts_of(publishers)) > 500)
        before = {receipt.id for receipt in receipts_of(publishers)}
        copy = tmp_path / "copy"
        code, told, said = await command("backup", str(copy), "--listen", admin)
        assert code == 0, said
        after = len(receipts_of(publishers))
        await until(lambda: len(receipts_of(publishers)) > after + 100)
    copied = await content(f"lmdb://{copy}")
    assert told == f"{len(copied)} updates are in {copy}\n".encode()
    assert before <= {each.entry.update.id for each in copied}
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    if store != "memory://":
        original = await content(store.replace("lmdb://", f"lmdb://{tmp_path}/"))
        assert original[: len(copied)] == copied
    serving, address, _ = await start(hubs, f"lmdb://{copy}")
    copies = [receipt for receipt in receipts_of(publishers) if receipt.id in before]
    check_order(await replay(address, copies), copies)
    assert serving.running


async def test_an_export_that_was_killed_goes_on(hubs: Hubs, tmp_path: Path) -> None:
    """--after the last whole line of what was written: the parts together are the whole, once and in order."""
    await filled(f"lmdb://{tmp_path}/store", MANY)
    _, _, admin = await start(hubs, "lmdb://store")
    part = tmp_path / "part"
    with part.open("wb") as file:
        process = kill("export", "--listen", admin, stdout=file)
        await until(lambda: part.stat().st_size > 20_000)
        process.send_signal(SIGKILL)
        process.wait()
    whole = part.read_bytes().rpartition(b"\n")[0].splitlines()
    last = json.loads(whole[-1])["id"]
    code, rest, said = await command("export", "--listen", admin, "--after", last)
    assert code == 0, said
    ids = [json.loads(line)["id"] for line in [*whole, *rest.splitlines()]]
    assert ids == [an_update(number).id for number in range(MANY)]
    code, _, said = await command("export", "--listen", admin, "--after", "urn:none")
    assert code == 1
    assert b"has no event" in said


async def test_an_import_that_was_killed_is_repeated(tmp_path: Path) -> None:
    """What is there is left out: in the end the store has each update once, in order."""
    lines = b"".join(line_of(Dated(Entry(n + 1, an_update(n)), None)) for n in range(MANY))
    (tmp_path / "lines").write_bytes(lines)
    url = f"lmdb://{tmp_path}/to"
    arguments = ["import", str(tmp_path / "lines"), "--transport-url", url]
    process = kill(*arguments)
    data = tmp_path / "to" / "data.mdb"
    await until(lambda: (data.exists() and data.stat().st_size > 200_000) or process.poll() is not None)
    process.send_signal(SIGKILL)
    process.wait()
    code, _, said = await command(*arguments)
    assert code == 0, said
    assert [each.entry.update.id for each in await content(url)] == [an_update(n).id for n in range(MANY)]


async def test_a_backup_that_was_killed_is_none(hubs: Hubs, tmp_path: Path) -> None:
    """The directory is there only once it is whole; the next try makes it."""
    await filled(f"lmdb://{tmp_path}/store", MANY)
    _, _, admin = await start(hubs, "lmdb://store")
    copy, part = tmp_path / "copy", tmp_path / "copy.part"
    process = kill("backup", str(copy), "--listen", admin)
    await until(part.exists)
    process.send_signal(SIGKILL)
    process.wait()
    assert not copy.exists()
    code, told, _ = await command("backup", str(copy), "--listen", admin)
    assert (code, told) == (0, f"{MANY} updates are in {copy}\n".encode())
    assert not part.exists()
    code, _, said = await command("backup", str(copy), "--listen", admin)
    assert code == 2
    assert b"it is there already" in said


@pytest.mark.parametrize(
    "line", ["{}", "[]", "x", '{"id": "a"}', '{"id": "a", "topics": []}', '{"id": 1, "topics": ["a"]}', "[" * 9999]
)
def test_what_is_no_update_ends_the_import(line: str) -> None:
    """The line is named by its number, and not shown: it may hold somebody's data."""
    result = run("import", "-", "--transport-url", "memory://", stdin=f'{{"id": "a", "topics": ["a"]}}\n\n{line}\n')
    assert result.exit_code == 2
    assert "line 3 is no update" in result.stderr


def test_a_line_is_an_entry() -> None:
    """There and back again, with everything that it can have."""
    for number in range(70):
        dated = Dated(Entry(number + 1, an_update(number)), None if number % 2 else 1.5 * number)
        assert dated_from(line_of(dated), 1) == dated
