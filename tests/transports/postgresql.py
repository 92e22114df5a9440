"""Real servers of PostgreSQL, of the test's own: one, or a primary with its standby."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import asyncpg

from tests.needs import found, needs
from tests.transports.valkey import DEADLINE, Started, free_ports, until

ROLE = "hub"
OWNER = "postgres" if os.geteuid() == 0 else None
"""The server refuses to run as root."""


_made: list["tempfile.TemporaryDirectory[str]"] = []


def a_schema() -> str:
    """One that nobody has used."""
    return f"log_{secrets.token_hex(4)}"


class Postgres(Started):
    """A process on a Unix socket and a port, in a folder of its own. ``settings``: as in postgresql.conf."""

    def __init__(self, *settings: str) -> None:
        needs("postgres")
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True)
        self.folder, self.data = Path(self._folder.name), Path(self._folder.name) / "data"
        (self.port,) = free_ports(1)
        self.socket = self.folder / f".s.PGSQL.{self.port}"
        self._settings = (
            f"unix_socket_directories={self.folder}",
            "listen_addresses=127.0.0.1",
            "shared_buffers=16MB",
            "max_connections=60",
            *settings,
        )
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, role: str = ROLE, database: str = "postgres", **parameters: object) -> str:
        """By its port, as most use it."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}" + (
            f"?{urlencode(parameters)}" if parameters else ""
        )

    def run(self, program: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, as the server's owner."""
        path = found(program)
        assert path is not None
        subprocess.run([path, *arguments], check=True, user=OWNER, cwd=self.folder, stdout=subprocess.DEVNULL)

    def create(self) -> None:
        """The folder of its data, a copy of what initdb makes once for all tests of this process."""
        if not _made:
            _made.append(tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True))
            made = Path(_made[0].name)
            if OWNER is not None:
                shutil.chown(made, OWNER)
            options = ("-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=1", "-N")
            self.run("initdb", "-D", str(made / "data"), *options)
        subprocess.run(["cp", "-a", f"{_made[0].name}/data", str(self.data)], check=True)

    def start(self) -> None:
        """Return once it answers."""
        if OWNER is not None:
            shutil.chown(self.folder, OWNER)
        self.folder.chmod(0o755)
        if not self.data.exists():
            self.create()
        settings = [part for each in self._settings for part in ("-c", each)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(found("postgres")), "-D", str(self.data), "-p", str(self.port), *settings],
                user=OWNER,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        until(self._answers, "the server does not answer")

    def _answers(self) -> bool:
        asked = [str(found("pg_isready")), "-q", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def said(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text()

    async def connect(self, role: str = ROLE, database: str = "postgres") -> Any:
        return await asyncpg.connect(self.url(role, database))

    async def ask(self, sql: str, *arguments: object) -> list[Any]:
        """The rows, of a connection of its own."""
        connection = await self.connect()
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    async def run_sql(self, sql: str, role: str = ROLE) -> None:
        """One or several statements."""
        connection = await self.connect(role)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    def tell(self, number: int) -> None:
        """A signal."""
        assert self._process
        self._process.send_signal(number)

    def processes(self) -> list[int]:
        """The pids of the server and all that it has started."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]

    def stand_still(self) -> None:
        """SIGSTOP, for all of them."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # one that has ended meanwhile
                os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, as a crash; SIGINT: its clients are told."""
        if self._process is not None:
            self.go_on()
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def end(self) -> None:
        self.stop()


class Standby(Postgres):
    """Follows a primary, and is told of everything by it."""

    def __init__(self, primary: Postgres) -> None:
        super().__init__("wal_receiver_status_interval=1", "hot_standby_feedback=on")
        self._primary = primary

    def create(self) -> None:
        primary = ("-h", str(self._primary.folder), "-p", str(self._primary.port), "-U", ROLE)
        self.run("pg_basebackup", *primary, "-D", str(self.data), "-R", "-c", "fast")


class Pair:
    """A primary that waits for its standby where a session demands it."""

    def __init__(self) -> None:
        self.primary = Postgres("synchronous_standby_names=*", "synchronous_commit=local")
        self.standby = Standby(self.primary)

    def url(self, **parameters: object) -> str:
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://{ROLE}@{hosts}/postgres" + (f"?{urlencode(parameters)}" if parameters else "")

    async def promote(self) -> None:
        """The standby no longer waits for one itself."""
        await self.standby.ask("SELECT pg_promote()")

    def __enter__(self) -> Self:
        self.primary.__enter__()
        try:
            self.standby.__enter__()
        except BaseException:
            self.primary.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.standby.__exit__()
        self.primary.__exit__()


class Pooler:
    """PgBouncer before a server. ``mode``: session, transaction or statement; ``ignored``: settings of sessions."""

    def __init__(self, server: Postgres, mode: str, ignored: Iterable[str]) -> None:
        needs("pgbouncer")
        self._server, self._mode, self._ignored = server, mode, ignored
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/postgres?schema={a_schema()}&sslmode=disable"

    def __enter__(self) -> Self:
        settings = self._server.folder / f"pgbouncer-{self.port}.ini"
        settings.write_text(
            f"[databases]\npostgres = host={self._server.folder} port={self._server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {self._mode}\n"
            f"ignore_startup_parameters = {','.join(self._ignored)}\n"
        )
        self._process = subprocess.Popen(
            [str(found("pgbouncer")), "-q", str(settings)], user=OWNER, stderr=subprocess.DEVNULL
        )
        until(self._answers, "the pooler does not listen")
        return self

    def _users(self) -> Path:
        users = self._server.folder / "users"
        users.write_text(f'"{ROLE}" ""\n')
        return users

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
