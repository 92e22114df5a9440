"""Every transport of ours keeps the contract."""

import secrets
from pathlib import Path

import pytest

from tests.transports.postgresql import Postgres, a_schema
from tests.transports.topologies import Cluster, Sentinels
from tests.transports.valkey import Redis, Valkey
from transports.testing.suite import SharedTopicIndexContract, SharedTransportContract, TopicIndexContract

INDEXED = {"index": "topics"}


class TestMemory(TopicIndexContract):
    durable = False

    @pytest.fixture
    def url(self) -> str:
        return "memory://"


class TestLMDBExclusive(TopicIndexContract):
    indexed = INDEXED

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"lmdb://{tmp_path}/hub"


class TestLMDBShared(SharedTopicIndexContract):
    indexed = INDEXED

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"lmdb://{tmp_path}/hub?lock=shared"


def on(server: Valkey | Sentinels | Cluster) -> str:
    """A log that nobody has used."""
    return server.url(prefix=secrets.token_hex(4))


class TestPostgreSQL(SharedTopicIndexContract):
    indexed = INDEXED

    @pytest.fixture
    def url(self, postgres: Postgres) -> str:
        return postgres.url(schema=a_schema())


class TestValkey(SharedTransportContract):
    @pytest.fixture
    def url(self, valkey: Valkey) -> str:
        return on(valkey)


class TestRedis(SharedTransportContract):
    @pytest.fixture
    def url(self, redis: Redis) -> str:
        return on(redis)


class TestSentinel(SharedTransportContract):
    @pytest.fixture
    def url(self, sentinels: Sentinels) -> str:
        return on(sentinels)


class TestCluster(SharedTransportContract):
    @pytest.fixture
    def url(self, cluster: Cluster) -> str:
        return on(cluster)
