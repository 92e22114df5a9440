"""What a Compose file says of the services that are a Mercure hub: their environment, command, probe and volumes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_OF_A_HUB = ("MERCURE_PUBLISHER_JWT_KEY", "MERCURE_SUBSCRIBER_JWT_KEY", "MERCURE_EXTRA_DIRECTIVES", "JWT_KEY")
"""A service that sets one of them is a hub, or an application server with one inside."""
_INNERMOST = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^${}]*))?\}|\$([A-Za-z_][A-Za-z0-9_]*)")
_DEEPEST = 8
"""Interpolations within interpolations."""
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*?)\s*")


class InvalidCompose(ValueError):
    """The file can't be understood; a sentence that says why."""


@dataclass
class Service:
    """``volumes``: sources by the paths that they are mounted at; an empty one is a named or anonymous volume."""

    name: str
    image: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    volumes: dict[str, str] = field(default_factory=dict)

    @property
    def is_hub(self) -> bool:
        """Whether a Mercure hub runs in it."""
        return "mercure" in self.image or any(name in self.environment for name in _OF_A_HUB)


def environment_in(text: str) -> dict[str, str]:
    """The variables of an ``.env``: ``NAME=value`` lines, comments, quotes."""
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and not line.lstrip().startswith("#"):
            value = match[2]
            quoted = re.fullmatch(r"""(['"])(.*)\1(?:\s+#.*)?""", value)
            found[match[1]] = quoted[2] if quoted else re.sub(r"(?:^|\s+)#.*", "", value)
    return found


def services_in(files: Sequence[Path], environment: Mapping[str, str]) -> list[Service]:
    """The services of these files, a later one over an earlier one, as Compose merges them. Raises `InvalidCompose`.

    ``environment``: what ``${NAME}`` stands for.
    """
    found: dict[str, Service] = {}
    for file in files:
        for name, said in _services(file):
            service = found.setdefault(name, Service(name))
            _merge(service, _interpolated(said, environment), file.parent)
    return list(found.values())


def _services(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import yaml
    except ModuleNotFoundError:
        raise InvalidCompose("reading YAML takes a package: pip install 'mercure-hub[migrate]' brings it") from None
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
        services = document["services"]
        yield from ((str(name), said) for name, said in services.items() if isinstance(said, dict))
    except OSError as error:
        raise InvalidCompose(f"{file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError):
        raise InvalidCompose(f"{file} is not a Compose file: it has no services as YAML") from None


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _interpolated(each, environment) for name, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, environment) for each in value]
    return _replaced(value, environment) if isinstance(value, str) else value


def _replaced(text: str, environment: Mapping[str, str]) -> str:
    """https://docs.docker.com/reference/compose-file/interpolation/, the inner ones first."""

    def value(match: re.Match[str]) -> str:
        name, how, word = match[1] or match[4], match[2] or "", match[3] or ""
        found = environment.get(name)
        is_set = bool(found) if how.startswith(":") else found is not None
        if how.endswith("+"):
            return word if is_set else ""
        return (found or "") if is_set or not how.endswith("-") else word

    parts = text.split("$$")
    for _ in range(_DEEPEST):
        parts = [_INNERMOST.sub(value, part) for part in parts]
    return "$".join(parts)


def _merge(service: Service, said: Mapping[str, Any], folder: Path) -> None:
    service.image = str(said.get("image") or service.image)
    listed = said.get("environment") or {}
    if isinstance(listed, list):
        pairs = [str(each).partition("=") for each in listed]
        listed = {name: value for name, separator, value in pairs if separator}
    if isinstance(listed, dict):
        service.environment |= {str(name): _text(value) for name, value in listed.items() if value is not None}
    service.command = _words(said["command"]) if said.get("command") else service.command
    health = said.get("healthcheck")
    if isinstance(health, dict) and health.get("test"):
        service.probe = _words(health["test"])
    for each in said.get("volumes") or ():
        if isinstance(each, dict):
            source, target = str(each.get("source", "")), str(each.get("target", ""))
        else:
            # source:target:mode, or a target alone
            source, target = ("", *str(each).split(":"))[-2:] if ":" not in str(each) else str(each).split(":")[:2]
        is_path = source.startswith((".", "/", "~"))
        service.volumes[target] = str(folder / source) if is_path else ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words(command: object) -> tuple[str, ...]:
    return tuple(map(str, command)) if isinstance(command, list) else tuple(str(command).split())
