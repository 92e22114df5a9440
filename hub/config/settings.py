"""One frozen `Settings`, from flags, the Go image's directives, variables and their ``_FILE`` variants, in that order.

The name of a setting is its field's: ``write_timeout`` is the flag ``--write-timeout`` and the variable
``MERCURE_WRITE_TIMEOUT``. Nothing here reads the process's own environment: `load` is handed one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, get_args

from hub.config import values
from hub.config.go_image import PAGE, PLAYGROUND, VARIABLES, listen_on, without_bolt
from hub.config.issuers import Issuer, read_issuers
from hub.config.setting import Setting, described, settings_of
from hub.config.sources import Gathered, Given, InvalidSetting, gather
from hub.generations import NAMES, PATH, Generation, Protocol
from transports.urls import redact

DEV_KEY = "!ChangeThisMercureHubJWTSecretKey!"
"""The key of the documentation and of ``--dev``; everybody knows it."""

_ADDRESS = ":3000"
_LISTEN = values.listen(_ADDRESS)
_KEY = "Secret, PEM or `file:///path` that {} tokens are verified with; as a flag, `ps` shows it."
_JWKS = "JWK Set (`https://` or `file:///`) that {} tokens are verified with, beside the key."
_ALGORITHM = values.choice(*values.ALGORITHMS)
_CLOSE = 0.81
_DEV_PORTS = ("", ":3000", ":3001", ":4200", ":5173", ":8000", ":8080")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a hub is told before it starts. Times are seconds, sizes bytes; 0 turns a time limit off.

    ``subscriptions``: whether active subscriptions are announced and listed. ``heartbeat``: between comments on a
    silent stream. ``write_timeout``: how long a subscriber's connection lasts. ``dispatch_timeout``: without progress
    until a reader is closed. ``drain``: over which the streams are closed at the end. ``workers``: processes of
    ``mercure-hub serve``. ``resource_identifier``: the ``aud`` of 1.0 tokens; None: the hub's URL as the request names
    it. A role without a key, a JWK Set and an issuer that has one for it has no valid tokens.
    """

    publisher_jwt_key: str | None = described(values.text, "K", "", _KEY.format("publishers'"), secret=True)
    publisher_jwt_alg: str = described(_ALGORITHM, "A", "HS256", "Its algorithm.")
    publisher_jwks_url: str | None = described(values.jwks_url, "URL", "", _JWKS.format("publishers'"), directive=True)
    subscriber_jwt_key: str | None = described(values.text, "K", "", _KEY.format("subscribers'"), secret=True)
    subscriber_jwt_alg: str = described(_ALGORITHM, "A", "HS256", "Its algorithm.")
    subscriber_jwks_url: str | None = described(
        values.jwks_url, "URL", "", _JWKS.format("subscribers'"), directive=True
    )
    issuers: tuple[Issuer, ...] = described(
        read_issuers,
        "[{…}]",
        "",
        "Issuers of 1.0 tokens with keys of their own, as JSON or TOML; best in a file.",
        secret=True,
    )
    transport_url: str = described(
        without_bolt,
        "URL",
        "lmdb://mercure-data",
        "Where updates are kept, such as `memory://` or `lmdb:///data/hub`.",
        directive=True,
    )
    listen: tuple[values.Listen, ...] = described(
        values.listen,
        "HOST:PORT",
        _ADDRESS,
        "Addresses to listen on, between commas; `:3000` is every interface, `:0` any free port, `unix:/path` a socket;"
        " `http://` or `https://` before one says which it is.",
    )
    tls_cert: str | None = described(
        values.text, "FILE", "", "PEM file with the certificate of `https://`, and those that vouch for it."
    )
    tls_key: str | None = described(values.text, "FILE", "", "PEM file with its private key.")
    admin_listen: tuple[values.Address, ...] = described(
        values.addresses,
        "HOST:PORT …",
        "",
        "Addresses for the operator alone: health, `/metrics`, `/stats`, `/export`.",
    )
    max_connections: int = described(
        values.limit, "N", "0", "Open connections of one process; beyond, publishers get 429; `0`: no limit."
    )
    max_subscriptions_per_client: int = described(
        values.limit, "N", "0", "Streams of one token's `sub`, or of one address without a token; `0`: no limit."
    )
    publish_rate: float = described(
        values.rate, "N/s", "0", "Updates a second of one token's `sub`; beyond, it gets 429; `0`: no limit."
    )
    metrics: bool = described(values.boolean, "", "off", "Serve `/metrics` to clients too, not only on `admin_listen`.")
    stats_topics: bool = described(
        values.boolean, "", "off", "Name topics in `/stats`, instead of telling them apart by hashes."
    )
    log_level: str = described(
        values.choice("debug", "info", "warning", "error"),
        "LEVEL",
        "info",
        "Least important lines of the log.",
    )
    log_format: str = described(values.choice("text", "json"), "FORMAT", "text", "`text`, or `json` for a collector.")
    access_log: bool = described(values.boolean, "", "off", "Write a line for each request.")
    traces: str = described(
        values.traces,
        "none|otlp|console",
        "none",
        "Where traces go; `OTEL_…` says the rest. Needs the extra `otel`.",
        also="OTEL_TRACES_EXPORTER",
    )
    tell_reasons: bool = described(
        values.boolean, "", "off", "Tell clients why they are refused; for development, as `--dev` does."
    )
    landing: bool = described(values.boolean, "", "on", "Serve a page at `/` that says what this is.")
    debugger: bool = described(
        values.boolean,
        "",
        "off",
        "Serve the debugger at `/.well-known/mercure/debug/`; `--dev` does.",
        directive=True,
    )
    playground: bool = described(
        values.boolean,
        "",
        "off",
        "For trying: anonymous subscribers, every origin, the debugger, `/playground/…`; never where others reach it.",
        directive=True,
    )
    app: str | None = described(
        values.python_object,
        "MODULE:NAME",
        "",
        "ASGI application of your own on the same port: it gets every path that is not the hub's.",
    )
    name: str = described(
        values.hub_name, "NAME", "default", "The hub's name in the paths of its health.", directive=True
    )
    public_urls: tuple[str, ...] = described(
        values.public_urls,
        "URL …",
        "",
        "URLs that the hub answers on, any if none is set; a request for another host gets 421.",
        directive=True,
    )
    anonymous: bool = described(
        values.boolean, "", "off", "Let subscribers without a token receive public updates.", directive=True
    )
    subscriptions: bool = described(
        values.boolean, "", "off", "Announce and list active subscriptions.", directive=True
    )
    cors_origins: tuple[str, ...] = described(
        values.origins, "ORIGIN …", "", "Origins whose pages may connect from elsewhere.", directive=True
    )
    publish_origins: tuple[str, ...] = described(
        values.origins, "ORIGIN …", "", "Origins whose pages may publish with a cookie.", directive=True
    )
    heartbeat: float = described(
        values.seconds, "TIME", "40s", "Between comments on a silent stream; `0`: none.", directive=True
    )
    write_timeout: float = described(
        values.seconds, "TIME", "600s", "How long a subscriber's connection lasts; `0`: for ever.", directive=True
    )
    dispatch_timeout: float = described(
        values.seconds, "TIME", "5s", "Until a reader without progress is closed; `0`: never.", directive=True
    )
    drain: float = described(values.seconds, "TIME", "8s", "Time over which the streams are closed at the end.")
    workers: int = described(
        values.workers,
        "N",
        "1",
        "Processes that serve; several need `lmdb://` with `lock=shared`, `redis://` or `postgresql://`.",
    )
    protocol: Protocol = described(
        values.choice(*get_args(Protocol)),
        "both|1.0|0.x",
        "both",
        "Generations of the protocol to serve: `both`, `1.0`, `0.x`.",
    )
    strict_protocol: bool = described(
        values.boolean, "", "off", "Leave out what the specification does not have: `last=1` of a subscription."
    )
    trusted_issuers: tuple[str, ...] = described(
        values.issuers, "URI …", "", "Issuers (`iss`) whose 1.0 tokens are accepted."
    )
    resource_identifier: str | None = described(
        values.absolute_uri,
        "URI",
        "",
        "What 1.0 tokens are made for (`aud`), usually the hub's public URL; without it, the URL of the request.",
        directive=True,
    )
    authorization_servers: tuple[str, ...] = described(
        values.issuers, "URI …", "", "Issuers that clients may ask for 1.0 tokens, named in the hub's metadata."
    )
    cookie_name: str = described(
        values.cookie_name,
        "NAME",
        NAMES[Generation.V1].cookie,
        "Cookie that may hold a 1.0 token.",
        directive=True,
    )
    max_request_body_size: int = described(values.body_size, "SIZE", "4MiB", "Largest request body.", directive=True)

    def shown(self) -> dict[str, object]:
        """What may be shown: no key, no password."""
        shown = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        listen = tuple(map(values.shown_listen, self.listen))
        admin = tuple(map(values.shown_address, self.admin_listen))
        trusted = tuple(each.identifier for each in self.issuers)
        addresses = {"listen": listen, "admin_listen": admin}
        return {**shown, "transport_url": redact(self.transport_url), "issuers": trusted, **addresses}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


