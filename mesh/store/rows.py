"""How journal entries, marks, functions and outcomes become rows, with the checksum each carries."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zlib import crc32

import msgspec

from mesh.entries import Entry, Position
from mesh.errors import ConfigError, RowDamaged
from mesh.model import Blob, ErrorInfo, FunctionCode, Outcome, Payload, TaskMark, TaskState
from mesh.schedules import describe
from mesh.store.identity import identity_at

PLAIN_COLUMNS = (
    "n, id, batch, state, name, queue, worker, attempts, retries, "
    "accepted_at, started_at, finished_at, expires_at, runtime_s, crc, result"
)
FULL_COLUMNS = PLAIN_COLUMNS + ", blob, error_type, error, traceback, exception, arguments"
FUNCTION_COLUMNS = "digest, python, payload, blob, crc"

SETTLED = (
    "SELECT batch, id FROM results WHERE n > (SELECT min(results_from) FROM journal) "
    "AND batch IN (SELECT seq FROM journal) "
    "UNION ALL SELECT batch, id FROM forgotten WHERE batch IN (SELECT seq FROM journal)"
)
"""Asks for the tasks that are finished, of the batches that are open."""

ENTRY_COLUMNS = "name, app, task, queue, schedule, paused, revised_at, raw, crc"
POSITION_COLUMNS = "name, last_due_us, last_task, last_state, fired, skipped, caught_up, lateness_s, raw, crc"

T = TypeVar("T")

_BLOB = msgspec.json.Decoder(dict[str, Any])
_MARK = msgspec.msgpack.Decoder(TaskMark)
_ENTRY = msgspec.msgpack.Decoder(Entry)
_POSITION = msgspec.msgpack.Decoder(Position)
_ENCODER = msgspec.msgpack.Encoder()
_JOURNAL = struct.Struct("<qd")
_SEEDS = {str(state): crc32(state.encode()) for state in TaskState}


def journal_crc(seq: int, accepted_at: float, raw: bytes) -> int:
    """The checksum of a journal row."""
    return crc32(raw, crc32(_JOURNAL.pack(seq, accepted_at)))


def journal_is_whole(seq: int, accepted_at: object, raw: object, crc: int) -> bool:
    """Whether a journal row is what was written."""
    if type(accepted_at) is not float or type(raw) is not bytes:
        return False
    return crc32(raw, crc32(_JOURNAL.pack(seq, accepted_at))) == crc


def is_plain(outcome: Outcome) -> bool:
    """Whether the columns after ``result`` are all empty, as for nearly every task that succeeded."""
    return outcome.error is None and type(outcome.payload) is bytes


def plain_values(outcomes: Sequence[Outcome], first_n: int) -> list[Any]:
    """The values of ``PLAIN_COLUMNS`` of all these outcomes, one after the other. The hottest lines of the store."""
    values: list[Any] = []
    extend = values.extend
    for n, o in enumerate(outcomes, first_n):
        payload = o.payload
        # the plain string: sqlite3 looks up an adapter for anything else, and the hash of an enum is Python code
        state = o.state._value_
        extend(
            (
                n,
                o.id,
                o.batch,
                state,
                o.name,
                o.queue,
                o.worker,
                o.attempts,
                o.retries,
                o.accepted_at,
                o.started_at,
                o.finished_at,
                o.expires_at,
                o.runtime_s,
                crc32(payload, crc32(o.id.encode(), _SEEDS[state])),  # type: ignore[arg-type]
                payload,
            )
        )
    return values


def full_values(outcomes: Sequence[Outcome], first_n: int) -> list[Any]:
    """The values of ``FULL_COLUMNS`` of all these outcomes, one after the other."""
    values: list[Any] = []
    for n, o in enumerate(outcomes, first_n):
        payload, blob = payload_columns(o.payload)
        error: tuple[Any, ...] = (None,) * 5
        if o.error is not None:
            error = (o.error.type, o.error.message, o.error.traceback, o.error.pickled, o.error.arguments)
        values += (n, o.id, o.batch, str(o.state), o.name, o.queue, o.worker, o.attempts, o.retries)
        values += (o.accepted_at, o.started_at, o.finished_at, o.expires_at, o.runtime_s)
        values += (outcome_crc(o.id, o.state, payload, blob, error), payload, blob, *error)
    return values


def outcome_crc(task_id: str, state: str, payload: bytes, blob: str | None, error: Sequence[Any]) -> int:
    """The checksum of a result row: over what a caller will be told. Equals the one in ``plain_values``."""
    checksum = crc32(payload, crc32(task_id.encode(), crc32(state.encode())))
    if blob is not None:
        checksum = crc32(blob.encode(), checksum)
    for field in error:
        if field is not None:
            checksum = crc32(field if isinstance(field, bytes) else field.encode(), checksum)
    return checksum


def outcome_of(row: Sequence[Any]) -> Outcome:
    """The outcome in a row of ``FULL_COLUMNS``. Raises ``RowDamaged`` naming its id."""
    _, task_id, batch, state, name, queue, worker, attempts, retries = row[:9]
    accepted, started, finished, expires, runtime, _, payload, blob, *error = row[9:]
    if not outcome_is_whole(row):
        raise RowDamaged(f"task {task_id}: its result was changed on disk since it was written; it is lost")
    return Outcome(
        task_id,
        TaskState(state),
        payload_of(payload, blob),
        None if error[0] is None else ErrorInfo(*error),
        name,
        queue,
        worker,
        attempts,
        retries,
        accepted,
        started,
        finished,
        expires,
        batch,
        runtime or 0.0,  # rows of an older store have none
    )


def outcome_is_whole(row: Sequence[Any]) -> bool:
    """Whether a row of ``FULL_COLUMNS`` is what was written."""
    crc, payload, blob, *error = row[14:]
    try:
        return bool(outcome_crc(row[1], row[3], payload, blob, error) == crc)
    except (TypeError, AttributeError):  # not even the type is right
        return False


def payload_columns(payload: Payload) -> tuple[bytes, str | None]:
    """A payload as the columns (bytes, blob)."""
    if isinstance(payload, Blob):
        return b"", msgspec.json.encode({"key": payload.key, "sizes": payload.sizes}).decode()
    return payload, None


def payload_of(payload: bytes, blob: str | None) -> Payload:
    """The payload in the columns (bytes, blob)."""
    if blob is None:
        return payload
    found = _BLOB.decode(blob)
    return Blob(found["key"], found["sizes"])


def mark_values(mark: TaskMark) -> tuple[str, bytes, int]:
    """The row of a mark."""
    raw = _ENCODER.encode(mark)
    return mark.id, raw, crc32(raw)


def entry_values(entry: Entry) -> tuple[Any, ...]:
    """The row of an entry: ``ENTRY_COLUMNS``."""
    raw = _ENCODER.encode(entry)
    try:
        schedule = describe(entry.schedule)
    except ConfigError as error:  # made where there are other time zones
        schedule = str(error)
    options = entry.options
    for_people = (entry.name, entry.app, options.name, options.queue, schedule, entry.paused, entry.revised_at)
    return (*for_people, raw, crc32(raw))


def entry_of(raw: object, crc: int) -> Entry | None:
    """The entry in a row; None where it is not what was written, or cannot be read."""
    return _decoded(_ENTRY, raw, crc)


def position_values(position: Position) -> tuple[Any, ...]:
    """The row of a position: ``POSITION_COLUMNS``."""
    raw = _ENCODER.encode(position)
    return (*msgspec.structs.astuple(position)[:8], raw, crc32(raw))


def position_of(raw: object, crc: int) -> Position | None:
    """The position in a row; as of an entry."""
    return _decoded(_POSITION, raw, crc)


def mark_of(raw: object, crc: int) -> TaskMark | None:
    """The mark in a row; as of an entry."""
    return _decoded(_MARK, raw, crc)


def _decoded(decoder: msgspec.msgpack.Decoder[T], raw: object, crc: int) -> T | None:
    if type(raw) is not bytes or crc32(raw) != crc:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def function_values(code: FunctionCode) -> tuple[str, str, bytes, str | None, int]:
    """The row of a shipped function."""
    payload, blob = payload_columns(code.payload)
    return code.digest, code.python, payload, blob, outcome_crc(code.digest, code.python, payload, blob, ())


def function_of(row: Sequence[Any]) -> FunctionCode:
    """The function in a row. Raises ``RowDamaged`` naming its digest."""
    digest, python, payload, blob, _ = row
    if not function_is_whole(row):
        raise RowDamaged(f"function {digest}: its code was changed on disk since it was written; submit it anew")
    return FunctionCode(digest, python, payload_of(payload, blob))


def function_is_whole(row: Sequence[Any]) -> bool:
    """Whether the row of a function is what was written."""
    digest, python, payload, blob, crc = row
    try:
        return bool(outcome_crc(digest, python, payload, blob, ()) == crc)
    except (TypeError, AttributeError):
        return False


def router_of(connection: sqlite3.Connection, path: Path) -> str:
    """Whose store this file is: of the router that moved here, else of one that is named after the place."""
    row = connection.execute("SELECT router_id FROM identity").fetchone()
    return str(row[0]) if row is not None else identity_at(f"sqlite://{quote(str(path))}:")
