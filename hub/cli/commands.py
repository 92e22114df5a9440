"""The command line, one function a command. Nothing below reads the process's environment.

What only one command needs is imported there: a container's health check starts often.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from hub.cli import options
from hub.cli.options import Failure, Group, http_url, hub_url, tell
from hub.config.settings import DEV_KEY, Settings, load, probe_address, setting
from hub.config.sources import InvalidSetting, variable
from hub.config.values import origin_of, seconds
from hub.generations import PATH, Generation

if TYPE_CHECKING:
    from hub.cli.minting import Signing

PUBLISHING = 60
"""Seconds that a token lasts which ``publish`` mints for itself."""
PROBE_TIMEOUT = 4.0
"""Seconds; below the default timeout of a container's health check."""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mercure-hub", prog_name="mercure-hub", message="%(prog)s %(version)s")
def main() -> None:
    """A hub for the Mercure protocol.

    Every setting is a flag, a variable MERCURE_… of the same name, or a file that MERCURE_…_FILE names.
    """


@main.command()
@options.dev
@options.settings_flags
def serve(dev: bool, **flags: object) -> None:
    """Serve until SIGTERM or SIGINT."""
    _serve(flags, os.environ, dev)


def _serve(flags: Mapping[str, object], environment: Mapping[str, str], dev: bool) -> NoReturn:
    settings = _load(flags, environment, dev)
    if settings.app is not None:
        sys.path.insert(0, os.getcwd())  # as every server of ASGI applications does
    from hub.cli.systemd import notify_in, sockets_in
    from hub.server.server import Surroundings
    from hub.server.workers import run

    def reread() -> Settings:
        return load(flags, environment, dev=dev)[0]

    around = Surroundings(_announce(settings, dev), reread, sockets_in(environment), notify_in(environment))
    sys.exit(run(settings, around))


def _announce(settings: Settings, dev: bool) -> Callable[[str], None]:
    from hub.cli.first_steps import what_to_try

    def announce(origin: str) -> None:
        url = origin + PATH
        click.echo(what_to_try(settings, url) if dev else f"The hub is listening on {url}")
        sys.stdout.flush()

    return announce


def _load(flags: Mapping[str, object], environment: Mapping[str, str], dev: bool) -> Settings:
    with _invalid_settings():
        settings, warnings = load(flags, environment, dev=dev)
    for warning in warnings:
        tell(f"warning: {warning}")
    return settings


@contextmanager
def _invalid_settings() -> Iterator[None]:
    try:
        yield
    except InvalidSetting as error:
        raise Failure(error, 2) from None


@main.group(hidden=True)
def caddy() -> None:
    """What the Go hub's image is started with; the hub's image answers to it, and runs this hub."""


@caddy.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--config", metavar="FILE", help="A Caddyfile.")
@click.option("--adapter", type=click.Choice(["caddyfile"]), help="How it is written.")
@click.option("--environ", is_flag=True, help="Without a meaning here.")
@click.option("--watch", is_flag=True, help="Without a meaning here: SIGHUP has keys read again.")
@click.option("--resume", is_flag=True, help="Without a meaning here.")
def caddy_run(config: str | None, **_others: object) -> None:
    """Serve as the Caddyfile says."""
    _serve({}, {**os.environ, **({"MERCURE_CADDYFILE": config} if config else {})}, dev=False)


@caddy.command("version")
def caddy_version() -> None:
    """Say what this is."""
    from importlib.metadata import version

    click.echo(f"mercure-hub {version('mercure-hub')}, not Caddy")