SETTINGS: Mapping[str, Setting] = {each.name: each for each in settings_of(Settings)}
"""In the order of the README's table."""

OLD_NAMES = {
    "JWT_KEY": "MERCURE_PUBLISHER_JWT_KEY and MERCURE_SUBSCRIBER_JWT_KEY",
    "PUBLISHER_JWT_KEY": "MERCURE_PUBLISHER_JWT_KEY",
    "SUBSCRIBER_JWT_KEY": "MERCURE_SUBSCRIBER_JWT_KEY",
    "ALLOW_ANONYMOUS": "MERCURE_ANONYMOUS",
    "CORS_ALLOWED_ORIGINS": "MERCURE_CORS_ORIGINS",
    "PUBLISH_ALLOWED_ORIGINS": "MERCURE_PUBLISH_ORIGINS",
    "DEMO": "the flag --dev",
    "ADDR": "MERCURE_LISTEN",
    "HEARTBEAT_INTERVAL": "MERCURE_HEARTBEAT",
}
_VARIABLES = (*(each.variable for each in SETTINGS.values()), "MERCURE_EXTRA_DIRECTIVES", "MERCURE_CADDYFILE")
_OF_OTHERS = ("MERCURE_HUB_URL", "MERCURE_TOKEN", "MERCURE_PUBLIC_URL")
"""Our own client's, and Symfony's."""
_KNOWN = frozenset((*_VARIABLES, *(f"{name}_FILE" for name in _VARIABLES), *_OF_OTHERS, *VARIABLES))


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], *, dev: bool = False
) -> tuple[Settings, list[str]]:
    """The settings, and warnings for the operator. Flags are named like the fields; None is a flag that is not given.

    ``dev``: what ``serve --dev`` takes for granted wherever nothing else is said. Raises `InvalidSetting`.
    """
    given = gather(SETTINGS, flags, environment)
    read = {name: _read(name, each) for name, each in given.values.items()}
    warnings = [*given.warnings, *_site_addresses(read, given)]
    if read.get("playground"):
        read = {**{name: SETTINGS[name].read(text) for name, text in PLAYGROUND.items()}, **read}
        # As there: a playground that is given no key at all takes the documentation's.
        if not any(name.endswith(("_key", "_jwks_url")) or name == "issuers" for name in read):
            read |= {"publisher_jwt_key": DEV_KEY, "subscriber_jwt_key": DEV_KEY}
    if dev:
        read = {**_dev(read), **read}
    if read.get("app"):
        read = {"landing": False, **read}  # its own page is at the root
    settings = Settings(**read)
    _demand_keys(settings, environment)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        there, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise InvalidSetting(f"{given.values[there].source}: the file of {SETTINGS[missing].variable} is needed too")
    if not dev:
        _demand_https(settings)
    names = [*_misspelled(environment), *_of_an_older_hub(environment)]
    names += [f"{name} means nothing here: {why} ({PAGE})" for name, why in VARIABLES.items() if environment.get(name)]
    return settings, [*names, *warnings, *_warnings(settings, given, dev=dev)]


