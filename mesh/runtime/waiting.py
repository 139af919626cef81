"""What a router has recorded and not committed yet, and how much of it goes into one commit.

A store answers one question at a time, and the router's loop waits for it: so what has come together while a store was
away is committed in parts. They are cut between records, and within those that are lists of things which do not
concern each other. What one wake-up fired stays together with how far it has come, for of a due time no more than one
task is made; so do changes of periodic tasks, for an app's entries count as declared when one of them is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropBlobs,
    DropEntry,
    DropNode,
    DropOutcomes,
    KeepFunctions,
    Record,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SaveNode,
    SavePositions,
)
from mesh.model import Blob, Outcome, Payload, TaskMark
from mesh.wire.codec import blobs_of

COMMIT_BYTES = 4 << 20  # about, in one commit
COMMIT_ROWS = 10_000
ROW_BYTES = 100  # of a row, besides what it carries
ENDS_MAX = 1_000  # wake-ups of which it is known apart when all that they recorded is committed

PERIODIC = (SaveApp, SaveEntry, DropEntry, SavePositions)
LAST_COUNTS = (*PERIODIC, KeepFunctions, SaveNode, DropNode)

T = TypeVar("T")


class Waiting:
    """``records``, in order. ``result_bytes``: about so many bytes of results are among them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.doubtful = 0  # so many, from the first, were in a commit that may have been done
        self.result_bytes = 0
        self._ends: list[tuple[int, int]] = []  # with so many records so many messages may be told
        self._repeats = False  # what was added may be in the place of what waits

    def add(self, record: Record) -> None:
        """One more."""
        self.records.append(record)
        if type(record) is RecordOutcomes:
            self.result_bytes += weight(record)[1]
        elif isinstance(record, LAST_COUNTS):
            self._repeats = True

    def replace(self, records: list[Record], doubtful: int = 0) -> None:
        """These wait now, and the messages that wait do so for all of them."""
        self.records, self.doubtful = records, doubtful
        self.result_bytes = sum(weight(record)[1] for record in records if type(record) is RecordOutcomes)
        self._ends.clear()

    def end_wake_up(self, messages: int) -> None:
        """So many messages wait for what there is."""
        if messages > (self._ends[-1][1] if self._ends else 0):
            self._ends.append((len(self.records), messages))
        if len(self._ends) > ENDS_MAX:
            self._ends = self._ends[::-2][::-1]  # the messages of one wake-up wait for the next one, too

    def part(self) -> tuple[list[Record], list[Record]]:
        """What is to be committed next, and the rest."""
        while not self.doubtful and self.records:
            fitting, end = _fitting(self.records)
            if fitting:
                return self.records[:fitting], self.records[fitting:]
            if end == 1:
                self._split_first()
                return self.records[:1], self.records[1:]
            new, others = parted(self.records[:end])
            if not others:
                return new, self.records[end:]
            self.replace([*others, *new, *self.records[end:]])
        return self.records[: self.doubtful], self.records[self.doubtful :]

    def _split_first(self) -> None:
        pair = _split(self.records[0])
        if pair is not None:
            self.records[:1] = pair
            self._ends = [(records + 1, messages) for records, messages in self._ends]

    def committed(self, part: Sequence[Record], rest: list[Record]) -> int:
        """That part is durable; how many messages may be told now."""
        self.records, self.doubtful = rest, 0
        self.result_bytes -= sum(weight(record)[1] for record in part if type(record) is RecordOutcomes)
        ends = [(records - len(part), messages) for records, messages in self._ends]
        told = max((messages for records, messages in ends if records <= 0), default=0)
        self._ends = [(records, messages - told) for records, messages in ends if records > 0]
        return told

    def compact(self) -> None:
        """Leave out what only the last counts of, but the last."""
        if not self._repeats:
            return
        self._repeats = False
        kept = _without_repeated(self.records[self.doubtful :])
        if kept is not None:
            self.replace(self.records[: self.doubtful] + kept, self.doubtful)


