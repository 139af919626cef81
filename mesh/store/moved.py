"""The note on a store that is moving or was moved: a router must not start on the wrong one of two by mistake."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from mesh.errors import StoreError, StoreMoved


class Move(Struct, frozen=True):
    """``to``: what was here is at ``other`` now. ``from``: what is at ``other`` is on its way here, and not all here.

    ``boot`` and ``commits`` are those of the store that moves, when it did.
    """

    way: Literal["to", "from"]
    other: str
    at: float
    boot: int
    commits: int

    @property
    def text(self) -> bytes:
        """As it is written down."""
        return msgspec.json.encode(self)

    @property
    def sentence(self) -> str:
        """For people."""
        if self.way == "from":
            return f"an unfinished copy of {self.other}"
        return f"moved to {self.other} on {datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M} UTC"


def read_move(text: bytes, where: str) -> Move:
    """What was written down. Raises ``StoreError`` where that cannot be read."""
    try:
        return msgspec.json.decode(text, type=Move)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{where}: no note of a store that moved: {error}") from None


def refuse_moved(move: Move | None, url: str, *, force: bool) -> bool:
    """Raise ``StoreMoved`` where a router must not start on this store; whether the note is to be removed."""
    if move is None:
        return False
    if move.way == "from":
        raise StoreMoved(f"{url} is {move.sentence}: `mesh store migrate` with the same two addresses goes on with it")
    if not force:
        raise StoreMoved(
            f"{url} was {move.sentence}: start the router with that --store; what was done there since is not here. "
            "`mesh router --force`, typed once with this --store, has routers start on this one all the same"
        )
    return True


class MoveFile:
    """The note on the store file ``path``, in a file beside it: the store itself stays untouched."""

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}.moved")

    def read(self) -> Move | None:
        """The note, if there is one. Raises ``StoreError``."""
        try:
            return read_move(self._path.read_bytes(), str(self._path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._path}: {error}") from error

    def write(self, move: Move | None) -> None:
        """Replace or remove it; durable when this returns. Raises ``OSError``."""
        if move is None:
            self._path.unlink(missing_ok=True)
        else:
            draft = Path(f"{self._path}.draft")
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(move.text)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._path)
        sync_directory(self._path.parent)


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable. Raises ``OSError``."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
