"""Cuts long lists into messages that stay below the size a peer will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mesh.model import Payload

T = TypeVar("T")

MESSAGE_BYTES_MAX = 1 << 20  # of inline payloads in one envelope; peers take frames of twice that
MESSAGE_ITEMS_MAX = 4_096
ITEM_BYTES = 160  # what an item takes besides its payload, generously
PART_BYTES = 1 << 20  # a large payload travels in frames of at most this size
FRAME_BYTES = 2 << 10  # what such a frame counts for, so that a message has no more than half of the 1 024 a peer takes


def payload_bytes(payload: Payload) -> int:
    """What a payload takes in the envelope, or counts for by the frames that follow it."""
    if isinstance(payload, bytes):
        return len(payload)
    return FRAME_BYTES * sum(-(-size // PART_BYTES) for size in payload.sizes)


def pack(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """``items`` in order, in lists that fit a message each. ``size_of``: bytes of an item's payload."""
    if not items:
        return
    if len(items) <= MESSAGE_ITEMS_MAX:
        total = sum(map(size_of, items)) + ITEM_BYTES * len(items)
        if total <= MESSAGE_BYTES_MAX:
            yield items
            return
    start, size = 0, 0
    for i, item in enumerate(items):
        cost = size_of(item) + ITEM_BYTES
        if i > start and (size + cost > MESSAGE_BYTES_MAX or i - start >= MESSAGE_ITEMS_MAX):
            yield items[start:i]
            start, size = i, 0
        size += cost
    if start < len(items):
        yield items[start:]
