"""What the tests of several transports share."""

from collections.abc import AsyncIterator

import pytest

from tests.transports.peer_process import Peer


@pytest.fixture
async def peers() -> AsyncIterator[list[Peer]]:
    """Processes that are ended with the test."""
    started: list[Peer] = []
    yield started
    for peer in started:
        await peer.kill()
