"""From the address of a store to the store."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from mesh.errors import ConfigError
from mesh.settings import Settings
from mesh.store.base import Store
from mesh.store.memory import MemoryStore
from mesh.store.place import default_path, path_of
from mesh.store.sqlite import SqliteStore

LEVELS = ("disk", "process")
KNOWN = "sqlite:///absolute/path.db, sqlite:// (a file in the state directory), both with ?level=process, memory://"


def open_store(url: str, *, settings: Settings, salvage: bool = False) -> Store:
    """Open the store at ``url``. Raises ``ConfigError`` for an address that is none, ``StoreError``."""
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return MemoryStore(url)
    if scheme == "sqlite":
        return _open_sqlite(url, settings, salvage)
    raise ConfigError(f"store {url!r}: there is no store of this kind; known: {KNOWN}")


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
