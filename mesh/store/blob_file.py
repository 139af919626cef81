"""A large payload as a file: a header, the bytes of each buffer, a checksum.

Buffers begin at multiples of ``ALIGNMENT``, so that an array can be used where it lies when the file is mapped.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from mesh.errors import StoreDamaged, StoreError
from mesh.model import Blob, Buffer

ALIGNMENT = 64
PART_MAX = 1 << 20  # bytes in one part that is read, and in one write
MAPPED_ABOVE = 1 << 20  # bytes: to read a smaller file costs less than to map it, and leaves no descriptor open

_MAGIC = b"MESHBLB2"
_HEADER = struct.Struct("<8sII")  # magic, number of buffers, checksum of key and sizes
_CHECKSUM = struct.Struct("<I")


def file_name(key: str) -> str:
    """Under which name a store keeps the payload of this key."""
    return hashlib.blake2b(key.encode(), digest_size=20).hexdigest()


def file_size(blob: Blob) -> int:
    """Bytes of the file of such a payload."""
    end = _header_size(len(blob.sizes))
    for size in blob.sizes:
        end = _aligned(end) + size
    return end + _CHECKSUM.size


def write_blob(path: Path, blob: Blob, parts: Iterable[Buffer], *, sync: bool) -> None:
    """Write a file that must not exist; with ``sync`` wait for the disk. The caller removes it where this fails.

    Raises ``OSError``; ``StoreError`` when the parts are not of the blob's sizes, in its order.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0) as file:
        _write_all(file, _header(blob))
        checksum, given = 0, 0
        missing = 0  # bytes of the buffer that is being written
        sizes = iter(blob.sizes)
        for part in parts:
            view = memoryview(part).cast("B")
            given += len(view)
            for start in range(0, len(view), PART_MAX):  # small steps: what was summed is still at hand
                piece = view[start : start + PART_MAX]
                checksum = zlib.crc32(piece, checksum)
                while piece:
                    while not missing:
                        missing = _next_size(blob, sizes, given)
                        _write_all(file, bytes(_aligned(file.tell()) - file.tell()))
                    written = _write_all(file, piece[:missing])
                    missing -= written
                    piece = piece[written:]
        check_size(blob, given)
        _write_all(file, _CHECKSUM.pack(checksum))
        if sync:
            os.fdatasync(file.fileno())


def _write_all(file: FileIO, data: bytes | memoryview) -> int:
    """Write all of ``data``, however little the disk takes at a time; its length."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    return len(data)


def map_blob(path: Path, blob: Blob) -> list[memoryview]:
    """The buffers of a payload, in memory that may be written to without changing the file.

    Raises ``OSError``, ``StoreDamaged``.
    """
    with open(path, "rb", buffering=0) as file:
        return map_open_blob(file, blob)


def map_open_blob(file: FileIO, blob: Blob) -> list[memoryview]:
    """As ``map_blob``, of an open file; each call gives memory of its own. Raises ``OSError``, ``StoreDamaged``."""
    mapped = _mapped(file, blob)
    buffers = [mapped[start : start + size] for start, size in _places(blob)]
    checksum = 0
    for buffer in buffers:
        checksum = zlib.crc32(buffer, checksum)
    header = _header(blob)
    if mapped[: len(header)] != header or mapped[-_CHECKSUM.size :] != _CHECKSUM.pack(checksum):
        raise _damaged(file, blob)
    return buffers


def map_own_blob(path: Path, blob: Blob) -> list[memoryview]:
    """As ``map_blob``, of a file that was written just now: its bytes are not looked at, and so not read."""
    with open(path, "rb", buffering=0) as file:
        mapped = _mapped(file, blob)
    return [mapped[start : start + size] for start, size in _places(blob)]


def _mapped(file: FileIO, blob: Blob) -> memoryview:
    size = file_size(blob)
    if os.fstat(file.fileno()).st_size != size:
        raise _damaged(file, blob)
    if size > MAPPED_ABOVE:
        try:
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            return memoryview(mapped)
        except OSError as error:  # a process may have 65,530 mappings; each has a descriptor, too
            if error.errno not in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
                raise
    data = bytearray(size)
    if os.preadv(file.fileno(), [data], 0) != size:
        raise _damaged(file, blob)
    return memoryview(data)


def _damaged(file: FileIO, blob: Blob) -> StoreDamaged:
    return StoreDamaged(f"blob {blob.key}: {file.name} is not what was written; the payload is lost")


def is_blob(path: Path, blob: Blob, *, sync: bool) -> bool:
    """Whether a file looks like this payload: its header and its size. With ``sync`` it is on the disk then.

    Raises ``OSError``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe must not hold us
    try:
        header = _header(blob)
        whole = os.fstat(descriptor).st_size == file_size(blob) and os.read(descriptor, len(header)) == header
        if whole and sync:
            os.fdatasync(descriptor)
        return whole
    finally:
        os.close(descriptor)


def sizes_in(path: Path, key: str) -> list[int] | None:
    """The sizes of the buffers in the file of this key; None where its header is not whole. Raises ``OSError``."""
    with open(path, "rb") as file:
        start = file.read(_HEADER.size)
        if len(start) < _HEADER.size:
            return None
        magic, count, checksum = _HEADER.unpack(start)
        packed = file.read(8 * count) if magic == _MAGIC else b""
    if len(packed) != 8 * count or zlib.crc32(key.encode(), zlib.crc32(packed)) != checksum:
        return None
    return list(struct.unpack(f"<{count}Q", packed))


def cut_parts(blob: Blob, buffers: Iterable[Buffer]) -> Iterator[memoryview]:
    """The bytes of a payload, whole buffers or all in one, in parts of at most 1 MiB, none across a buffer's end."""
    sizes = iter(blob.sizes)
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        while view:
            size = next(sizes)
            for start in range(0, size, PART_MAX):
                yield view[start : min(start + PART_MAX, size)]
            view = view[size:]


def check_size(blob: Blob, size: int) -> None:
    """Raise ``StoreError`` unless so many bytes are what was announced."""
    if size != blob.size:
        raise StoreError(f"blob {blob.key}: {size} bytes came where {blob.size} were announced")


def _next_size(blob: Blob, sizes: Iterator[int], given: int) -> int:
    for size in sizes:
        return size
    raise StoreError(f"blob {blob.key}: {given} bytes came where {blob.size} were announced")


def _places(blob: Blob) -> Iterator[tuple[int, int]]:
    end = _header_size(len(blob.sizes))
    for size in blob.sizes:
        start = _aligned(end)
        yield start, size
        end = start + size


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _header_size(count: int) -> int:
    return _HEADER.size + 8 * count


def _header(blob: Blob) -> bytes:
    sizes = struct.pack(f"<{len(blob.sizes)}Q", *blob.sizes)
    return _HEADER.pack(_MAGIC, len(blob.sizes), zlib.crc32(blob.key.encode(), zlib.crc32(sizes))) + sizes
