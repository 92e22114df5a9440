"""What the log in PostgreSQL promises beyond the contract: outages, other programs, and a database that has changed."""

import asyncio
import json
import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

import transports.postgres.server
import transports.postgres.transport
from tests.authority import Authority
from tests.transports.outages import Opened, next_batch, recovered, refused, unavailable
from tests.transports.postgresql import OWNER, Pair, Pooler, Postgres, a_schema
from tests.transports.proxy import Proxy
from tests.volumes import fill_up, small_volume
from transports import Entry, HistoryTrimmed, Receipt, Transport, TransportFull
from transports.postgres.server import SESSION
from transports.postgres.transport import PostgresTransport
from transports.postgres.url import Parameters
from transports.testing.suite import DEADLINE, TOPICS, an_update, collect, fill, ids, waiting


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of the test's own, which it may stop."""
    with Postgres() as server:
        yield server


@pytest.fixture
def schema() -> str:
    return a_schema()


@pytest.fixture
def url(postgres: Postgres, schema: str) -> str:
    return postgres.url(schema=schema)


@pytest.fixture
async def transport(url: str, opened: Opened) -> Transport:
    return await opened(url)


def through(proxy: Proxy, **parameters: object) -> str:
    query = "".join(f"&{name}={value}" for name, value in parameters.items())
    return f"postgresql://hub@127.0.0.1:{proxy.port}/postgres?sslmode=disable{query}"


