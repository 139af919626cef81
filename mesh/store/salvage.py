"""What can still be had from a damaged store file. Only on request: it gives up what it cannot read."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mesh.store.retention import BLOCK_BITS
from mesh.store.rows import (
    FULL_COLUMNS,
    entry_of,
    function_is_whole,
    journal_is_whole,
    mark_of,
    outcome_is_whole,
    position_of,
)
from mesh.store.schema import prepare

_TABLES = (
    "journal",
    "results",
    "forgotten",
    "expiries",
    "marks",
    "functions",
    "function_uses",
    "nodes",
    "schedules",
    "positions",
    "schedule_apps",
    "blobs",
    "damaged",
    "meta",
    "identity",
)


_LEFT_OUT = "payloads, not given up yet"


def rebuild(path: Path) -> list[str]:
    """Move a file that SQLite cannot read aside and copy what is readable into a new one; a line per finding."""
    draft = Path(f"{path}.rebuilt")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    new = sqlite3.connect(draft, isolation_level=None)
    old = sqlite3.connect(path, isolation_level=None)
    old.text_factory = lambda text: text.decode(errors="replace")
    lines = []
    any_read = False
    try:
        new.execute("PRAGMA auto_vacuum = INCREMENTAL")
        prepare(new, path)
        new.execute("BEGIN")
        for table in _TABLES:
            copied, whole = _copy(old, new, table)
            any_read = any_read or whole or copied > 0
            rows = "row" if copied == 1 else "rows"
            lines.append(f"{table}: {copied} {rows} copied" + ("" if whole else ", others could not be read"))
        new.execute("DELETE FROM expiries")
        new.execute(
            f"INSERT INTO expiries SELECT n >> {BLOCK_BITS}, min(expires_at) FROM results GROUP BY n >> {BLOCK_BITS}"
        )
        new.execute("COMMIT")
    finally:
        new.close()
        old.close()
    aside = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    for suffix in ("-wal", "-shm", ""):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    draft.rename(path)
    if not any_read:
        lines = ["nothing of it could be read: the store begins empty"]
    return [f"the damaged file was moved to {aside}", *lines]


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> tuple[int, bool]:
    """Copy rows from the front until one cannot be read, then from the back."""
    columns = new.execute(f"PRAGMA table_info({table})").fetchall()
    keys = [column[1] for column in columns if column[5]]
    try:
        theirs = {column[1] for column in old.execute(f"PRAGMA table_info({table})")}
    except sqlite3.DatabaseError:
        return 0, False
    names = [column[1] for column in columns if column[1] in theirs]  # an older file may lack some, or the table
    if not names:
        return 0, True
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    before = new.total_changes
    for order in ("ASC", "DESC"):
        try:
            by = ", ".join(f"{key} {order}" for key in keys)
            for row in old.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY {by}"):
                new.execute(insert, row)
        except sqlite3.DatabaseError:
            continue
        return new.total_changes - before, True
    return new.total_changes - before, False


def note_left_out(connection: sqlite3.Connection, payloads: int) -> None:
    """Write into a copy that large payloads of the store are not in it: a router must not start there by mistake."""
    connection.execute(
        "INSERT INTO damaged (source, key, content, found_at) VALUES (?, ?, x'', ?)",
        (_LEFT_OUT, str(payloads), time.time()),
    )


def left_out(connection: sqlite3.Connection) -> str:
    """What a copy says of that; empty where it says nothing."""
    found = connection.execute("SELECT key FROM damaged WHERE source = ?", (_LEFT_OUT,)).fetchone()
    return f"large payloads that were left out when this copy was made: {found[0]}" if found else ""


def forgive_left_out(connection: sqlite3.Connection) -> None:
    """Let routers start on it from now on."""
    connection.execute("UPDATE damaged SET source = 'payloads' WHERE source = ?", (_LEFT_OUT,))


def move_damaged_rows(connection: sqlite3.Connection) -> list[str]:
    """Move each row that is not what was written to the table ``damaged``; a line per row."""
    lines: list[str] = []
    checks: tuple[tuple[str, str, str, Callable[..., bool]], ...] = (
        ("journal", "seq", "seq, accepted_at, raw, crc", journal_is_whole),
        ("marks", "id", "raw, crc", lambda raw, crc: mark_of(raw, crc) is not None),
        ("schedules", "name", "raw, crc", lambda raw, crc: entry_of(raw, crc) is not None),
        ("positions", "name", "raw, crc", lambda raw, crc: position_of(raw, crc) is not None),
        ("functions", "digest", "digest, python, payload, blob, crc", lambda *row: function_is_whole(row)),
        ("results", "n", FULL_COLUMNS, lambda *row: outcome_is_whole(row)),
    )
    connection.execute("BEGIN IMMEDIATE")
    for table, key, columns, is_whole in checks:
        for row_key, row in _damaged_rows(connection, table, key, columns, is_whole):
            content = repr(row).encode(errors="replace")
            connection.execute(
                "INSERT INTO damaged (source, key, content, found_at) VALUES (?, ?, ?, ?)",
                (table, str(row_key), content, time.time()),
            )
            connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (row_key,))
            name = row[1] if table == "results" else row_key
            lines.append(f"{table}: row {name!r} was changed since it was written; moved to the table damaged")
    connection.execute("COMMIT")
    return lines


def _damaged_rows(
    connection: sqlite3.Connection, table: str, key: str, columns: str, is_whole: Callable[..., bool]
) -> Iterator[tuple[Any, Sequence[Any]]]:
    found = [
        (row_key, row)
        for row_key, *row in connection.execute(f"SELECT {key}, {columns} FROM {table}")
        if not is_whole(*row)
    ]
    yield from found
