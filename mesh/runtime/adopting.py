"""Keeps a router's journal its own in a store that others share, and moves in what lost routers left there.

One wake-up does one step: look, claim, move some batches, leave. So whatever is moved, the router's loop goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.events import BatchesAdopted, Event, GossipHeard, JournalAdopted, JournalClaimed, SettledElsewhere
from mesh.core.router import RouterMachine
from mesh.errors import StoreDamaged, StoreError, StoreLost, StoreUnavailable
from mesh.messages import Gossip, Message, Submit
from mesh.model import Blob, TaskMark, TaskSpec
from mesh.store.base import StoredBatch
from mesh.store.shared import ClaimedJournal, Handover, SharedStore

log = logging.getLogger("mesh.router")

KEEP_S = 0.25  # between two words to the store that this router lives
AGAIN_S = 0.5  # after the store was away
TASKS_AT_ONCE = 2_000  # moved in one wake-up, about
ROWS_AT_ONCE = 512  # of them, at most


@dataclass
class _Adoption:
    """``left``: batches to be moved; ``moves``: those under way, which may have arrived."""

    journal: ClaimedJournal
    began: float
    left: list[int] = field(default_factory=list)
    moves: list[Handover] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    rows: int = 8  # at once
    tasks: int = 0
    is_merged: bool = False  # its periodic tasks are ours, too


class Adopter:
    """Of one router; a journal is taken that was seen without a router for ``adopt_grace_s``, a setting."""

    def __init__(
        self,
        machine: RouterMachine,
        store: SharedStore,
        *,
        decode: Callable[[bytes], Submit],
        encode: Callable[[Message], bytes],
    ) -> None:
        self._machine = machine
        self._store = store
        self._decode = decode
        self._encode = encode
        self._settings = machine.settings
        self._lost: dict[str, float] = {}  # journals that nobody has: since when, or from when on
        self._adoption: _Adoption | None = None
        self._keep_at = -inf
        self._is_away = False
        self._judge_at = -inf  # who could not reach the store before may only be slower than we are

    def next_deadline(self) -> float:
        """The monotonic second at which ``take`` must be called even if nothing happens."""
        if self._is_away or self._machine.halted:
            return self._keep_at
        if self._adoption is not None:
            return 0.0
        return min(self._keep_at, min(self._lost.values(), default=inf) + self._settings.adopt_grace_s)

    def take(self, now: Now) -> list[Event]:
        """One step; what is new, for the router's machine. Raises ``StoreLost``, ``StoreError``."""
        try:
            if now.mono >= self._keep_at:
                self._keep_at = now.mono + KEEP_S
                self._look(self._store.keep(), now)
                self._is_away = False
            if self._is_away or self._machine.halted:
                return []
            return self._step(now)
        except StoreUnavailable:
            self._is_away = True
            self._keep_at = now.mono + AGAIN_S
            self._judge_at = now.mono + 2 * self._settings.store_timeout_s + 2 * AGAIN_S
            self._lost.clear()
            return []

    def let_go_where_lost(self) -> list[Event]:
        """Where the store has lost what it had: what was being adopted is here as far as it can be."""
        if not self._store.set_back:
            return []
        self._lost.clear()
        adoption, self._adoption = self._adoption, None
        return [] if adoption is None else [*adoption.events, *self._give_up(adoption, "the store lost data")]

    def _step(self, now: Now) -> list[Event]:
        try:
            return self._begin(now) if self._adoption is None else self._go_on(self._adoption, now)
        except (StoreLost, StoreUnavailable):
            raise
        except StoreError as error:  # of what that router had: it must not end those that live
            adoption = self._adoption
            if adoption is not None and adoption.moves and not isinstance(error, StoreDamaged):
                raise  # they may be ours by now: the next start finds them
            self._adoption = None
            if adoption is None:
                log.error("what a lost router had cannot be adopted, and is left alone: %s", error)
                return []
            self._store.let_go(adoption.journal)
            return self._give_up(adoption, str(error))

    def _give_up(self, adoption: _Adoption, why: str) -> list[Event]:
        log.error("what router %s had is not adopted further: %s", adoption.journal.router_id, why)
        return [JournalAdopted(adoption.journal.router_id, adoption.journal.boot)]

    def _look(self, missing: Mapping[str, float], now: Now) -> None:
        if now.mono >= self._judge_at:
            self._lost = {
                router_id: now.mono + left_s if left_s else self._lost.get(router_id, now.mono)
                for router_id, left_s in missing.items()
            }

    def _begin(self, now: Now) -> list[Event]:
        for router_id, since in self._lost.items():
            if now.mono >= since + self._settings.adopt_grace_s:
                del self._lost[router_id]
                journal = self._store.claim(router_id)
                if journal is None:
                    return []
                log.warning("router %s is lost, and its journal is adopted: %d batches", router_id, len(journal.seqs))
                self._adoption = _Adoption(journal, now.mono, list(journal.seqs))
                return [JournalClaimed(router_id, journal.nodes, journal.functions)]
        return []

    def _go_on(self, adoption: _Adoption, now: Now) -> list[Event]:
        if not adoption.moves and adoption.left:
            self._prepare(adoption)
        if adoption.moves:
            self._store.move(adoption.journal, adoption.moves)
            events, adoption.moves, adoption.events = adoption.events, [], []
            return events
        if adoption.left:
            return []
        journal = adoption.journal
        if not adoption.is_merged:  # after its tasks, for some of these may be the last of an entry
            found = self._store.read_schedules(journal)
            adoption.is_merged = True
            return [GossipHeard("", Gossip(found.entries, found.positions, found.apps))]
        self._store.leave(journal)
        self._adoption = None
        text = "adopted what router %s had: %d tasks, in %.2f s"
        log.warning(text, journal.router_id, adoption.tasks, now.mono - adoption.began)
        return [JournalAdopted(journal.router_id, journal.boot)]

    def _prepare(self, adoption: _Adoption) -> None:
        journal, store = adoption.journal, self._store
        seqs = adoption.left[: adoption.rows]
        found = [(batch, self._decode(batch.raw)) for batch in store.read_claimed(journal, seqs)]
        left = [[spec for spec in submit.tasks if spec.id not in batch.settled] for batch, submit in found]
        outcomes, marks = store.find(journal, [spec.id for specs in left for spec in specs])
        by_id = {mark.id: mark for mark in marks}
        first = self._machine.table.reserve(len(found))
        moved: list[tuple[int, float, Submit]] = []
        moves: list[Handover] = []
        for to, ((batch, whole), specs) in enumerate(zip(found, left), first):
            move, submit = self._move(batch, whole, specs, to, by_id)
            moves.append(move)
            moved.append((to, batch.accepted_at, submit))
        kept = [mark for move in moves for mark in move.marks]
        adoption.moves = moves
        adoption.events = [BatchesAdopted(moved, kept), *([SettledElsewhere(outcomes)] if outcomes else [])]
        del adoption.left[: len(seqs)]
        tasks = sum(len(move.ids) for move in moves)
        adoption.tasks += tasks
        adoption.rows = max(1, min(ROWS_AT_ONCE, len(seqs) * TASKS_AT_ONCE // max(1, tasks)))

    def _move(
        self, batch: StoredBatch, whole: Submit, specs: Sequence[TaskSpec], to: int, marks: Mapping[str, TaskMark]
    ) -> tuple[Handover, Submit]:
        """What is moved of a batch: what is unfinished, and not here already, for a client gave it to both routers."""
        here = self._machine.table.tasks
        needed = [spec for spec in specs if spec.id not in here]
        submit = whole if len(needed) == len(whole.tasks) else replace(whole, tasks=needed)
        raw = batch.raw if submit is whole else self._encode(submit)
        own = {i: mark for i in (spec.id for spec in specs) if (mark := marks.get(i)) and mark.batch == batch.seq}
        move = Handover(batch.seq, to, raw, batch.accepted_at, [spec.id for spec in needed])
        move.marks = [replace(own[spec.id], batch=to) for spec in needed if spec.id in own]
        for spec in specs:
            mark = own.get(spec.id)
            payload = spec.payload if mark is None or mark.payload is None else mark.payload
            if isinstance(payload, Blob):
                (move.unneeded if spec.id in here else move.blobs).append(payload)
        return move, submit