async def test_any_program_can_read(postgres: Postgres, transport: Transport, schema: str) -> None:
    """A row has the position in microseconds, the one before it, a number, and the update as JSON."""
    first = await transport.append(an_update(1, data="é\0"))
    second = await transport.append(an_update(2))
    rows = await postgres.ask(f"SELECT * FROM {schema}.updates ORDER BY position")
    assert [row["position"] for row in rows] == [first.position, second.position]
    assert [(row["previous"], row["number"]) for row in rows] == [(0, 1), (first.position, 2)]
    assert json.loads(rows[0]["update"]) == {"id": first.id, "topics": [*TOPICS], "data": "é\0", "private": False}


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        "[" * 100_000,
        "{}",
        '{"id":"","topics":["t"]}',
        '{"id":"a","topics":[]}',
        '{"id":"a\\nb","topics":["t"]}',
    ],
    ids=lambda text: str(text)[:20],
)
async def test_what_is_no_update(
    postgres: Postgres, transport: Transport, schema: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that is no update is skipped by all, and said once, without what is in it."""
    first = await transport.append(an_update(1))
    for n in (1, 2, 3):
        await postgres.ask(
            f"INSERT INTO {schema}.updates VALUES ($1, $2, $3, 'x', NULL, $4)",
            *(first.position + n, first.position + n - 1, n + 1, text),
        )
    assert await transport.read(first.position, 1) == []
    await transport.append(an_update(2))
    assert ids(await collect(transport, 0, 2)) == ["urn:uuid:1", "urn:uuid:2"]
    assert ids(await collect(transport, first.position, 1)) == ["urn:uuid:2"]
    assert len([record for record in caplog.records if "is no update" in record.message]) == 1


async def test_old_entries_go(postgres: Postgres, opened: Opened, schema: str) -> None:
    """What is older than the ttl goes with the next append, and what is young stays."""
    url = postgres.url(schema=schema, ttl="1h")
    await fill(await opened(url), range(3))
    await postgres.ask(f"UPDATE {schema}.updates SET position = position - 3600000000 WHERE number < 3")
    transport = await opened(url)
    await transport.append(an_update("new"))
    assert ids(await transport.read(0, 10)) == ["urn:uuid:2", "urn:uuid:new"]


async def test_a_smaller_size_is_reached_in_steps(postgres: Postgres, opened: Opened, schema: str) -> None:
    """A log that is far too long loses at most a thousand and some entries with each append, and all that name them."""
    many = await opened(postgres.url(schema=schema))
    for start in range(0, 3000, 500):
        await asyncio.gather(*(many.append(an_update(n, idempotency_key=str(n))) for n in range(start, start + 500)))
    few = await opened(postgres.url(schema=schema, size=10))
    await few.append(an_update("a"))
    assert 1900 < ((await few.history()).entries or 0) < 3000
    for name in "bcd":
        await few.append(an_update(name))
    assert (await few.history()).entries == 10
    assert (await postgres.ask(f"SELECT count(*) FROM {schema}.updates"))[0][0] == 10
    assert await few.position_of("urn:uuid:0") is None


async def test_pages_are_bounded_in_bytes(url: str, opened: Opened) -> None:
    """A page of large updates ends early, with at least one, and the next goes on from there; one of a topic too."""
    transport = await opened(f"{url}&index=topics")
    receipts = [await transport.append(an_update(n, data="x" * (3 << 20))) for n in range(5)]
    pages = [await transport.read(0, 100)]
    while page := await transport.read(pages[-1][-1].position, 100):
        pages.append(page)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [entry.position for page in pages for entry in page] == [receipt.position for receipt in receipts]
    async with asyncio.timeout(DEADLINE):
        while transport.index is None:
            await asyncio.sleep(0.01)
    found = await transport.index.page_of(TOPICS[:1], 0, 100, 4 << 20)
    assert [*found.positions] == [receipt.position for receipt in receipts[:2]]
    assert found.reached == receipts[1].position
    assert (await transport.index.page_of(TOPICS[:1], receipts[3].position, 100, 1)).reached == receipts[4].position


async def test_what_a_history_tells(transport: Transport) -> None:
    """Entries, bytes, the time of the oldest, and the ids at both ends."""
    assert (await transport.history())[:1] == (0,)
    first, *_, last = await fill(transport, range(5))
    history = await transport.history()
    assert (history.entries, history.oldest_id, history.newest_id) == (5, first.id, last.id)
    assert history.bytes
    assert history.oldest == first.position / 1_000_000
    assert (history.waiting, history.waiting_seconds) == (0, None)


async def test_trimmed_by_a_stranger(postgres: Postgres, transport: Transport, schema: str) -> None:
    """Whatever trimmed the table, a cursor before the first entry left gets `HistoryTrimmed`."""
    first, *_, newest = await fill(transport, range(5))
    await postgres.ask(f"DELETE FROM {schema}.updates WHERE number < 4")
    for use in (transport.read(first.position, 1), anext(transport.tail(first.position))):
        with pytest.raises(HistoryTrimmed):
            await use
    assert await transport.read(newest.position, 1) == []


@pytest.mark.parametrize("later", ["nothing", "another entry"])
async def test_an_older_state(
    postgres: Postgres, transport: Transport, schema: str, later: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail learns that the newest entries are gone, as after a failover or a restored backup, whatever came since."""
    monkeypatch.setattr(transports.postgres.transport, "BLOCK", 0.05)
    *_, newest = await fill(transport, range(3))
    task = await waiting(transport, newest.position)
    await postgres.ask(f"DELETE FROM {schema}.updates WHERE number > 2")
    if later != "nothing":
        await transport.append(an_update("another"))
    with pytest.raises(HistoryTrimmed):
        await asyncio.wait_for(task, DEADLINE)
    with pytest.raises(HistoryTrimmed):
        await next_batch(transport, newest.position)


async def test_tables_that_are_dropped(postgres: Postgres, transport: Transport, schema: str) -> None:
    """They are made anew; a tail is told that what it stood in is gone."""
    newest = await transport.append(an_update(1))
    task = await waiting(transport, newest.position)
    await postgres.ask(f"DROP SCHEMA {schema} CASCADE")
    await unavailable(transport.append(an_update(2)))
    await recovered(transport)
    assert ids(await transport.read(0, 10)) == ["urn:uuid:back"]
    with suppress(transports.TransportUnavailable), pytest.raises(HistoryTrimmed):
        await asyncio.wait_for(task, DEADLINE)


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["crash", "fast"])
async def test_an_outage(server: Postgres, opened: Opened, how: signal.Signals) -> None:
    """Everything says so at once while the server is gone; a second after its return all goes on, cursors too."""
    transport, other = await opened(server.url()), await opened(server.url())
    first = await transport.append(an_update(1))
    tail = await waiting(transport, first.position)
    await asyncio.to_thread(server.stop, how)
    uses = (transport.append(an_update(2)), transport.read(0, 1), transport.last(), transport.check(), tail)
    for error in await asyncio.gather(*map(unavailable, (*uses, anext(transport.tail(first.position))))):
        assert error.__cause__ is not None
    await asyncio.to_thread(server.start)
    written = await other.append(an_update("meanwhile"))
    await recovered(transport)
    assert ids(await collect(transport, first.position, 2)) == [written.id, "urn:uuid:back"]


