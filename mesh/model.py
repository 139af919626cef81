"""What a task is: its description, its states and its outcome. No behaviour beyond validation.

All times are UTC seconds (``_at``), all durations seconds (``_s``). Every struct here crosses the wire as a
MessagePack array, so fields may only be added at the end, with a default.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, NewType

from msgspec import Meta, Struct

Peer = NewType("Peer", bytes)
"""One connection to another node; a node that connects anew is another peer, with the same node id."""


Id = Annotated[str, Meta(min_length=1, max_length=255)]
"""Names one task, payload, function or node. Checked where a message is decoded: who makes one keeps to it."""

INSTANT_MAX = 1e12  # UTC seconds
Instant = Annotated[float, Meta(ge=0.0, le=INSTANT_MAX)]
"""UTC seconds; the bounds keep NaN and infinity off the wire."""

Seconds = Annotated[float, Meta(ge=-1e12, le=1e12)]
"""A duration; a clock that is set back can make a measured one negative, and that must not cost a session."""

COUNT_MAX = 2**62
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Priority = Annotated[int, Meta(ge=0, le=255)]


def added(count: int, more: int) -> int:
    """A count that goes on for ever, and stays at its bound: beyond it no peer and no store could read it."""
    return min(count + more, COUNT_MAX)


class Role(enum.StrEnum):
    """What a node is in the mesh, and so which verbs it may use."""

    ROUTER = "router"
    WORKER = "worker"
    CLIENT = "client"
    ADMIN = "admin"


class TaskState(enum.StrEnum):
    """The life of a task; ``mesh.core.states`` has the table of legal transitions."""

    SCHEDULED = "scheduled"
    READY = "ready"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"


class Ending(enum.StrEnum):
    """A worker's final word on one attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"  # the executor process died with it


FileName = Annotated[str, Meta(pattern="^[0-9a-f]{40}([.][0-9a-f]{16})?\\Z")]


class Blob(Struct, frozen=True, array_like=True, gc=False):
    """A payload too large for an envelope: ``sizes`` bytes in each of its buffers, sent as frames of their own.

    ``key`` names the same bytes in a store and in a process's memory. With ``file`` the bytes are not sent: they lie
    under this name in the depot of the router at one end (``mesh.runtime.depot``).
    """

    key: Id
    sizes: Annotated[list[Annotated[int, Meta(ge=1, le=2**48)]], Meta(min_length=1, max_length=1024)]
    file: FileName | None = None

    @property
    def size(self) -> int:
        return sum(self.sizes)


Payload = bytes | Blob
"""Encoded arguments or an encoded result, opaque to routers (``mesh.wire.payload`` reads and writes them)."""

Buffer = bytes | bytearray | memoryview
"""Bytes on their way, copied or not."""


def payload_size(payload: Payload) -> int:
    """Bytes of a payload, wherever they are."""
    return len(payload) if isinstance(payload, bytes) else payload.size


def payload_sizes(payloads: Iterable[Payload]) -> int:
    """Bytes of these together; for the many of a batch, nearly all of them small."""
    return sum([len(one) if type(one) is bytes else payload_size(one) for one in payloads])


class TaskOptions(Struct, frozen=True, array_like=True, gc=False):
    """The part of a task's description that many calls share."""

    name: str
    queue: str = "default"
    priority: Priority = 0  # higher first
    function: Id | None = None  # digest of the shipped function, where there is one
    python: str | None = None  # the minor version that can run it ("3.11"); None: any
    time_limit_s: Seconds | None = None
    ignore_result: bool = False
    at_most_once: bool = False
    result_ttl_s: Seconds | None = None
    mapped: bool = False  # the one argument is a list of argument tuples: run the function for each


class TaskExtra(Struct, frozen=True, array_like=True, gc=False):
    """What few calls carry. ``eta_from_now``, ``expires_from_now``: by the sender's clock, see ``mesh.core.clocks``."""

    headers: dict[str, str] | None = None
    parent_id: str | None = None
    root_id: str | None = None
    eta_from_now: bool = False
    expires_from_now: bool = False


class TaskSpec(Struct, frozen=True, array_like=True, gc=False):
    """One requested call. ``option`` is its place in the list of options sent with it."""

    id: Id
    option: Count
    payload: Payload
    eta: Instant | None = None
    expires_at: Instant | None = None
    extra: TaskExtra | None = None


class Delivery(Struct, frozen=True, array_like=True, gc=False):
    """One attempt of a task, handed to one worker. ``option`` is a key of the options sent with it."""

    id: Id
    option: Count
    attempt: Count
    payload: Payload
    retries: Count = 0
    deaths: Count = 0
    expires_at: Instant | None = None
    extra: TaskExtra | None = None


class ErrorInfo(Struct, frozen=True, array_like=True, gc=False):
    """An exception as data. ``pickled`` is the exception itself where it could be pickled; routers never open it."""

    type: str
    message: str
    traceback: str = ""
    pickled: bytes | None = None
    arguments: str = ""


class Retrying(Struct, frozen=True, array_like=True, gc=False):
    """How a task wants to be tried again: not before ``eta``, with new arguments where ``payload`` is given.

    ``from_now``: the eta is by the sender's clock, see ``mesh.core.clocks``.
    """

    eta: Instant
    payload: Payload | None = None
    from_now: bool = False


class Settlement(Struct, frozen=True, array_like=True, gc=False):
    """A worker's final word on ``attempt`` of task ``id``."""

    id: Id
    attempt: Count
    ending: Ending
    payload: Payload = b""
    started_at: Instant = 0.0
    runtime_s: Seconds = 0.0
    error: ErrorInfo | None = None
    retry: Retrying | None = None


class Outcome(Struct, frozen=True, array_like=True, gc=False):
    """The final state of a task with its result or error; it never changes.

    ``batch`` is the journal row the task came in, ``expires_at`` when the outcome may be forgotten. ``runtime_s`` is by
    the worker's clock alone; ``started_at`` is the worker's, ``finished_at`` the router's.
    """

    id: Id
    state: TaskState
    payload: Payload = b""
    error: ErrorInfo | None = None
    name: str = ""
    queue: str = ""
    worker: str = ""
    attempts: Count = 0
    retries: Count = 0
    accepted_at: Instant = 0.0
    started_at: Instant = 0.0
    finished_at: Instant = 0.0
    expires_at: Instant = 0.0
    batch: Count = 0
    runtime_s: Seconds = 0.0


class TaskMark(Struct, frozen=True, array_like=True, gc=False):
    """What must survive a restart about a task that is not finished."""

    id: str
    batch: int
    attempt: int
    retries: int
    deaths: int
    not_before: float | None = None
    payload: Payload | None = None
    started: bool = False  # an at-most-once task that was handed out
    losses: int = 0
    causes: tuple[str, ...] = ()


class NodeInfo(Struct, frozen=True, array_like=True, gc=False):
    """A worker node as a router remembers it across restarts."""

    node_id: str
    name: str


class FunctionCode(Struct, frozen=True, array_like=True, gc=False):
    """A shipped function: ``digest`` of ``payload``, which needs Python ``python`` ("3.11") to be read."""

    digest: Id
    python: str
    payload: Payload
