"""Every transport of ours keeps the contract."""

from pathlib import Path

import pytest

from tests.transports.contract import SharedTransportContract, TransportContract


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
