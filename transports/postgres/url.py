"""What a ``postgresql:`` URL says: ours, and what libpq's URLs say of a connection."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from transports.urls import bound, duration, parameters, secret, split

SIZE = "1000000"
"""Updates that history keeps by default: without a bound the disk fills up, and it is the application's too."""

_OURS = frozenset({"schema", "size", "ttl", "migrate", "index", "synchronous_commit", "password_file"})
_LIBPQ = frozenset({"host", "port", "dbname", "user", "password", "passfile", "service", "application_name", "options"})
_LIBPQ |= {"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"}
_LIBPQ |= {"ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"}
"""Of https://www.postgresql.org/docs/current/libpq-connect.html what asyncpg knows as well, and session settings."""

_SCHEMA = re.compile("[a-z_][a-z0-9_]{0,47}")
_COMMITS = ("on", "off", "local", "remote_write", "remote_apply")


@dataclass(frozen=True, repr=False)
class Parameters:
    """``ways``: a URL for asyncpg for each host. ``ttl``: microseconds. ``size``, ``ttl``: 0 is none.

    ``synchronous_commit``: the server's setting of that name; None: what makes a commit durable on the primary.
    """

    ways: tuple[str, ...]
    schema: str
    size: int
    ttl: int
    migrate: bool
    synchronous_commit: str | None
    password_file: str | None
    index: bool
    """Of the topics."""

    @classmethod
    def of(cls, url: str) -> Self:
        """ValueError names what is wrong, and quotes nothing that may be a piece of a password."""
        parts = split(url)
        login, at, hosts = parts.netloc.rpartition("@")
        if "@" in parts.path + parts.query + login or parts.fragment:
            raise ValueError("write / ? # and @ in a password as %2F %3F %23 and %40")
        said = dict(parameters(parts.query, _OURS | _LIBPQ))
        if "password_file" in said and (":" in login or "password" in said):
            raise ValueError("give the password in the URL or in password_file, not in both")
        if not _SCHEMA.fullmatch(said.get("schema", "mercure")):
            raise ValueError("schema is a name of small letters, digits and _, at most 48")
        said.setdefault("target_session_attrs", "read-write")
        said.setdefault("application_name", "mercure-hub")
        ours = {name: said.pop(name) for name in _OURS & said.keys()}
        return cls(
            ways=tuple(f"postgresql://{login}{at}{host}{parts.path}?{urlencode(said)}" for host in _hosts(hosts, said)),
            schema=ours.get("schema", "mercure"),
            size=bound(ours.get("size", SIZE)),
            ttl=max(1, round(duration(ours["ttl"]) * 1_000_000)) if "ttl" in ours else 0,
            migrate=_choice(ours, "migrate", ("yes", "no")) != "no",
            synchronous_commit=_choice(ours, "synchronous_commit", _COMMITS),
            password_file=ours.get("password_file"),
            index=_choice(ours, "index", ("topics", "none")) == "topics",
        )

    def password(self) -> str | None:
        """What the file has; None: there is none. ValueError: it can't be read."""
        return None if self.password_file is None else secret("password_file", self.password_file)


def _hosts(hosts: str, said: dict[str, str]) -> list[str]:
    """Each is tried by itself: one that does not answer must not use up the time of the others."""
    found = hosts.split(",")
    if hosts and not all(each.strip() for each in found):
        raise ValueError("one of its hosts has no name; write postgresql://user@host1,host2/database")
    ports = said.get("port", "").split(",")
    for port in [*ports, *(each.rpartition(":")[2] for each in found if not each.startswith("[") and ":" in each)]:
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise ValueError("the port is not a number from 1 to 65535; is a / in the password? write %2F")
    return found


def _choice(said: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    if name in said and said[name] not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}")
    return said.get(name)
