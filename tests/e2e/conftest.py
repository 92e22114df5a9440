"""What the end-to-end tests start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Hubs
from tests.transports.postgresql import Postgres
from tests.transports.valkey import Valkey


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[Hubs]:
    """Processes in a folder of the test's, ended with it."""
    with Hubs(tmp_path) as hubs:
        yield hubs


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres("fsync=off") as server:
        yield server
