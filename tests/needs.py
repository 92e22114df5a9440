"""Programs that some tests need and Python does not bring. Where one is missing they are skipped, and it is said."""

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = {
    "bash": "bash",
    "caddy": "caddy",
    "cc": "gcc libc6-dev",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "doctrine": "php-doctrine-dbal php-pgsql",
    "faketime": "faketime",
    "git": "git",
    "go": "golang-go",
    "haproxy": "haproxy",
    "nginx": "nginx",
    "pgbouncer": "pgbouncer",
    "php": "php-cli",
    "postgres": "postgresql",
    "psql": "postgresql-client",
    "promtool": "prometheus",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
}
"""Debian's packages that bring them."""

DOCTRINE = "/usr/share/php/Doctrine/DBAL/autoload.php"

missing: set[str] = set()
"""What tests of this run have looked for and not found."""


def found(program: str) -> str | None:
    """Its path. Debian keeps a server of PostgreSQL for each version, and has on the PATH what lists them."""
    if program == "doctrine":  # no program, but a library of one
        return DOCTRINE if shutil.which("php") and Path(DOCTRINE).exists() else None
    path = os.environ.get("PATH", os.defpath)
    if shutil.which("pg_lsclusters"):
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
        path = os.pathsep.join([path, *map(str, reversed(versions))])
    return shutil.which(program, path=path)


def needs(*programs: str) -> None:
    """Skip the test unless all of them are on the PATH. In continuous integration it fails: there they all belong."""
    lacking = [program for program in programs if found(program) is None]
    if not lacking:
        return
    missing.update(lacking)
    said = f"not on the PATH: {', '.join(lacking)}; apt-get install {packages(lacking)}"
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)


def packages(programs: list[str]) -> str:
    return " ".join(PACKAGES[program] for program in sorted(programs))