def _fitting(records: Sequence[Record]) -> tuple[int, int]:
    """How many records one commit should have, at most, and how many must be in it with the first."""
    rows_left, bytes_left = COMMIT_ROWS, COMMIT_BYTES
    last = max((i for i, record in enumerate(records) if type(record) is SavePositions), default=-1)
    fitting = first = 0
    while fitting < len(records):
        end = _end_of_unit(records, fitting, last)
        first = first or end
        for record in records[fitting:end]:
            rows, size = weight(record)
            rows_left -= rows
            bytes_left -= size
        if rows_left < 0 or bytes_left < 0:
            break
        fitting = end
    return fitting, first


def _end_of_unit(records: Sequence[Record], at: int, last: int) -> int:
    """Where what must be durable with the record at ``at`` ends; ``last``: where the last positions are."""
    record = records[at]
    end = at + 1
    if isinstance(record, AppendBatch) and not record.submit.batch and at < last:  # it was fired: no client numbered it
        while not isinstance(records[end], SavePositions):
            end += 1
        return end + 1
    while isinstance(record, PERIODIC) and end < len(records) and isinstance(records[end], PERIODIC):
        end += 1
    return end


def weight(record: Record) -> tuple[int, int]:
    """About how many rows and bytes a record takes in a commit."""
    match record:
        case AppendBatch():
            raw = record.raw
            size = sum(ROW_BYTES + _inline(task.payload) for task in record.submit.tasks) if raw is None else len(raw)
            return 1, ROW_BYTES + size
        case RecordOutcomes():
            return len(record.outcomes), sum(map(_outcome_bytes, record.outcomes))
        case SaveMarks():
            return len(record.marks), sum(map(_mark_bytes, record.marks))
        case SaveFunction():
            return 1, ROW_BYTES + _inline(record.code.payload)
        case SaveEntry():
            return 1, ROW_BYTES + len(record.entry.payload)
        case SavePositions():
            return len(record.positions), ROW_BYTES * len(record.positions)
        case DropBatches():
            return len(record.seqs), 0
        case DropOutcomes():
            return len(record.ids), ROW_BYTES * len(record.ids)
        case DropBlobs():
            return len(record.blobs), ROW_BYTES * len(record.blobs)
        case _:
            return 1, ROW_BYTES


def _inline(payload: Payload) -> int:
    return len(payload) if type(payload) is bytes else 0


def _outcome_bytes(outcome: Outcome) -> int:
    error = outcome.error
    size = ROW_BYTES + _inline(outcome.payload)
    return size if error is None else size + len(error.message) + len(error.traceback) + len(error.pickled or b"")


def _mark_bytes(mark: TaskMark) -> int:
    return ROW_BYTES + _inline(mark.payload or b"")


def _split(record: Record) -> tuple[Record, Record] | None:
    """A record in two, of which the first fits into a commit; None where it is one thing."""
    match record:
        case RecordOutcomes():
            first, later = _cut(record.outcomes, _outcome_bytes)
            marked = set(record.marked)
            pair = [RecordOutcomes(some, [o.id for o in some if o.id in marked]) for some in (first, later)]
            return (pair[0], pair[1]) if later else None
        case SaveMarks():
            return _both(SaveMarks, *_cut(record.marks, _mark_bytes))
        case DropBatches():
            return _both(DropBatches, *_cut(record.seqs))
        case DropOutcomes():
            return _both(DropOutcomes, *_cut(record.ids))
        case DropBlobs():
            return _both(DropBlobs, *_cut(record.blobs))
        case _:
            return None


def _both(record_of: Callable[[list[T]], Record], first: list[T], later: list[T]) -> tuple[Record, Record] | None:
    return (record_of(first), record_of(later)) if later else None


