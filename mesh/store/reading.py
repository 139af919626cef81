"""What can be read of a store without having it: while a router runs on it, and while it moves elsewhere.

Rows come in chunks, so that a store of any size is read in little memory, each looked at by its checksum or MAC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from mesh.entries import Entry, Position
from mesh.messages import Submit
from mesh.model import Blob, FunctionCode, NodeInfo, Outcome, TaskMark
from mesh.store.base import StoredBatch
from mesh.store.moved import Move

CHUNK = 200  # rows read, and written, at once: they may have 64 KiB each, and a server answers one at a time
NAMED = 10  # damaged rows, and others of which there may be many, in one line

T = TypeVar("T")

Rows = Iterator[list[tuple[str, T | None]]]
"""Chunks of rows by their keys; None in the place of one that is not what was written."""

_SUBMIT = msgspec.msgpack.Decoder(Submit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a store says of itself. ``size`` in bytes, None where the server does not tell. ``holder``: who has it.

    ``shared`` is the same for two stores that have their outcomes in one place. ``commits`` and ``boot`` never go back.
    On Redis, ``outcomes`` are those of all routers, ``others`` says who runs other routers there, and ``size`` is
    without large payloads, ``router_name`` is what ``?router=`` names it by. ``warning``: what is wrong with how it is
    set up.
    """

    router_id: str
    level: str
    where: str
    shared: str
    size: int | None
    boot: int
    commits: int
    last_seq: int
    batches: int
    outcomes: int
    marks: int
    functions: int
    entries: int
    holder: str | None
    move: Move | None
    warning: str | None = None
    router_name: str | None = None
    others: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no router ever kept anything there."""
        return not (self.last_seq or self.batches or self.marks or self.functions or self.entries)


class Reader(Protocol):
    """Reads what was committed, and writes nothing. Every method may raise ``StoreError``.

    Of a store on Redis it is what one router wrote: its journal, its outcomes, the functions that it keeps.
    """

    url: str

    def facts(self) -> Facts:
        """What the store says of itself."""

    def seqs(self) -> list[int]:
        """The numbers of the batches that are open, in order."""

    def batches(self, seqs: Sequence[int]) -> list[tuple[int, StoredBatch | None]]:
        """These batches with the ids in them that are finished; those that were finished meanwhile are left out."""

    def marks(self) -> Rows[TaskMark]:
        """By id of the task."""

    def nodes(self) -> Rows[NodeInfo]:
        """By id of the node."""

    def apps(self) -> Rows[float]:
        """When the code of each was declared, by name."""

    def entries(self) -> Rows[Entry]:
        """By name."""

    def positions(self) -> Rows[Position]:
        """By name of the entry."""

    def functions(self) -> Rows[tuple[FunctionCode, float]]:
        """Shipped functions and when each was last used, by digest."""

    def outcomes(self, *, of_all: bool = False) -> Rows[Outcome]:
        """By id of the task; each at least once, where it stays while this is read.

        ``of_all``: also what other routers wrote that have their results in the same place.
        """

    def outcomes_of(self, ids: Sequence[str]) -> list[Outcome]:
        """The whole outcomes there are of these ids, whichever router wrote them."""

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload in parts; None when it is gone. Raises ``StoreDamaged``."""

    def faults(self) -> list[str]:
        """What is wrong with the store as a whole, a line for each."""

    def loose_ends(self) -> list[str]:
        """What was read that belongs to something which is not there, or that nothing finds; to be asked at the end."""

    def close(self) -> None:
        """Let go of it."""


def needed_blobs(batch: StoredBatch, payloads: dict[str, Blob | None]) -> list[Blob]:
    """The large arguments of the tasks in a batch that are not finished.

    ``payloads``: new arguments of tasks that are tried again, by id; None for such that are small. Raises
    ``msgspec.MsgspecError`` where the batch cannot be read.
    """
    needed = []
    for task in decode(batch).tasks:
        payload = payloads.get(task.id, task.payload)
        if task.id not in batch.settled and isinstance(payload, Blob):
            needed.append(payload)
    return needed


def decode(batch: StoredBatch) -> Submit:
    """The tasks of a batch. Raises ``msgspec.MsgspecError``."""
    return _SUBMIT.decode(batch.raw)


def unfinished(batch: StoredBatch) -> int:
    """How many tasks of a batch are not finished. Raises ``msgspec.MsgspecError``."""
    return sum(task.id not in batch.settled for task in decode(batch).tasks)


def new_arguments(reader: Reader) -> dict[str, Blob | None]:
    """The arguments that marks have in the place of the batch's, as ``needed_blobs`` takes them."""
    found: dict[str, Blob | None] = {}
    for chunk in reader.marks():
        for task_id, mark in chunk:
            if mark is not None and mark.payload is not None:
                found[task_id] = mark.payload if isinstance(mark.payload, Blob) else None
    return found


def cut(values: Sequence[T], most: int = CHUNK) -> Iterator[Sequence[T]]:
    """Some values at a time."""
    return (values[start : start + most] for start in range(0, len(values), most))


def named(keys: Sequence[str]) -> str:
    """The first of them by name, and how many there are."""
    return f"{', '.join(keys[:NAMED])}{' ...' if len(keys) > NAMED else ''} ({len(keys)} in all)"