async def test_a_server_that_hangs(server: Postgres, opened: Opened) -> None:
    """A server that stands still is not waited for; once it goes on, so does everything."""
    transport = await opened(server.url())
    await transport.append(an_update(1))
    server.stand_still()
    try:
        uses = [transport.append(an_update(n)) for n in range(2, 600)]
        await asyncio.gather(*map(unavailable, [*uses, transport.read(0, 1), transport.check()]))
    finally:
        server.go_on()
    await recovered(transport, within=3)


async def test_a_half_open_connection(postgres: Postgres, opened: Opened, schema: str) -> None:
    """What passes nothing any more is not waited for; a tail goes on with what came meanwhile."""
    async with Proxy(postgres) as proxy:
        transport, other = await opened(through(proxy, schema=schema)), await opened(postgres.url(schema=schema))
        first = await transport.append(an_update(1))
        tail = await waiting(transport, first.position)
        proxy.silent = True
        uses = [transport.append(an_update(n)) for n in range(2, 600)]
        await asyncio.gather(*map(unavailable, [*uses, transport.read(0, 1), transport.check(), tail]))
        written = await other.append(an_update("meanwhile"))
        proxy.silent = False
        await recovered(transport)
        assert ids(await collect(transport, first.position, 2)) == [written.id, "urn:uuid:back"]
        await transport.close()


async def test_a_start_without_a_server(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """`open` does not wait for a server that is not there yet; once it is, the tables are made and the log is ready."""
    server = Postgres()
    transport = await opened(server.url())
    assert "not there yet" in caplog.text
    await unavailable(transport.check())
    with server:
        await transport.check()
        await recovered(transport)


async def test_a_lost_reply(postgres: Postgres, opened: Opened, schema: str) -> None:
    """An append whose reply is lost is looked for, found, and there once; so are those that went with it."""
    async with Proxy(postgres) as proxy:
        transport = await opened(through(proxy, schema=schema))
        first = await transport.append(an_update(1))
        proxy.losing = True
        updates = [an_update(n, idempotency_key=f"k{n}" if n % 2 else None) for n in range(2, 20)]
        receipts = await asyncio.gather(*map(transport.append, updates))
        assert not proxy.losing
        entries = await collect(transport, first.position, len(updates))
        assert [(entry.position, entry.update.id) for entry in entries] == [(r.position, r.id) for r in receipts]
        await transport.close()


async def test_an_append_that_is_refused(postgres: Postgres, transport: Transport, schema: str) -> None:
    """An append that the server refuses is not there, and is not sent again; the next one finds the way."""
    first = await transport.append(an_update(1))
    await postgres.ask(f"ALTER FUNCTION {schema}.append RENAME TO gone")
    await unavailable(transport.append(an_update(2)))
    await postgres.ask(f"ALTER FUNCTION {schema}.gone RENAME TO append")
    await recovered(transport)
    assert ids(await collect(transport, first.position, 1)) == ["urn:uuid:back"]


async def test_sessions_that_are_terminated(postgres: Postgres, transport: Transport, schema: str) -> None:
    """A server that ends all sessions costs nobody more than one answer, and a tail nothing."""
    first = await transport.append(an_update(1))
    tail = await waiting(transport, first.position)
    await postgres.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mercure-hub'"
        " AND query LIKE '%' || $1 || '%'",
        schema,
    )
    receipt = await recovered(transport)
    with suppress(transports.TransportUnavailable):
        assert ids(await asyncio.wait_for(tail, DEADLINE)) == [receipt.id]
    assert ids(await collect(transport, first.position, 1)) == [receipt.id]


