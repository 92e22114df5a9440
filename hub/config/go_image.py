"""The environment of the Go hub's image in our settings' words: its Caddyfile, its site addresses, its Bolt file.

What can't mean anything here is accepted with a warning that says what to do instead; a directive that nobody knows
ends the start, as it does there. ``docs/coming-from-the-go-hub.md`` has the table of all of it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from hub.config.caddyfile import Directive
from hub.config.values import boolean, port_number

PAGE = "docs/coming-from-the-go-hub.md"
"""Where all of this is explained."""

VARIABLES: Mapping[str, str] = {
    "GLOBAL_OPTIONS": "they are Caddy's; --listen, --tls-cert and --log-level are the hub's own",
    "CADDY_GLOBAL_OPTIONS": "they are Caddy's; --listen and --tls-cert are the hub's own",
    "CADDY_EXTRA_CONFIG": "the hub serves nothing but Mercure; put it into the proxy in front",
    "CADDY_SERVER_EXTRA_DIRECTIVES": "the hub serves nothing but Mercure; put them into the proxy in front",
    "CADDY_SERVER_LOG_OPTIONS": "the hub's log has no such options",
    "EXTRA_DIRECTIVES": "the hub serves nothing but Mercure; put them into the proxy in front",
    "FRANKENPHP_CONFIG": "there is no PHP here; the application stays in its own container",
    "FRANKENPHP_SITE_CONFIG": "there is no PHP here; the application stays in its own container",
    "FRANKENPHP_WORKER_CONFIG": "there is no PHP here; the application stays in its own container",
    "MERCURE_LICENSE": "the hub needs no licence, with any store",
}
"""Variables that the Go image reads and that can mean nothing here, each with the reason and the way out."""

MEANINGLESS: Mapping[str, str] = {
    "topic_selector_cache": "matchers are cached without a setting",
    "topic_matcher_cache": "matchers are cached without a setting",
    "topic_matcher_cache_size": "matchers are cached without a setting",
    "subscriber_list_cache_size": "subscribers are indexed by topic, without a cache to size",
    "subscriber_list_cache": "subscribers are indexed by topic, without a cache to size",
    "metrics_enabled": "metrics are always there, on --admin-listen; --metrics serves them to clients too",
}
"""Directives that are accepted and change nothing, each with the reason."""

OWN: Mapping[str, str] = {
    "transport": "`bolt { path size cleanup_frequency bucket_name }` or `local`",
    "publisher_jwt": "`KEY [ALG]`: `MERCURE_PUBLISHER_JWT_KEY` and `_ALG`",
    "subscriber_jwt": "`KEY [ALG]`: `MERCURE_SUBSCRIBER_JWT_KEY` and `_ALG`",
    "issuer": "`ID { authorization_server; publisher { … } subscriber { … } }`: one of `MERCURE_ISSUERS`",
    "protocol_version_compatibility": "`7` or `8`: 0.x is served, as it is by default",
    "ui": "the debugger, as older versions call it",
    "demo": "the debugger, as older versions call it",
}
"""Directives that are more than a setting of the same name."""

DEBUGGERS = ("ui", "demo")
"""What ``debugger`` was called before."""

PLAYGROUND: Mapping[str, str] = {
    "debugger": "on",
    "anonymous": "on",
    "subscriptions": "on",
    "cookie_name": "mercure_access_token",
    "cors_origins": "*",
    "publish_origins": "*",
}
"""What ``playground`` takes for granted wherever nothing else is said."""

_BOLT = ("path", "size", "cleanup_frequency", "bucket_name")
_BOLT_FILE = "/data/mercure.db"
_WRAPPERS = ("route", "handle", "handle_path")
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".home.arpa")


@dataclass
class Understood:
    """``values``: settings' texts by their fields' names."""

    values: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Site(NamedTuple):
    """The part of a Caddyfile that has the hub: the addresses of the site, its directive ``mercure``, and the rest."""

    addresses: str
    mercure: tuple[Directive, ...]
    others: tuple[Directive, ...]


def site_of(caddyfile: Sequence[Directive]) -> Site:
    """The one site with a directive ``mercure``, which may stand in a ``route``. ValueError: none, or several."""
    sites = [site for site in _sites(caddyfile) if site.mercure]
    if len(sites) != 1:
        raise ValueError(f"it has {len(sites)} sites with a directive mercure; a hub serves one")
    return sites[0]


def _sites(caddyfile: Sequence[Directive]) -> Iterator[Site]:
    rest = [each for each in caddyfile if each.name and not each.name.startswith("(")]
    if rest and rest[0].block is None:
        # A file of one site may leave its braces out: the first line has its addresses.
        rest = [rest[0]._replace(block=tuple(rest[1:]))]
    for each in rest:
        inside = list(_unwrapped(each.block or ()))
        mercure = tuple(one for one in inside if one.name == "mercure" and one.block is not None)
        others = tuple(one for one in inside if one.name != "mercure")
        yield Site(" ".join((each.name, *each.arguments)), mercure[0].block or () if mercure else (), others)


def _unwrapped(directives: Iterable[Directive]) -> Iterator[Directive]:
    for each in directives:
        if each.name in _WRAPPERS and each.block is not None:
            yield from _unwrapped(each.block)
        else:
            yield each


def understand(mercure: Iterable[Directive], takes: Mapping[str, str]) -> Understood:
    """What the directives of ``mercure`` say. Of one that is given twice the last counts, as in Caddy.

    ``takes``: the settings that are directives, each with the number of its values: ``none``, ``one``, ``several``.
    ValueError names a directive that is unknown, incomplete or can't be kept; it never shows a value of one.
    """
    understood = Understood()
    issuers: list[dict[str, Any]] = []
    compatible = False
    for each in mercure:
        if each.name == "issuer":
            issuers.append(_issuer(each))
        elif each.name == "protocol_version_compatibility":
            if each.arguments not in (("7",), ("8",)):
                raise ValueError(f"directive {each.name!r} takes 7 or 8")
            understood.values["protocol"], compatible = "both", True
        else:
            _apply(each, takes, understood)
    if compatible:
        _take_keys_of(issuers, understood.values)
    if issuers:
        understood.values["issuers"] = json.dumps(issuers)
    return understood


def _apply(each: Directive, takes: Mapping[str, str], understood: Understood) -> None:
    values = understood.values
    if each.name in DEBUGGERS:
        values["debugger"] = _value(each, "none")
    elif each.name == "transport":
        values["transport_url"] = _transport(each)
    elif each.name in ("publisher_jwt", "subscriber_jwt"):
        values |= _key(each)
    elif each.name in MEANINGLESS:
        understood.warnings.append(f"directive {each.name!r} changes nothing: {MEANINGLESS[each.name]}")
    elif each.name not in takes:
        raise _unknown(each.name, takes)
    else:
        values[each.name] = _value(each, takes[each.name])


def _unknown(name: str, takes: Iterable[str]) -> ValueError:
    names = sorted({*takes, *OWN, *MEANINGLESS})
    near = get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return ValueError(f"directive {name[:60]!r} is unknown here; {meant}There are {', '.join(names)}")


def _value(each: Directive, takes: str) -> str:
    """The setting's text. A switch may say ``off``; origins and URLs may stand between commas, or end in a slash."""
    if takes == "none" and len(each.arguments) <= 1:
        return "on" if not each.arguments or boolean(each.arguments[0]) else "off"
    fits, wanted = {
        "none": (False, "no value"),
        "one": (len(each.arguments) == 1, "one value"),
        "several": (bool(each.arguments), "one value or more"),
    }[takes]
    if not fits or each.block is not None:
        raise ValueError(f"directive {each.name!r} takes {wanted}")
    return " ".join(each.arguments)


