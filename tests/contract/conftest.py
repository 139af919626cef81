"""Where the stores under test live."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.redis_server import own_url, redis_server

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory where there is one: every promise but that against a power cut is the same there."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="mesh-test-") as directory:
        yield Path(directory)


@pytest.fixture
def url() -> str:
    """Of a store that this test alone has, on a server that others use, too."""
    return own_url(redis_server().url)


@pytest.fixture
def admin() -> redis.Redis:
    """Whoever can write to that server."""
    return redis.Redis(port=redis_server().port)
