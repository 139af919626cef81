"""Where the store of a mesh is, unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote


def default_url(mesh: str, environ: Mapping[str, str]) -> str:
    """``MESH_STORE``, or a file named after the mesh in the user's state directory."""
    return environ.get("MESH_STORE") or f"sqlite://{quote(str(default_path(mesh, environ)))}"


def default_path(mesh: str, environ: Mapping[str, str]) -> Path:
    """The file of ``sqlite://``."""
    state = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME') or Path.home()}/.local/state"
    return Path(state).absolute() / "taskmesh" / f"{mesh}.db"