def _key(each: Directive) -> dict[str, str]:
    """``KEY [ALG]``; where the image's variables are empty there are none, and nothing is said."""
    if len(each.arguments) > 2 or (not each.arguments) or each.block is not None:
        raise ValueError(f"directive {each.name!r} takes a key and maybe its algorithm")
    key, algorithm = (*each.arguments, "")[:2]
    found = {f"{each.name}_key": key, f"{each.name}_alg": algorithm or "HS256"}
    return found if key else {}


def _issuer(each: Directive) -> dict[str, Any]:
    """One of `hub.config.issuers`, as its JSON has it."""
    if len(each.arguments) != 1 or each.block is None:
        raise ValueError("directive 'issuer' takes the issuer's identifier and a block")
    found: dict[str, Any] = {"issuer": each.arguments[0]}
    for part in each.block:
        if part.name == "authorization_server" and not part.arguments:
            found["authorization_server"] = True
        elif part.name in ("publisher", "subscriber") and part.block is not None and not part.arguments:
            if verifier := _verifier(part):
                found[part.name] = verifier
        else:
            raise ValueError(
                f"directive 'issuer': {part.name[:60]!r} is unknown there; there are authorization_server, publisher"
                " and subscriber, the last two with a block"
            )
    return found


def _verifier(role: Directive) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in role.block or ():
        if each.name == "jwt" and 1 <= len(each.arguments) <= 2:
            key, algorithm = (*each.arguments, "")[:2]
            found |= {"jwt": key, "alg": algorithm or "HS256"} if key else {}
        elif each.name == "jwks_uri" and each.arguments:
            found["jwks_uri"], *algorithms = each.arguments
            found |= {"algorithms": algorithms} if algorithms else {}
        else:
            raise ValueError(
                f"directive 'issuer': {role.name} takes jwt KEY [ALG] or jwks_uri URL [ALG …], not {each.name[:60]!r}"
            )
    if "jwt" in found and "jwks_uri" in found:
        raise ValueError(f"directive 'issuer': {role.name} takes jwt or jwks_uri, not both")
    return found


