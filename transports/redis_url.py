"""What a ``redis:``, ``rediss:`` or ``unix:`` URL says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, unquote

from transports.urls import count, duration, parameters, split

_KNOWN = frozenset({"prefix", "size", "ttl"})
_LATER = {"redis+sentinel": "Sentinel", "redis+cluster": "Cluster"}


@dataclass(frozen=True)
class Parameters:
    """``server``: what redis-py's connection takes. ``ttl``: milliseconds. 0: without a bound."""

    scheme: str
    server: Mapping[str, Any]
    prefix: str
    size: int
    ttl: int

    @classmethod
    def of(cls, url: str) -> Self:
        """ValueError names what is wrong, and quotes nothing that may be a piece of a password."""
        parts = split(url)
        if parts.scheme in _LATER:
            raise ValueError(f"{_LATER[parts.scheme]} is not supported yet; name one server with redis://host:6379")
        if "@" in parts.path + parts.query or parts.fragment:
            raise ValueError("write / ? # and @ in a password as %2F %3F %23 and %40")
        local = parts.scheme == "unix"
        said = parameters(parts.query, _KNOWN | {"db"} if local else _KNOWN)
        return cls(
            scheme=parts.scheme,
            server=_credentials(parts) | (_socket(parts, said) if local else _address(parts)),
            prefix=_prefix(said.get("prefix", "mercure")),
            size=count(said["size"]) if "size" in said else 0,
            ttl=max(1, round(duration(said["ttl"]) * 1000)) if "ttl" in said else 0,
        )


def _credentials(parts: SplitResult) -> dict[str, Any]:
    return {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }


def _address(parts: SplitResult) -> dict[str, Any]:
    try:
        port = parts.port
    except ValueError:
        raise ValueError("its port is no number from 1 to 65535; is a / in the password? write %2F") from None
    if not parts.hostname or "," in parts.hostname:
        raise ValueError("it names no host, or several; write redis://host:6379/0")
    return {"host": parts.hostname, "port": 6379 if port is None else port, "db": _database(parts.path.strip("/"))}


def _socket(parts: SplitResult, said: Mapping[str, str]) -> dict[str, Any]:
    if parts.hostname or len(parts.path) < 2:
        raise ValueError("it names no socket; write unix:///run/redis.sock")
    return {"path": unquote(parts.path), "db": _database(said.get("db", ""))}


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("the database is a number, as in redis://host:6379/0")
    return int(text or 0)


def _prefix(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError("prefix holds no braces; they are put round it")
    return text
