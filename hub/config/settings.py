"""One frozen `Settings`, from flags, variables, their ``_FILE`` variants and the Go image's directives, in that order.

The name of a setting is its field's: ``write_timeout`` is the flag ``--write-timeout`` and the variable
``MERCURE_WRITE_TIMEOUT``. Nothing here reads the process's own environment: `load` is handed one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hub.config import values
from hub.config.go_image import directives, site_port, without_bolt
from transports.urls import redact

DEV_KEY = "!ChangeThisMercureHubJWTSecretKey!"
"""The key of the documentation and of ``--dev``; everybody knows it."""

PATH = "/.well-known/mercure"

_LISTEN = ((values.EVERY_INTERFACE, 3000),)
_CLOSE = 0.81
_DEV_PORTS = ("", ":3000", ":3001", ":4200", ":5173", ":8000", ":8080")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class InvalidSetting(ValueError):
    """One line that names the setting and the way out, and never holds a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a hub is told before it starts. Times are seconds, sizes bytes; 0 turns a time limit off.

    ``subscriptions``: whether active subscriptions are announced and listed. ``heartbeat``: between comments on a
    silent stream. ``write_timeout``: how long a subscriber's connection lasts. ``dispatch_timeout``: without progress
    until a reader is closed. ``drain``: over which subscribers are let go at the end. ``workers``: processes of
    ``mercure-hub serve``. ``listen``: each as `hub.config.values.address` has it. ``resource_identifier``: the ``aud``
    of 1.0 tokens; None: the hub's URL as the request names it.
    """

    publisher_jwt_key: str = field(repr=False)
    subscriber_jwt_key: str = field(repr=False)
    publisher_jwt_alg: str = "HS256"
    subscriber_jwt_alg: str = "HS256"
    transport_url: str = "lmdb://mercure-data"
    listen: tuple[values.Address, ...] = _LISTEN
    anonymous: bool = False
    subscriptions: bool = False
    cors_origins: tuple[str, ...] = ()
    publish_origins: tuple[str, ...] = ()
    heartbeat: float = 40.0
    write_timeout: float = 600.0
    dispatch_timeout: float = 5.0
    drain: float = 8.0
    workers: int = 1
    protocol: Literal["both", "1.0", "0.x"] = "both"
    trusted_issuers: tuple[str, ...] = ()
    resource_identifier: str | None = None
    authorization_servers: tuple[str, ...] = ()
    cookie_name: str = "__Secure-mercure_access_token"
    max_request_body_size: int = 4 * 1024 * 1024

    def shown(self) -> dict[str, object]:
        """What may be shown: no key, no password."""
        shown = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        listen = tuple(values.shown_address(each) for each in self.listen)
        return {**shown, "transport_url": redact(self.transport_url), "listen": listen}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


READERS: Mapping[str, values.Reader] = {
    "publisher_jwt_key": values.text,
    "publisher_jwt_alg": values.choice(*values.ALGORITHMS),
    "subscriber_jwt_key": values.text,
    "subscriber_jwt_alg": values.choice(*values.ALGORITHMS),
    "transport_url": without_bolt,
    "listen": values.addresses,
    "anonymous": values.boolean,
    "subscriptions": values.boolean,
    "cors_origins": values.origins,
    "publish_origins": values.origins,
    "heartbeat": values.seconds,
    "write_timeout": values.seconds,
    "dispatch_timeout": values.seconds,
    "drain": values.seconds,
    "workers": values.workers,
    "protocol": values.choice("both", "1.0", "0.x"),
    "trusted_issuers": values.issuers,
    "resource_identifier": values.absolute_uri,
    "authorization_servers": values.issuers,
    "cookie_name": values.cookie_name,
    "max_request_body_size": values.body_size,
}

_OLD_NAMES = {
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
_VARIABLES = tuple(f"MERCURE_{name.upper()}" for name in (*READERS, "extra_directives"))
_OF_THE_CLIENT = ("MERCURE_HUB_URL", "MERCURE_TOKEN")
_KNOWN = frozenset((*_VARIABLES, *(f"{name}_FILE" for name in _VARIABLES), *_OF_THE_CLIENT))


class Given(NamedTuple):
    """A setting's text, and where it stands, for the error that it may end in."""

    text: str
    source: str


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], *, dev: bool = False
) -> tuple[Settings, list[str]]:
    """The settings, and warnings for the operator. Flags are named like the fields; None is a flag that is not given.

    ``dev``: what ``serve --dev`` takes for granted wherever nothing else is said. Raises `InvalidSetting`.
    """
    given = _gather(flags, environment)
    read = {name: _read(name, each) for name, each in given.items()}
    warnings = _site_address(read, environment)
    if dev:
        read = {**_dev(read), **read}
    _demand_keys(read, environment)
    settings = Settings(**read)
    names = [*_misspelled(environment), *_of_an_older_hub(environment)]
    return settings, [*names, *warnings, *_warnings(settings, given, dev=dev)]


