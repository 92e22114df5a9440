"""One frozen `Settings`, from flags, variables, their ``_FILE`` variants and the Go image's directives, in that order.

The name of a setting is its field's: ``write_timeout`` is the flag ``--write-timeout`` and the variable
``MERCURE_WRITE_TIMEOUT``. Nothing here reads the process's own environment: `load` is handed one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args

from hub.config import values
from hub.config.go_image import directives, site_port, without_bolt
from hub.config.setting import Setting, described, settings_of
from hub.generations import NAMES, PATH, Generation, Protocol
from transports.urls import redact

DEV_KEY = "!ChangeThisMercureHubJWTSecretKey!"
"""The key of the documentation and of ``--dev``; everybody knows it."""

_ADDRESS = ":3000"
_LISTEN = values.addresses(_ADDRESS)
_KEY = "Secret, PEM or `file:///path` that {} tokens are verified with; as a flag, `ps` shows it."
_ALGORITHM = values.choice(*values.ALGORITHMS)
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
    until a reader is closed. ``drain``: over which the streams are closed at the end. ``workers``: processes of
    ``mercure-hub serve``. ``listen``: each as `hub.config.values.address` has it. ``resource_identifier``: the ``aud``
    of 1.0 tokens; None: the hub's URL as the request names it.
    """

    publisher_jwt_key: str = described(values.text, "K", None, _KEY.format("publishers'"), secret=True)
    publisher_jwt_alg: str = described(_ALGORITHM, "A", "HS256", "Its algorithm.")
    subscriber_jwt_key: str = described(values.text, "K", None, _KEY.format("subscribers'"), secret=True)
    subscriber_jwt_alg: str = described(_ALGORITHM, "A", "HS256", "Its algorithm.")
    transport_url: str = described(
        without_bolt,
        "URL",
        "lmdb://mercure-data",
        "Where updates are kept, such as `memory://` or `lmdb:///data/hub`.",
        directive=True,
    )
    listen: tuple[values.Address, ...] = described(
        values.addresses,
        "HOST:PORT",
        _ADDRESS,
        "Addresses to listen on, between commas; `:3000` is every interface, `:0` any free port.",
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
        values.workers, "N", "1", "Processes that serve; several need `lmdb://` with `lock=shared`, or `redis://`."
    )
    protocol: Protocol = described(
        values.choice(*get_args(Protocol)),
        "both|1.0|0.x",
        "both",
        "Generations of the protocol to serve: `both`, `1.0`, `0.x`.",
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
        listen = tuple(values.shown_address(each) for each in self.listen)
        return {**shown, "transport_url": redact(self.transport_url), "listen": listen}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


SETTINGS: Mapping[str, Setting] = {each.name: each for each in settings_of(Settings)}
"""In the order of the README's table."""

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
_DIRECTIVES = {each.name: each.values for each in SETTINGS.values() if each.directive}
_VARIABLES = (*(each.variable for each in SETTINGS.values()), "MERCURE_EXTRA_DIRECTIVES")
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
    for name, setting in SETTINGS.items():
        if (value := flags.get(name)) is not None:
            found[name] = Given(str(value), setting.flag)
        elif each := variable(name, environment):
            found[name] = each
    return found


def _directives(environment: Mapping[str, str]) -> dict[str, Given]:
    extra = variable("extra_directives", environment)
    if extra is None:
        return {}
    try:
        found = directives(extra.text, _DIRECTIVES)
    except ValueError as error:
        raise InvalidSetting(f"{extra.source}: {error}") from None
    return {name: Given(value, f"{extra.source}: {name}") for name, value in found.items()}


def _read(name: str, given: Given) -> Any:
    try:
        return SETTINGS[name].read(given.text)
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
        "cookie_name": NAMES[Generation.V1].cookie.removeprefix("__Secure-"),
    }


def _demand_keys(read: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    missing = [name for name in ("publisher_jwt_key", "subscriber_jwt_key") if name not in read]
    if not missing:
        return
    variables = [SETTINGS[name].variable for name in missing]
    names = " and ".join(variables)
    is_are, it = ("is", "it") if len(missing) == 1 else ("are", "them")
    files = " and ".join(f"{each}_FILE" for each in variables)
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
