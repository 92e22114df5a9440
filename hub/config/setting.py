"""What is said of one setting, once: its flag, variables, directive, help text and row in the README follow from it."""

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

from hub.config.values import Reader

_KEY = "setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """``name``: its field's. ``default``: as one would type it; ``""`` is none, None says that it must be set.

    ``metavar``: what its value looks like; ``""`` is a switch, with ``…`` there may be several, between spaces.
    ``directive``: whether the Go hub has a directive of that name, which takes the same values. ``also``: a variable of
    others that says the same, and counts where ours is not set; ``""``: there is none.
    """

    name: str
    read: Reader
    metavar: str
    default: str | None
    meaning: str
    directive: bool
    also: str

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        return f"MERCURE_{self.name.upper()}"

    @property
    def values(self) -> Literal["none", "one", "several"]:
        """How many words follow its directive."""
        if not self.metavar:
            return "none"
        return "several" if "…" in self.metavar else "one"

    @property
    def help(self) -> str:
        """Its line in ``mercure-hub serve --help``."""
        return f"{self.meaning}  [{self.default}]" if self.metavar and self.default else self.meaning

    @property
    def row(self) -> str:
        """Its line in the README's table."""
        default = "must be set" if self.default is None else f"`{self.default}`" if self.default else "none"
        variable = f"`{self.variable}` or `{self.also}`" if self.also else f"`{self.variable}`"
        return f"| {variable} | `{self.flag}` | {default} | {self.meaning.replace('|', chr(92) + '|')} |"


def described(
    read: Reader,
    metavar: str,
    default: str | None,
    meaning: str,
    *,
    directive: bool = False,
    secret: bool = False,
    also: str = "",
) -> Any:
    """A dataclass field with its `Setting`. ``secret``: never shown. Where there is one value, no default is None."""
    value: Any = MISSING
    if default is not None:
        value = read(default) if default or "…" in metavar else None
    said = {_KEY: (read, metavar, default, meaning, directive, also)}
    return field(default=value, repr=not secret, metadata=said)


def settings_of(settings: type) -> Iterator[Setting]:
    """The settings of a dataclass whose fields were `described`, in their order."""
    each: Field[Any]
    for each in fields(settings):
        yield Setting(each.name, *each.metadata[_KEY])


def table(settings: Iterable[Setting]) -> str:
    """The README's table."""
    head = ["| variable | flag | default | what it is |", "|---|---|---|---|"]
    return "\n".join([*head, *(each.row for each in settings)]) + "\n"
