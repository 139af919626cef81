"""The records of one commit as the arguments of the script that does them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.core.commands import DropBatches, Record
from mesh.model import Outcome
from mesh.store.changes import Changes, gather
from mesh.store.redis.link import Value
from mesh.store.redis.rows import Rows, due_field

T = TypeVar("T")


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
    finished = {seq for record in records if isinstance(record, DropBatches) for seq in record.seqs}
    for changes in gather(records):
        _add_changes(prepared, changes, rows, finished)
    return prepared


def _add_changes(prepared: Prepared, changes: Changes, rows: Rows, finished: Collection[int]) -> None:
    for seq, accepted_at, raw in changes.batches:
        prepared.batches += (seq, rows.batch(seq, accepted_at, raw))
    prepared.last_seq = max(prepared.last_seq, changes.last_seq)
    _add_rows(prepared, "marks", changes.marks, rows.mark)
    prepared.add("finish", changes.dropped_batches)
    if changes.outcomes:
        prepared.add("outcomes", rows.outcomes(changes.outcomes), 2)
        _add_settled(prepared, changes.outcomes, rows, finished)
    prepared.add("forget", changes.dropped_outcomes)
    _add_functions(prepared, changes, rows)
    _add_rows(prepared, "nodes", changes.nodes, rows.node)
    _add_rows(prepared, "schedules", changes.entries, rows.entry)
    prepared.add("fired", [value for span in changes.fired for value in (due_field(span), rows.due(span, 0))], 2)
    prepared.add("disused", [name for name, entry in changes.entries.items() if entry is None])
    _add_rows(prepared, "positions", changes.positions, rows.position)
    apps = {name: None if at is None else (name, at) for name, at in changes.apps.items()}
    _add_rows(prepared, "apps", apps, lambda app: rows.app(*app))
    prepared.add("unblob", changes.dropped_blobs)
    prepared.grows |= bool(changes.batches or changes.outcomes or changes.functions)


def _add_settled(prepared: Prepared, outcomes: Sequence[Outcome], rows: Rows, finished: Collection[int]) -> None:
    """What is settled of a batch that stays open; a batch of one task, as most are, is finished with it."""
    ids: dict[int, list[str]] = {}
    for outcome in outcomes:
        if outcome.batch and outcome.batch not in finished:
            ids.setdefault(outcome.batch, []).append(outcome.id)
    prepared.add("settle", [value for seq, some in ids.items() for value in (seq, rows.settled(seq, some))], 2)


def _add_rows(prepared: Prepared, where: str, changed: Mapping[str, T | None], row_of: Callable[[T], bytes]) -> None:
    """A row for each key, in the place of what was there; None: there is none any more."""
    kept = [value for key, one in changed.items() if one is not None for value in (key, row_of(one))]
    prepared.add("set", kept, 2, where)
    prepared.add("del", [key for key, one in changed.items() if one is None], 1, where)
    prepared.grows |= bool(kept)


def _add_functions(prepared: Prepared, changes: Changes, rows: Rows) -> None:
    saved: list[Value] = []
    for digest, record in changes.functions.items():
        if record is not None:
            saved += (digest, rows.function(record.code))
    prepared.add("unsave", [digest for digest, record in changes.functions.items() if record is None])
    prepared.add("save", saved, 2)
    prepared.add("use", [value for use in changes.function_uses.items() for value in use], 2)
