"""From the address of a store to the store, or to what reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from mesh.errors import ConfigError
from mesh.settings import Settings
from mesh.store.base import Store
from mesh.store.held_file import HeldFile
from mesh.store.memory import MemoryStore
from mesh.store.place import default_path, path_of
from mesh.store.redis.address import KNOWN as KNOWN_REDIS
from mesh.store.redis.address import is_redis, masked, parse_address
from mesh.store.redis.reader import RedisReader
from mesh.store.redis.sealing import StoreKeys
from mesh.store.redis.store import RedisStore
from mesh.store.sqlite import SqliteStore
from mesh.store.sqlite_reader import SqliteReader

LEVELS = ("disk", "process")
LOCK_LEAST_S = 1.0  # of a lock that is renewed every 0.25 s, and counts for half of its time where its holder is gone
KNOWN = "sqlite:///absolute/path.db, sqlite:// (a file in the state directory), both with ?level=process, memory://"


def no_keys() -> StoreKeys:
    """The default of ``open_store``: enough for a store that nobody else can write to."""
    return ()


def open_store(
    url: str,
    *,
    settings: Settings,
    salvage: bool = False,
    force: bool = False,
    keys: Callable[[], StoreKeys] = no_keys,
) -> Store:
    """Open the store at ``url``. Raises ``ConfigError`` for an address that is none, ``StoreError``.

    ``keys``: the mesh keys that count now, as secrets for stores; it is asked again and again. ``force``: also where
    the store was moved elsewhere.
    """
    if url.partition("://")[0] == "memory":
        return MemoryStore(url)
    if is_redis(url):
        _check_times(settings)
    return _open(url, settings, keys, salvage=salvage, force=force)


def _check_times(settings: Settings) -> None:
    """Raise ``ConfigError`` where a slow answer would cost a router its nodes, or its journal."""
    timeout_s, lock_s = settings.store_timeout_s, settings.store_lock_s
    patience_s = settings.heartbeat_s * (settings.liveness - 1)
    if timeout_s >= patience_s:
        raise ConfigError(
            f"setting store_timeout_s = {timeout_s:g}: a router that waits so long for its store is given up by its "
            f"nodes; less than heartbeat_s * (liveness - 1) = {patience_s:g}"
        )
    least_s = max(LOCK_LEAST_S, 2 * timeout_s)
    if lock_s < least_s:
        raise ConfigError(
            f"setting store_lock_s = {lock_s:g}: a router would lose its journal while it waits for one answer; at "
            f"least twice store_timeout_s, and {LOCK_LEAST_S:g}: {least_s:g}"
        )


def open_target(
    url: str, router_id: str, *, settings: Settings, keys: Callable[[], StoreKeys]
) -> SqliteStore | RedisStore:
    """Open a store that another moves to, of the router ``router_id``, as ``open_store`` does."""
    if is_redis(url):
        return _open_redis(url, settings, keys, moving=True, becomes=router_id)
    return _open(url, settings, keys, moving=True)


def open_reader(url: str, *, settings: Settings, keys: Callable[[], StoreKeys]) -> SqliteReader | RedisReader:
    """Read the store at ``url``, which a router may have. Raises ``ConfigError``, ``StoreError``."""
    if is_redis(url):
        return RedisReader(parse_address(url), settings.mesh, keys(), settings.store_timeout_s)
    return SqliteReader(*_file_and_level(url, settings))


def hold(url: str, *, settings: Settings, keys: Callable[[], StoreKeys]) -> HeldFile | RedisStore:
    """Keep routers from the store at ``url``, which is there. Raises ``StoreLocked`` where one has it."""
    if is_redis(url):
        return _open_redis(url, settings, keys, moving=True)
    return HeldFile(_file_and_level(url, settings)[0])


def _open(
    url: str,
    settings: Settings,
    keys: Callable[[], StoreKeys],
    *,
    salvage: bool = False,
    force: bool = False,
    moving: bool = False,
) -> SqliteStore | RedisStore:
    if not is_redis(url):
        path, level = _file_and_level(url, settings)
        return SqliteStore(
            path, level=level, free_bytes_min=settings.free_bytes_min, salvage=salvage, force=force, moving=moving
        )
    return _open_redis(url, settings, keys, salvage=salvage, force=force, moving=moving)


def _open_redis(
    url: str,
    settings: Settings,
    keys: Callable[[], StoreKeys],
    *,
    salvage: bool = False,
    force: bool = False,
    moving: bool = False,
    becomes: str | None = None,
) -> RedisStore:
    return RedisStore(
        url,
        mesh=settings.mesh,
        keys=keys,
        timeout_s=settings.store_timeout_s,
        lock_s=settings.store_lock_s,
        login_wait_s=settings.store_wait_s,
        salvage=salvage,
        force=force,
        moving=moving,
        becomes=becomes,
    )


def _file_and_level(url: str, settings: Settings) -> tuple[Path, str]:
    if url.partition("://")[0] == "memory":
        raise ConfigError("a store in memory ends with its router: there is nothing to read or to move")
    if url.partition("://")[0] != "sqlite":
        raise ConfigError(f"store {masked(url)!r}: there is no store of this kind; known: {KNOWN}, {KNOWN_REDIS}")
    parts = urlsplit(url)
    path = path_of(url) or default_path(settings.mesh, os.environ)
    options = dict(parse_qsl(parts.query))
    level = options.pop("level", "disk")
    if parts.netloc or path == Path("/"):
        raise ConfigError(f"store {url!r}: give an absolute path, with three slashes; known: {KNOWN}")
    if level not in LEVELS or options:
        raise ConfigError(f"store {url!r}: the only option is level={' or level='.join(LEVELS)}")
    return path, level
