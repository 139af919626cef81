"""Copies all that a store has into another, of the same kind or not, through what every store can do.

The store that is read may be in use. So what refers to something is read before that: the journal before outcomes,
marks and functions. What was finished meanwhile is taken out of the copy at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropOutcomes,
    Record,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SaveNode,
    SavePositions,
)
from mesh.errors import StoreDamaged, StoreError
from mesh.messages import Submit
from mesh.model import Blob, Outcome, Payload, TaskMark, TaskState
from mesh.store.base import Store, StoredBatch
from mesh.store.check import Checked
from mesh.store.reading import Reader, Rows, cut, decode, needed_blobs, new_arguments

COMMIT_BYTES = 4 << 20  # of batches in one commit
LOOKS_MAX = 10  # at a batch whose tasks get new large arguments all the time

_NO_SUBMIT = Submit(0, [], [])  # stands beside the bytes of one

T = TypeVar("T")


@dataclass(slots=True)
class Copied:
    """How much of each kind the copy has now; what could not be read and was left out, a line for each kind.

    ``elsewhere``: outcomes that another router had written to the target before.
    """

    counts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    elsewhere: int = 0

    def missing_in(self, found: Checked) -> list[str]:
        """What a check of the target did not find of this, or found damaged."""
        there = found.counts()
        expected = self.counts | {"outcomes": self.counts.get("outcomes", 0) - self.elsewhere}
        problems = [f"{name}: {there.get(name, 0)} of {n}" for name, n in expected.items() if there.get(name, 0) < n]
        return problems + found.faults


def copy(
    reader: Reader,
    target: Store,
    told: Callable[[str, int], None],
    known_seqs: Iterable[int] = (),
    *,
    of_all: bool = False,
) -> Copied:
    """Copy everything but the count of starts and whose it is.

    ``known_seqs``: batches that the target has already. ``of_all``: outcomes of other routers, too.

    ``told`` is called often: with the kind, and how many of it were copied. Raises ``StoreDamaged`` where the journal
    or what belongs to it is not what was written, ``StoreFull``, ``StoreError``: the target has then a part of it.
    """
    return _Copy(reader, target, told, of_all=of_all).run(set(known_seqs))


@dataclass(slots=True)
class _Open:
    """A batch that was open: which of its large arguments were copied or given up, and which were gone."""

    seq: int
    unfinished: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


class _Copy:
    def __init__(self, reader: Reader, target: Store, told: Callable[[str, int], None], *, of_all: bool) -> None:
        self._reader = reader
        self._of_all = of_all
        self._target = target
        self._told = told
        self._copied = Copied()
        self._suspects: list[_Open] = []
        self._settled: set[str] = set()  # of batches that are open: their outcomes were copied

    def run(self, known: set[int]) -> Copied:
        reader = self._reader
        last_seq = reader.facts().last_seq
        self._rows("nodes", reader.nodes(), lambda _, node: SaveNode(node))
        self._rows("apps", reader.apps(), SaveApp)
        self._rows("positions", reader.positions(), lambda _, position: SavePositions([position]))
        self._rows("entries", reader.entries(), lambda _, entry: SaveEntry(entry))
        seqs = reader.seqs()
        self._journal([seq for seq in seqs if seq not in known])
        if last_seq and last_seq not in seqs:  # numbers that were given out are not given out again
            self._target.commit([AppendBatch(last_seq, _NO_SUBMIT, b"", 0.0), DropBatches([last_seq])])
        self._outcomes(set(seqs))
        is_open = self._finish(seqs)
        self._rows("marks", self._marks_of(is_open), lambda _, mark: SaveMarks([mark]))
        self._functions()
        return self._copied

    def _add(self, kind: str, count: int) -> None:
        self._copied.counts[kind] = self._copied.counts.get(kind, 0) + count
        self._told(kind, self._copied.counts[kind])

    def _leave_out(self, kind: str) -> None:
        self._copied.left_out[kind] = self._copied.left_out.get(kind, 0) + 1

    def _rows(self, kind: str, chunks: Rows[T], record_of: Callable[[str, T], Record]) -> None:
        self._add(kind, 0)
        for chunk in chunks:
            self._target.commit([record_of(key, self._whole(kind, key, value)) for key, value in chunk])
            self._add(kind, len(chunk))

    def _whole(self, kind: str, key: str, value: T | None) -> T:
        if value is None:
            raise StoreDamaged(
                f"{self._reader.url}: {kind}: {key} is not what was written; `mesh store check` names all such rows, "
                "and `mesh router --salvage` goes on without them"
            )
        return value

    def _journal(self, seqs: list[int]) -> None:
        written = 0
        for some in cut(seqs):
            waiting: list[Record] = []
            size = 0
            for seq, batch in self._reader.batches(some):
                whole = self._whole("batches", str(seq), batch)
                waiting.append(AppendBatch(seq, _NO_SUBMIT, whole.raw, whole.accepted_at))
                size += len(whole.raw)
                if size >= COMMIT_BYTES:
                    self._target.commit(waiting)
                    waiting, size = [], 0
            self._target.commit(waiting)
            written += len(some)
            self._told("batches", written)

    def _outcomes(self, seqs: set[int]) -> None:
        self._add("outcomes", 0)
        for chunk in self._reader.outcomes(of_all=self._of_all):
            whole = [outcome for _, outcome in chunk if outcome is not None]
            for _ in range(len(chunk) - len(whole)):
                self._leave_out("outcomes")
            written = self._record(whole)
            self._settled.update(outcome.id for outcome in written if outcome.batch in seqs)

    def _record(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Write outcomes with their payloads, and look whether they are there; those that were written."""
        kept = [outcome for outcome in outcomes if self._move_payload_of(outcome)]
        self._target.commit([RecordOutcomes(kept)] if kept else [])
        there = {outcome.id: outcome for outcome in self._target.outcomes([outcome.id for outcome in kept])}
        for outcome in kept:
            found = there.get(outcome.id)
            if found is None:
                raise StoreError(f"{self._target.url}: the outcome of task {outcome.id} was written and is not there")
            if found != outcome:  # the first that is written stays
                self._copied.elsewhere += 1
        self._add("outcomes", len(kept))
        return kept

    def _move_payload_of(self, outcome: Outcome) -> bool:
        """Whether the outcome is to be written: not where it was forgotten meanwhile, with its payload."""
        if self._move(outcome.payload):
            return True
        if not any(now.payload == outcome.payload for now in self._reader.outcomes_of([outcome.id])):
            return False
        self._leave_out("payloads")  # its router says the same of it: the payload is lost
        return True

    def _finish(self, seqs: list[int]) -> set[int]:
        """Take out what was finished meanwhile, and bring the payloads of what was not; the batches that are open."""
        is_open = set(self._reader.seqs()).intersection(seqs)
        gone = [seq for seq in seqs if seq not in is_open]
        payloads = new_arguments(self._reader)
        self._add("batches", len(is_open))
        for some in cut(sorted(is_open)):
            still = self._reader.batches(some)
            gone += set(some).difference(seq for seq, _ in still)
            for seq, batch in still:
                self._finish_batch(_Open(seq), self._whole("batches", str(seq), batch), payloads)
        gone += self._look_again()
        for some in cut(gone):
            self._target.commit([DropBatches(list(some))])
        self._add("batches", len(is_open.difference(gone)) - len(is_open))
        return is_open.difference(gone)

    def _finish_batch(self, one: _Open, batch: StoredBatch, payloads: dict[str, Blob | None]) -> None:
        """A task that is finished stays so, also where its outcome was dropped or is another router's."""
        rest = sorted(batch.settled - self._settled)
        for some in cut(rest):
            ids = set(some).difference(self._copy_outcomes(batch.seq, some))
            theirs = {outcome.id for outcome in self._target.outcomes(list(ids))}
            finished = [Outcome(task_id, TaskState.SUCCEEDED, batch=batch.seq) for task_id in sorted(ids)]
            dropped = sorted(ids - theirs)
            self._target.commit([RecordOutcomes(finished), DropOutcomes(dropped)] if finished else [])
        self._settled |= batch.settled
        try:
            needed = needed_blobs(batch, payloads)
            one.unfinished = [task.id for task in decode(batch).tasks if task.id not in batch.settled]
        except msgspec.MsgspecError:
            raise StoreDamaged(f"{self._reader.url}: batch {batch.seq} cannot be read") from None
        missing: set[str] = set()
        for blob in needed:
            if blob.key in one.done:
                continue
            if blob.key in one.missing:
                self._leave_out("payloads")  # it was gone before this batch was read, and its task is not finished
                one.done.add(blob.key)
            else:
                (one.done if self._move(blob) else missing).add(blob.key)
        if missing:
            one.missing = missing
            self._suspects.append(one)

    def _copy_outcomes(self, seq: int, ids: Sequence[str]) -> list[str]:
        return [one.id for one in self._record([o for o in self._reader.outcomes_of(ids) if o.batch == seq])]

    def _look_again(self) -> list[int]:
        """Payloads go with their task's end, which may have come since it was looked at; the batches that are gone."""
        gone: list[int] = []
        for _ in range(LOOKS_MAX):
            suspects, self._suspects = self._suspects, []
            if not suspects:
                return gone
            self._reader.seqs()  # which looks up what is finished
            payloads = new_arguments(self._reader)
            for some in cut(suspects):
                still = dict(self._reader.batches([one.seq for one in some]))
                for one in some:
                    if one.seq in still:
                        self._finish_batch(one, self._whole("batches", str(one.seq), still[one.seq]), payloads)
                        continue
                    gone.append(one.seq)
                    for ids in cut(one.unfinished):
                        self._copy_outcomes(one.seq, ids)
        for one in self._suspects:
            for _ in one.missing:
                self._leave_out("payloads")
        return gone

    def _marks_of(self, seqs: set[int]) -> Rows[TaskMark]:
        for chunk in self._reader.marks():
            yield [(key, mark) for key, mark in chunk if mark is None or mark.batch in seqs]

    def _functions(self) -> None:
        self._add("functions", 0)
        for chunk in self._reader.functions():
            records: list[Record] = []
            for _, found in chunk:
                if found is None:
                    self._leave_out("functions")
                    continue
                code, used_at = found
                if not self._move(code.payload):
                    self._leave_out("payloads")
                records.append(SaveFunction(code, used_at))
            self._target.commit(records)
            self._add("functions", len(records))

    def _move(self, payload: Payload) -> bool:
        """Copy a large payload, one commit for each: it may be as large as all else. False where it is lost."""
        if not isinstance(payload, Blob):
            return True
        try:
            parts = self._reader.read_blob(payload)
        except StoreDamaged:
            return False
        if parts is None:
            return False
        self._target.put_blob(payload, parts)
        self._target.commit([])
        self._add("payloads", 1)
        return True
