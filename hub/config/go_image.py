"""The environment of the Go hub's image, in our settings' words: its directives, its site address, its Bolt file."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit

from hub.config.values import port_number

_COMPATIBILITY = "protocol_version_compatibility"
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|`([^`]*)`|(\S+)')


def directives(text: str, known: Mapping[str, str]) -> Mapping[str, str]:
    """The settings in ``text``, one directive a line; ValueError names one that is unknown, repeated or incomplete.

    ``known``: the settings that are directives, each with the number of its values: ``none``, ``one``, ``several``.
    """
    found: dict[str, str] = {}
    for name, *arguments in filter(None, map(_words, text.splitlines())):
        setting, value = _directive(name, arguments, known)
        if setting in found:
            raise ValueError(f"directive {name!r} is given twice")
        found[setting] = value
    return found


def _words(line: str) -> list[str]:
    """A line's words up to a comment; quotes and backticks hold a word together."""
    words: list[str] = []
    for match in _WORD.finditer(line):
        if match[0].startswith("#"):
            break
        words.append(re.sub(r'\\(["\\])', r"\1", match[1]) if match[1] is not None else match[2] or match[3] or "")
    return words


def _directive(name: str, arguments: list[str], known: Mapping[str, str]) -> tuple[str, str]:
    if name == _COMPATIBILITY:
        if arguments not in (["7"], ["8"]):
            raise ValueError(f"directive {name!r} takes 7 or 8")
        return "protocol", "both"
    if name not in known:
        names = sorted([_COMPATIBILITY, *known])
        near = get_close_matches(name, names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"directive {name[:60]!r} is unknown here; {meant}There are {', '.join(names)}")
    fits, wanted = {
        "none": (not arguments, "no value"),
        "one": (len(arguments) == 1, "one value"),
        "several": (bool(arguments), "one value or more"),
    }[known[name]]
    if not fits:
        raise ValueError(f"directive {name!r} takes {wanted}")
    return name, " ".join(arguments) if arguments else "true"


def site_port(server_name: str) -> tuple[int, bool]:
    """The port of a site address (80 if it names none), and whether the Go hub would have served TLS on it.

    Several addresses may stand between spaces or commas. ValueError: no address, or they differ in their ports.
    """
    sites = [_site(each) for each in re.split(r"[\s,]+", server_name) if each]
    ports = {port for port, _ in sites}
    if len(ports) != 1:
        raise ValueError(f"{server_name!r} names no single port; name one, such as :80")
    return ports.pop(), any(tls for _, tls in sites)


def _site(address: str) -> tuple[int, bool]:
    scheme, separator, rest = address.rpartition("://")
    if separator and scheme not in ("http", "https"):
        raise ValueError(f"{address!r} is not a site address such as :80 or http://localhost:8080")
    host, colon, port = rest.partition("/")[0].rpartition(":")
    if not colon or port.endswith("]"):
        return 80, scheme != "http"
    number = port_number(port)
    return number, scheme == "https" or number == 443 or (not scheme and bool(host) and number != 80)


def without_bolt(url: str) -> str:
    """``bolt://`` of a file as ``lmdb://`` of a directory beside it; every other URL as it is.

    The file's suffix goes (a name without one gets ``.lmdb``: the file itself is in the way), and so do the parameters
    that speak of Bolt alone. ValueError: it names no file.
    """
    if not url.startswith("bolt://"):
        return url
    parts = urlsplit(url)
    path = PurePosixPath(parts.netloc + parts.path)
    if not path.name:
        raise ValueError("bolt:// names no file; lmdb:///data/mercure names a directory")
    # size=0 is Bolt's word for "all of them", which is what a URL without a size says.
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query)
        if name not in ("cleanup_frequency", "bucket_name") and (name, value) != ("size", "0")
    ]
    return f"lmdb://{path.with_suffix('' if path.suffix else '.lmdb')}{'?' if kept else ''}{urlencode(kept)}"
