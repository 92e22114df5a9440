"""The tables and functions in the database: made by whoever comes first, looked at by whoever comes later."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

FORMAT = 1
OLDEST = 14

_WRITTEN = Path(__file__).with_name("schema.sql")
_FIRST = "CREATE SCHEMA mercure;\n"

_NEEDS = (
    ("table", "updates", "SELECT, INSERT, DELETE"),
    ("table", "outbox", "SELECT, DELETE"),
    ("table", "nodes", "SELECT, INSERT, UPDATE, DELETE"),
    ("table", "subscriptions", "SELECT, INSERT, UPDATE, DELETE"),
    ("table", "health", "SELECT, UPDATE"),
    ("table", "format", "SELECT, UPDATE"),
    ("table", "topics", "SELECT, INSERT, DELETE"),
    ("sequence", "outbox_number_seq", "SELECT"),
    ("function", "lock_log()", "EXECUTE"),
    ("function", "append(text[], text[], text[], text[], integer[], bigint, bigint, bigint)", "EXECUTE"),
    ("function", "find(text[], text[], bigint)", "EXECUTE"),
    ("function", "move(bigint, bigint, bigint)", "EXECUTE"),
    ("function", "check()", "EXECUTE"),
    ("function", "begin_index()", "EXECUTE"),
    ("function", "page_of(text[], bigint, integer, bigint)", "EXECUTE"),
    ("function", "newest_of(text[], integer)", "EXECUTE"),
    ("function", "topics_from(text, integer)", "EXECUTE"),
)
"""What a hub's role must be able to do, beside the use of the schema."""

_TABLE = "SELECT to_regclass($1)"
_SCHEMA = "SELECT to_regnamespace($1) IS NOT NULL, coalesce(has_schema_privilege(to_regnamespace($1), 'USAGE'), false)"
_ROLE = "SELECT quote_ident(current_user)"
_MAY_CREATE_TABLES = "SELECT has_schema_privilege($1, 'CREATE')"
_MAY_CREATE_SCHEMAS = "SELECT has_database_privilege(current_database(), 'CREATE') AND $1 <> ''"

MAKING = "mercure: making the tables"
"""Of this name is the lock that one of several hubs takes which start at once."""


POOLER = (
    "a connection pooler stands before the server; name the server itself: a hub keeps its four connections, and"
    " what it listens to does not come through a pooler"
)


class Unfit(Exception):
    """The database can't have the log. ``sql``: what somebody with more rights can do about it."""

    def __init__(self, reason: str, sql: str = "") -> None:
        super().__init__(reason)
        self.sql = sql


def named(sql: str, schema: str) -> str:
    """The same for a schema of another name, which needs no quotes."""
    return sql.replace("mercure.", f"{schema}.").replace("SCHEMA mercure", f"SCHEMA {schema}")


def whole(schema: str) -> str:
    """All that is to be made."""
    return named(_WRITTEN.read_text(), schema)


async def fit(connection: Any, schema: str, *, migrate: bool) -> None:
    """Make the tables if they are not there. Raises `Unfit`, and what asyncpg raises."""
    if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
        raise Unfit(POOLER)
    version, encoding = connection.get_server_version().major, connection.get_settings().server_encoding
    if version < OLDEST:
        raise Unfit(f"the server is PostgreSQL {version}; {OLDEST} or newer is needed")
    if encoding != "UTF8":
        raise Unfit(f"the database's encoding is {encoding}; create one with ENCODING 'UTF8'")
    there, usable = await connection.fetchrow(_SCHEMA, schema)
    if there and not usable:
        role = await connection.fetchval(_ROLE)
        raise Unfit(f"its role {role} may not use the schema {schema}", _grants(schema, role, _NEEDS))
    if await connection.fetchval(_TABLE, f"{schema}.format") is None:
        await _make(connection, schema, migrate=migrate)
    await _must_be_granted(connection, schema)
    found = await connection.fetchval(f"SELECT max(version) FROM {schema}.format")  # noqa: S608 - a name that was looked at
    if found != FORMAT:
        raise Unfit(f"the schema {schema} has format {found}, this hub knows {FORMAT}: run the version that made it")


async def _make(connection: Any, schema: str, *, migrate: bool) -> None:
    if not migrate:
        raise Unfit(f"the tables in the schema {schema} are missing, and migrate=no", whole(schema))
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", MAKING)
        if await connection.fetchval(_TABLE, f"{schema}.format") is not None:
            return  # another hub came first
        there = (await connection.fetchrow(_SCHEMA, schema))[0]
        if not await connection.fetchval(_MAY_CREATE_TABLES if there else _MAY_CREATE_SCHEMAS, schema):
            what = f"tables in the schema {schema}" if there else f"the schema {schema}"
            raise Unfit(f"its role may not create {what}", whole(schema))
        await connection.execute(whole(schema).replace(named(_FIRST, schema), "") if there else whole(schema))


async def _must_be_granted(connection: Any, schema: str) -> None:
    lacking = []
    for kind, name, wanted in _NEEDS:
        asked = f"SELECT has_{kind}_privilege($1, $2)"
        missing = [
            each for each in wanted.split(", ") if not await connection.fetchval(asked, f"{schema}.{name}", each)
        ]
        if missing:
            lacking.append((kind, name, ", ".join(missing)))
    if lacking:
        role = await connection.fetchval(_ROLE)
        said = "; ".join(f"{wanted} on {name.partition('(')[0]}" for _, name, wanted in lacking)
        raise Unfit(f"its role {role} lacks {said}, in the schema {schema}", _grants(schema, role, lacking))


def _grants(schema: str, role: str, needs: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"GRANT USAGE ON SCHEMA {schema} TO {role};"]
    lines += [f"GRANT {wanted} ON {kind.upper()} {schema}.{name} TO {role};" for kind, name, wanted in needs]
    return "\n".join(lines) + "\n"
