"""Which disk is measured: the one that ``TMPDIR`` chooses, and no other."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psutil

from mesh.errors import ConfigError


def place() -> Path:
    """Where temporary directories are made. Raises ``ConfigError`` where ``TMPDIR`` is none that can be written.

    Python would take another directory then, and another disk would be measured unnoticed.
    """
    if wanted := os.environ.get("TMPDIR"):
        try:
            with tempfile.TemporaryFile(dir=wanted):
                return Path(wanted).absolute()
        except OSError as error:
            raise ConfigError(f"TMPDIR is {wanted}, and nothing can be written there: {error.strerror}") from None
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ConfigError(f"{error.strerror}: name one in TMPDIR") from None


def file_system(path: Path) -> str:
    """The type of the file system that ``path`` is on, as the kernel calls it."""
    there = path.resolve()
    mounted = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounted[above] for above in (there, *there.parents) if above in mounted), "unknown")
