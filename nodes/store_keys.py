"""What a store that others can write to signs its rows with: secrets made of the keys of the mesh."""

from __future__ import annotations

import os

from mesh.net.keys import load, load_or_create, whole_key
from mesh.net.rotation import live_keys


def store_keys(mesh: str) -> list[tuple[str, bytes]]:
    """Id and secret of each key that counts, the newest first; makes a key where a mesh has none."""
    load_or_create(mesh, os.environ)
    return known_store_keys(mesh)


def known_store_keys(mesh: str) -> list[tuple[str, bytes]]:
    """As ``store_keys``, of a mesh that has a key. Raises ``NoKey``."""
    load(mesh, os.environ)
    whole = [whole_key(key, "a store on Redis") for key in live_keys(mesh, os.environ)]
    return [(key.key_id, key.store) for key in whole]
