"""One store that several routers share, as they see it on Redis: a journal each, fenced, and results for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mesh.core.commands import DueSpan, Record, RecordOutcomes, SavePositions
from mesh.core.events import DueGrant
from mesh.errors import StoreLost
from mesh.model import Blob, NodeInfo, Outcome, TaskMark
from mesh.store.base import Recovered, StoredBatch, StoreUsage
from mesh.store.memory import MemoryStore
from mesh.store.shared import ClaimedJournal, ClaimedSchedules, Handover
from tests.sim.remote import RemoteStore


class Server:
    """What all routers of a mesh have in common."""

    def __init__(self) -> None:
        self.journals: dict[str, Journal] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.writers: dict[str, Journal] = {}
        self.adopted: dict[str, Journal] = {}
        self.dues: dict[tuple[str, bool], tuple[Journal, int, int, int]] = {}  # journal, bid (0: fired), first, last


class Journal(MemoryStore):
    """Of the router ``name``. ``owner`` is a life of a router; who it was until ``lock_until``, if nobody else is."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__()
        self.name = name
        self.server = server
        self.owner: FencedStore | None = None
        self.lock_until = 0.0
        self.bid = 0
        self.merged = False
        self._outcomes = server.outcomes
        server.journals[name] = self

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
        super().commit(records, held_back)
        for record in records:
            for span in record.fired if isinstance(record, SavePositions) else ():
                self.bid = 0
                place = span.entry, span.queued
                holder, bid, first, last = self.server.dues[place]
                assert holder is self and bid and first <= span.last_us <= last, f"{span} is fired, and was not granted"
                self.server.dues[place] = self, 0, span.first_us, span.last_us

    def _record(self, outcome: Outcome) -> None:
        super()._record(outcome)
        self.server.adopted.pop(outcome.id, None)
        self.server.writers.setdefault(outcome.id, self)

    def _forget(self, task_id: str) -> None:
        writer = self.server.writers.pop(task_id, self)
        MemoryStore._forget(writer, task_id)

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        found = super().read_blob(blob)
        for other in self.server.journals.values() if found is None else ():
            found = MemoryStore.read_blob(other, blob) if found is None else found
        return found

    def function(self, digest: str):  # type: ignore[no-untyped-def]
        found = super().function(digest)
        for other in self.server.journals.values() if found is None else ():
            found = MemoryStore.function(other, digest) if found is None else found
        return found

    @property
    def nodes(self) -> list[NodeInfo]:
        return list(self._nodes.values())

    def is_drained(self) -> bool:
        return not self._batches

    def is_empty(self) -> bool:
        return not self._batches and not self._function_uses and (self.merged or not (self._entries or self._apps))

    @property
    def schedules(self) -> ClaimedSchedules:
        return ClaimedSchedules(dict(self._apps), list(self._entries.values()), list(self._positions.values()))

    def stored(self) -> dict[int, StoredBatch]:
        """What is left in it."""
        batches = {seq: StoredBatch(seq, raw, at) for seq, (raw, at) in sorted(self._batches.items())}
        for outcome in self._outcomes.values():
            if outcome.batch in batches and self.server.writers.get(outcome.id) is self:
                batches[outcome.batch].settled.add(outcome.id)
        return batches

    def recover(self) -> Recovered:
        """As on Redis: what is settled of a batch is what this journal's own router has settled."""
        found = super().recover()
        own = self.stored()
        for batch in found.batches:
            batch.settled = own[batch.seq].settled | self._forgotten.get(batch.seq, set())
        return found

    def take(self, there: Journal, move: Handover) -> None:
        """A batch comes from there."""
        if there._batches.pop(move.seq, None) is None:
            return
        there._forgotten.pop(move.seq, None)
        if move.ids:
            self._batches[move.to] = (move.raw, move.accepted_at)
            self._last_seq = max(self._last_seq, move.to)
        self.server.adopted.update(dict.fromkeys(move.ids, self))
        for mark in move.marks:
            self._marks[mark.id] = mark
            there._marks.pop(mark.id, None)
        for blob in move.blobs:
            data = there._blobs.pop(blob.key, None)
            if data is not None:
                self._blobs.setdefault(blob.key, data)
        for blob in move.unneeded:
            there._blobs.pop(blob.key, None)

    def take_functions(self, there: Journal) -> dict[str, float]:
        """They are needed for what comes from there."""
        for digest, code in there._functions.items():
            self._functions.setdefault(digest, code)
            self._function_uses.setdefault(digest, there._function_uses[digest])
        return dict(sorted(there._function_uses.items(), key=lambda use: use[1]))

    def forget_rest(self) -> None:
        """All that mattered in it is another's."""
        for key in self._uncommitted_blobs:
            self._blobs.pop(key, None)
        for places in (self._functions, self._function_uses, self._nodes, self._marks, self._uncommitted_blobs):
            places.clear()


