"""The contract of a store: the journal of what a router accepted, and the outcomes it owes.

Only one router uses a store at a time, from one thread. ``commit`` is atomic and, when it returns, durable at the
store's level:

    disk     survives a power cut (the default)
    process  survives ``kill -9`` of the router
    memory   survives nothing, and says so
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mesh.core.commands import Record
from mesh.entries import Entry, Position
from mesh.model import Blob, Buffer, FunctionCode, NodeInfo, Outcome, TaskMark


@dataclass(slots=True)
class StoredBatch:
    """A batch with unfinished tasks: ``raw`` as journalled, and the ids in it that are already finished."""

    seq: int
    raw: bytes
    accepted_at: float
    settled: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Recovered:
    """What a router finds when it starts. ``boot`` grows by one with each start on this store.

    ``functions``: when each shipped function was last used (UTC seconds), by digest, the oldest first. ``apps``: when
    the code of each was loaded that its ``entries`` are from.
    """

    boot: int
    next_seq: int
    batches: list[StoredBatch]
    marks: list[TaskMark]
    nodes: list[NodeInfo]
    functions: dict[str, float]
    apps: dict[str, float] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class StoreUsage:
    """How full a store is; ``free_bytes`` None where there is no disk."""

    free_bytes: int | None
    outcomes: int
    batches: int


class Store(Protocol):
    """What a router needs of a store. Every method may raise ``StoreError``, most ``StoreUnavailable``: try again."""

    level: str
    url: str
    router_id: str | None
    """Whose journal this is, in each of its lives; None where it does not outlive one."""
    depot: Path | None
    """Where processes of this user on this host may leave large payloads, and read committed ones; None for nowhere."""

    @property
    def salvaged(self) -> Sequence[str]:
        """A line for people for each thing that was given up, with ``salvage``, to open the store and recover."""

    def recover(self) -> Recovered:
        """Read what is unfinished, in order of ``seq``. Raises ``StoreDamaged`` when rows are missing or changed."""

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> Sequence[Outcome] | None:
        """Make all records durable, in order, or none. Raises ``StoreFull`` (try again later), ``StoreError``.

        Returns the outcomes that other routers had recorded of the same tasks, if there are any: those count.

        ``StoreUnavailable`` otherwise: it may have been done. The same records are to be committed again before others.

        ``held_back``: keys of large payloads that were put for records which wait; they stay as they are.
        A task whose outcome is dropped stays finished as long as the batch it came in is open.
        """

    def outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these ids, in no order. Reads what was committed. Raises ``RowDamaged``."""

    def function(self, digest: str) -> FunctionCode | None:
        """A shipped function, or None. Raises ``RowDamaged``; to save it again mends it."""

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        """Write a large payload; durable with the next ``commit``. The one that was committed first of a key stays.

        Whether there was none of its key yet.
        """

    def take_back_blob(self, blob: Blob) -> bool:
        """Remove a payload that was put or adopted since the last commit: nothing will refer to it. Whether it was."""

    def adopt_blob(self, blob: Blob) -> bool:
        """As ``put_blob``, with the file that was left in the depot under ``blob.file``.

        Raises ``LookupError`` when it is not there or not what was announced: then the bytes must be sent.
        """

    def discard_blob(self, blob: Blob) -> None:
        """Remove the file that was left in the depot under ``blob.file``, if it is there."""

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload, as parts of at most 1 MiB, none across a buffer's end; None when it is gone.

        Raises ``StoreDamaged`` when it is not what was written.
        """

    def prune(self, now: float, limit: int) -> int:
        """Forget up to ``limit`` outcomes that expired before ``now`` (UTC seconds); how many they were.

        An outcome stays as long as the batch its task came in: without it the task would run again after a restart.
        """

    def usage(self) -> StoreUsage:
        """How full the store is."""

    def close(self) -> None:
        """Let go of the store; nothing more is written."""
