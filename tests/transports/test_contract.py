"""Every transport of ours keeps the contract."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transports.contract import SharedTransportContract, TransportContract
from tests.transports.valkey import Valkey


class TestMemory(TransportContract):
    durable = False

    @pytest.fixture
    def url(self) -> str:
        return "memory://"


class TestLMDBExclusive(TransportContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"lmdb://{tmp_path}/hub"


class TestLMDBShared(SharedTransportContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"lmdb://{tmp_path}/hub?lock=shared"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


class TestRedis(SharedTransportContract):
    @pytest.fixture
    def url(self, server: Valkey) -> str:
        return server.url(prefix=secrets.token_hex(4))
