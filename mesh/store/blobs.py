"""Large payloads as files: a header, the bytes, a checksum.

A file appears under its name complete or not at all; the name is a hash of the key.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from mesh.errors import StoreDamaged, StoreError, StoreFull
from mesh.model import Blob

PART_MAX = 1 << 20  # bytes in one part that is read

_MAGIC = b"MESHBLB1"
_HEADER = struct.Struct("<8sII")  # magic, number of buffers, checksum of key and sizes
_CHECKSUM = struct.Struct("<I")
# Files left to open are room too: others give theirs back, and then it goes on.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


class BlobFiles:
    """The files of one store. ``sync``: wait for the disk before a write counts as done."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self._directory = directory
        self._sync = sync
        directory.mkdir(mode=0o700, exist_ok=True)

    def write(self, blob: Blob, parts: Iterable[bytes]) -> None:
        """Write a payload. Raises ``StoreFull``; ``StoreError`` when the parts are not of the blob's size."""
        path = self._path(blob.key)
        draft = path.with_suffix(".new")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(_header(blob))
                checksum = size = 0
                for part in parts:
                    file.write(part)
                    checksum = zlib.crc32(part, checksum)
                    size += len(part)
                check_size(blob, size)
                file.write(_CHECKSUM.pack(checksum))
                file.flush()
                if self._sync:
                    os.fdatasync(file.fileno())
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                raise StoreFull(f"blob {blob.key}: no room for {blob.size} bytes: {error}") from None
            raise StoreError(f"blob {blob.key}: {error}") from error
        except StoreError:
            draft.unlink(missing_ok=True)
            raise

    def sync_directory(self) -> None:
        """Make the names of the files written so far durable."""
        if not self._sync:
            return
        try:
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFull(str(error)) from None
            raise StoreError(str(error)) from error
        try:
            os.fsync(fd)
        except OSError as error:
            raise StoreError(f"{self._directory}: {error}") from error
        finally:
            os.close(fd)

    def read(self, blob: Blob) -> list[bytes] | None:
        """The payload in parts; None when there is no file. Raises ``StoreDamaged``."""
        path = self._path(blob.key)
        try:
            with open(path, "rb") as file:
                header = _header(blob)
                whole = file.read(len(header)) == header
                parts = [file.read(size) for size in part_sizes(blob)]
                trailer = file.read(_CHECKSUM.size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"blob {blob.key}: {error}") from error
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        if not whole or trailer != _CHECKSUM.pack(checksum):
            raise StoreDamaged(f"blob {blob.key}: {path} is not what was written; the payload is lost")
        return parts

    def holds(self, key: str) -> bool:
        """Whether there is a whole payload of this key, whatever its size."""
        try:
            with open(self._path(key), "rb") as file:
                _, count, checksum = _HEADER.unpack(file.read(_HEADER.size))
                sizes = file.read(8 * count)
            known = zlib.crc32(key.encode(), zlib.crc32(sizes)) == checksum
            return known and self.read(Blob(key, list(struct.unpack(f"<{count}Q", sizes)))) is not None
        except (OSError, struct.error, StoreError):
            return False

    def remove(self, keys: Iterable[str]) -> None:
        """Remove these payloads. What cannot be removed now is removed at the next start."""
        for key in keys:
            with suppress(OSError):
                self._path(key).unlink()

    def remove_all_but(self, keys: Iterable[str]) -> list[str]:
        """Remove every file that does not belong to one of these keys; the names that were removed."""
        keep = {self._path(key).name for key in keys}
        orphans = sorted(entry.name for entry in os.scandir(self._directory) if entry.name not in keep)
        for name in orphans:
            with suppress(OSError):
                (self._directory / name).unlink()
        return orphans

    def _path(self, key: str) -> Path:
        return self._directory / hashlib.blake2b(key.encode(), digest_size=20).hexdigest()


def check_size(blob: Blob, size: int) -> None:
    """Raise ``StoreError`` unless so many bytes are what was announced."""
    if size != blob.size:
        raise StoreError(f"blob {blob.key}: {size} bytes came where {blob.size} were announced")


def part_sizes(blob: Blob) -> Iterator[int]:
    """The sizes of the parts a payload is read in: at most ``PART_MAX``, none across a buffer's end."""
    for size in blob.sizes:
        for start in range(0, size, PART_MAX):
            yield min(PART_MAX, size - start)


def cut_parts(blob: Blob, data: bytes) -> list[bytes]:
    """Cut the bytes of a whole payload into parts."""
    parts = []
    start = 0
    for size in part_sizes(blob):
        parts.append(data[start : start + size])
        start += size
    return parts


def _header(blob: Blob) -> bytes:
    sizes = struct.pack(f"<{len(blob.sizes)}Q", *blob.sizes)
    return _HEADER.pack(_MAGIC, len(blob.sizes), zlib.crc32(blob.key.encode(), zlib.crc32(sizes))) + sizes
