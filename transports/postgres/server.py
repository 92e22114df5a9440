"""The way to the server that takes writes: its hosts, what is set in each session, and what its errors mean."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg
from asyncpg import exceptions as said

from transports.contract import TransportError, TransportFull, TransportUnavailable
from transports.postgres import schema
from transports.postgres.schema import Unfit
from transports.postgres.url import Parameters

CONNECTING = 2.0
TRYING = 0.9
"""Seconds that one of several hosts may take."""
CLOSING = 0.2

_DEMANDING = ("remote_write", "remote_apply")
"""Where no standby is named, a commit waits for none and says nothing of it."""

T = TypeVar("T")

SESSION = {
    "default_transaction_isolation": "read committed",  # a function that waits for the lock sees what came before it
    "enable_seqscan": "off",  # all that we ask goes by an index, whatever is known of a new table
    "jit": "off",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "2000",  # milliseconds; less than our patience, so that nothing is stored after we gave up
    "client_connection_check_interval": "1000",
    "tcp_keepalives_idle": "10",  # seconds; a session of a host that is gone holds locks until it is noticed
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Whatever the database's or the role's defaults are."""


_OF_A_POOLER = (
    said.InvalidSQLStatementNameError,
    said.DuplicatePreparedStatementError,
    said.ProtocolViolationError,  # "unsupported startup parameter"; PostgreSQL itself knows all of `SESSION`
)


def unfit(error: BaseException | None) -> str | None:
    """Why no waiting will help; None: the server may be there later."""
    if isinstance(error, Unfit | said.ClientConfigurationError):
        return str(error)
    if isinstance(error, _OF_A_POOLER):
        return schema.POOLER
    if isinstance(error, said.InvalidPasswordError | said.InvalidAuthorizationSpecificationError):
        return "the server refuses the user or the password"
    if isinstance(error, said.InvalidCatalogNameError):
        return "there is no database of that name"
    if isinstance(error, said.UndefinedObjectError):  # one of `SESSION`
        return f"{error}; PostgreSQL {schema.OLDEST} or newer is needed"
    if isinstance(error, said.InsufficientPrivilegeError | said.CantChangeRuntimeParamError):
        return f"the server refuses to work: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted ({error.verify_message}); sslrootcert= names who signed it"
    return None


def translated(error: BaseException, sentence: str) -> TransportError:
    kind = TransportFull if isinstance(error, said.DiskFullError) else TransportUnavailable
    found = kind(f"PostgreSQL: {sentence}")
    found.__cause__ = error
    return found


OUTSIDE: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    Unfit,
)
"""What is raised when the server or the network is at fault."""


class Server:
    """Hands out connections to it, once it is fit to have the log."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._ways = deque(parameters.ways)
        self._password: str | None = None
        self._fit = False
        self._examining = asyncio.Lock()

    @property
    def schema(self) -> str:
        return self._parameters.schema

    def read_password(self) -> None:
        """ValueError: its file can't be read."""
        self._password = self._parameters.password()

    def suspect(self) -> None:
        """Look at it again before the next connection is used: its tables may have gone."""
        self._fit = False

    async def connected(self) -> Any:
        """A new connection, of which asyncpg has no types. Raises what is in `OUTSIDE`."""
        connection = await self._first_that_answers()
        try:
            async with self._examining:
                if not self._fit:
                    await schema.fit(connection, self.schema, migrate=self._parameters.migrate)
                    wanted = self._parameters.synchronous_commit
                    if wanted in _DEMANDING and not await connection.fetchval("SHOW synchronous_standby_names"):
                        raise Unfit(f"synchronous_commit={wanted}, but the server's synchronous_standby_names is empty")
                    self._fit = True
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _first_that_answers(self) -> Any:
        """The host that led to it is asked first the next time."""
        problem: BaseException | None = None
        for way in list(self._ways):
            try:
                async with asyncio.timeout(TRYING if len(self._ways) > 1 else CONNECTING):
                    connection = await asyncpg.connect(way, **self._options())
            except OUTSIDE as error:
                problem = error
                self._ways.rotate(-1)
                continue
            return connection
        assert problem is not None  # noqa: S101 - there is at least one way
        raise problem

    def _options(self) -> Mapping[str, Any]:
        commit = self._parameters.synchronous_commit or "on"
        return {"password": self._password, "server_settings": {**SESSION, "synchronous_commit": commit}}


async def undisturbed(connection: Any, asked: Awaitable[T]) -> T:
    """What ``asked`` comes to. Who stops waiting loses the connection, and the server goes on with it.

    asyncpg would ask the server to cancel it, and a commit that waits for a standby comes true when it is cancelled.
    """
    asking = asyncio.ensure_future(asked)
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        connection.terminate()
        with suppress(*OUTSIDE):
            await asking
        raise


async def drop(connection: Any) -> None:
    """Let go of a connection, whatever state it is in."""
    try:
        async with asyncio.timeout(CLOSING):
            await connection.close()
    except OUTSIDE:
        connection.terminate()
