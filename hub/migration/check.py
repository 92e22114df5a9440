"""What of a Go hub's configuration counts here: line by line what is taken, what means nothing, what differs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from hub.auth.keys import InvalidKey
from hub.auth.sources import rings_of
from hub.config.go_image import MEANINGLESS, OWN, PAGE, VARIABLES
from hub.config.settings import OLD_NAMES, SETTINGS, load
from hub.config.sources import InvalidSetting
from hub.migration.compose import Service, environment_in, services_in

SHIPPED = Path(__file__).parents[1] / "config" / "caddy"
"""The Caddyfiles that the image has in ``/etc/caddy``."""
IMAGE = {"MERCURE_TRUSTED_ISSUERS": "https://localhost"}
"""What the image sets by itself."""
_CADDYFILE = "/etc/caddy/Caddyfile"
_MOUNTED = (_CADDYFILE, "/etc/frankenphp/Caddyfile")
_PROBES = ("curl", "wget", "mercure-hub")
_TAKEN = {each.variable for each in SETTINGS.values()} | {"MERCURE_EXTRA_DIRECTIVES", "SERVER_NAME"}


class Verdict(StrEnum):
    TAKEN = "taken"
    NOTHING = "means nothing"
    DIFFERS = "differs"
    FAILS = "FAILS"


class Finding(NamedTuple):
    """One line of the report; ``what`` never holds a value."""

    verdict: Verdict
    what: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.what}"


@dataclass(frozen=True)
class Report:
    """``service``: in a Compose file; empty for files without services."""

    service: str
    findings: Sequence[Finding]

    @property
    def starts(self) -> bool:
        """Whether the hub would."""
        return not any(each.verdict is Verdict.FAILS for each in self.findings)


def check(files: Sequence[Path]) -> list[Report]:
    """A report for each service that is a hub, or one for a Caddyfile or an ``.env`` alone.

    A file is what its name says: ``….yml`` and ``….yaml``, ``…Caddyfile…``, and anything else an ``.env``, whose
    variables also stand for ``${NAME}`` in the Compose files. Raises `InvalidCompose` and OSError.
    """
    compose = [each for each in files if each.suffix in (".yml", ".yaml")]
    caddyfiles = [each for each in files if "caddyfile" in each.name.lower()]
    environment: dict[str, str] = {}
    for each in files:
        if each not in compose and each not in caddyfiles:
            environment |= environment_in(each.read_text("utf-8", "replace"))
    if not compose:
        return [Report("", list(_findings(environment, caddyfiles[-1] if caddyfiles else SHIPPED / "Caddyfile")))]
    hubs = [each for each in services_in(compose, environment) if each.is_hub]
    return [Report(each.name, [*_of_service(each), *_findings(each.environment, _caddyfile_of(each))]) for each in hubs]


def _of_service(service: Service) -> Iterator[Finding]:
    if service.command:
        runs = service.command[0] in ("/usr/bin/caddy", "caddy") and service.command[1:2] == ("run",)
        said = f"command: {' '.join(service.command[:2])}"
        yield (
            Finding(Verdict.TAKEN, said)
            if runs
            else Finding(
                Verdict.DIFFERS, f"{said}: the image runs mercure-hub; caddy run is understood, nothing else of Caddy"
            )
        )
    if service.probe:
        program = next((each for each in service.probe if each not in ("CMD", "CMD-SHELL")), "").rpartition("/")[2]
        known = program in _PROBES
        cure = "" if known else ": the image has curl and wget for probes, and mercure-hub health"
        yield Finding(Verdict.TAKEN if known else Verdict.DIFFERS, f"healthcheck: {program}{cure}")
    for target in service.volumes:
        if target == "/data":
            yield Finding(Verdict.TAKEN, "volume /data: updates are kept there")
        elif target == "/config":
            yield Finding(Verdict.NOTHING, "volume /config: the hub keeps nothing there")


def _caddyfile_of(service: Service) -> Path:
    """The file that it runs with: one that is mounted, or one of the image's own."""
    for target in _MOUNTED:
        if service.volumes.get(target):
            return Path(service.volumes[target])
    named = service.command[service.command.index("--config") + 1 :] if "--config" in service.command else ()
    return SHIPPED / Path(named[0] if named else _CADDYFILE).name


def _findings(environment: Mapping[str, str], caddyfile: Path) -> Iterator[Finding]:
    yield from _of_variables(environment)
    text = caddyfile.read_text("utf-8", "replace") if caddyfile.is_file() else ""
    directives = environment.get("MERCURE_EXTRA_DIRECTIVES", "")
    for name in dict.fromkeys(re.findall(r"^[ \t]*([a-z_]+)", f"{text}\n{directives}", re.MULTILINE)):
        if name in MEANINGLESS:
            yield Finding(Verdict.NOTHING, f"directive {name}: {MEANINGLESS[name]}")
        elif name in OWN or (name in SETTINGS and SETTINGS[name].directive):
            yield Finding(Verdict.TAKEN, f"directive {name}")
    yield from _of_the_start({**IMAGE, **environment, "MERCURE_CADDYFILE": str(caddyfile)})


def _of_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name, value in environment.items():
        if name.removesuffix("_FILE") in _TAKEN:
            yield Finding(Verdict.TAKEN, name)
        elif value and name in VARIABLES:
            yield Finding(Verdict.NOTHING, f"{name}: {VARIABLES[name]}")
        elif value and name in OLD_NAMES:
            yield Finding(Verdict.DIFFERS, f"{name}: it is now {OLD_NAMES[name]}")


def _of_the_start(environment: dict[str, str]) -> Iterator[Finding]:
    """What `load` says, as at a start; a secret's file is in the container, and what it holds can't be known here."""
    files = [name for name in environment if name.endswith("_FILE") and name.removesuffix("_FILE") in _TAKEN]
    for name in files:
        del environment[name]
        environment[name.removesuffix("_FILE")] = "a secret in a file of the container"
    try:
        settings, warnings = load({}, environment)
        if not files:
            rings_of(settings)
    except (InvalidSetting, InvalidKey) as error:
        yield Finding(Verdict.FAILS, str(error))
        return
    told = [*VARIABLES, *OLD_NAMES]
    for warning in warnings:
        if warning.partition(" ")[0] not in told and "changes nothing" not in warning:
            yield Finding(Verdict.DIFFERS, warning.removesuffix(f" ({PAGE})"))
