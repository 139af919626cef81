"""Cuts large payloads into parts that fit a frame, and joins them again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from mesh.errors import ProtocolError
from mesh.model import Buffer
from mesh.wire.memory import new_memory

PART_BYTES_MAX = 1 << 20
"""No part is larger, so that a socket can refuse larger frames unread."""


def cut(buffer: Buffer) -> list[Buffer]:
    """Views of ``buffer``, none larger than a part; nothing is copied."""
    view = memoryview(buffer)
    return [view[start : start + PART_BYTES_MAX] for start in range(0, view.nbytes, PART_BYTES_MAX)]


def group(sizes: Sequence[int], parts: Iterable[Buffer], part_max: int = sys.maxsize) -> list[list[Buffer]]:
    """The parts of each buffer. Raises ``ProtocolError`` when they are not exactly the bytes announced.

    ``part_max`` bounds those from the wire; within a host a buffer may come whole.
    """
    groups: list[list[Buffer]] = []
    source = iter(parts)
    for size in sizes:
        mine: list[Buffer] = []
        missing = size
        while missing > 0:
            part = next(source, None)
            if part is None:
                raise ProtocolError(f"a payload's parts end {missing} bytes early")
            length = memoryview(part).nbytes
            if not 0 < length <= min(missing, part_max):
                raise ProtocolError(f"a part of {length} bytes where 1 to {min(missing, part_max)} are due")
            mine.append(part)
            missing -= length
        groups.append(mine)
    if next(source, None) is not None:
        raise ProtocolError("more parts than the payload announced")
    return groups


def join(parts: Sequence[Buffer]) -> Buffer:
    """One buffer's bytes: as they are where they came whole, else joined by one copy."""
    return parts[0] if len(parts) == 1 else _copied(parts)


def join_writable(parts: Sequence[Buffer]) -> memoryview:
    """One buffer's bytes in memory that may be written to; copied unless they came so."""
    if len(parts) == 1:
        view = memoryview(parts[0])
        if not view.readonly:
            return view
    return _copied(parts)


def _copied(parts: Sequence[Buffer]) -> memoryview:
    views = [memoryview(part).cast("B") for part in parts]
    joined = new_memory(sum(map(len, views)))
    at = 0
    for view in views:
        joined[at : at + len(view)] = view
        at += len(view)
    return joined
