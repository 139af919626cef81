"""From the address of a store to the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mesh.errors import ConfigError
from mesh.settings import Settings
from mesh.store.base import Store
from mesh.store.memory import MemoryStore
from mesh.store.sqlite import SqliteStore

LEVELS = ("disk", "process")
KNOWN = "sqlite:///absolute/path.db, sqlite:///absolute/path.db?level=process, memory://"


def default_url(mesh: str, environ: Mapping[str, str]) -> str:
    """``MESH_STORE``, or a file named after the mesh in the user's state directory."""
    if url := environ.get("MESH_STORE"):
        return url
    state = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME') or Path.home()}/.local/state"
    return f"sqlite://{Path(state).absolute() / 'taskmesh' / f'{mesh}.db'}"


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
    path = Path(unquote(parts.path))
    options = dict(parse_qsl(parts.query))
    level = options.pop("level", "disk")
    if parts.netloc or not path.is_absolute() or path == Path("/"):
        raise ConfigError(f"store {url!r}: give an absolute path, with three slashes; known: {KNOWN}")
    if level not in LEVELS or options:
        raise ConfigError(f"store {url!r}: the only option is level={' or level='.join(LEVELS)}")
    return SqliteStore(path, level=level, free_bytes_min=settings.free_bytes_min, salvage=salvage)
