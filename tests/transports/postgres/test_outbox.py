"""Publishing from SQL, within the application's own transaction."""

import asyncio

import pytest
from asyncpg import InsufficientPrivilegeError, InvalidParameterValueError

from tests.transports.outages import Opened
from tests.transports.postgresql import Postgres, a_schema
from transports import Entry, Transport, Update
from transports.testing.suite import DEADLINE, an_update, collect, ids

TOPIC = "https://example.com/books/1"


@pytest.fixture
def schema() -> str:
    return a_schema()


@pytest.fixture
async def transport(postgres: Postgres, schema: str, opened: Opened) -> Transport:
    """A log into which something was published from SQL already: from then on the outbox is looked at often."""
    await (await opened(postgres.url(schema=schema))).close()
    await postgres.ask(f"SELECT {schema}.publish('{TOPIC}', id => 'urn:uuid:first')")
    transport = await opened(postgres.url(schema=schema))
    await collect(transport, 0, 1)
    return transport


async def newest(transport: Transport, after: int, count: int = 1) -> list[Entry]:
    async with asyncio.timeout(DEADLINE):
        return await collect(transport, after, count)


async def test_what_is_published_comes_out(postgres: Postgres, transport: Transport, schema: str) -> None:
    """Every field goes in by its name or place, and the id comes back; what is not said is as with a form."""
    after, _ = await transport.last()
    connection = await postgres.connect()
    one = await connection.fetchval(f"SELECT {schema}.publish('{TOPIC}', '{{\"a\":1}}', private => true)")
    two = await connection.fetchval(
        f"SELECT {schema}.publish(ARRAY['{TOPIC}', 'b'], E'é\\n', false, 'urn:uuid:2', type => 'kind', retry => 5)"
    )
    three = await connection.fetchval(f"SELECT {schema}.publish($1, $2)", TOPIC, "x")
    await connection.close()
    assert two == "urn:uuid:2"
    assert one.startswith("urn:uuid:")
    assert [entry.update for entry in await newest(transport, after, 3)] == [
        Update(one, (TOPIC,), '{"a":1}', private=True),
        Update(two, (TOPIC, "b"), "é\n", type="kind", retry=5),
        Update(three, (TOPIC,), "x"),
    ]


async def test_if_and_only_if_it_commits(postgres: Postgres, transport: Transport, schema: str) -> None:
    """What is rolled back goes nowhere; what a transaction publishes comes out whole and in its order, once."""
    after, _ = await transport.last()
    one, other = await postgres.connect(), await postgres.connect()
    left, kept = one.transaction(), other.transaction()
    await left.start()
    await kept.start()
    for n in range(300):
        await one.execute(f"SELECT {schema}.publish('{TOPIC}', id => 'left-{n}')")
        await other.execute(f"SELECT {schema}.publish('{TOPIC}', id => 'kept-{n}')")
    direct = await transport.append(an_update("waits for nobody"))
    await left.rollback()
    await kept.commit()
    entries = await newest(transport, after, 301)
    assert ids(entries) == [direct.id, *(f"kept-{n}" for n in range(300))]
    assert await transport.position_of("left-0") is None
    assert (await postgres.ask(f"SELECT count(*) FROM {schema}.outbox"))[0][0] == 0
    await one.close()
    await other.close()


async def test_transactions_do_not_wait_for_each_other(postgres: Postgres, transport: Transport, schema: str) -> None:
    """A transaction that stays open holds up neither another one's commit nor what that has published."""
    after, _ = await transport.last()
    slow = await postgres.connect()
    async with slow.transaction():
        await slow.execute(f"SELECT {schema}.publish('{TOPIC}', id => 'slow')")
        await postgres.ask(f"SELECT {schema}.publish('{TOPIC}', id => 'quick')")
        assert ids(await newest(transport, after)) == ["quick"]
        locks = await postgres.ask("SELECT locktype FROM pg_locks WHERE pid = $1", slow.get_server_pid())
        assert "advisory" not in {row["locktype"] for row in locks}
    await slow.close()
    assert ids(await newest(transport, after, 2)) == ["quick", "slow"]


