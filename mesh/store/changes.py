"""The records of one commit, gathered by kind so that each kind takes few statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropBlobs,
    DropEntry,
    DropFunctions,
    DropNode,
    DropOutcomes,
    DueSpan,
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
from mesh.entries import Entry, Position
from mesh.model import NodeInfo, Outcome, TaskMark

_ENCODER = msgspec.msgpack.Encoder()


@dataclass(slots=True)
class Changes:
    """Records whose order among each other no longer matters. None under a key: it is removed."""

    batches: list[tuple[int, float, bytes]] = field(default_factory=list)
    last_seq: int = 0
    dropped_batches: list[int] = field(default_factory=list)
    marks: dict[str, TaskMark | None] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    dropped_outcomes: list[str] = field(default_factory=list)
    dropped_blobs: list[str] = field(default_factory=list)
    functions: dict[str, SaveFunction | None] = field(default_factory=dict)
    function_uses: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, NodeInfo | None] = field(default_factory=dict)
    apps: dict[str, float | None] = field(default_factory=dict)
    entries: dict[str, Entry | None] = field(default_factory=dict)
    positions: dict[str, Position | None] = field(default_factory=dict)
    fired: list[DueSpan] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Add one more record, in the order of the commit."""
        match record:
            case AppendBatch():
                self.batches.append((record.seq, record.accepted_at, raw_of(record)))
                self.last_seq = record.seq
            case RecordOutcomes():
                self.outcomes += record.outcomes
                self.marks.update(dict.fromkeys(record.marked))
            case DropBatches():
                self.dropped_batches += record.seqs
            case SaveMarks():
                self.marks.update({mark.id: mark for mark in record.marks})
            case DropOutcomes():
                self.dropped_outcomes += record.ids
            case DropBlobs():
                self.dropped_blobs += [blob.key for blob in record.blobs]
            case SaveFunction():
                self.functions[record.code.digest] = record
                self.function_uses[record.code.digest] = record.used_at
            case KeepFunctions():
                self.function_uses.update(dict.fromkeys(record.digests, record.used_at))
            case DropFunctions():
                self._drop_functions(record.digests)
            case SaveNode():
                self.nodes[record.node.node_id] = record.node
            case DropNode():
                self.nodes[record.node_id] = None
            case _:
                self._add_periodic(record)

    def _add_periodic(self, record: Record) -> None:
        match record:
            case SaveApp():
                self.apps[record.app] = record.declared_at or None
            case SaveEntry():
                self.entries[record.entry.name] = record.entry
            case DropEntry():
                self.entries[record.name] = self.positions[record.name] = None
            case SavePositions():
                self.positions.update({position.entry: position for position in record.positions})
                self.fired += record.fired

    def _drop_functions(self, digests: Sequence[str]) -> None:
        for digest in digests:
            self.functions[digest] = None
            self.function_uses.pop(digest, None)

    def leave_out_finished(self) -> None:
        """A batch that came and was finished within this commit need not be written at all."""
        finished = {seq for seq, _, _ in self.batches}.intersection(self.dropped_batches)
        if finished:
            self.batches = [batch for batch in self.batches if batch[0] not in finished]
            self.dropped_batches = [seq for seq in self.dropped_batches if seq not in finished]


def gather(records: Sequence[Record]) -> Iterable[Changes]:
    """Gather records; an outcome that follows a drop of outcomes starts anew, for it may be of the same id.

    Functions come last: one that is dropped and saved again shall keep its blob.
    """
    changes = Changes()
    for record in records:
        if changes.dropped_outcomes and isinstance(record, RecordOutcomes):
            rest = Changes(functions=changes.functions, function_uses=changes.function_uses)
            changes.functions, changes.function_uses = {}, {}
            yield changes
            changes = rest
        changes.add(record)
    if changes.batches and changes.dropped_batches:
        changes.leave_out_finished()
    yield changes


def raw_of(record: AppendBatch) -> bytes:
    """A batch as it is journalled."""
    return _ENCODER.encode(record.submit) if record.raw is None else record.raw
