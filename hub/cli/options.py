"""The command line's options, and how a command fails."""

from collections.abc import Callable
from typing import IO, Any

import click

from hub.config.settings import DEV_KEY, PATH
from hub.config.values import ALGORITHMS

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


FLAGS = {
    "listen": (
        "HOST:PORT",
        "Addresses to listen on, between commas; :3000 is every interface, :0 any free port.  [:3000]",
    ),
    "transport_url": ("URL", "Where updates are kept, such as memory:// or lmdb:///data/hub.  [lmdb://mercure-data]"),
    "publisher_jwt_key": ("K", "Secret or PEM that publishers' tokens are verified with; rather use the variable."),
    "publisher_jwt_alg": ("A", "Its algorithm.  [HS256]"),
    "subscriber_jwt_key": ("K", "Secret or PEM that subscribers' tokens are verified with; rather use the variable."),
    "subscriber_jwt_alg": ("A", "Its algorithm.  [HS256]"),
    "anonymous": ("", "Let subscribers without a token receive public updates."),
    "subscriptions": ("", "Announce and list active subscriptions."),
    "cors_origins": ('"ORIGIN …"', "Origins whose pages may connect from elsewhere."),
    "publish_origins": ('"ORIGIN …"', "Origins whose pages may publish with a cookie."),
    "heartbeat": ("TIME", "Between comments on a silent stream; 0: none.  [40s]"),
    "write_timeout": ("TIME", "How long a subscriber's connection lasts; 0: for ever.  [600s]"),
    "dispatch_timeout": ("TIME", "Until a reader without progress is closed; 0: never.  [5s]"),
    "drain": ("TIME", "Over which subscribers are let go at the end.  [8s]"),
    "workers": ("N", "Processes that serve; several need lmdb:// with lock=shared, or redis://.  [1]"),
    "protocol": ("both|1.0|0.x", "Generations of the protocol to serve.  [both]"),
    "trusted_issuers": ('"URI …"', "Issuers (iss) whose 1.0 tokens count."),
    "resource_identifier": ("URI", "What 1.0 tokens are made for (aud), usually the hub's public URL."),
    "authorization_servers": ('"URI …"', "Issuers that clients may ask for 1.0 tokens, told in the hub's metadata."),
    "cookie_name": ("NAME", "Cookie that may hold a 1.0 token.  [__Secure-mercure_access_token]"),
    "max_request_body_size": ("SIZE", "Largest request body.  [4MiB]"),
}


def settings_flags(command: Command) -> Command:
    """One flag for each setting; the function gets them by their fields' names, None where one is not given."""
    for name, (metavar, meaning) in reversed(FLAGS.items()):
        flag = f"--{name.replace('_', '-')}"
        if not metavar:
            option = click.option(f"{flag}/--no-{name}", name, default=None, help=meaning)
        else:
            option = click.option(flag, name, metavar=metavar, help=meaning)
        command = option(command)
    return command


dev = click.option("--dev", is_flag=True, help=f"To try it out: 127.0.0.1:3000, the documented key {DEV_KEY}.")
url = click.option("--url", envvar="MERCURE_HUB_URL", default=DEFAULT_URL, show_default=True, help="The hub.")
bearer = click.option("--token", "bearer", envvar="MERCURE_TOKEN", metavar="JWT", help="Rather use the variable.")
key = click.option("--key", metavar="K", help="Secret or private PEM to sign with.  [MERCURE_…_JWT_KEY]")
alg = click.option("--alg", type=click.Choice(ALGORITHMS), help="Its algorithm.  [MERCURE_…_JWT_ALG, HS256]")


def http_url(address: tuple[str, int]) -> str:
    """Where a hub on ``address`` answers on this machine."""
    host = "127.0.0.1" if address[0] in ("", "0.0.0.0", "::") else address[0]  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{address[1]}"