class FencedStore(RemoteStore):
    """How one life of a router sees the server; ``now`` is the server's clock.

    ``is_cut``: the server has no connection of it. It has died, or lives and makes a new one for its next word.
    """

    set_back = ""  # it loses nothing

    def __init__(self, journal: Journal, seed: int, now: Callable[[], float], lock_s: float) -> None:
        super().__init__(journal, seed)
        self._journal = journal
        self._server = journal.server
        self._now = now
        self._lock_s = lock_s
        self._claimed: dict[str, Journal] = {}
        self.is_cut = False
        journal.owner = self
        journal.bid, journal.merged = 0, False
        self._lock(journal)

    def _lock(self, journal: Journal) -> None:
        journal.lock_until = self._now() + self._lock_s

    def _own(self) -> None:
        self._reach()
        if self._journal.owner is not self:
            raise StoreLost("another router has the journal")

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> list[Outcome]:
        if self._journal.owner is not self and not self.is_away:
            raise StoreLost("another router has the journal")
        away, self.is_away = self.is_away, self.is_away or self._journal.owner is not self
        outcomes = [o for record in records if isinstance(record, RecordOutcomes) for o in record.outcomes]
        try:
            if self._journal.owner is not self:
                self._reach()
            super().commit(records, held_back)
        finally:
            self.is_away = away
        self._lock(self._journal)
        return [self._server.outcomes[o.id] for o in outcomes if self._server.outcomes.get(o.id, o) != o]

    def recover(self) -> Recovered:
        self._own()
        return super().recover()

    def usage(self) -> StoreUsage:
        self._own()
        return super().usage()

    def close(self) -> None:
        if self._journal.owner is self:
            self._journal.bid, self._journal.lock_until = 0, 0.0
        super().close()

    def keep(self) -> dict[str, float]:
        self._own()
        self.is_cut = False
        self._lock(self._journal)
        for journal in self._claimed.values():
            if journal.owner is self:
                self._lock(journal)
        others = [one for one in self._server.journals.values() if one is not self._journal]
        left_s = {one.name: self._left_s(one) for one in others if not one.is_empty()}
        return {name: left for name, left in left_s.items() if left < 0.75 * self._lock_s}

    def _left_s(self, there: Journal) -> float:
        is_cut = there.owner is not None and there.owner.is_cut
        return max(0.0, there.lock_until - self._now() - (self._lock_s / 2 if is_cut else 0.0))

    def claim(self, router_id: str) -> ClaimedJournal | None:
        self._own()
        there = self._server.journals[router_id]
        if there.owner is not self and self._left_s(there):
            return None
        there.owner = self
        there.bid = 0
        self._lock(there)
        self._claimed[router_id] = there
        functions = self._journal.take_functions(there)
        return ClaimedJournal(router_id, there._boot, list(there.stored()), there.nodes, functions)

    def read_claimed(self, journal: ClaimedJournal, seqs: Sequence[int]) -> list[StoredBatch]:
        self._own()
        stored = self._server.journals[journal.router_id].stored()
        return [stored[seq] for seq in seqs if seq in stored]

    def find(self, journal: ClaimedJournal, ids: Sequence[str]) -> tuple[list[Outcome], list[TaskMark]]:
        self._own()
        marks = self._server.journals[journal.router_id]._marks
        return self.finished(ids), [marks[task_id] for task_id in ids if task_id in marks]

    def finished(self, ids: Sequence[str]) -> list[Outcome]:
        self._own()
        return [self._server.outcomes[task_id] for task_id in ids if task_id in self._server.outcomes]

    def elsewhere(self, ids: Sequence[str]) -> list[str]:
        self._reach()
        return [i for i in ids if self._server.adopted.get(i, self._journal) is not self._journal]

    def move(self, journal: ClaimedJournal, moves: Sequence[Handover]) -> None:
        """As a move must be whose answer may be lost: done or not, and to be repeated."""
        there = self._server.journals[journal.router_id]
        if self.is_away and self._rng.random() < 0.5 and self._journal.owner is self and there.owner is self:
            for one in moves:
                self._journal.take(there, one)
        self._own()
        if there.owner is not self:
            raise StoreLost("another router has the journal")
        for one in moves:
            self._journal.take(there, one)

    def read_schedules(self, journal: ClaimedJournal) -> ClaimedSchedules:
        self._own()
        return self._server.journals[journal.router_id].schedules

    def grant_dues(self, number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        """As a grant must be whose answer may be lost: done or not, and to be repeated."""
        if self.is_away and self._rng.random() < 0.5 and self._journal.owner is self:
            self._grant(number, spans)
        self._own()
        return self._grant(number, spans)

    def _grant(self, number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        self._journal.bid = number
        return [self._grant_one(number, span) for span in spans]

    def _grant_one(self, number: int, span: DueSpan) -> DueGrant:
        found = self._server.dues.get((span.entry, span.queued))
        if found is not None:
            holder, bid, first, last = found
            done = first - 1 if bid else last
            if done >= span.first_us:
                return DueGrant(False, done)
            if bid and holder is not self._journal and holder.bid == bid:
                return DueGrant(False)
        self._server.dues[span.entry, span.queued] = self._journal, number, span.first_us, span.last_us
        return DueGrant(True)

    def leave(self, journal: ClaimedJournal) -> None:
        self._own()
        there = self._server.journals[journal.router_id]
        self._claimed.pop(journal.router_id, None)
        if there.owner is self and not there._batches:
            there.forget_rest()
            there.merged = True
            there.owner, there.lock_until = None, 0.0

    def let_go(self, journal: ClaimedJournal) -> None:
        self._claimed.pop(journal.router_id, None)
