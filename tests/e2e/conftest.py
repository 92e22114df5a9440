"""What the end-to-end tests start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Hubs


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[Hubs]:
    """Processes in a folder of the test's, ended with it."""
    with Hubs(tmp_path) as hubs:
        yield hubs
