"""The tables of a store file, and how an older file becomes a newer one."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlite_utils import Database, Migrations

from mesh.errors import StoreError

APPLICATION_ID = 0x6D657368  # "mesh", in the header of the file

migrations = Migrations("taskmesh")


@migrations()
def create_journal_and_results(db: Any) -> None:
    """What must not be lost, one table for each kind; ``crc`` is checked before a row is believed."""
    # results_from: the newest result when the batch came, so that a start need not read older results.
    db["journal"].create({"seq": int, "accepted_at": float, "results_from": int, "raw": bytes, "crc": int}, pk="seq")
    # n comes first and grows, so that rows are appended; columns that a start reads come before large ones.
    db["results"].create(
        {
            "n": int,
            "id": str,
            "batch": int,
            "state": str,
            "name": str,
            "queue": str,
            "worker": str,
            "attempts": int,
            "retries": int,
            "accepted_at": float,
            "started_at": float,
            "finished_at": float,
            "expires_at": float,
            "crc": int,
            "result": bytes,
            "blob": str,
            "error_type": str,
            "error": str,
            "traceback": str,
            "exception": bytes,
            "arguments": str,
        },
        pk="n",
        not_null={"id", "state"},
    )
    db["results"].create_index(["id"], unique=True)
    # An index on results.expires_at would cost each result as much as its row; one row per 1024 results does not.
    db["expiries"].create({"block": int, "first_at": float}, pk="block")
    db.execute("CREATE TABLE marks (id TEXT PRIMARY KEY, raw BLOB, crc INTEGER) WITHOUT ROWID")
    db["functions"].create({"digest": str, "python": str, "payload": bytes, "blob": str, "crc": int}, pk="digest")
    db["nodes"].create({"node_id": str, "name": str}, pk="node_id")
    db["blobs"].create({"key": str, "size": int}, pk="key")
    db["damaged"].create({"id": int, "source": str, "key": str, "content": bytes, "found_at": float}, pk="id")
    counters = ("boot", "commits", "last_seq", "last_n", "outcomes", "batches", "crc")
    db["meta"].create({"id": int, **dict.fromkeys(counters, int)}, pk="id")


@migrations()
def create_view_finished_tasks(db: Any) -> None:
    """Results as people want to read them: ISO times, durations, no checksums."""
    iso = "strftime('%Y-%m-%dT%H:%M:%fZ', {0}, 'unixepoch') AS {0}"
    times = ", ".join(iso.format(name) for name in ("accepted_at", "started_at", "finished_at", "expires_at"))
    db.create_view(
        "finished_tasks",
        "SELECT id, name, queue, state, worker, attempts, retries, "
        f"{times}, round(finished_at - started_at, 6) AS runtime_s, "
        "length(result) AS result_bytes, blob, error_type, error, traceback, arguments FROM results",
    )


@migrations()
def create_forgotten(db: Any) -> None:
    """Tasks that are finished and whose results were dropped while the batch they came in was open."""
    db.execute("CREATE TABLE forgotten (batch INTEGER, id TEXT, PRIMARY KEY (batch, id)) WITHOUT ROWID")


@migrations()
def keep_runtimes(db: Any) -> None:
    """Durations as workers measure them: two machines' clocks may differ by more than a task takes."""
    db["results"].add_column("runtime_s", float)
    text = db["finished_tasks"].schema
    db["finished_tasks"].drop()
    db.execute(text.replace("round(finished_at - started_at, 6)", "round(runtime_s, 6)"))


@migrations()
def keep_uses_of_functions(db: Any) -> None:
    """When each shipped function was last used, beside its code: a start reads this, and need not read that."""
    db.execute("CREATE TABLE function_uses (digest TEXT PRIMARY KEY, used_at REAL) WITHOUT ROWID")
    db.execute("INSERT INTO function_uses SELECT digest, CAST(strftime('%s', 'now') AS REAL) FROM functions")


@migrations()
def create_schedules(db: Any) -> None:
    """Periodic tasks; what counts is ``raw``, the rest is for people."""
    db.execute(
        "CREATE TABLE schedules (name TEXT PRIMARY KEY, app TEXT, task TEXT, queue TEXT, schedule TEXT, "
        "paused INTEGER, revised_at REAL, raw BLOB, crc INTEGER) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE positions (name TEXT PRIMARY KEY, last_due_us INTEGER, last_task TEXT, last_state TEXT, "
        "fired INTEGER, skipped INTEGER, caught_up INTEGER, lateness_s REAL, raw BLOB, crc INTEGER) WITHOUT ROWID"
    )
    db.execute("CREATE TABLE schedule_apps (app TEXT PRIMARY KEY, declared_at REAL) WITHOUT ROWID")
    iso = "strftime('%Y-%m-%dT%H:%M:%fZ', {0}, 'unixepoch') AS {1}"
    db.create_view(
        "periodic_tasks",
        "SELECT name, schedule, task, queue, app, paused, "
        f"{iso.format('last_due_us / 1e6', 'last_due')}, last_state, last_task, fired, skipped, caught_up, "
        f"round(lateness_s, 6) AS lateness_s, {iso.format('revised_at', 'revised_at')} "
        "FROM schedules LEFT JOIN positions USING (name)",
    )


def refuse_other(connection: sqlite3.Connection, path: object) -> set[str]:
    """Raise ``StoreError`` for a file that is not ours or newer than we are; which upgrades it lacks. Only reads."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if application_id != APPLICATION_ID and (application_id or tables):
        raise StoreError(f"{path}: this is an SQLite file of another program, not a store; give another --store")
    applied: set[str] = set()
    if "_sqlite_migrations" in tables:
        rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (migrations.name,))
        applied = {name for (name,) in rows}
    known = {m.name for m in migrations.pending(Database(memory=True))}
    if newer := sorted(applied - known):
        raise StoreError(
            f"{path}: this store was written by a newer version (it has {', '.join(newer)}); "
            "upgrade this router, or give another --store"
        )
    return known - applied


@migrations()
def leave_out_schedules_that_are_gone(db: Any) -> None:
    """Entries that were removed are kept for other routers, without a position: they are not for people."""
    text = db["periodic_tasks"].schema
    db["periodic_tasks"].drop()
    db.execute(text.replace("LEFT JOIN positions", "JOIN positions"))


@migrations()
def keep_identity(db: Any) -> None:
    """Whose journal this is, where it came from another place: else that follows from the place."""
    db.execute("CREATE TABLE identity (id INTEGER PRIMARY KEY CHECK (id = 1), router_id TEXT NOT NULL)")


def prepare(connection: sqlite3.Connection, path: object) -> None:
    """Create or upgrade the tables. Raises ``StoreError`` for a file that is not ours or newer than we are."""
    if refuse_other(connection, path):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrations.apply(Database(connection))
