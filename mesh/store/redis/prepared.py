"""The records of one commit as the arguments of the script that does them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.core.commands import Record
from mesh.store.changes import Changes, gather
from mesh.store.redis.link import Value
from mesh.store.redis.rows import Rows


@dataclass(slots=True)
class Prepared:
    """``serial`` is its own, ``number`` may change. ``grows``: it takes memory, and so needs room.

    ``put`` and ``removed`` are large payloads.
    """

    serial: str
    number: int
    put: list[str]
    removed: list[str]
    grows: bool = False
    last_seq: int = 0
    batches: list[Value] = field(default_factory=list)
    operations: list[Value] = field(default_factory=list)

    def add(self, name: str, values: Sequence[Value], width: int = 1, *where: str) -> None:
        """One operation on ``len(values) / width`` things."""
        if values:
            self.operations += (name, len(values) // width, *where, *values)


def prepare(
    records: Sequence[Record], rows: Rows, serial: str, number: int, last_seq: int, put: list[str], removed: list[str]
) -> Prepared:
    """The ``number``th commit of a journal."""
    prepared = Prepared(serial, number, put, removed, grows=bool(put), last_seq=last_seq)
    prepared.add("put", put)
    prepared.add("unput", removed)
    for changes in gather(records):
        _add_changes(prepared, changes, rows)
    return prepared


def _add_changes(prepared: Prepared, changes: Changes, rows: Rows) -> None:
    for seq, accepted_at, raw in changes.batches:
        prepared.batches += (seq, rows.batch(seq, accepted_at, raw))
    prepared.last_seq = max(prepared.last_seq, changes.last_seq)
    marks: list[Value] = []
    for task_id, mark in changes.marks.items():
        if mark is not None:
            marks += (task_id, rows.mark(mark))
    prepared.add("set", marks, 2, "marks")
    prepared.add("del", [task_id for task_id, mark in changes.marks.items() if mark is None], 1, "marks")
    prepared.add("finish", changes.dropped_batches)  # first: what is settled of these need not be noted
    if changes.outcomes:
        prepared.add("outcomes", rows.outcomes(changes.outcomes), 2)
    prepared.add("forget", changes.dropped_outcomes)
    _add_functions(prepared, changes, rows)
    nodes: list[Value] = []
    for node_id, node in changes.nodes.items():
        if node is not None:
            nodes += (node_id, rows.node(node))
    prepared.add("set", nodes, 2, "nodes")
    prepared.add("del", [node_id for node_id, node in changes.nodes.items() if node is None], 1, "nodes")
    prepared.add("unblob", changes.dropped_blobs)
    prepared.grows |= bool(changes.batches or marks or changes.outcomes or changes.functions or nodes)


def _add_functions(prepared: Prepared, changes: Changes, rows: Rows) -> None:
    saved: list[Value] = []
    for digest, record in changes.functions.items():
        if record is not None:
            saved += (digest, rows.function(record.code))
    prepared.add("unsave", [digest for digest, record in changes.functions.items() if record is None])
    prepared.add("save", saved, 2)
    prepared.add("use", [value for use in changes.function_uses.items() for value in use], 2)