def variable(name: str, environment: Mapping[str, str]) -> Given | None:
    """What ``MERCURE_NAME`` says, or the file that ``MERCURE_NAME_FILE`` names; None: neither is set.

    Raises `InvalidSetting`: both are set, or the file cannot be read.
    """
    direct = f"MERCURE_{name.upper()}"
    indirect = f"{direct}_FILE"
    value, path = environment.get(direct), environment.get(indirect)
    if value and path:
        raise InvalidSetting(f"{direct} and {indirect} are both set: unset one of them")
    if path:
        return Given(_contents(path, indirect), indirect)
    return Given(value, direct) if value else None


def listen_address(flag: str | None, environment: Mapping[str, str], *, dev: bool = False) -> values.Address:
    """The first address that a hub with these settings listens on, whatever the others are. Raises `InvalidSetting`."""
    given = _gather({"listen": flag}, environment).get("listen")
    read = {"listen": _read("listen", given)} if given else {}
    _site_address(read, environment)
    listen: tuple[values.Address, ...] = {**(_dev(read) if dev else {}), **read}.get("listen", _LISTEN)
    return listen[0]


def _contents(path: str, name: str) -> str:
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise InvalidSetting(f"{name}: {path!r} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InvalidSetting(f"{name}: {path!r} is not UTF-8 text") from None
    if not text:
        raise InvalidSetting(f"{name}: {path!r} is empty")
    return text


def _gather(flags: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, Given]:
    found = _directives(environment)
    for name in READERS:
        if (value := flags.get(name)) is not None:
            found[name] = Given(str(value), f"--{name.replace('_', '-')}")
        elif each := variable(name, environment):
            found[name] = each
    return found


def _directives(environment: Mapping[str, str]) -> dict[str, Given]:
    extra = variable("extra_directives", environment)
    if extra is None:
        return {}
    try:
        found = directives(extra.text)
    except ValueError as error:
        raise InvalidSetting(f"{extra.source}: {error}") from None
    return {name: Given(value, f"{extra.source}: {name}") for name, value in found.items()}


def _read(name: str, given: Given) -> Any:
    try:
        return READERS[name](given.text)
    except ValueError as error:
        raise InvalidSetting(f"{given.source}: {error}") from None


def _site_address(read: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Take the Go image's ``SERVER_NAME`` for the address to listen on, if nothing else names one."""
    name = environment.get("SERVER_NAME")
    if not name or "listen" in read:
        return []
    try:
        port, tls = site_port(name)
    except ValueError as error:
        raise InvalidSetting(f"SERVER_NAME: {error}") from None
    read["listen"] = ((values.EVERY_INTERFACE, port),)
    served = f"SERVER_NAME: plain HTTP is served on port {port}; TLS for {name!r} is the reverse proxy's business"
    return [served] if tls else []


def _dev(read: Mapping[str, Any]) -> dict[str, Any]:
    port = read.get("listen", _LISTEN)[0][1]
    hub = f"http://127.0.0.1:{port or _LISTEN[0][1]}"
    # Where pages under development come from: frameworks' usual ports, and the hub's own.
    hosts = (f"{scheme}://{host}" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1"))
    ports = (*_DEV_PORTS, f":{port}") if port else _DEV_PORTS
    origins = tuple(dict.fromkeys(values.origin(host + each) for host in hosts for each in ports))
    return {
        "publisher_jwt_key": DEV_KEY,
        "subscriber_jwt_key": DEV_KEY,
        "listen": (("127.0.0.1", port),),
        "anonymous": True,
        "cors_origins": origins,
        "publish_origins": origins,
        "trusted_issuers": (hub,),
        "resource_identifier": hub + PATH,
        # A browser refuses the prefix __Secure- over plain HTTP.
        "cookie_name": "mercure_access_token",
    }


def _demand_keys(read: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    missing = [name for name in ("publisher_jwt_key", "subscriber_jwt_key") if name not in read]
    if not missing:
        return
    names = " and ".join(f"MERCURE_{name.upper()}" for name in missing)
    is_are, it = ("is", "it") if len(missing) == 1 else ("are", "them")
    files = " and ".join(f"MERCURE_{name.upper()}_FILE" for name in missing)
    meant = [*_of_an_older_hub(environment), *_misspelled(environment)]
    hints = "".join(f"; {hint}" for hint in meant if "KEY" in hint)
    raise InvalidSetting(f"{names} {is_are} not set: set {it}, or {files}; to try the hub out, add --dev{hints}")


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
    return [f"{old} is not read here; it is now {new}" for old, new in _OLD_NAMES.items() if environment.get(old)]


def _warnings(settings: Settings, given: Mapping[str, Given], *, dev: bool) -> list[str]:
    found = []
    if (url := given.get("transport_url")) and url.text.startswith("bolt://"):
        shown = redact(settings.transport_url)
        found.append(f"{url.source}: there is no Bolt file here; updates are kept in {shown}, which starts empty")
    if DEV_KEY in (settings.publisher_jwt_key, settings.subscriber_jwt_key) and (
        not dev or any(host not in _LOOPBACK for host, _ in settings.listen)
    ):
        found.append("the key is the documentation's, which everybody knows: set keys of your own")
    return found
