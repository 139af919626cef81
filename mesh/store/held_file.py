"""A store file that no router may start on, while it moves elsewhere."""

from __future__ import annotations

from pathlib import Path

from mesh.errors import StoreError
from mesh.store.lock import FileLock
from mesh.store.moved import Move, MoveFile
from mesh.store.own_files import refuse_foreign_files


class HeldFile:
    """Keeps routers from the store file at ``path``, and does nothing else to it. Raises ``StoreLocked``."""

    def __init__(self, path: Path) -> None:
        resolved = path.resolve()
        if not resolved.is_file():
            raise StoreError(f"{resolved}: there is no store")
        refuse_foreign_files(resolved)
        self._move = MoveFile(resolved)
        self._lock = FileLock(Path(f"{resolved}.lock"), moving=True)

    def usage(self) -> None:
        """Do nothing: this lock needs not be renewed."""

    def note_move(self, move: Move | None) -> None:
        """Write down where the store went, or take that back."""
        try:
            self._move.write(move)
        except OSError as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        """Let go of it."""
        self._lock.release()
