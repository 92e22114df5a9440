"""Where the text of each setting stands: flags, variables and their ``_FILE`` forms, the Go image's directives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hub.config.caddyfile import Directive, parse
from hub.config.go_image import PAGE, Understood, site_of, understand
from hub.config.setting import Setting

_OF_THE_OFFICIAL_FILE = ("encode", "log", "log_skip", "header", "respond", "redir", "tls")
"""What stands beside ``mercure`` in the Caddyfiles of the Go image, and changes nothing for a hub."""


class InvalidSetting(ValueError):
    """One line that names the setting and the way out, and never holds a key."""


class Given(NamedTuple):
    """A setting's text, and where it stands, for the error that it may end in."""

    text: str
    source: str


@dataclass
class Gathered:
    """What stands where. ``sites``: the site addresses of the Go image, and where they stand."""

    values: dict[str, Given]
    warnings: list[str]
    sites: Given | None


def gather(settings: Mapping[str, Setting], flags: Mapping[str, object], environment: Mapping[str, str]) -> Gathered:
    """Flags count before directives, and those, as in the Go image, before variables. Raises `InvalidSetting`."""
    found = {}
    for name, setting in settings.items():
        also = environment.get(setting.also)
        if each := variable(name, environment) or (Given(also, setting.also) if also else None):
            found[name] = each
    takes = {each.name: each.values for each in settings.values() if each.directive}
    understood, source, sites = _from_the_go_image(takes, environment)
    for name, text in understood.values.items():
        found[name] = Given(text, f"{source}: {name}")
    for name, setting in settings.items():
        if (value := flags.get(name)) is not None:
            found[name] = Given(str(value), setting.flag)
    warnings = [f"{source}: {each}" for each in understood.warnings]
    return Gathered(found, warnings, sites)


def _from_the_go_image(
    takes: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[Understood, str, Given | None]:
    """What a Caddyfile says, or else ``MERCURE_EXTRAtakes`` alone; where it stands; and the site's addresses."""
    name = environment.get("SERVER_NAME")
    sites = Given(name, "SERVER_NAME") if name else None
    path = environment.get("MERCURE_CADDYFILE")
    extra = variable("extra_directives", environment)
    try:
        if not path:
            source = extra.source if extra else ""
            mercure = _parsed(extra.text if extra else "", environment)
            return understand(mercure, takes), source, sites
        source = path
        site = site_of(_parsed(_contents(path, "MERCURE_CADDYFILE"), environment))
        understood = understand(site.mercure, takes)
    except ValueError as error:
        if isinstance(error, InvalidSetting):
            raise
        raise InvalidSetting(f"{source}: {error}") from None
    _take_certificate(site.others, understood)
    if site.addresses != name:
        sites = Given(site.addresses, f"{path}: {site.addresses}")
    return understood, source, sites


def _parsed(text: str, environment: Mapping[str, str]) -> tuple[Directive, ...]:
    def value(name: str) -> str:
        if name.startswith("MERCURE_"):
            found = variable(name.removeprefix("MERCURE_").lower(), environment)
            return found.text if found else ""
        return environment.get(name, "")

    return parse(text, value, lambda path: _contents(path, "the placeholder file."))


def _take_certificate(others: Sequence[Directive], understood: Understood) -> None:
    """Caddy's ``tls CERT KEY``; what else a site has is not the hub's, and is named once."""
    foreign = []
    for each in others:
        if each.name == "tls" and len(each.arguments) == 2:
            understood.values["tls_cert"], understood.values["tls_key"] = each.arguments
        elif each.name not in _OF_THE_OFFICIAL_FILE and each.name not in foreign:
            foreign.append(each.name)
    if foreign:
        understood.warnings.append(
            f"{', '.join(foreign)} mean nothing here: the hub serves nothing but Mercure; what else the site has"
            f" belongs to a proxy in front ({PAGE})"
        )


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
