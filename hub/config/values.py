"""What the text of one setting says; every reader raises ValueError, with a sentence that a person can act on."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlsplit

from transports.urls import count, duration, size_in_bytes

Reader = Callable[[str], object]
Address = tuple[str, int]
"""Host and port."""
EVERY_INTERFACE = ""
"""The host that stands for every interface, with IPv4 and IPv6; ``0.0.0.0`` has IPv4 alone."""


class Listen(NamedTuple):
    """An address to listen on. ``tls``: None where it says neither, which depends on whether a certificate is set."""

    host: str
    port: int
    tls: bool | None = None

    @property
    def address(self) -> Address:
        """Without what is spoken there."""
        return self.host, self.port


UNIX = "unix:"
"""What the address of a Unix socket begins with."""
_LONGEST_PATH = 107  # unix(7)

ALGORITHMS = (*(f"{family}{bits}" for family in ("HS", "RS", "PS", "ES") for bits in (256, 384, 512)), "EdDSA")

_SHORTEST, _LONGEST = 0.01, 366 * 86400.0
_SMALLEST_BODY, _LARGEST_BODY = 1024, 1024**3
_MOST_WORKERS = 256
_YES = frozenset({"1", "true", "on", "yes"})
_NO = frozenset({"0", "false", "off", "no"})
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://((?:\*\.)?[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?/?", re.IGNORECASE)
_ABSOLUTE_URI = re.compile(r"[a-z][a-z0-9+.-]*:[!-~]+", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SENDS_TRACES = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_DEFAULT_PORT = {"http": "80", "https": "443"}


def text(value: str) -> str:
    """The value as it is."""
    return value


def boolean(value: str) -> bool:
    """1, true, on, yes; 0, false, off, no."""
    word = value.lower()
    if word not in _YES | _NO:
        raise ValueError(f"{value!r} is neither true nor false (1, on, yes; 0, off, no)")
    return word in _YES


def seconds(value: str) -> float:
    """Seconds: 0, or between 10 ms and 366 days."""
    length = duration(value)
    if length and not _SHORTEST <= length <= _LONGEST:
        raise ValueError(f"{value[:40]!r} is out of range: 0, or 10ms to 366d")
    return length


def body_size(value: str) -> int:
    """Bytes, from 1 KiB to 1 GiB; 0 is the most, for a body must fit into memory."""
    size = size_in_bytes(value) or _LARGEST_BODY
    if not _SMALLEST_BODY <= size <= _LARGEST_BODY:
        raise ValueError(f"{value[:40]!r} is out of range: 1KiB to 1GiB, or 0 for the most")
    return size


def workers(value: str) -> int:
    """Processes, from 1 to 256."""
    number = count(value)
    if number > _MOST_WORKERS:
        raise ValueError(f"{value[:40]!r} is out of range: 1 to {_MOST_WORKERS}")
    return number


def limit(value: str) -> int:
    """A whole number; 0 is no limit."""
    return 0 if value == "0" else count(value)


def rate(value: str) -> float:
    """So many a second, a minute or an hour: ``100/s``, ``10/m``; 0 is no limit."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(?:/([smh]))?", value)
    if match is None:
        raise ValueError(f"{value[:40]!r} is not a rate such as 100/s or 10/m")
    return float(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


def choice(*known: str) -> Reader:
    """A reader that takes one of ``known``, as it is spelled."""

    def read(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        return value

    return read


def traces(value: str) -> str:
    """Where traces go, in the words of ``OTEL_TRACES_EXPORTER``; what sends them has to be installed."""
    exporter = choice("none", "otlp", "console")(value)
    # `find_spec` raises where a package's parent is missing; `all` stops before.
    if exporter != "none" and not all(map(find_spec, _SENDS_TRACES)):
        raise ValueError(f"{value!r} needs OpenTelemetry: pip install 'mercure-hub[otel]'; none sends no traces")
    return str(exporter)


def listen(value: str) -> tuple[Listen, ...]:
    """One address or several, between commas; see `address`. ``http://`` or ``https://`` before one says which."""
    found = []
    for each in value.split(","):
        scheme, separator, rest = each.strip().rpartition("://")
        if separator and scheme not in ("http", "https"):
            raise ValueError(f"{each!r} is not HOST:PORT, http://HOST:PORT or https://HOST:PORT")
        found.append(Listen(*address(rest), {"": None, "http": False, "https": True}[scheme]))
    return tuple(dict.fromkeys(found))


def addresses(value: str) -> tuple[Address, ...]:
    """One address or several, between commas; see `address`."""
    return tuple(dict.fromkeys(address(each.strip()) for each in value.split(",") if each.strip()))


def address(value: str) -> Address:
    """Host and port of ``HOST:PORT`` or ``[v6]:PORT``; of ``:PORT`` and ``[::]:PORT`` with `EVERY_INTERFACE`.

    ``unix:/path`` is its own host, with port 0.
    """
    if value.startswith(UNIX):
        if not value.startswith(f"{UNIX}/") or len(value.encode()) - len(UNIX) > _LONGEST_PATH:
            raise ValueError(f"{value[:40]!r} is not unix:/path, absolute and of at most {_LONGEST_PATH} bytes")
        return value, 0
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or (":" in bare) != (host != bare) or re.search(r"[\s/@\[\]]", bare):
        raise ValueError(f"{value!r} is not HOST:PORT, [IPv6]:PORT or :PORT, such as 127.0.0.1:3000")
    return EVERY_INTERFACE if bare == "::" else bare, port_number(port)


def shown_address(address: Address) -> str:
    """The reverse of `address`."""
    host, port = address
    if host.startswith(UNIX):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown_listen(listen: Listen) -> str:
    """The reverse of `listen`."""
    return {None: "", False: "http://", True: "https://"}[listen.tls] + shown_address(listen.address)


def port_number(value: str) -> int:
    """A TCP port; 0 is any free one."""
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) < 65536):
        raise ValueError(f"{value[:40]!r} is not a port: 0 to 65535")
    return int(value)


