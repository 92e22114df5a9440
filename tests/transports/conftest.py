"""What the tests of several transports share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.transports.outages import Opened
from tests.transports.postgresql import Postgres
from tests.transports.topologies import Cluster, Sentinels
from tests.transports.valkey import Redis, Valkey
from transports import Transport, open_transport
from transports.testing.peer import Peer


@pytest.fixture
async def peers() -> AsyncIterator[list[Peer]]:
    """Processes that are ended with the test."""
    started: list[Peer] = []
    yield started
    for peer in started:
        await peer.kill()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """One for all tests that leave it as it is; each takes a prefix of its own."""
    with Valkey() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One for all tests that leave it as it is; each takes a schema of its own."""
    with Postgres("fsync=off") as server:
        yield server


@pytest.fixture(scope="session")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels() as servers:
        yield servers


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as servers:
        yield servers


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Opens a URL, and closes it after the test."""
    transports: list[Transport] = []

    async def open_one(url: str) -> Transport:
        transports.append(open_transport(url))
        await transports[-1].open()
        return transports[-1]

    yield open_one
    for transport in transports:
        await transport.close()
