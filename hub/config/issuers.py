"""Who issues tokens, and with which keys they are verified: one of ``MERCURE_ISSUERS``, as JSON or TOML."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.config.values import ALGORITHMS, absolute_uri, jwks_url


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the keys of one role come from: ``key`` with its one algorithm, or ``jwks_url``.

    ``key``: a secret, a PEM text, or where a file has it. ``algorithms``: those that a JWK Set's keys may verify; none
    named, all that are asymmetric.
    """

    key: str = field(default="", repr=False)
    algorithms: tuple[str, ...] = ()
    jwks_url: str = ""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer (``iss``). None for a role: its tokens are refused there.

    ``authorization_server``: whether the hub's metadata names it.
    """

    identifier: str
    publisher: KeySource | None = None
    subscriber: KeySource | None = None
    authorization_server: bool = False


def read_issuers(text: str) -> tuple[Issuer, ...]:
    """A JSON list, or TOML with a table ``[[issuers]]`` for each. ValueError; never with a key in it."""
    listed = _parsed(text) if text.strip() else []
    found = tuple(_issuer(each, number) for number, each in enumerate(listed, 1))
    names = [each.identifier for each in found]
    if len(set(names)) != len(names):
        raise ValueError("an issuer is there twice; put all of its keys into one file or JWK Set")
    return found


def _parsed(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = tomllib.loads(text).get("issuers")
        except (ValueError, RecursionError):
            raise ValueError('it is neither JSON such as [{"issuer": "https://…"}] nor TOML with [[issuers]]') from None
    if not isinstance(found, list):
        raise ValueError('it is no list of issuers such as [{"issuer": "https://…"}], or [[issuers]] in TOML')
    return found


def _issuer(entry: object, number: int) -> Issuer:
    known = ("issuer", "authorization_server", "publisher", "subscriber")
    if not isinstance(entry, dict) or not isinstance(entry.get("issuer"), str) or set(entry) - set(known):
        raise ValueError(f"entry {number} needs issuer, and may have authorization_server, publisher, subscriber")
    server = entry.get("authorization_server", False)
    if not isinstance(server, bool):
        raise ValueError(f"entry {number}: authorization_server is true or false")
    roles = {role: _source(entry[role], f"entry {number}, {role}") for role in known[2:] if entry.get(role)}
    return Issuer(absolute_uri(entry["issuer"]), roles.get("publisher"), roles.get("subscriber"), server)


def _source(entry: object, where: str) -> KeySource:
    wants = f"{where} takes jwt with alg, or jwks_uri with algorithms"
    if not isinstance(entry, Mapping) or set(entry) - {"jwt", "alg", "jwks_uri", "algorithms"}:
        raise ValueError(wants)
    key, url = entry.get("jwt"), entry.get("jwks_uri")
    if isinstance(key, str) and url is None and "algorithms" not in entry:
        return KeySource(key, (_algorithm(entry.get("alg", "HS256"), where),))
    listed = entry.get("algorithms", [])
    if isinstance(url, str) and key is None and "alg" not in entry and isinstance(listed, list):
        return KeySource(algorithms=tuple(_algorithm(each, where) for each in listed), jwks_url=jwks_url(url))
    raise ValueError(wants)


def _algorithm(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in ALGORITHMS:
        raise ValueError(f"{where}: an algorithm is one of {', '.join(ALGORITHMS)}")
    return value
