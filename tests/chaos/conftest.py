"""What tests that kill, stop and starve processes have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mesh.store.redis.rows import without_mac_and_head
from tests.cluster import Cluster
from tests.cluster import cluster as cluster
from tests.redis_server import Server


@pytest.fixture
def redis(cluster: Cluster) -> Iterator[Server]:
    """A Redis server of this test's own; what routers write down there are the cluster's outcomes."""
    directory = Path(cluster.place, "redis")
    directory.mkdir()
    server = Server(directory, "disk")

    def outcomes() -> list[tuple[str, str]]:
        rows = server.admin.hgetall("taskmesh:{t}:outcomes")
        return [(key.decode(), msgspec.msgpack.decode(without_mac_and_head(row))[1]) for key, row in rows.items()]

    cluster.outcomes = outcomes  # type: ignore[method-assign]
    yield server
    server.close()
