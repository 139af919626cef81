"""The depot of a router: the directory where processes of its user on its host hand over large payloads as files.

Whoever sends a payload writes it there once, and says under which name; the router makes the file its own, and those
who are told of it map it into their memory. Bytes that travel so pass no socket and no other process. A file is offered
once: what must be sent again (the connection broke, there was no room) is sent in frames, from the same memory.

A router is known by its local socket; the depot is found beside that. Nodes elsewhere have none, and stream.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

from msgspec.structs import replace

from mesh.errors import MeshError, StoreDamaged, StoreError
from mesh.model import Blob, Buffer
from mesh.store.blob_file import (
    MAPPED_ABOVE,
    cut_parts,
    file_name,
    file_size,
    map_blob,
    map_open_blob,
    map_own_blob,
    write_blob,
)

Buffers = Sequence[Buffer] | MeshError
"""The bytes of a large payload, or why they are not to be had."""

OPEN_FILES_MAX = 100
"""Large results that nobody has let go of cost a descriptor each: a process may have a thousand."""

MARKER = "here-"
"""Begins the name of the file that shows that a directory is the one the router means."""


class Depot:
    """One router's. ``sync``: what is left is on the disk before the router is told of it."""

    def __init__(self, directory: str, *, sync: bool = False) -> None:
        self.directory = directory
        self.sync = sync
        self.open_files = 0

    def leave(self, blob: Blob, parts: Sequence[Buffer], spare_bytes: int = 0) -> Blob | None:
        """Write a file for the router: the blob that names it; None where fewer than ``spare_bytes`` would be left."""
        name = f"{file_name(blob.key)}.{secrets.token_hex(8)}"
        path = Path(self.directory, name)
        try:
            room = os.statvfs(self.directory)
            if room.f_bavail * room.f_frsize < blob.size + spare_bytes:
                return None
            write_blob(path, blob, parts, sync=self.sync)
            return replace(blob, file=name)
        except (OSError, StoreError):
            with suppress(OSError):
                path.unlink()
            return None

    def keep(self, left: Blob) -> list[Buffer]:
        """The bytes of what was left, in parts, for as long as they may be wanted again; none if that cannot be."""
        try:
            return list(cut_parts(left, map_own_blob(self.path(left), left)))
        except (OSError, StoreError):
            return []

    def remove(self, left: Blob) -> None:
        """Take back a file that the router was not told of."""
        with suppress(OSError):
            self.path(left).unlink()

    def find(self, blob: Blob) -> Buffers:
        """The buffers of a payload, to be used once; or why they are not to be had."""
        try:
            return map_blob(self.path(blob), blob)
        except StoreDamaged as damaged:
            return damaged
        except OSError as error:
            return _unreadable(blob, error)

    def open(self, blob: Blob) -> PayloadFile | Buffers:
        """A payload that may be used more than once: its file, or the buffers of a small one; or why it is not here."""
        return self.find(blob) if file_size(blob) <= MAPPED_ABOVE else PayloadFile(self, blob)

    def path(self, blob: Blob) -> Path:
        """Where the file of this payload lies."""
        return Path(self.directory, blob.file or "")


class PayloadFile:
    """A file of a depot. The first ``OPEN_FILES_MAX`` are kept open, and can be read although they are removed."""

    def __init__(self, depot: Depot, blob: Blob) -> None:
        self._depot = depot
        self._blob = blob
        self._file: FileIO | None = None
        if depot.open_files < OPEN_FILES_MAX:
            with suppress(OSError):  # no descriptor is free, say: it is tried again when it is read
                self._file = self._open()
                depot.open_files += 1

    def __del__(self) -> None:
        if self._file is not None:
            self._depot.open_files -= 1

    def read(self) -> list[memoryview]:
        """The buffers, in memory of the caller's own. Raises ``StoreError``."""
        try:
            if self._file is not None:
                return map_open_blob(self._file, self._blob)
            with self._open() as file:
                return map_open_blob(file, self._blob)
        except OSError as error:
            raise _unreadable(self._blob, error) from error

    def _open(self) -> FileIO:
        return FileIO(self._depot.path(self._blob))


def _unreadable(blob: Blob, error: OSError) -> StoreError:
    return StoreError(f"payload {blob.key} cannot be read: {error}")


def depot_link(ipc_endpoint: str) -> Path:
    """Where a router that listens there shows its depot: a link beside its socket, to a marker in the directory."""
    return Path(ipc_endpoint.removeprefix("ipc://").removesuffix(".ipc") + ".depot")


def depot_beside(endpoint: str) -> Depot | None:
    """The depot of the router at ``endpoint``, where this process can use it."""
    if not endpoint.startswith("ipc://"):
        return None
    marker = os.path.realpath(depot_link(endpoint))
    directory = os.path.dirname(marker)
    # Another directory of that name, as in a container, has no such marker.
    usable = MARKER in marker and os.path.isfile(marker) and os.access(directory, os.R_OK | os.W_OK | os.X_OK)
    return Depot(directory) if usable else None


def show_depot(ipc_endpoint: str, directory: Path | None) -> None:
    """Show the router's depot beside its socket, or that there is none. Raises ``OSError``."""
    hide_depot(ipc_endpoint)
    if directory is not None:
        marker = directory / f"{MARKER}{secrets.token_hex(8)}"
        marker.touch(0o600)
        depot_link(ipc_endpoint).symlink_to(marker)


def hide_depot(ipc_endpoint: str) -> None:
    """The router is gone. Raises ``OSError``."""
    depot_link(ipc_endpoint).unlink(missing_ok=True)
