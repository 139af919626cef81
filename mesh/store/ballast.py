"""Room kept in reserve on the disk, given back when it is full, so that what was accepted can still be finished."""

from __future__ import annotations

import os
from pathlib import Path


class Ballast:
    """A file of ``size`` bytes; 0 for none."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def release(self) -> bool:
        """Give the room back. False if there was none to give."""
        try:
            held = self._path.stat().st_size > 0
            self._path.unlink()
        except FileNotFoundError:
            return False
        return held

    def restore(self, free_bytes: int, free_bytes_min: int) -> None:
        """Take the room again, if more than ``free_bytes_min`` stay free after it."""
        if not self._size or free_bytes - self._size < free_bytes_min or self._path.exists():
            return
        try:
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self._path.unlink(missing_ok=True)
