"""Writes the changes of one commit to the tables, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from mesh.model import Blob, FunctionCode, Outcome
from mesh.store.changes import Changes
from mesh.store.counters import Counters
from mesh.store.retention import note_expiries
from mesh.store.rows import (
    ENTRY_COLUMNS,
    FULL_COLUMNS,
    FUNCTION_COLUMNS,
    PLAIN_COLUMNS,
    POSITION_COLUMNS,
    entry_values,
    full_values,
    function_is_whole,
    function_values,
    is_plain,
    journal_crc,
    mark_values,
    payload_of,
    plain_values,
    position_values,
)
from mesh.store.statements import delete, insert, select

T = TypeVar("T")

_BATCH = attrgetter("batch")


def write(connection: sqlite3.Connection, changes: Changes, counters: Counters) -> list[str]:
    """Write changes and count them; the keys of blobs whose files may go once this is committed."""
    unneeded = list(changes.dropped_blobs)
    counters.last_seq = max(counters.last_seq, changes.last_seq)
    if changes.batches:
        _append_batches(connection, changes.batches, counters)
    if changes.marks:
        _write_marks(connection, changes)
    if changes.outcomes:
        unneeded += _write_outcomes(connection, changes.outcomes, counters)
    if changes.dropped_batches:
        counters.batches -= delete(connection, "journal", "seq", changes.dropped_batches)
        delete(connection, "forgotten", "batch", changes.dropped_batches)
    if changes.dropped_outcomes:
        unneeded += drop_outcomes(connection, changes.dropped_outcomes, counters)
    if changes.functions or changes.function_uses:
        unneeded += _write_functions(connection, changes)
    if changes.nodes:
        _write_nodes(connection, changes)
    if changes.apps:
        _replace(connection, "schedule_apps", "app, declared_at", changes.apps, lambda item: item)
    if changes.entries:
        _replace(connection, "schedules", ENTRY_COLUMNS, changes.entries, lambda item: entry_values(item[1]))
    if changes.positions:
        _replace(connection, "positions", POSITION_COLUMNS, changes.positions, lambda item: position_values(item[1]))
    if unneeded:
        delete(connection, "blobs", "key", unneeded)
    return unneeded


def _append_batches(
    connection: sqlite3.Connection, batches: Sequence[tuple[int, float, bytes]], counters: Counters
) -> None:
    results_from = counters.last_n
    if counters.early is not None:
        results_from, newest = counters.early
        if counters.last_seq >= newest:
            counters.early = None
    values: list[Any] = []
    for seq, accepted_at, raw in batches:
        values += (seq, accepted_at, results_from, raw, journal_crc(seq, accepted_at, raw))
    counters.batches += insert(connection, "journal", "seq, accepted_at, results_from, raw, crc", values)


def _write_marks(connection: sqlite3.Connection, changes: Changes) -> None:
    values: list[Any] = []
    removed = []
    for task_id, mark in changes.marks.items():
        if mark is None:
            removed.append(task_id)
        else:
            values += mark_values(mark)
    insert(connection, "marks", "id, raw, crc", values, "OR REPLACE")
    delete(connection, "marks", "id", removed)


def _write_functions(connection: sqlite3.Connection, changes: Changes) -> list[str]:
    """Save functions and when they were used; the keys of the blobs of those that were dropped."""
    dropped = [digest for digest, saved in changes.functions.items() if saved is None]
    keys = blob_keys(select(connection, "functions", "blob", "digest", dropped))
    for table in ("functions", "function_uses"):
        delete(connection, table, "digest", dropped)
    for saved in changes.functions.values():
        if saved is not None:
            _write_function(connection, saved.code)
    uses = [value for use in changes.function_uses.items() for value in use]
    insert(connection, "function_uses", "digest, used_at", uses, "OR REPLACE")
    return keys


def _write_function(connection: sqlite3.Connection, code: FunctionCode) -> None:
    """The first of a digest stays, as long as it is what was written."""
    if not insert(connection, "functions", FUNCTION_COLUMNS, function_values(code), "OR IGNORE"):
        (row,) = select(connection, "functions", FUNCTION_COLUMNS, "digest", [code.digest])
        if not function_is_whole(row):
            insert(connection, "functions", FUNCTION_COLUMNS, function_values(code), "OR REPLACE")


def _write_nodes(connection: sqlite3.Connection, changes: Changes) -> None:
    for node_id, node in changes.nodes.items():
        if node is None:
            delete(connection, "nodes", "node_id", [node_id])
        else:
            insert(connection, "nodes", "node_id, name", [node.node_id, node.name], "OR REPLACE")


def _replace(
    connection: sqlite3.Connection,
    table: str,
    columns: str,
    changed: Mapping[str, T | None],
    row_of: Callable[[tuple[str, T]], Sequence[Any]],
) -> None:
    """Write one row for each key, in the place of what was there; None: there is none any more."""
    kept = [(key, value) for key, value in changed.items() if value is not None]
    insert(connection, table, columns, [value for item in kept for value in row_of(item)], "OR REPLACE")
    removed = [key for key, value in changed.items() if value is None]
    delete(connection, table, columns.partition(",")[0], removed)


def _write_outcomes(connection: sqlite3.Connection, outcomes: Sequence[Outcome], counters: Counters) -> list[str]:
    """The first outcome of an id stays; returns the blobs of those that came second."""
    first_n = counters.last_n + 1
    plain = [outcome for outcome in outcomes if is_plain(outcome)]
    inserted = insert(connection, "results", PLAIN_COLUMNS, plain_values(plain, first_n), "OR IGNORE")
    if len(plain) < len(outcomes):
        full = [outcome for outcome in outcomes if not is_plain(outcome)]
        values = full_values(full, first_n + len(plain))
        inserted += insert(connection, "results", FULL_COLUMNS, values, "OR IGNORE")
    newest = max(map(_BATCH, outcomes))
    if newest > counters.last_seq:  # a full disk had room for the result, and not yet for its batch
        before = counters.last_n if counters.early is None else counters.early[0]
        counters.early = (before, newest)
    counters.last_n += len(outcomes)
    counters.outcomes += inserted
    note_expiries(connection, counters, first_n, min(outcome.expires_at for outcome in outcomes))
    return [] if inserted == len(outcomes) else _blobs_of_second_outcomes(connection, outcomes)


def _blobs_of_second_outcomes(connection: sqlite3.Connection, outcomes: Sequence[Outcome]) -> list[str]:
    blobs = {outcome.payload.key: outcome.id for outcome in outcomes if isinstance(outcome.payload, Blob)}
    kept = set(blob_keys(select(connection, "results", "blob", "id", list(blobs.values()))))
    return [key for key in blobs if key not in kept]


def drop_outcomes(connection: sqlite3.Connection, ids: Sequence[str], counters: Counters) -> list[str]:
    """Forget outcomes; the keys of the blobs they had. What a batch that is open still needs to know stays known."""
    rows = select(connection, "results", "blob, batch, id", "id", ids)
    keys = blob_keys([(blob,) for blob, _, _ in rows])
    batches = list({batch for _, batch, _ in rows if batch <= counters.last_seq})
    finished = set(batches) - {seq for (seq,) in select(connection, "journal", "seq", "seq", batches)}
    values = [value for _, batch, task_id in rows if batch not in finished for value in (batch, task_id)]
    insert(connection, "forgotten", "batch, id", values, "OR IGNORE")
    counters.outcomes -= delete(connection, "results", "id", ids)
    return keys


def blob_keys(rows: Sequence[tuple[str | None]]) -> list[str]:
    """The keys in rows of the column ``blob``."""
    payloads = [payload_of(b"", text) for (text,) in rows if text is not None]
    return [payload.key for payload in payloads if isinstance(payload, Blob)]