@main.command()
@click.option("--publish", multiple=True, metavar="SELECTOR", help="Topics that the bearer may publish to.")
@click.option("--subscribe", multiple=True, metavar="SELECTOR", help="Topics whose private updates it may receive.")
@click.option(
    "--generation",
    type=click.Choice([each.value for each in Generation]),
    default=Generation.V0.value,
    show_default=True,
)
@click.option("--issuer", metavar="URI", help="1.0: iss.  [the first of MERCURE_TRUSTED_ISSUERS, the hub's origin]")
@click.option("--audience", metavar="URI", help="1.0: aud.  [MERCURE_RESOURCE_IDENTIFIER, the hub's URL]")
@click.option("--expires", default="1h", show_default=True, metavar="TIME", help="From now on.")
@click.option("--payload", metavar="JSON", help="What its subscriptions show of the bearer.")
@click.option("--sub", metavar="TEXT", help="Who the bearer is.  [1.0: the issuer]")
@click.option("--kid", metavar="TEXT", help="Which key of a set has signed it.")
@options.key
@options.alg
@options.dev
@options.url
def token(
    publish: tuple[str, ...],
    subscribe: tuple[str, ...],
    generation: str,
    issuer: str | None,
    audience: str | None,
    expires: str,
    payload: str | None,
    sub: str | None,
    kid: str | None,
    key: str | None,
    alg: str | None,
    dev: bool,
    url: str,
) -> None:
    """Mint a token and print it; at a terminal a line says how to use it.

    A SELECTOR is a topic or * for every one; in 0.x also a URI Template, in 1.0 also a URL pattern, written
    urlpattern:https://example.com/books/:id. A key may be a file (file:///path), or - for standard input.
    """
    from hub.cli.minting import Grant, mint

    if not (publish or subscribe):
        raise click.UsageError("a token that grants nothing: add --publish or --subscribe, such as --publish '*'")
    try:
        lifetime = seconds(expires)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    roles = [role for role, topics in (("publisher", publish), ("subscriber", subscribe)) if topics]
    with _minting():
        signing = _signing_key(roles, sys.stdin.read().rstrip("\r\n") if key == "-" else key, alg, dev)
        grant = Grant(publish, subscribe, lifetime, None if payload is None else json.loads(payload), sub)
        names = _issuer_and_audience(issuer, audience, url) if generation == Generation.V1 else None
        click.echo(mint(grant, signing, names, kid))
    if sys.stderr.isatty():
        form, query = ("-d topic=… -d data=… ", "") if publish else ("-N ", "?topic=…")
        click.echo(f"# curl -H 'Authorization: Bearer TOKEN' {form}'{url}{query}'", err=True)


def _issuer_and_audience(issuer: str | None, audience: str | None, url: str) -> tuple[str, str]:
    issuers, identifier = variable("trusted_issuers", os.environ), variable("resource_identifier", os.environ)
    return (
        issuer or next(iter(issuers.text.split() if issuers else ()), origin_of(url)),
        audience or (identifier.text if identifier else url),
    )


@main.command()
@click.argument("bearer", metavar="[TOKEN | -]", required=False)
@click.option(
    "--role", type=click.Choice(["publisher", "subscriber"]), default="subscriber", show_default=True, help="Of whom."
)
@click.option("--url", envvar="MERCURE_HUB_URL", help="The hub's URL, which tokens of 1.0 must be made for.")
@options.dev
@options.settings_flags
def explain(bearer: str | None, role: str, url: str | None, dev: bool, **flags: object) -> None:
    """Say whether this hub would accept a token, and why not: each check, what it grants, until when.

    With the same code and settings as serve, offline; exit code 0 if it is accepted, 1 if not. The token may come from
    MERCURE_TOKEN, or from standard input (-).
    """
    from hub.cli.explaining import explained

    text = bearer or os.environ.get("MERCURE_TOKEN") or "-"
    settings = _load(flags, os.environ, dev)
    with _minting():
        given = sys.stdin.read() if text == "-" else text
        accepted, lines = explained(given.strip(), role, settings, url or options.DEFAULT_URL)
    for line in lines:
        click.echo(line)
    sys.exit(0 if accepted else 1)