def origins(value: str) -> tuple[str, ...]:
    """Origins between spaces or commas, spelled as a browser sends them; or ``*`` alone."""
    found = tuple(dict.fromkeys(map(origin, value.replace(",", " ").split())))
    if "*" in found and len(found) > 1:
        raise ValueError("'*' stands for every origin: it stands alone")
    return found


def origin(value: str) -> str:
    """``scheme://host[:port]`` in lower case and without its scheme's default port (RFC 6454); ``*``; ``null``.

    The host may begin with ``*.``, which stands for one label or more; a slash at the end is forgiven.
    """
    if value in ("*", "null"):
        return value
    match = _ORIGIN.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is not an origin: scheme://host[:port] without a path, several between spaces")
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    if port is None or str(port_number(port)) == _DEFAULT_PORT.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port_number(port)}"


def issuers(value: str) -> tuple[str, ...]:
    """Issuer identifiers between spaces; each an absolute URI, compared as it is (RFC 9068)."""
    return tuple(dict.fromkeys(absolute_uri(each) for each in value.split()))


def absolute_uri(value: str) -> str:
    """A URI with a scheme and without a fragment (RFC 8707)."""
    if _ABSOLUTE_URI.fullmatch(value) is None or "#" in value:
        raise ValueError(f"{value!r} is not an absolute URI such as https://hub.example.com/.well-known/mercure")
    return value


def public_urls(value: str) -> tuple[str, ...]:
    """The origins of http and https URLs between spaces or commas; what follows the host is not looked at."""
    found = []
    for each in value.replace(",", " ").split():
        if not each.lower().startswith(("https://", "http://")) or "*" in each:
            raise ValueError(f"{each!r} is not a URL of the hub such as https://hub.example.com")
        found.append(origin_of(each))
    return tuple(dict.fromkeys(found))


def jwks_url(value: str) -> str:
    """Where a JWK Set is: ``https://``, ``http://`` or ``file:///``."""
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    is_file = parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/")
    is_remote = parts.scheme in ("https", "http") and bool(parts.hostname) and not (parts.username or parts.password)
    if not (is_file or is_remote) or re.fullmatch(r"[!-~]+", value) is None:
        raise ValueError(
            "it is not the URL of a JWK Set such as https://issuer.example.com/jwks.json or file:///run/secrets/jwks"
        )
    return value


def hub_name(value: str) -> str:
    """A part of a path: letters, digits, ``.``, ``_`` and ``-``."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value) is None:
        raise ValueError(f"{value[:40]!r} can't name a hub: letters, digits, . _ and - only, at most 64")
    return value


def python_object(value: str) -> str:
    """Where a Python object is: ``module:name``, either with dots."""
    module, colon, name = value.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f"{value[:60]!r} is not MODULE:NAME, such as app:app or shop.asgi:application")
    return value


def cookie_name(value: str) -> str:
    """A cookie's name (RFC 6265 section 4.1.1)."""
    if _TOKEN.fullmatch(value) is None:
        raise ValueError(f"{value!r} cannot name a cookie: letters, digits and !#$%&'*+.^_`|~- only")
    return value


def origin_of(url: str) -> str:
    """The origin that a URL belongs to. ValueError if it has none."""
    parts = urlsplit(url)
    return origin(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
