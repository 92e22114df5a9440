"""The pytest fixture ``mercure_hub``: a real hub on a free port of this machine, in memory, for one test."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

KEY = "!ChangeThisMercureHubJWTSecretKey!"
"""The documentation's, as ``serve --dev`` takes it."""
_ENDING = 10.0


@dataclass(frozen=True)
class RunningHub:
    """``url``: for publishers and subscribers. ``key``: what its tokens are signed with (HS256)."""

    url: str
    key: str = KEY


@pytest.fixture
def mercure_hub() -> Iterator[RunningHub]:
    """A hub as ``mercure-hub serve --dev --subscriptions`` starts it."""
    serve = ["serve", "--dev", "--subscriptions", "--transport-url", "memory://", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-m", "hub", *serve, "--drain", "100ms"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        try:
            for line in process.stdout:
                if said := re.search(r"is listening on (\S+)", line):
                    yield RunningHub(said[1])
                    break
        finally:
            process.terminate()
            process.stdout.read()
            process.wait(_ENDING)
