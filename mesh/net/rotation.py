"""A new key for a mesh that runs: the one before counts beside it until all nodes have the new one.

Two files: the key's own, and beside it the key from before. Either is whole at all times, and whatever a crash leaves
behind is a state that the next command goes on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mesh.errors import ConfigError, NoKey
from mesh.net.keys import AnyKey, MeshKey, key_of_environment, key_path, new_key, read_key, replace_key, whole_key
from mesh.net.private_files import create_private


def old_key_path(path: Path) -> Path:
    """Where the key from before is kept while a rotation is under way."""
    return path.with_name(path.name + ".old")


def rotate(path: Path) -> tuple[MeshKey, MeshKey]:
    """Make a new key and keep the one that is there beside it; (old, new). Raises ``ConfigError``."""
    old = _whole(path)
    kept = read_key(old_key_path(path))
    if kept is not None and kept != old:
        raise ConfigError(
            f"key {kept.key_id} is still kept from the last time: when all nodes have key {old.key_id}, type this with "
            "--finish"
        )
    create_private(old_key_path(path), old.text + "\n")
    new = new_key()
    replace_key(path, new)
    return old, new


def finish(path: Path) -> tuple[AnyKey, MeshKey]:
    """Forget the key from before; (that one, the one that counts). Raises ``ConfigError``."""
    old, new = read_key(old_key_path(path)), _whole(path)
    if old is None:
        raise ConfigError(f"no rotation is under way: there is no {old_key_path(path)}")
    old_key_path(path).unlink()
    return old, new


def live_keys(mesh: str, environ: Mapping[str, str]) -> list[AnyKey]:
    """The keys that count for a router, newest first. Raises ``NoKey``, ``ConfigError``."""
    given = key_of_environment(environ)
    if given is not None:
        return [given]
    path = key_path(mesh, environ)
    # The older one first: it is written before the key is replaced, and so never missed.
    found = [read_key(old_key_path(path)), read_key(path)]
    keys = list(dict.fromkeys(key for key in reversed(found) if key is not None))
    if found[1] is None:
        raise NoKey(f"the key {path} is gone")
    return keys


def _whole(path: Path) -> MeshKey:
    key = read_key(path)
    if key is None:
        raise NoKey(f"there is no key to rotate in {path}")
    return whole_key(key, "to rotate it")
