"""The hub's tests run on the event loop that it is served with."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from tests.transports.postgresql import Postgres


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres("fsync=off") as server:
        yield server