async def test_too_many_connections(server: Postgres, opened: Opened) -> None:
    """A server that takes no more connections is one that is away, and says why."""
    transport = await opened(server.url())
    connections: list[Any] = []
    with suppress(Exception):
        while len(connections) < 200:
            connections.append(await server.connect())
    assert "too many clients" in str(await unavailable(transport.append(an_update(1))))
    for connection in connections:
        await connection.close()
    await recovered(transport)


async def test_a_server_that_takes_no_writes(server: Postgres, opened: Opened) -> None:
    """A server that has become read-only does not answer for the log; once it takes writes again, it does."""
    transport = await opened(server.url())
    await transport.append(an_update(1))
    await server.ask("ALTER SYSTEM SET default_transaction_read_only = on")
    await server.ask("SELECT pg_reload_conf()")
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await transport.append(an_update(2))
            except transports.TransportUnavailable:
                break
    await unavailable(transport.check())
    await server.ask("ALTER SYSTEM RESET default_transaction_read_only")
    await server.ask("SELECT pg_reload_conf()")
    await recovered(transport, within=3)


async def test_whoever_holds_the_lock(postgres: Postgres, transport: Transport, schema: str) -> None:
    """An append that can't have the lock says so, and is not stored later."""
    await transport.append(an_update(1))
    connection = await postgres.connect()
    async with connection.transaction():
        await connection.execute(f"SELECT {schema}.lock_log()")
        await unavailable(transport.append(an_update(2)))
    await connection.close()
    await recovered(transport)
    assert ids(await transport.read(0, 10)) == ["urn:uuid:1", "urn:uuid:back"]


