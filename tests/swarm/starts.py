"""Containers that can't work: one line that says what to do, and exit code 2. And files that are not taken."""

import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from tests.swarm.engine import Engine
from tests.swarm.images import ROOT

KEYS = ("--env", f"MERCURE_PUBLISHER_JWT_KEY={'k' * 32}", "--env", f"MERCURE_SUBSCRIBER_JWT_KEY={'k' * 32}")
SECRET = "/run/secrets/mercure_publisher_jwt_key"

COMPOSE = (("docker-compose.yml",), ("docker-compose.yml", "deploy/compose.api-platform.yml"))


class BadStart(NamedTuple):
    """``arguments`` of `docker run`, and a part of the line."""

    what: str
    arguments: Sequence[str]
    line: str


BAD = [
    BadStart("a volume that is root's", (*KEYS, "--volume", "{root}:/data"), "can't be used by uid 10001 (Permission"),
    BadStart("no volume", (*KEYS, "--read-only"), "/data/hub is on a read-only file system; mount a volume"),
    BadStart("no directory", (*KEYS, "--env", "MERCURE_TRANSPORT_URL=lmdb:///no/hub"), "/no does not exist; create it"),
    BadStart("no secret", ("--env", f"MERCURE_PUBLISHER_JWT_KEY_FILE={SECRET}"), f"{SECRET!r} cannot be read"),
    BadStart("no key", (), "MERCURE_PUBLISHER_JWT_KEY and MERCURE_SUBSCRIBER_JWT_KEY are not set"),
    BadStart("another's volume", (*KEYS, "--volume", "taken:/data"), '"lmdb:///data/hub": invalid transport: timeout'),
    BadStart("no driver", (*KEYS, "--env", "MERCURE_TRANSPORT_URL=bogus://x"), "unknown scheme 'bogus'"),
]


def wrong_starts(engine: Engine) -> list[str]:
    """Those that did not end as they must, in words."""
    root = engine.folder / "root"
    root.mkdir(mode=0o755)
    first = ("run", "--detach", "--rm", "--network", "none", *KEYS, "--volume", "taken:/data", "hub:a")
    holder = engine.docker(*first).strip()
    try:
        return [found for each in BAD if (found := _wrong(engine, each, str(root)))]
    finally:
        engine.docker("stop", holder)


def refused_files(engine: Engine) -> list[str]:
    """The compose files that Docker Compose does not take, in words; stack.yml is deployed later."""
    plugin = subprocess.run(["docker", "compose", "version"], env=engine.environment, capture_output=True, check=False)
    compose = ["docker-compose"] if plugin.returncode else ["docker", "compose"]
    commands = [[*compose, *(part for each in files for part in ("--file", each)), "config"] for files in COMPOSE]
    outcomes = [subprocess.run(each, cwd=ROOT, capture_output=True, text=True, check=False) for each in commands]
    return [f"{' '.join(each.args)}: {each.stderr}" for each in outcomes if each.returncode]


def _wrong(engine: Engine, bad: BadStart, root: str) -> str:
    arguments = [each.format(root=root) for each in bad.arguments]
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", *arguments, "hub:a"],
        env=engine.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = done.stderr.splitlines()
    if done.returncode == 2 and len(lines) == 1 and bad.line in lines[0]:
        return ""
    return f"a container with {bad.what}: exit code {done.returncode}, {done.stderr!r}"
