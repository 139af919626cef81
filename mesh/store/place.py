"""Where the store of a mesh is, unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


def default_url(mesh: str, environ: Mapping[str, str]) -> str:
    """``MESH_STORE``, or a file named after the mesh in the user's state directory."""
    return environ.get("MESH_STORE") or f"sqlite://{quote(str(default_path(mesh, environ)))}"


def default_path(mesh: str, environ: Mapping[str, str]) -> Path:
    """The file of ``sqlite://``."""
    state = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME') or Path.home()}/.local/state"
    return Path(state).absolute() / "taskmesh" / f"{mesh}.db"


def path_of(url: str) -> Path | None:
    """The file that an address of kind ``sqlite`` names; None where it names none, and of other kinds."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "sqlite" and parts.path else None
