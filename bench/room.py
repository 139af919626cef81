"""A router whose disk is full accepts nothing: a measurement ends with that, rather than wait until there is room."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from mesh.errors import StoreFull
from mesh.settings import Settings
from mesh.store.place import path_of

MIB = 1 << 20
INSTEAD = "Make room there, or name a directory on another disk in TMPDIR"


def check_room(environ: Mapping[str, str]) -> None:
    """Raise ``StoreFull`` where the router with this environment has too little disk to accept anything."""
    path = path_of(environ.get("MESH_STORE", ""))
    if path is None:
        return
    directory = path.parent
    free, least = shutil.disk_usage(directory).free, Settings.from_environment(environ).free_bytes_min
    if free < least:
        raise StoreFull(
            f"the mesh under test accepts nothing: {free // MIB:,} MiB of disk are free in {directory}, and it wants "
            f"{least // MIB:,} (free_bytes_min). {INSTEAD}"
        )
