"""The command line's options, and how a command fails."""

from collections.abc import Callable
from typing import IO, Any

import click

from hub.config.settings import DEV_KEY, SETTINGS
from hub.config.values import ALGORITHMS, Listen, shown_address
from hub.generations import PATH

DEFAULT_URL = f"http://127.0.0.1:3000{PATH}"

Command = Callable[..., Any]


def tell(sentence: str) -> None:
    """One line on stderr."""
    click.echo(f"mercure-hub: {sentence}", err=True)


class Failure(click.ClickException):
    """One line on stderr, and the exit code: 2 for what has to be set otherwise, 1 for what went wrong."""

    def __init__(self, message: object, exit_code: int = 1) -> None:
        super().__init__(" ".join(str(message).split("\n")))
        self.exit_code = exit_code  # type: ignore[misc] # click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        tell(self.message)


def settings_flags(command: Command) -> Command:
    """One flag for each setting; the function gets them by their fields' names, None where one is not given."""
    for setting in reversed([*SETTINGS.values()]):
        meaning = setting.help.replace("`", "")
        if setting.values == "none":
            flags = f"{setting.flag}/{setting.flag.replace('--', '--no-', 1)}"
            option = click.option(flags, setting.name, default=None, help=meaning)
        else:
            metavar = f'"{setting.metavar}"' if setting.values == "several" else setting.metavar
            option = click.option(setting.flag, setting.name, metavar=metavar, help=meaning)
        command = option(command)
    return command


dev = click.option("--dev", is_flag=True, help=f"To try it out: 127.0.0.1:3000, the documented key {DEV_KEY}.")
url = click.option("--url", envvar="MERCURE_HUB_URL", default=DEFAULT_URL, show_default=True, help="The hub.")
bearer = click.option("--token", "bearer", envvar="MERCURE_TOKEN", metavar="JWT", help="Rather use the variable.")
key = click.option("--key", metavar="K", help="Secret or private PEM to sign with.  [MERCURE_…_JWT_KEY]")
alg = click.option("--alg", type=click.Choice(ALGORITHMS), help="Its algorithm.  [MERCURE_…_JWT_ALG, HS256]")


def http_url(listen: Listen) -> str:
    """Where a hub that listens there answers on this machine, without a path."""
    host = "127.0.0.1" if listen.host in ("", "0.0.0.0", "::") else listen.host  # noqa: S104 - compared, not bound
    return f"{'https' if listen.tls else 'http'}://{shown_address((host, listen.port))}"


def hub_url(url: str) -> str:
    """The hub at a URL without a path is where every hub is."""
    scheme, separator, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return url if path or not separator else f"{scheme}://{host}{PATH}"


class Group(click.Group):
    """Knows ``caddy`` also by the path that the Go hub's image has it at: a container's command may begin with it."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "caddy" if cmd_name == "/usr/bin/caddy" else cmd_name)