def setting(name: str, flags: Mapping[str, object], environment: Mapping[str, str]) -> Any:
    """One setting's value, whatever the others are. Raises `InvalidSetting`."""
    given = gather(SETTINGS, flags, environment).values.get(name)
    return _read(name, given) if given else SETTINGS[name].read(SETTINGS[name].default or "")


def probe_address(flag: str | None, environment: Mapping[str, str], *, dev: bool = False) -> values.Listen:
    """Where a hub with these settings answers a probe on its own machine, whatever the others are.

    ``flag``: an address that counts instead of all others. Raises `InvalidSetting`.
    """
    given = gather(SETTINGS, {"listen": flag}, environment)
    if flag is None and (admin := given.values.get("admin_listen")):
        host, port = _read("admin_listen", admin)[0]
        return values.Listen(host, port, tls=False)
    read = {"listen": _read("listen", given.values["listen"])} if "listen" in given.values else {}
    _site_addresses(read, given)
    listen: tuple[values.Listen, ...] = {**(_dev(read) if dev else {}), **read}.get("listen", _LISTEN)
    certificate = "tls_cert" in given.values
    found = [each._replace(tls=certificate if each.tls is None else each.tls) for each in listen]
    return min(found, key=lambda each: bool(each.tls))


def _read(name: str, given: Given) -> Any:
    try:
        return SETTINGS[name].read(given.text)
    except ValueError as error:
        raise InvalidSetting(f"{given.source}: {error}") from None