async def test_once_whoever_moves(postgres: Postgres, transport: Transport, schema: str, opened: Opened) -> None:
    """Of several hubs one moves; when it is gone another one does, and each update is in the log once."""
    after, _ = await transport.last()
    others = [await opened(postgres.url(schema=schema)) for _ in range(2)]

    async def publish(first: int) -> None:
        connection = await postgres.connect()
        for n in range(first, first + 100):
            await connection.execute(f"SELECT {schema}.publish('{TOPIC}', id => 'n{n}')")
        await connection.close()

    publishing = [asyncio.create_task(publish(first)) for first in (0, 100, 200)]
    for gone in (transport, others[0]):
        await asyncio.sleep(0)
        await gone.close()
    await asyncio.gather(*publishing)
    found = ids(await newest(others[1], after, 300))
    assert sorted(found) == sorted(f"n{n}" for n in range(300))
    assert len(await others[1].read(after, 256)) == 256


@pytest.mark.parametrize(
    "arguments",
    [
        "''",
        "NULL",
        "'*'",
        "E'a\\nb'",
        "ARRAY[]::text[]",
        "ARRAY[NULL]",
        "'https://example.com/.well-known/mercure/subscriptions/a/b'",
        "'/%2Ewell-known/Mercure'",
        "'a', id => 'earliest'",
        "'a', id => '#1'",
        "'a', id => E'a\\r'",
        "'a', type => 'mercure'",
        "'a', retry => -1",
        "repeat('a', 4097)",
    ],
)
async def test_what_is_no_update(postgres: Postgres, transport: Transport, schema: str, arguments: str) -> None:
    """What no publisher may send by HTTP is refused, and takes its transaction with it."""
    with pytest.raises(InvalidParameterValueError):
        await postgres.ask(f"SELECT {schema}.publish({arguments})")
    assert (await transport.history()).waiting == 0


async def test_who_may_publish(postgres: Postgres, transport: Transport, schema: str) -> None:
    """Nobody without a grant; a role that may call the function may do nothing else with the log."""
    after, _ = await transport.last()
    role = f"{schema}_app"
    await postgres.run_sql(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}")
    call = f"SELECT {schema}.publish('{TOPIC}', id => 'by-app')"
    with pytest.raises(InsufficientPrivilegeError):
        await postgres.run_sql(call, role)
    kinds = "text, boolean, text, text, integer"
    functions = ", ".join(f"{schema}.publish({topics}, {kinds})" for topics in ("text", "text[]"))
    await postgres.run_sql(f"GRANT EXECUTE ON FUNCTION {functions} TO {role}")
    await postgres.run_sql(call, role)
    assert ids(await newest(transport, after)) == ["by-app"]
    for sql in (
        f"SELECT * FROM {schema}.updates",
        f"SELECT * FROM {schema}.outbox",
        f"INSERT INTO {schema}.outbox (id, topics, update) VALUES ('x', ARRAY['x'], 'x')",
        f"SELECT {schema}.move(0, 0, 0)",
        f"SELECT {schema}.append(ARRAY['x'], ARRAY['x'], NULL, ARRAY['x'], ARRAY[1], 0, 0, 0)",
    ):
        with pytest.raises(InsufficientPrivilegeError):
            await postgres.run_sql(sql, role)


async def test_an_outbox_that_nobody_empties(postgres: Postgres, schema: str, opened: Opened) -> None:
    """How much waits and for how long is told, also to who looks before a start."""
    transport = await opened(postgres.url(schema=schema))
    await transport.close()
    await postgres.ask(f"SELECT {schema}.publish('{TOPIC}') FROM generate_series(1, 5)")
    await postgres.ask(f"UPDATE {schema}.outbox SET written = written - interval '1 minute'")
    holder = await postgres.connect()
    await holder.execute(f"SELECT pg_advisory_lock(hashtextextended('{schema}.outbox', 0))")
    looking = await opened(postgres.url(schema=schema))
    history = await looking.history()
    assert history.waiting == 5
    assert 60 <= (history.waiting_seconds or 0) < 90
    assert any("wait in the outbox for 6" in each and "no hub moves them" in each for each in await looking.remarks())
    await holder.close()
    assert len(await newest(looking, 0, 5)) == 5