async def test_a_password(server: Postgres, opened: Opened, tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password ends the start, a right one opens, also from a file; neither is shown."""
    await server.run_sql("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'top/secret'")
    (server.data / "pg_hba.conf").write_text(
        "host all app 127.0.0.1/32 scram-sha-256\nlocal all all trust\nhost all hub all trust\n"
    )
    await server.ask("SELECT pg_reload_conf()")
    for login in ("app", "app:guess", "app:top%2Fsecre"):
        text = await refused(server.url(login))
        assert "refuses the user or the password" in text
        assert "guess" not in text + caplog.text
        assert "top" not in text + caplog.text
    await (await opened(server.url("app:top%2Fsecret"))).check()
    secret = server.folder / "secret"
    secret.write_text("top/secret\n")
    await (await opened(server.url("app", password_file=secret))).check()
    secret.unlink()
    assert f"password_file: {secret} can't be read" in await refused(server.url("app", password_file=secret))
    passfile = server.folder / "pgpass"
    passfile.write_text(f"127.0.0.1:{server.port}:*:app:top/secret\n")
    passfile.chmod(0o600)
    await (await opened(server.url("app", passfile=passfile))).check()


async def test_a_service(server: Postgres, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service file says where the server is, as for every program of PostgreSQL."""
    services = server.folder / "pg_service.conf"
    services.write_text(f"[hub]\nhost=127.0.0.1\nport={server.port}\nuser=hub\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    transport = await opened("postgresql://?service=hub")
    await transport.append(an_update(1))
    assert (await server.ask("SELECT count(*) FROM mercure.updates"))[0][0] == 1


async def test_tls(opened: Opened, tmp_path: Path) -> None:
    """The server's certificate is looked at, with the authority that the URL names; an untrusted one ends the start."""
    for folder in (one := tmp_path / "one", another := tmp_path / "another"):
        folder.mkdir()
    authority, other = Authority(one), Authority(another)
    certificate, key = authority.sign("server")
    with Postgres() as server:
        for file, name in ((certificate, "server.crt"), (key, "server.key")):
            shutil.copy(file, server.data / name)
            shutil.chown(server.data / name, OWNER or os.getuid())
            (server.data / name).chmod(0o600)
        await server.ask("ALTER SYSTEM SET ssl = on")
        await server.ask("SELECT pg_reload_conf()")
        (server.data / "pg_hba.conf").write_text("hostssl all hub 127.0.0.1/32 trust\nlocal all all trust\n")
        async with asyncio.timeout(DEADLINE):
            while 'parameter "ssl" changed' not in server.said():
                await asyncio.sleep(0.01)
        url = server.url(sslmode="verify-full", sslrootcert=authority.certificate)
        await (await opened(url)).append(an_update(1))
        assert "is not trusted" in await refused(server.url(sslmode="verify-ca", sslrootcert=other.certificate))
        assert "sslmode" in await refused(server.url(sslmode="sometimes"))


async def test_what_no_waiting_will_help(postgres: Postgres) -> None:
    """A database that is not there, or can't hold all text, ends the start with a sentence."""
    assert "no database of that name" in await refused(postgres.url(database="none"))
    await postgres.run_sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "encoding is LATIN1" in await refused(postgres.url(database="latin"))
    assert "synchronous_standby_names is empty" in await refused(
        postgres.url(schema=a_schema(), synchronous_commit="remote_apply")
    )


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
async def test_a_pooler(postgres: Postgres, mode: str) -> None:
    """A pooler before the server ends the start with a sentence: LISTEN does not come through it."""
    for ignored in ((), {*SESSION, "synchronous_commit"}):
        with Pooler(postgres, mode, ignored) as pooler:
            assert "pooler stands before the server; name the server itself" in await refused(pooler.url())


async def test_a_full_disk(server: Postgres, opened: Opened) -> None:
    """A server without room is full for its publishers, and goes on once there is some."""
    with small_volume(server.folder) as volume:
        shutil.chown(volume, OWNER or os.getuid())
        transport = await opened(server.url())
        first = await transport.append(an_update(1))
        await server.ask(f"CREATE TABLESPACE small LOCATION '{volume}'")
        await server.ask("ALTER TABLE mercure.updates SET TABLESPACE small")
        await recovered(transport)
        other = fill_up(volume)
        with pytest.raises(TransportFull):
            await asyncio.gather(*(transport.append(an_update(n, data=secrets.token_hex(3000))) for n in range(1000)))
        assert await transport.read(0, 1) == [Entry(first.position, an_update(1))]
        other.unlink()
        await recovered(transport)
        await transport.close()
        await server.ask("DROP SCHEMA mercure CASCADE")
        await server.ask("DROP TABLESPACE small")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


async def test_a_failover(pair: Pair, opened: Opened) -> None:
    """The standby that is promoted has the log from then on: what was acknowledged is there, and tails go on."""
    url = pair.url(synchronous_commit="remote_apply")
    transport, other = await opened(url), await opened(url)
    receipts = await fill(transport, range(20))
    tail = await waiting(other, receipts[-1].position)
    await asyncio.to_thread(pair.primary.stop)
    await unavailable(transport.append(an_update("refused")))
    await pair.promote()
    back = await recovered(transport, within=5)
    assert ids(await transport.read(0, 100)) == [*(receipt.id for receipt in receipts), back.id]
    with suppress(transports.TransportUnavailable):
        assert ids(await asyncio.wait_for(tail, DEADLINE)) == [back.id]
    assert ids(await collect(other, receipts[-1].position, 1)) == [back.id]


async def test_a_commit_that_waits_for_its_standby(pair: Pair, opened: Opened) -> None:
    """With a standby demanded nothing is acknowledged that it does not have, and the append is not ended by us."""
    transport = await opened(pair.url(synchronous_commit="remote_apply"))
    await transport.append(an_update(1))
    pair.standby.stand_still()
    await unavailable(transport.append(an_update(2)))
    assert ids(await transport.read(0, 10)) == ["urn:uuid:1"]
    pair.standby.go_on()
    await recovered(transport, within=5)
    found = ids(await transport.read(0, 10))
    assert found[0] == "urn:uuid:1"
    assert found[-1] == "urn:uuid:back"
    assert len(found) == len(set(found))


async def test_a_standby_alone(pair: Pair, opened: Opened) -> None:
    """A server that takes no writes is not the one."""
    transport = await opened(pair.standby.url())
    assert isinstance((await unavailable(transport.append(an_update(1)))).__cause__, Exception)


APPENDS = int(os.environ.get("APPENDS", "6400"))
WRITERS = 4


async def written_beside(writers: Sequence[Transport], number: int) -> list[Receipt]:
    """So many updates, by all of them at once, 32 at a time each."""

    async def write(writer: int, part: int) -> list[Receipt]:
        names = (f"{writer}-{part}-{n}" for n in range(number // WRITERS // 32))
        return await fill(writers[writer], names)

    written = await asyncio.gather(*(write(writer, part) for writer in range(WRITERS) for part in range(32)))
    return [receipt for each in written for receipt in each]


async def test_a_tail_beside_four_writers(url: str, transport: Transport, opened: Opened) -> None:
    """A tail misses nothing that four others append at once, and sees it in the order of its positions."""
    writers = [await opened(url) for _ in range(WRITERS)]
    count = APPENDS // WRITERS // 32 * 32 * WRITERS
    seen = asyncio.create_task(collect_for(transport, count))
    receipts = await written_beside(writers, APPENDS)
    assert [(e.position, e.update.id) for e in await seen] == sorted((r.position, r.id) for r in receipts)


async def collect_for(transport: Transport, count: int) -> list[Entry]:
    entries: list[Entry] = []
    async with aclosing(transport.tail(0)) as tail:  # type: ignore[type-var]
        async for batch in tail:
            entries += batch
            if len(entries) >= count:
                return entries
    return entries


async def test_what_the_lock_is_for(postgres: Postgres, transport: Transport, schema: str) -> None:
    """Without it a transaction that commits late is in the log, and every tail has passed it by."""
    nothing = "SELECT pg_sleep(0)::text::void"
    await postgres.ask(f"CREATE OR REPLACE FUNCTION {schema}.lock_log() RETURNS void LANGUAGE sql AS '{nothing}'")
    slow = await postgres.connect()
    async with slow.transaction():
        early = (an_update("early").to_json().decode(), "urn:uuid:early")
        await slow.fetch(f"SELECT {schema}.append(ARRAY[$1], ARRAY[$2], NULL, ARRAY['a'], ARRAY[1], 0, 0, 0)", *early)
        late = await transport.append(an_update("late"))
        assert ids(await collect(transport, 0, 1)) == ["urn:uuid:late"]
    await slow.close()
    await transport.append(an_update("next"))
    assert ids(await collect(transport, late.position, 1)) == ["urn:uuid:next"]
    assert (await transport.position_of("urn:uuid:early") or late.position) < late.position


async def test_not_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else that listens there is a server that is away: it may be there later."""
    monkeypatch.setattr(transports.postgres.server, "CONNECTING", 0.3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        transport = PostgresTransport(
            f"postgresql://hub@127.0.0.1:{listener.sockets[0].getsockname()[1]}/x?sslmode=disable"
        )
        await transport.open()
        await unavailable(transport.check())
        await transport.close()


async def test_a_newer_format(postgres: Postgres, opened: Opened, schema: str) -> None:
    """Tables of a newer hub are left alone."""
    await (await opened(postgres.url(schema=schema))).close()
    await postgres.ask(f"UPDATE {schema}.format SET version = 2")
    assert f"the schema {schema} has format 2, this hub knows 1" in await refused(postgres.url(schema=schema))


async def test_many_that_start_at_once(postgres: Postgres, opened: Opened, schema: str) -> None:
    """One of them makes the tables; all have the same log."""
    started = await asyncio.gather(*(opened(postgres.url(schema=schema)) for _ in range(6)))
    await asyncio.gather(*(each.append(an_update(n)) for n, each in enumerate(started)))
    assert len(await started[0].read(0, 10)) == 6


async def test_made_by_somebody_else(postgres: Postgres, opened: Opened, schema: str) -> None:
    """A hub that may not make the tables says what it lacks, and with which SQL somebody else gives it."""
    role = f"{schema}_role"
    await postgres.run_sql(f"CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for parameters, reason in (({}, "may not create the schema"), ({"migrate": "no"}, "are missing, and migrate=no")):
        transport = transports.open_transport(postgres.url(role, schema=schema, **parameters))
        with pytest.raises(transports.InvalidTransport, match=reason) as caught:
            await transport.open()
    await postgres.run_sql(caught.value.remedy)
    for reason in ("may not use the schema", f"lacks .* in the schema {schema}"):
        with pytest.raises(transports.InvalidTransport, match=reason) as caught:
            await transport.open()
        if "may not use" in reason:
            await postgres.run_sql(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    await postgres.run_sql(caught.value.remedy)
    able = await opened(postgres.url(role, schema=schema, size=3, migrate="no"))
    await fill(able, range(5))
    await able.check()
    await able.presence.enter("a", {"/1": b"{}"})
    assert len(await able.read(0, 10)) == 3


def test_what_a_url_says() -> None:
    """Hosts are tried one by one, libpq's parameters are the connection's, and a wrong one is named."""
    found = Parameters.of("postgresql://u:p@h1:1,h2,[::1]:3/db?sslmode=require&size=5&ttl=1h&schema=s")
    assert [way.partition("?")[0] for way in found.ways] == [
        f"postgresql://u:p@{host}/db" for host in ("h1:1", "h2", "[::1]:3")
    ]
    assert (found.size, found.ttl, found.schema) == (5, 3_600_000_000, "s")
    assert all("sslmode=require" in way and "target_session_attrs=read-write" in way for way in found.ways)
    assert Parameters.of("postgresql://h").size == 1_000_000
    for query, said in {
        "size=x": "whole number",
        "ttl=x": "duration",
        "schema=A": "schema is a name",
        "migrate=maybe": "migrate is one of yes, no",
        "synchronous_commit=yes": "one of on, off",
        "sslmod=require": "unknown parameter 'sslmod'",
    }.items():
        with pytest.raises(ValueError, match=said):
            Parameters.of(f"postgresql://h/db?{query}")
    for url, said in {
        "postgresql://u:p/w@h/db": "%2F",
        "postgresql://u:p@h:x/db": "port is not a number",
        "postgresql://u:p@h,,k/db": "no name",
        "postgresql://u:p@h/db?password_file=/x": "not in both",
    }.items():
        with pytest.raises(ValueError, match=said):
            Parameters.of(url)


async def test_an_id_that_is_no_text(transport: Transport) -> None:
    """An id that PostgreSQL can't hold is not there."""
    await transport.append(an_update(1))
    for event_id in ("a\0b", "\ud800"):
        assert await transport.position_of(event_id) is None


async def test_long_subscription_ids(transport: Transport) -> None:
    """A subscription's id may be longer than what an index holds."""
    names = ["/" + "x" * 8000 + end for end in "12"]
    await transport.presence.enter("a", dict.fromkeys(names, b"{}"))
    await transport.presence.enter("a", dict.fromkeys(names, b"{1}"))
    await transport.presence.leave("a", names[:1])
    assert await transport.presence.of("a") == {names[1]: b"{1}"}


async def test_remarks(postgres: Postgres, transport: Transport, schema: str) -> None:
    """A server that may lose what it says it has, and an outbox that nobody empties, are told."""
    said = await transport.remarks()
    assert any("fsync=off" in each for each in said)