def _site_addresses(read: dict[str, Any], given: Gathered) -> list[str]:
    """Take the Go image's site addresses for those to listen on, if nothing else names one."""
    if given.sites is None or "listen" in read:
        return []
    try:
        found = listen_on(given.sites.text, certificate="tls_cert" in given.values)
    except ValueError as error:
        raise InvalidSetting(f"{given.sites.source}: {error}") from None
    read["listen"] = values.listen(found.listen)
    if not found.acme:
        return []
    ports = " and ".join(str(each.port) for each in read["listen"] if not each.tls)
    said = f"no certificate is fetched for {', '.join(found.acme)}: plain HTTP is served on port {ports}"
    cure = "set --tls-cert and --tls-key, or let a reverse proxy end TLS"
    return [f"{given.sites.source}: {said}; {cure} ({PAGE})"]


def _dev(read: Mapping[str, Any]) -> dict[str, Any]:
    port = read.get("listen", _LISTEN)[0].port
    hub = f"http://127.0.0.1:{port or _LISTEN[0].port}"
    # Where pages under development come from: frameworks' usual ports, and the hub's own.
    hosts = (f"{scheme}://{host}" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1"))
    ports = (*_DEV_PORTS, f":{port}") if port else _DEV_PORTS
    origins = tuple(dict.fromkeys(values.origin(host + each) for host in hosts for each in ports))
    return {
        "publisher_jwt_key": DEV_KEY,
        "subscriber_jwt_key": DEV_KEY,
        "listen": (values.Listen("127.0.0.1", port),),
        "anonymous": True,
        "log_level": "warning",
        "tell_reasons": True,
        "debugger": True,
        "cors_origins": origins,
        "publish_origins": origins,
        "trusted_issuers": (hub,),
        "resource_identifier": hub + PATH,
        # A browser refuses the prefix __Secure- over plain HTTP.
        "cookie_name": NAMES[Generation.V1].cookie.removeprefix("__Secure-"),
    }


def _demand_keys(settings: Settings, environment: Mapping[str, str]) -> None:
    """Somebody must be able to publish; who has no token may subscribe where that is allowed."""
    missing = [
        f"{role}_jwt_key"
        for role in ("publisher", "subscriber")
        if not (getattr(settings, f"{role}_jwt_key") or getattr(settings, f"{role}_jwks_url"))
        and not any(getattr(each, role) for each in settings.issuers)
        and not (role == "subscriber" and settings.anonymous)
    ]
    if not missing:
        return
    variables = [SETTINGS[name].variable for name in missing]
    names = " and ".join(variables)
    is_are, it = ("is", "it") if len(missing) == 1 else ("are", "them")
    files = " and ".join(f"{each}_FILE" for each in variables)
    meant = [*_of_an_older_hub(environment), *_misspelled(environment)]
    hints = "".join(f"; {hint}" for hint in meant if "KEY" in hint)
    raise InvalidSetting(f"{names} {is_are} not set: set {it}, or {files}; to try the hub out, add --dev{hints}")


def _demand_https(settings: Settings) -> None:
    """Keys that come over a network that others can write to are everybody's keys."""
    sources = [
        *((SETTINGS[name].variable, getattr(settings, name)) for name in ("publisher_jwks_url", "subscriber_jwks_url")),
        *(
            (f"the issuer {each.identifier}", role.jwks_url)
            for each in settings.issuers
            for role in (each.publisher, each.subscriber)
            if role is not None
        ),
    ]
    for where, url in sources:
        if url and url.startswith("http://"):
            raise InvalidSetting(f"{where}: keys are fetched over https:// only; http:// is for --dev")


def _misspelled(environment: Mapping[str, str]) -> list[str]:
    """A name that is nearly one of ours may be a typo, or another program's: Symfony, Kubernetes and the Go hub share
    the prefix, and an application may have a ``MERCURE_URL`` of its own.
    """
    ours = {known.removeprefix("MERCURE_"): known for known in sorted(_KNOWN)}
    found = []
    for name in sorted(environment):
        if not name.startswith("MERCURE_") or name in _KNOWN or not environment[name]:
            continue
        if near := get_close_matches(name.removeprefix("MERCURE_"), ours, n=1, cutoff=_CLOSE):
            found.append(f"{name} is not a setting of the hub and is ignored; did you mean {ours[near[0]]}?")
    return found


def _of_an_older_hub(environment: Mapping[str, str]) -> list[str]:
    """The environment of the Go hub before 0.11, with the names that replace it."""
    return [f"{old} is not read here; it is now {new}" for old, new in OLD_NAMES.items() if environment.get(old)]


def _warnings(settings: Settings, given: Gathered, *, dev: bool) -> list[str]:
    found = []
    url = given.values.get("transport_url")
    if url and url.text.startswith("bolt://"):
        shown = redact(settings.transport_url)
        found.append(
            f"{url.source}: there is no Bolt file here; updates are kept in {shown}, which starts empty;"
            f" mercure-hub import --bolt brings the old ones ({PAGE})"
        )
    if url and url.text.startswith("local://"):
        found.append(f"{url.source}: the newest updates are kept in memory all the same, as memory:// does")
    if settings.playground:
        found.append(
            f"{given.values['playground'].source} is for trying: anybody may subscribe, and every page may publish with"
            " its visitors' cookies; leave it out where others reach the hub"
        )
    if DEV_KEY in (settings.publisher_jwt_key, settings.subscriber_jwt_key) and (
        not dev or any(each.host not in _LOOPBACK for each in settings.listen)
    ):
        found.append("the key is the documentation's, which everybody knows: set keys of your own")
    return found
