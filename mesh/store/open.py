"""From the address of a store to the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from mesh.errors import ConfigError
from mesh.settings import Settings
from mesh.store.base import Store
from mesh.store.memory import MemoryStore
from mesh.store.place import default_path, path_of
from mesh.store.redis.address import KNOWN as KNOWN_REDIS
from mesh.store.redis.address import is_redis, masked
from mesh.store.redis.sealing import StoreKeys
from mesh.store.redis.store import RedisStore
from mesh.store.sqlite import SqliteStore

LEVELS = ("disk", "process")
KNOWN = "sqlite:///absolute/path.db, sqlite:// (a file in the state directory), both with ?level=process, memory://"


def no_keys() -> StoreKeys:
    """The default of ``open_store``: enough for a store that nobody else can write to."""
    return ()


def open_store(
    url: str, *, settings: Settings, salvage: bool = False, keys: Callable[[], StoreKeys] = no_keys
) -> Store:
    """Open the store at ``url``. Raises ``ConfigError`` for an address that is none, ``StoreError``.

    ``keys``: the mesh keys that count now, as secrets for stores; it is asked again and again.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return MemoryStore(url)
    if scheme == "sqlite":
        return _open_sqlite(url, settings, salvage)
    if is_redis(url):
        return RedisStore(
            url,
            mesh=settings.mesh,
            keys=keys,
            timeout_s=settings.store_timeout_s,
            lock_s=settings.store_lock_s,
            salvage=salvage,
        )
    raise ConfigError(f"store {masked(url)!r}: there is no store of this kind; known: {KNOWN}, {KNOWN_REDIS}")


def _open_sqlite(url: str, settings: Settings, salvage: bool) -> SqliteStore:
    parts = urlsplit(url)
    path = path_of(url) or default_path(settings.mesh, os.environ)
    options = dict(parse_qsl(parts.query))
    level = options.pop("level", "disk")
    if parts.netloc or path == Path("/"):
        raise ConfigError(f"store {url!r}: give an absolute path, with three slashes; known: {KNOWN}")
    if level not in LEVELS or options:
        raise ConfigError(f"store {url!r}: the only option is level={' or level='.join(LEVELS)}")
    return SqliteStore(path, level=level, free_bytes_min=settings.free_bytes_min, salvage=salvage)