def _cut(values: list[T], size_of: Callable[[T], int] = lambda value: ROW_BYTES) -> tuple[list[T], list[T]]:
    bytes_left = COMMIT_BYTES
    for at, value in enumerate(values[:COMMIT_ROWS]):
        bytes_left -= size_of(value)
        if bytes_left < 0 and at:
            return values[:at], values[at:]
    return values[:COMMIT_ROWS], values[COMMIT_ROWS:]


def _without_repeated(records: Sequence[Record]) -> list[Record] | None:
    """Records without those that a later one takes the place of; None where all count."""
    movable = _movable_positions(records)
    positions: set[str] = set()
    entries: set[str] = set()
    gone: set[str] = set()
    apps: set[str] = set()
    digests: set[str] = set()
    node_ids: set[str] = set()
    kept: list[Record] = []
    changed = False
    for at in reversed(range(len(records))):
        record = records[at]
        match record:
            case SavePositions():
                left = [one for one in record.positions if one.entry not in positions]
                if at in movable and len(left) < len(record.positions):
                    record, changed = SavePositions(left), True
                positions.update(one.entry for one in record.positions)
                counts = bool(record.positions or record.fired)
            case DropEntry():
                counts = _is_first(record.name, gone)
                positions.add(record.name)
                entries.add(record.name)
            case SaveEntry():
                counts = _is_first(record.entry.name, entries)
            case SaveApp():
                counts = _is_first(record.app, apps)
            case KeepFunctions():
                counts = not digests.issuperset(record.digests)
                digests.update(record.digests)
            case SaveNode():
                counts = _is_first(record.node.node_id, node_ids)
            case DropNode():
                counts = _is_first(record.node_id, node_ids)
            case _:
                counts = True
        if counts:
            kept.append(record)
    return kept[::-1] if changed or len(kept) < len(records) else None


def _movable_positions(records: Sequence[Record]) -> set[int]:
    """Which positions are those of no due time that was fired with them."""
    movable: set[int] = set()
    fired = False
    for at, record in enumerate(records):
        if type(record) is AppendBatch:
            fired = fired or not record.submit.batch
        elif type(record) is SavePositions:
            if not fired and not record.fired:
                movable.add(at)
            fired = False
    return movable


def _is_first(name: str, seen: set[str]) -> bool:
    is_first = name not in seen
    seen.add(name)
    return is_first


def named_by(record: Record) -> list[Blob]:
    """The large payloads that this record makes somebody's."""
    match record:
        case AppendBatch():
            return blobs_of(record.submit)
        case RecordOutcomes():
            payloads = [outcome.payload for outcome in record.outcomes]
        case SaveMarks():
            payloads = [mark.payload for mark in record.marks if mark.payload is not None]
        case SaveFunction():
            payloads = [record.code.payload]
        case _:
            return []
    return [payload for payload in payloads if isinstance(payload, Blob)]


def parted(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """New tasks, and what may be durable before they are. A batch that waits is not dropped before it is there."""
    new: list[Record] = [record for record in records if isinstance(record, AppendBatch)]
    waiting = {record.seq for record in records if isinstance(record, AppendBatch)}
    rest: list[Record] = []
    for record in records:
        if isinstance(record, DropBatches):
            new += [DropBatches(both)] if (both := [seq for seq in record.seqs if seq in waiting]) else []
            rest += [DropBatches(here)] if (here := [seq for seq in record.seqs if seq not in waiting]) else []
        elif isinstance(record, SaveMarks):
            of_new = [mark for mark in record.marks if mark.batch in waiting]
            others = [mark for mark in record.marks if mark.batch not in waiting]
            new += [SaveMarks(of_new)] if of_new else []
            rest += [SaveMarks(others)] if others else []
        elif isinstance(record, PERIODIC):
            new.append(record)  # a position says that a task was made: it is durable with it, and not before
        elif not isinstance(record, AppendBatch):
            rest.append(record)
    return new, rest