@main.command()
@click.option("--listen", metavar="HOST:PORT", help="Where its operator asks.  [MERCURE_ADMIN_LISTEN]")
@click.option("--watch", is_flag=True, help="Again each second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="As the hub says it.")
def stats(listen: str | None, watch: bool, as_json: bool) -> None:
    """Show how a hub is: what it holds, who is subscribed, how fast it goes. It needs --admin-listen."""
    import time

    from hub.cli.showing import shown
    from hub.client import client

    with _invalid_settings():
        asked = http_url(probe_address(listen, os.environ))
    with _outcome():
        while True:
            text = client.fetch(f"{asked}/stats", PROBE_TIMEOUT, verify=False)
            if watch:
                click.clear()
            click.echo(text if as_json else shown(json.loads(text)))
            if not watch:
                return
            time.sleep(1)


def _signing_key(roles: Iterable[str], key: str | None, alg: str | None, dev: bool) -> "Signing":
    """A key that serves all ``roles``, and its algorithm: the one given, the hub's variables', or ``--dev``'s."""
    from hub.cli.minting import Signing

    if key:
        return Signing(key, alg or "HS256")
    found = {role: (variable(f"{role}_jwt_key", os.environ), variable(f"{role}_jwt_alg", os.environ)) for role in roles}
    pairs = {Signing(secret.text, alg or (its.text if its else "HS256")) for secret, its in found.values() if secret}
    missing = [role for role, (secret, _) in found.items() if not secret]
    if len(missing) == len(found) and dev:
        return Signing(DEV_KEY, alg or "HS256")
    if missing:
        raise InvalidSetting(f"no key to sign with: --key, --dev or MERCURE_{missing[0].upper()}_JWT_KEY gives one")
    if len(pairs) > 1:
        raise InvalidSetting("publishers and subscribers have different keys: mint one token for each")
    return pairs.pop()


@contextmanager
def _minting() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # a setting, a key or a selector
        raise Failure(error, 2) from None


@main.command()
@click.option("--topic", "topics", multiple=True, required=True, help="The canonical one first, then alternates.")
@click.option("--data", help="What to publish; @FILE: what stands there, -: standard input, less one newline.  [-]")
@click.option("--private", is_flag=True, help="Only for subscribers whose token covers one of the topics.")
@click.option("--id", help="The update's id.  [the hub chooses one]")
@click.option("--type", help="The event's type.")
@click.option("--retry", type=click.IntRange(min=0), metavar="MS", help="When subscribers shall come back.")
@click.option("--idempotency-key", metavar="KEY", help="Makes it safe to repeat this command.")
@options.bearer
@options.key
@options.alg
@options.dev
@options.url
def publish(
    url: str, bearer: str | None, key: str | None, alg: str | None, dev: bool, data: str | None, **update: Any
) -> None:
    """Publish one update and print its id.

    Without a token, one for these topics is signed with --key, --dev's key or MERCURE_PUBLISHER_JWT_KEY.
    """
    from hub.client import client

    token = bearer or _token_for(update["topics"], key, alg, dev)
    with _outcome():
        click.echo(client.publish(hub_url(url), data=_content(data), token=token, **update))


def _content(data: str | None) -> str:
    """ValueError: the file can't be read, or is not UTF-8."""
    if data is None or data == "-":
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    if not data.startswith("@"):
        return data
    try:
        with open(data[1:], "rb") as file:
            return file.read().decode()
    except OSError as error:
        raise ValueError(f"--data: {data[1:]!r} cannot be read: {error.strerror}") from None


def _token_for(topics: tuple[str, ...], key: str | None, alg: str | None, dev: bool) -> str | None:
    """None where there is no key: the hub will say what it wants."""
    from hub.cli.minting import Grant, mint

    with _minting():
        if not (key or dev or variable("publisher_jwt_key", os.environ)):
            return None
        return mint(Grant(tuple(topics), (), PUBLISHING), _signing_key(["publisher"], key, alg, dev))


@contextmanager
def _outcome() -> Iterator[None]:
    from hub.client.protocol import Refused, Unreachable

    try:
        yield
    except (Refused, Unreachable) as error:
        raise Failure(error) from None
    except ValueError as error:
        raise Failure(error, 2) from None


@main.command()
@click.option("--topic", "topics", multiple=True, help="A topic or URI Template.")
@click.option("--match", "matches", multiple=True, metavar="TOPIC", help="A topic, exactly; * is every one.")
@click.option("--match-urlpattern", "patterns", multiple=True, metavar="PATTERN", help="A URL pattern.")
@click.option("--last-event-id", metavar="ID", help="Begin after this one; earliest: with all that is left.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: id, type, data.")
@options.bearer
@options.url
def subscribe(url: str, bearer: str | None, count: int | None, as_json: bool, **query: Any) -> None:
    """Print events as they come; reconnect where the stream broke off."""
    from hub.client import client

    if not any(query[name] for name in ("topics", "matches", "patterns")):
        raise click.UsageError(
            "nothing to subscribe to: add --topic, --match or --match-urlpattern, such as --topic '*'"
        )
    with _outcome():
        for number, event in enumerate(client.subscribe(hub_url(url), token=bearer, report=tell, **query), 1):
            click.echo(json.dumps(event._asdict(), ensure_ascii=False) if as_json else str(event))
            if number == count:
                return


@main.command()
@click.option("--ready", is_flag=True, help="Does the store take updates? Not for an orchestrator's health check.")
@click.option("--listen", metavar="HOST:PORT", help="Where the hub listens.  [MERCURE_ADMIN_LISTEN, MERCURE_LISTEN]")
@click.option("--url", help="What to ask instead; its certificate need not be one that others trust.")
@options.dev
def health(ready: bool, listen: str | None, url: str | None, dev: bool) -> None:
    """Ask the hub on this machine whether it is well; exit code 0 or 1."""
    from hub.client import client

    with _invalid_settings():
        asked = url or http_url(probe_address(listen, os.environ, dev=dev))
    with _outcome():
        path = "" if url else f"/mercure/health/{'ready' if ready else 'live'}"
        click.echo(client.fetch(asked + path, PROBE_TIMEOUT, verify=False).strip())


@main.command()
@click.option("--transport-url", metavar="URL", help="A store that no other process has for itself.")
@click.option("--listen", metavar="HOST:PORT", help="The admin listener of a running hub.  [MERCURE_ADMIN_LISTEN]")
@click.option("--after", metavar="ID", help="Go on after this event: the last one of what was exported before.")
def export(transport_url: str | None, listen: str | None, after: str | None) -> None:
    """Write a history to standard output, private updates too: one JSON object a line, in order.

    From a store by its URL, or from a running hub that has it for itself, through its admin listener.
    """
    from hub.cli import histories

    with _histories():
        for part in histories.exported(_admin_url(listen), transport_url, after):
            sys.stdout.buffer.write(part)
        sys.stdout.flush()


def _admin_url(listen: str | None) -> str:
    with _invalid_settings():
        return http_url(probe_address(listen, os.environ))


@main.command("import")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--bolt", type=click.Path(dir_okay=False), metavar="FILE", help="A Go hub's Bolt file instead.")
@click.option("--bucket", default="updates", show_default=True, help="Where it has its updates.")
@click.option("--transport-url", metavar="URL", help="Where to.  [MERCURE_TRANSPORT_URL]")
def import_(file: IO[bytes], bolt: str | None, bucket: str, transport_url: str | None) -> None:
    """Bring a history into a store, in its order and under its ids: what `export` has written, or a Bolt file.

    An update that the store has already is left out: what was interrupted is repeated.
    """
    from hub.cli import histories

    with _invalid_settings():
        url = setting("transport_url", {"transport_url": transport_url}, os.environ)
    with _histories():
        done = histories.imported(url, histories.updates_of(file, bolt, bucket))
    click.echo(f"{done.appended} imported, {done.known} were there, {done.skipped} are no updates")


@main.command()
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--transport-url", metavar="URL", help="A store that no other process has for itself.")
@click.option("--listen", metavar="HOST:PORT", help="The admin listener of a running hub.  [MERCURE_ADMIN_LISTEN]")
def backup(directory: str, transport_url: str | None, listen: str | None) -> None:
    """Copy the history of a running hub to a new DIRECTORY, which lmdb:// opens.

    The hub goes on meanwhile; what comes after the begin is not in the copy, which is there only once it is whole.
    """
    from hub.cli import histories

    with _histories():
        count = histories.backed_up(directory, _admin_url(listen), transport_url)
    click.echo(f"{count} updates are in {directory}")


@contextmanager
def _histories() -> Iterator[None]:
    from hub.client.protocol import Refused, Unreachable
    from hub.migration.bolt import InvalidBolt
    from hub.portable import InvalidLine, NothingAfter
    from transports import HistoryTrimmed, InvalidTransport, TransportError

    try:
        yield
    except (InvalidBolt, InvalidLine, InvalidTransport, NothingAfter) as error:
        raise Failure(error, 2) from None
    except HistoryTrimmed:
        raise Failure("the history was trimmed meanwhile, beyond what was read: begin anew") from None
    except (Refused, Unreachable, TransportError) as error:
        raise Failure(error) from None


@main.command("plan")
@click.option("--subscribers", type=click.IntRange(1), required=True, help="That are connected at the same time.")
@click.option("--updates", type=click.FloatRange(0, min_open=True), required=True, help="That are published a second.")
@click.option("--size", default="1KiB", show_default=True, help="Of one update's data.")
@click.option("--share", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Of them that one gets.")
@click.option("--store", type=click.Choice(["memory", "lmdb", "redis"]), default="redis", show_default=True)
@click.option("--busy", type=click.FloatRange(0.05, 1), default=0.6, show_default=True, help="Of a core, at most.")
@click.option("--speed", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Of a core: docs/scale.md.")
def plan_command(subscribers: int, updates: float, size: str, share: float, store: str, **how: float) -> None:
    """Say how many processes a load takes, by the model of docs/scale.md."""
    from hub.cli.planning import COSTS, Load, lines, plan
    from transports.urls import size_in_bytes

    try:
        load_ = Load(subscribers, updates, size_in_bytes(size), share)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--size") from None
    click.echo("\n".join(lines(plan(load_, COSTS[store], **how), how["busy"])))


@main.command("migrate-check")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
def migrate_check(files: tuple[str, ...]) -> None:
    """Say what of a Go hub's configuration counts here: Compose files, an .env, a Caddyfile.

    Line by line what is taken, what means nothing, what differs; exit code 1 where the hub would not start.
    """
    from pathlib import Path

    from hub.migration.check import check as judge
    from hub.migration.compose import InvalidCompose

    try:
        reports = judge([Path(each) for each in files])
    except InvalidCompose as error:
        raise Failure(error, 2) from None
    if not reports:
        raise Failure("no service of these files is a Mercure hub: none has its image or its variables", 2)
    for report in reports:
        click.echo(f"{report.service or 'this configuration'}:")
        for finding in report.findings:
            click.echo(f"  {finding}")
        click.echo("  it starts" if report.starts else "  it does not start")
    sys.exit(0 if all(report.starts for report in reports) else 1)


@main.command()
@options.dev
@options.settings_flags
def check(dev: bool, **flags: object) -> None:
    """Say what serve would meet with the same flags and variables; exit code 0, or 2 and 1 as serve would fail."""
    import asyncio

    from hub.cli.checking import findings

    settings = _load(flags, os.environ, dev)
    for name, value in settings.shown().items():
        click.echo(f"{name}: {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    found = asyncio.run(findings(settings))
    for each in found:
        click.echo(each.sentence if each.code == 0 else f"FAILS {each.sentence}")
    sys.exit(max(each.code for each in found))


if __name__ == "__main__":
    main()
