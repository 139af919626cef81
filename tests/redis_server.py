"""A real Redis for the tests: one server for all tests of a process, and for each test keys of its own on it."""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import tempfile
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pytest
import redis

from bench.redis_server import RedisServer, find_server, running_redis
from mesh.store.redis.sealing import StoreKeys
from mesh.store.redis.store import RedisStore

HOW = "no Redis server is installed: apt-get install redis-server, or `make redis` as root"
KEYS: StoreKeys = [("k1", b"a secret that is derived from the mesh key")]
_MEMORY = Path("/dev/shm")
_numbers = itertools.count(1)
_at_exit = ExitStack()
atexit.register(_at_exit.close)


def need_server() -> None:
    """Skip where there is no server to start; with REDIS_TESTS=must, as in CI, that is a failure."""
    if find_server() is None:
        (pytest.fail if os.environ.get("REDIS_TESTS") == "must" else pytest.skip)(HOW)


@lru_cache(maxsize=1)
def redis_server() -> RedisServer:
    """A server that keeps nothing on disk; it ends with this process."""
    need_server()
    directory = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None, prefix="mesh-redis-")
    return _at_exit.enter_context(running_redis(Path(_at_exit.enter_context(directory)), "memory"))


def own_url(url: str) -> str:
    """An address under which nothing is yet."""
    return f"{url}?prefix=test{next(_numbers)}"


def open_redis(
    url: str, *, keys: StoreKeys = KEYS, timeout_s: float = 2.0, lock_s: float = 10.0, salvage: bool = False
) -> RedisStore:
    """Open a store as a router does."""
    return RedisStore(url, mesh="m", keys=lambda: keys, timeout_s=timeout_s, lock_s=lock_s, salvage=salvage)


class Server:
    """One server on one port, that can be killed and started again with what it wrote."""

    def __init__(self, directory: Path, level: str) -> None:
        need_server()
        self._directory = directory
        self._level = level
        self._running = ExitStack()
        self.port: int | None = None
        self.start()

    def start(self, *options: str) -> None:
        """Start it, again where it was."""
        server = running_redis(self._directory, self._level, port=self.port, options=options)
        self.running: RedisServer = self._running.enter_context(server)
        self.port = self.running.port
        self.url = self.running.url
        self.admin = redis.Redis(port=self.port)

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.running.pid, signal.SIGKILL)
        self._running.close()

    def close(self) -> None:
        self._running.close()


def prefix_of(url: str) -> str:
    """How the keys of the mesh begin, of a store at an address that ``own_url`` made."""
    return f"{url.rpartition('prefix=')[2]}:{{m}}:"


def mine(store: RedisStore) -> str:
    """How those of its router begin."""
    return f"{prefix_of(store.url)}r:{store.router_id}:"