def _take_keys_of(issuers: Iterable[Mapping[str, Any]], values: dict[str, str]) -> None:
    """In compatibility mode 0.x tokens, which name no issuer, are verified with the first issuer's key."""
    for issuer in issuers:
        for role in ("publisher", "subscriber"):
            key = issuer.get(role, {}).get("jwt")
            if key and f"{role}_jwt_key" not in values:
                values |= {f"{role}_jwt_key": key, f"{role}_jwt_alg": issuer[role]["alg"]}


def _transport(each: Directive) -> str:
    """The URL that a block says. The options of one may also stand in one line."""
    if each.arguments == ("local",):
        return "local://"
    if each.arguments != ("bolt",):
        raise ValueError("directive 'transport' takes bolt or local; transport_url takes every URL of this hub's")
    words = [word for option in each.block or () for word in option.words]
    options = dict(zip(words[::2], words[1::2], strict=False))
    unknown = [name for name in words[::2] if name not in _BOLT]
    if unknown or len(words) % 2:
        raise ValueError(f"directive 'transport': bolt takes {', '.join(_BOLT)}, each with one value")
    path = options.pop("path", _BOLT_FILE)
    return f"bolt://{path}{'?' if options else ''}{urlencode(options)}"


class Addresses(NamedTuple):
    """``listen``: the setting's text. ``acme``: the names for which the Go image would have got certificates."""

    listen: str
    acme: tuple[str, ...]


def listen_on(server_name: str, *, certificate: bool) -> Addresses:
    """Where a hub listens whose site addresses, between spaces or commas, are these.

    As in Caddy a name without a port has TLS on 443, and plain HTTP on 80 beside it. A name of this machine gets a
    self-signed certificate; any other has TLS where a ``certificate`` is set, and plain HTTP otherwise.
    ValueError: no address.
    """
    plain: dict[int, None] = {}
    tls: dict[int, None] = {}
    acme: list[str] = []
    for address in filter(None, re.split(r"[\s,]+", server_name)):
        site = _site(address)
        if site.plain:
            plain[site.port or 80] = None
            continue
        if site.port is None:
            plain[80] = None
        if certificate or _is_local(site.host):
            tls[site.port or 443] = None
        else:
            acme.append(address)
            plain[site.port or 80] = None
    if not plain and not tls:
        raise ValueError(f"{server_name!r} names no address; name one, such as :80")
    both = [f"http://:{port}" for port in plain if port not in tls] + [f"https://:{port}" for port in tls]
    return Addresses(",".join(both), tuple(acme))


class _Address(NamedTuple):
    """``plain``: without TLS, for sure. ``port``: None where none is named. ``host``: empty for every one."""

    plain: bool
    host: str
    port: int | None


def _site(address: str) -> _Address:
    scheme, separator, rest = address.rpartition("://")
    if separator and scheme not in ("http", "https"):
        raise ValueError(f"{address!r} is not a site address such as :80 or http://localhost:8080")
    host, colon, port = rest.partition("/")[0].rpartition(":")
    if not colon or port.endswith("]"):
        return _Address(scheme == "http", f"{host}{colon}{port}", None)
    number = port_number(port)
    plain = scheme == "http" or (scheme != "https" and (number == 80 or (not host and number != 443)))
    return _Address(plain, host, number)


def _is_local(host: str) -> bool:
    """Whether no public authority gives a certificate for that name; Caddy's own does."""
    bare = host.removeprefix("[").removesuffix("]").lower()
    try:
        return ip_address(bare).is_private
    except ValueError:
        return not bare or bare == "localhost" or bare.endswith(_LOCAL_NAMES) or "." not in bare


def without_bolt(url: str) -> str:
    """``bolt://`` of a file as ``lmdb://`` of a directory beside it, ``local://`` as ``memory://``; others as they are.

    The file's suffix goes (a name without one gets ``.lmdb``: the file itself is in the way), and so do the parameters
    that speak of Bolt alone. ValueError: it names no file.
    """
    if url.startswith("local://"):
        return "memory://"
    if not url.startswith("bolt://"):
        return url
    parts = urlsplit(url)
    path = PurePosixPath(parts.netloc + parts.path)
    if not path.name:
        raise ValueError("bolt:// names no file; lmdb:///data/mercure names a directory")
    # size=0 is Bolt's word for "all of them", which is what a URL without a size says. The others were copied from the
    # settings into the URL by the Go hub itself.
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query)
        if name not in ("cleanup_frequency", "bucket_name", "write_timeout", "subscriptions")
        and (name, value) != ("size", "0")
    ]
    return f"lmdb://{path.with_suffix('' if path.suffix else '.lmdb')}{'?' if kept else ''}{urlencode(kept)}"
