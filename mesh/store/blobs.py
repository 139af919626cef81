"""The large payloads of a store, as files of one directory.

A file appears under its name complete or not at all. Processes of the same user on the same host may leave files here
by themselves, under names that say that they are not the store's yet, and read those that are: the directory is the
router's depot.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mesh.errors import StoreDamaged, StoreError, StoreFull
from mesh.model import Blob, Buffer
from mesh.store.blob_file import cut_parts, file_name, is_blob, map_blob, sizes_in, write_blob

LEFT_S = 3600.0
"""A file that was left and never spoken of is removed after this: whoever left it is gone."""

# Files left to open are room too: others give theirs back, and then it goes on.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


class BlobFiles:
    """The files of one store. ``sync``: wait for the disk before a write counts as done."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self.directory = directory
        self._sync = sync
        directory.mkdir(mode=0o700, exist_ok=True)

    def write(self, blob: Blob, parts: Iterable[Buffer]) -> None:
        """Write a payload. Raises ``StoreFull``; ``StoreError`` when the parts are not of the blob's size."""
        path = self._path(blob.key)
        draft = path.with_suffix("." + secrets.token_hex(8))
        try:
            write_blob(draft, blob, parts, sync=self._sync)
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                raise StoreFull(f"blob {blob.key}: no room for {blob.size} bytes: {error}") from None
            raise StoreError(f"blob {blob.key}: {error}") from error
        except StoreError:
            draft.unlink(missing_ok=True)
            raise

    def adopt(self, blob: Blob) -> None:
        """Make the file that somebody left for this payload the store's own. Raises ``LookupError``, ``StoreFull``."""
        left = self.directory / (blob.file or "")
        try:
            if not left.suffix or not is_blob(left, blob, sync=self._sync):
                raise LookupError(f"blob {blob.key}: {left} is not what was announced")
            left.rename(self._path(blob.key))
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFull(f"blob {blob.key}: {error}") from None
            raise LookupError(f"blob {blob.key}: {error}") from error

    def discard(self, blob: Blob) -> None:
        """Remove the file that somebody left for this payload."""
        if blob.file is not None and "." in blob.file:
            with suppress(OSError):
                (self.directory / blob.file).unlink()

    def remove_left(self, now: float) -> int:
        """Remove files that were left more than ``LEFT_S`` before ``now`` (UTC seconds); how many."""
        removed = 0
        for entry in os.scandir(self.directory):
            if "." in entry.name:
                with suppress(OSError):
                    if entry.stat().st_mtime < now - LEFT_S:
                        os.unlink(entry.path)
                        removed += 1
        return removed

    def sync_directory(self) -> None:
        """Make the names of the files written so far durable."""
        if not self._sync:
            return
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFull(str(error)) from None
            raise StoreError(str(error)) from error
        try:
            os.fsync(fd)
        except OSError as error:
            raise StoreError(f"{self.directory}: {error}") from error
        finally:
            os.close(fd)

    def read(self, blob: Blob) -> list[memoryview] | None:
        """The payload in parts; None when there is no file. Raises ``StoreDamaged``."""
        try:
            return list(cut_parts(blob, map_blob(self._path(blob.key), blob)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"blob {blob.key}: {error}") from error

    def holds(self, key: str) -> bool:
        """Whether there is a whole payload of this key, whatever its size."""
        path = self._path(key)
        try:
            sizes = sizes_in(path, key)
            return sizes is not None and bool(map_blob(path, Blob(key, sizes)))
        except (OSError, StoreDamaged):
            return False

    def remove(self, keys: Iterable[str]) -> None:
        """Remove these payloads. What cannot be removed now is removed at the next start."""
        for key in keys:
            with suppress(OSError):
                self._path(key).unlink()

    def remove_all_but(self, keys: Iterable[str]) -> list[str]:
        """Remove every file that does not belong to one of these keys; the names that were removed."""
        keep = {self._path(key).name for key in keys}
        orphans = sorted(entry.name for entry in os.scandir(self.directory) if entry.name not in keep)
        for name in orphans:
            with suppress(OSError):
                (self.directory / name).unlink()
        return orphans

    def _path(self, key: str) -> Path:
        return self.directory / file_name(key)
