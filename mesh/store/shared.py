"""The contract of a store that several routers share: each has a journal in it, and may be lost.

A journal that nobody has any more is *claimed* by one of the others, moved into its own batch by batch, and left. Who
was thought lost and is not finds out at its next word to the store (``StoreLost``).

What no two of them may do is granted by the store: to fire a due time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mesh.core.commands import DueSpan
from mesh.core.events import DueGrant
from mesh.entries import Entry, Position
from mesh.model import Blob, NodeInfo, Outcome, TaskMark
from mesh.store.base import Store, StoredBatch


@dataclass(slots=True)
class ClaimedJournal:
    """Of a router that is lost. ``seqs``: the batches that are left in it, in order; ``boot``: its last life."""

    router_id: str
    boot: int
    seqs: list[int]
    nodes: list[NodeInfo]
    functions: dict[str, float]


@dataclass(slots=True)
class ClaimedSchedules:
    """The periodic tasks that a router had which is lost, and how far they had come."""

    apps: dict[str, float]
    entries: list[Entry]
    positions: list[Position]


@dataclass(slots=True)
class Handover:
    """A batch goes from ``seq`` of a claimed journal to ``to`` of ours, as ``raw``: what is unfinished of it.

    ``ids``: its tasks; ``marks`` and ``blobs`` are theirs. ``unneeded``: large payloads of those that we have anyway.
    """

    seq: int
    to: int
    raw: bytes
    accepted_at: float
    ids: list[str]
    marks: list[TaskMark] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    unneeded: list[Blob] = field(default_factory=list)


class SharedStore(Store, Protocol):
    """A store with the journals of several routers. Every method may raise ``StoreUnavailable``: try again."""

    @property
    def set_back(self) -> str:
        """Why it has less than it had acknowledged; empty where it does not.

        Nothing is written until ``begin_anew``.
        """

    def begin_anew(self, last_seq: int, functions: Sequence[str]) -> list[str]:
        """Empty our journal, for all of it is about to be written anew; ``last_seq``: the number of our newest batch.

        Returns those of these functions that the store still has. May be done again. Raises ``StoreLost`` where
        another router has the journal.
        """

    def keep(self) -> dict[str, float]:
        """Say that this router lives; the routers whose journals nobody has, and that left something in them.

        Also those that were silent for long: with each, in how many seconds nobody has it, unless it speaks (0.0: now).
        To be called every ``KEEP_S``. Raises ``StoreLost`` where another router was faster.
        """

    def claim(self, router_id: str) -> ClaimedJournal | None:
        """Take a journal that nobody has; None where somebody has it now. What it may write then, only we may."""

    def read_claimed(self, journal: ClaimedJournal, seqs: Sequence[int]) -> list[StoredBatch]:
        """Those of these batches that are left."""

    def find(self, journal: ClaimedJournal, ids: Sequence[str]) -> tuple[list[Outcome], list[TaskMark]]:
        """Of tasks of that journal: how those ended that other routers have finished, and marks."""

    def finished(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these tasks, by whichever router; cheap where there are none."""

    def elsewhere(self, ids: Sequence[str]) -> list[str]:
        """Those of these that another router has adopted, and not finished."""

    def move(self, journal: ClaimedJournal, moves: Sequence[Handover]) -> None:
        """Make these batches ours, all or none; those that are already stay so.

        ``StoreDamaged`` where nothing can be moved out of that journal any more, and nothing was.
        """

    def read_schedules(self, journal: ClaimedJournal) -> ClaimedSchedules:
        """Its periodic tasks. They stay in it; once it was left, they are offered to nobody again."""

    def leave(self, journal: ClaimedJournal) -> None:
        """Nothing is left in it: whoever starts as its router may have it."""

    def let_go(self, journal: ClaimedJournal) -> None:
        """Keep it no more, whatever is left in it: nothing is written."""

    def grant_dues(self, number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        """Let this router, and no other, fire these due times: a grant for each, in order.

        A router has one bid out, the last ``number``: what it was granted by those before and has not fired is free
        again. So is all of a router that begins a new life, or whose journal is claimed. Fired is what a commit says
        that is (``SavePositions.fired``), which ends the bid: no due time of the entry up to that is granted again.
        """
