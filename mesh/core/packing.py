"""Cuts long lists into messages that stay below the size a peer will take.

Sizes are bounds from above, in bytes as encoded: a character takes up to four. Looked at for each task, so kept cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from mesh.entries import Entry, Position
from mesh.model import Delivery, ErrorInfo, Outcome, Payload, Settlement, TaskExtra, TaskOptions, TaskSpec

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode

MESSAGE_BYTES_MAX = 1 << 20  # of the items in one envelope; peers take frames of twice that
MESSAGE_ITEMS_MAX = 4_096
ITEM_BYTES = 160  # what the numbers of an item take, generously
OPTIONS_BYTES_MAX = 1 << 18  # of options beside the tasks; where they take more, each task counts its own
PART_BYTES = 1 << 20  # a large payload travels in frames of at most this size
LARGE_BYTES_MAX = 64 << 20  # of large payloads in one message, for what comes after it waits; one may have more, alone
FRAME_BYTES = 2 << 10  # what such a frame counts for, so that a message has no more than half of the 1 024 a peer takes


def payload_bytes(payload: Payload) -> int:
    """What a payload takes in the envelope, or counts for by the frames that follow it and by their bytes."""
    if isinstance(payload, bytes):
        return len(payload)
    frames = sum(-(-size // PART_BYTES) for size in payload.sizes)
    return max(FRAME_BYTES * frames, payload.size * MESSAGE_BYTES_MAX // LARGE_BYTES_MAX)


def text_bytes(text: str) -> int:
    """What a text takes at most."""
    return 4 * len(text)


def attempt_bytes(attempt: tuple[str, int]) -> int:
    """What a task id and the number of an attempt take."""
    return 4 * len(attempt[0])


def task_bytes(task: TaskSpec | Delivery) -> int:
    """What a task on its way to a worker takes, without its options."""
    payload = task.payload
    size = 4 * len(task.id) + (len(payload) if type(payload) is bytes else payload_bytes(payload))
    return size if task.extra is None else size + _extra_bytes(task.extra)


def task_bytes_with(options: Sequence[TaskOptions] | dict[int, TaskOptions]) -> Callable[[TaskSpec | Delivery], int]:
    """``task_bytes``, with a task's own options where there are too many to send all of them with each message."""
    if not has_long_options(options.values() if isinstance(options, dict) else options):
        return task_bytes
    return lambda task: task_bytes(task) + _options_bytes(options[task.option])


def has_long_options(options: Iterable[TaskOptions]) -> bool:
    """Whether a message should carry only those that its tasks refer to."""
    return sum(map(_options_bytes, options)) > OPTIONS_BYTES_MAX


def settlement_bytes(settlement: Settlement) -> int:
    """What the word on an attempt takes."""
    payload, error, retry = settlement.payload, settlement.error, settlement.retry
    size = 4 * len(settlement.id) + (len(payload) if type(payload) is bytes else payload_bytes(payload))
    if error is not None:
        size += _error_bytes(error)
    if retry is not None and retry.payload is not None:
        size += payload_bytes(retry.payload)
    return size


def outcome_bytes(outcome: Outcome) -> int:
    """What an outcome takes."""
    payload, error = outcome.payload, outcome.error
    size = 4 * (len(outcome.id) + len(outcome.name) + len(outcome.queue) + len(outcome.worker))
    size += len(payload) if type(payload) is bytes else payload_bytes(payload)
    return size if error is None else size + _error_bytes(error)


def entry_bytes(entry: Entry | Position) -> int:
    """What an entry or its position takes; there are few of them, so it is asked of the encoder."""
    return len(_encode(entry))


def _options_bytes(options: TaskOptions) -> int:
    return ITEM_BYTES + 4 * len(options.name + options.queue + (options.function or "") + (options.python or ""))


def _extra_bytes(extra: TaskExtra) -> int:
    size = 4 * len((extra.parent_id or "") + (extra.root_id or ""))
    return size + headers_bytes(extra.headers) if extra.headers else size


def headers_bytes(headers: Mapping[str, str]) -> int:
    """What the headers of one task take."""
    return sum(10 + 4 * (len(key) + len(text)) for key, text in headers.items())


def _error_bytes(error: ErrorInfo) -> int:
    characters = len(error.type) + len(error.message) + len(error.traceback) + len(error.arguments)
    return 4 * characters + len(error.pickled or b"")


def pack(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """``items`` in order, in lists that fit a message each. ``size_of``: what an item takes besides its numbers."""
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
