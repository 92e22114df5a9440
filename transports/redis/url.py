"""What a ``redis:``, ``rediss:``, ``unix:``, ``redis+sentinel:`` or ``redis+cluster:`` URL says."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, unquote

from transports.redis.routes import ClusterRoute, DirectRoute, HostPort, Route, SentinelRoute
from transports.urls import bound, count, duration, parameters, readable, secret, split

WAIT_TIMEOUT = "1s"
SIZE = "1000000"
"""Updates that history keeps by default: without a bound the server fills up, and then nothing can be published."""
REDIS_PORT = 6379
SENTINEL_PORT = 26379

_SENTINEL = "sentinel_password_file"
_TLS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_COMMON = frozenset({"prefix", "size", "ttl", "wait_replicas", "wait_timeout", "password_file"})
_KNOWN = {
    "redis": _COMMON,
    "rediss": _COMMON | _TLS,
    "unix": _COMMON | {"db"},
    "redis+sentinel": _COMMON | {_SENTINEL},
    "redis+cluster": _COMMON,
}


@dataclass(frozen=True, repr=False)
class Parameters:
    """``ttl``, ``wait_timeout``: milliseconds. ``size``, ``ttl``, ``wait_replicas``: 0 is none."""

    parts: SplitResult
    said: Mapping[str, str]
    prefix: str
    size: int
    ttl: int
    wait_replicas: int
    wait_timeout: int

    @classmethod
    def of(cls, url: str) -> Self:
        """ValueError names what is wrong, and quotes nothing that may be a piece of a password."""
        parts = split(url)
        if "@" in parts.path + parts.query or parts.fragment:
            raise ValueError("write / ? # and @ in a password as %2F %3F %23 and %40")
        said = parameters(parts.query, _KNOWN[parts.scheme])
        if "wait_timeout" in said and "wait_replicas" not in said:
            raise ValueError("wait_timeout says how long wait_replicas waits, which is missing")
        if "password_file" in said and parts.password:
            raise ValueError("give the password in the URL or in password_file, not in both")
        found = cls(
            parts,
            said,
            prefix=_prefix(said.get("prefix", "mercure")),
            size=bound(said.get("size", SIZE)),
            ttl=max(1, round(duration(said["ttl"]) * 1000)) if "ttl" in said else 0,
            wait_replicas=_count(said, "wait_replicas"),
            wait_timeout=round(duration(said.get("wait_timeout", WAIT_TIMEOUT)) * 1000),
        )
        if not found.wait_timeout:
            raise ValueError("wait_timeout must be longer than 0; without a bound an append could wait for ever")
        if "ssl_keyfile" in said and "ssl_certfile" not in said:
            raise ValueError("ssl_keyfile is the key to ssl_certfile, which is missing")
        found._route_with({}, {}, "")
        return found

    def route(self, key: str) -> Route:
        """The way to the server that has ``key``. Reads the files it needs: ValueError names one that can't be."""
        login: dict[str, Any] = {
            "username": unquote(self.parts.username) if self.parts.username else None,
            "password": unquote(self.parts.password) if self.parts.password else None,
        }
        return self._route_with(
            login | self._secret("password_file") | self._certificates(), self._secret(_SENTINEL), key
        )

    def _route_with(self, login: Mapping[str, Any], sentinel: Mapping[str, Any], key: str) -> Route:
        parts, path = self.parts, self.parts.path.strip("/")
        if parts.scheme == "unix":
            return DirectRoute("unix", {**login, **_socket(parts), "db": _database(self.said.get("db", ""))})
        if parts.scheme == "redis+cluster":
            if path:
                raise ValueError("a cluster has no databases; write redis+cluster://host1,host2")
            return ClusterRoute(_addresses(parts, REDIS_PORT), login, key)
        if parts.scheme == "redis+sentinel":
            service, _, database = path.partition("/")
            if not service:
                raise ValueError("it names no service; write redis+sentinel://host1,host2/service/0")
            options = {**login, "db": _database(database)}
            return SentinelRoute(_addresses(parts, SENTINEL_PORT), options, unquote(service), sentinel)
        address, *others = _addresses(parts, REDIS_PORT)
        if others:
            raise ValueError("it names several hosts; write redis://host:6379/0, redis+sentinel:// or redis+cluster://")
        return DirectRoute(parts.scheme, {**login, **address._asdict(), "db": _database(path)})

    def _secret(self, name: str) -> dict[str, str]:
        return {"password": secret(name, self.said[name])} if name in self.said else {}

    def _certificates(self) -> dict[str, str]:
        """The files of TLS, which are tried out: later on they would look like a server that is away."""
        found = {name: path for name, path in self.said.items() if name in _TLS}
        for name, path in found.items():
            readable(name, path)
        try:
            if "ssl_ca_certs" in found:
                ssl.create_default_context(cafile=found["ssl_ca_certs"])
            if "ssl_certfile" in found:
                ssl.create_default_context().load_cert_chain(found["ssl_certfile"], found.get("ssl_keyfile"))
        except ssl.SSLError as error:
            raise ValueError(f"{', '.join(sorted(found))}: not the PEM files of TLS ({error.reason})") from None
        return found


def _count(said: Mapping[str, str], name: str) -> int:
    return count(said[name]) if name in said else 0


def _addresses(parts: SplitResult, port: int) -> list[HostPort]:
    found = [_address(text, port) for text in parts.netloc.rpartition("@")[2].split(",")]
    if not all(address.host for address in found):
        raise ValueError("it names no host; write redis://host:6379/0")
    return found


def _address(text: str, port: int) -> HostPort:
    try:
        one = split(f"//{text}")
        return HostPort(one.hostname or "", port if one.port is None else one.port)
    except ValueError:
        raise ValueError("the port is not a number from 1 to 65535; is a / in the password? write %2F") from None


def _socket(parts: SplitResult) -> dict[str, Any]:
    if parts.hostname or len(parts.path) < 2:
        raise ValueError("it names no socket; write unix:///run/redis.sock")
    return {"path": unquote(parts.path)}


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("the database is a number, as in redis://host:6379/0")
    return int(text or 0)


def _prefix(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError("prefix must not contain braces; they are added around it")
    return text
