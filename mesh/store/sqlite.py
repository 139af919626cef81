"""The store in one SQLite file: the default, with nothing to install.

``<db>`` is the journal and the results, readable with any SQLite tool while the router runs. Beside it:
``<db>.blobs/`` large payloads, ``<db>.lock`` who uses it, ``<db>.tail`` how far it has come, ``<db>.ballast`` reserve,
``<db>.moved`` where the store went.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from mesh.core.commands import AppendBatch, Record
from mesh.errors import ConfigError, StoreDamaged, StoreError, StoreFull
from mesh.model import Blob, Buffer, FunctionCode, NodeInfo, Outcome
from mesh.store.ballast import Ballast
from mesh.store.base import Recovered, StoredBatch, StoreUsage
from mesh.store.blob_file import check_size
from mesh.store.blobs import LEFT_S, BlobFiles
from mesh.store.changes import gather
from mesh.store.counters import Counters
from mesh.store.database import WAY_OUT, Database
from mesh.store.moved import Move, MoveFile, refuse_moved
from mesh.store.own_files import refuse_foreign_files
from mesh.store.reading import named
from mesh.store.retention import Retention
from mesh.store.rows import (
    FULL_COLUMNS,
    FUNCTION_COLUMNS,
    SETTLED,
    entry_of,
    function_of,
    journal_is_whole,
    mark_of,
    outcome_of,
    position_of,
    router_of,
)
from mesh.store.statements import delete, insert, select
from mesh.store.writes import blob_keys, write

FREE_PAGES_MAX = 256  # unused pages that a prune leaves in the file
VACUUM_PAGES = 500  # pages given back to the disk in one prune: a few milliseconds
OUTCOME_BYTES = 400  # what a small outcome takes, for the checkpointer's pace

T = TypeVar("T")


class SqliteStore:
    """``level`` is ``disk`` or ``process``; ``salvaged`` has a line for each thing given up with ``salvage``.

    Opening raises ``StoreLocked`` while another process has the file, ``StoreDamaged`` when commits are missing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        level: str = "disk",
        free_bytes_min: int = 64 << 20,
        ballast_bytes: int = 16 << 20,
        salvage: bool = False,
        force: bool = False,
        moving: bool = False,
    ) -> None:
        try:
            self.path = Path(path).resolve()  # the files beside it must be the same ones under each of its names
        except (OSError, RuntimeError) as error:
            raise StoreError(f"{path}: {error}") from error
        self.level = level
        self.url = f"sqlite://{quote(str(self.path))}" + ("" if level == "disk" else f"?level={level}")
        self._move = MoveFile(self.path)
        self._free_bytes_min = free_bytes_min
        self._ballast = Ballast(Path(f"{self.path}.ballast"), ballast_bytes)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_foreign_files(self.path)
            if not moving:  # before anything of it is upgraded or salvaged
                refuse_moved(self._move.read(), self.url, force=force)
            self._blobs = BlobFiles(Path(f"{self.path}.blobs"), sync=level == "disk")
            self._db = self._open(salvage, moving)
        except OSError as error:
            raise StoreError(f"{self.path}: {error}") from error
        if not moving:  # again, now that nobody else has it: it may have been moved just before
            self._refuse_moved(force)
        with self._db.reading() as connection:
            self.router_id: str | None = router_of(connection, self.path)
        self.salvaged = self._db.salvaged
        self.depot: Path | None = self._blobs.directory
        self._new_blobs: dict[str, int] = {}
        self._retention = Retention()
        self._sweep_at = 0.0  # UTC seconds: when to look for files that nobody spoke of
        self._ballast.restore(self._free_bytes(), free_bytes_min)

    def _open(self, salvage: bool, moving: bool) -> Database:
        try:
            return Database(self.path, level=self.level, salvage=salvage, moving=moving)
        except StoreFull:
            if not self._ballast.release():
                raise
            return Database(self.path, level=self.level, salvage=salvage, moving=moving)

    def _refuse_moved(self, force: bool) -> None:
        try:
            if refuse_moved(self._move.read(), self.url, force=force):
                self.note_move(None)
        except BaseException:
            self._db.close()
            raise

    def note_move(self, move: Move | None) -> None:
        """Write down that the journal moves, or take that back."""
        try:
            self._move.write(move)
        except OSError as error:
            raise StoreError(f"{self.path}: {error}") from error

    def become(self, router_id: str) -> None:
        """Be the store of this router, wherever it is."""
        with self._db.transaction():
            self._db.connection.execute("INSERT OR REPLACE INTO identity VALUES (1, ?)", (router_id,))
        self.router_id = router_id

    def empty(self) -> None:
        """Raise ``ConfigError``: a file is emptied by who removes it."""
        raise ConfigError(f"{self.url} was moved away: to move it back, remove this file first, with all beside it")

    def count_on(self, boot: int) -> None:
        """Go on counting starts from ``boot``."""
        with self._db.transaction() as counters:
            counters.boot = boot

    def recover(self) -> Recovered:
        """Read what is unfinished and count this start. Raises ``StoreDamaged`` naming the rows."""
        with self._db.reading():
            batches = self._read_batches()
            marks = self._read_raw("marks", "id", "marks of tasks", mark_of)
            entries = self._read_raw("schedules", "name", "entries of periodic tasks", entry_of)
            positions = self._read_raw("positions", "name", "positions of entries", position_of)
            apps = dict(self._db.connection.execute("SELECT app, declared_at FROM schedule_apps").fetchall())
            nodes = [NodeInfo(*row) for row in self._db.connection.execute("SELECT node_id, name FROM nodes")]
            keys = [key for (key,) in self._db.connection.execute("SELECT key FROM blobs")]
            functions = dict(
                self._db.connection.execute(
                    "SELECT digest, coalesce(used_at, 0.0) AS at FROM functions LEFT JOIN function_uses USING (digest) "
                    "ORDER BY at, digest"
                ).fetchall()
            )
        try:
            counters = self._count_start()
        except StoreFull:
            if not self._make_room():
                raise
            counters = self._count_start()
        self._new_blobs.clear()
        self._blobs.remove_all_but(keys)
        next_seq = counters.last_seq + 1
        return Recovered(counters.boot, next_seq, batches, marks, nodes, functions, apps, entries, positions)

    def _count_start(self) -> Counters:
        with self._db.transaction() as counters:
            counters.boot += 1
            self._db.connection.execute("DELETE FROM forgotten WHERE batch NOT IN (SELECT seq FROM journal)")
            self._db.connection.execute("DELETE FROM function_uses WHERE digest NOT IN (SELECT digest FROM functions)")
        return counters

    def _read_batches(self) -> list[StoredBatch]:
        execute = self._db.connection.execute
        rows = execute("SELECT seq, accepted_at, raw, crc FROM journal ORDER BY seq").fetchall()
        self._refuse(
            "journal rows changed since they were written", [row[0] for row in rows if not journal_is_whole(*row)]
        )
        if len(rows) != self._db.counters.batches:
            raise StoreDamaged(
                f"{self.path}: batches in the journal: {len(rows)} where {self._db.counters.batches} were written; "
                f"{WAY_OUT}"
            )
        batches = {seq: StoredBatch(seq, raw, accepted_at) for seq, accepted_at, raw, _ in rows}
        for seq, task_id in execute(SETTLED):
            batches[seq].settled.add(task_id)
        return list(batches.values())

    def _read_raw(self, table: str, key: str, what: str, read: Callable[[object, int], T | None]) -> list[T]:
        rows = self._db.connection.execute(f"SELECT {key}, raw, crc FROM {table}").fetchall()
        values = [read(raw, crc) for _, raw, crc in rows]
        self._refuse(
            f"{what} changed since they were written, or that nobody can read",
            [row[0] for row, value in zip(rows, values) if value is None],
        )
        return [value for value in values if value is not None]

    def _refuse(self, what: str, damaged: Sequence[object]) -> None:
        if not damaged:
            return
        raise StoreDamaged(f"{self.path}: {what}: {named(list(map(str, damaged)))}; {WAY_OUT}")

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
        """Write all records in one transaction, or none. Raises ``StoreFull``, ``StoreError``."""
        if not records and not self._new_blobs:
            return
        try:
            self._commit(records, held_back)
        except StoreFull:
            released = self._make_room()
            if not released or any(isinstance(record, AppendBatch) for record in records):
                raise
            self._commit(records, held_back)  # the reserve is there so that what was accepted can be finished

    def _commit(self, records: Sequence[Record], held_back: Collection[str]) -> None:
        if self._new_blobs:
            self._blobs.sync_directory()
        unneeded: list[str] = []
        size = 0
        with self._db.transaction() as counters:
            connection = self._db.connection
            if self._new_blobs:
                values = [value for item in self._new_blobs.items() if item[0] not in held_back for value in item]
                insert(connection, "blobs", "key, size", values, "OR REPLACE")
            for changes in gather(records):
                unneeded += write(connection, changes, counters)
                size += sum(len(raw) for _, _, raw in changes.batches) + len(changes.outcomes) * OUTCOME_BYTES
            self._db.expect(size)
        self._new_blobs = {key: size for key, size in self._new_blobs.items() if key in held_back}
        self._blobs.remove(unneeded)

    def outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these ids. Raises ``RowDamaged`` naming the id."""
        with self._db.reading() as connection:
            return [
                outcome_of(row) for row in select(connection, "results", FULL_COLUMNS, "id", list(dict.fromkeys(ids)))
            ]

    def function(self, digest: str) -> FunctionCode | None:
        """A shipped function, or None. Raises ``RowDamaged``."""
        with self._db.reading() as connection:
            rows = select(connection, "functions", FUNCTION_COLUMNS, "digest", [digest])
        return function_of(rows[0]) if rows else None

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        """Write a large payload, unless one of its key was committed and is whole; whether there was none yet.

        Raises ``StoreFull``; ``StoreError`` when the parts are not of its size.
        """
        if self._is_committed(blob.key):
            check_size(blob, sum(map(len, parts)))
            return False
        try:
            self._blobs.write(blob, parts)
        except StoreFull:
            self._make_room()
            raise
        return self._note_new(blob)

    def adopt_blob(self, blob: Blob) -> bool:
        """Take over the file that was left in the depot for a payload, unless one of its key was committed.

        Whether there was none yet. Raises ``StoreFull``; ``LookupError`` when it is not there, or another.
        """
        if self._is_committed(blob.key):
            self._blobs.discard(blob)
            return False
        self._blobs.adopt(blob)
        return self._note_new(blob)

    def _note_new(self, blob: Blob) -> bool:
        new = blob.key not in self._new_blobs
        self._new_blobs[blob.key] = blob.size
        return new

    def take_back_blob(self, blob: Blob) -> bool:
        """Remove a payload that was put or adopted since the last commit: nothing will refer to it. Whether it was."""
        if self._new_blobs.pop(blob.key, None) is None:
            return False
        self._blobs.remove([blob.key])
        return True

    def discard_blob(self, blob: Blob) -> None:
        """Remove the file that was left in the depot for a payload."""
        self._blobs.discard(blob)

    def _is_committed(self, key: str) -> bool:
        if key in self._new_blobs or not self._blobs.holds(key):
            return False
        with self._db.reading() as connection:
            return bool(select(connection, "blobs", "key", "key", [key]))

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload in parts; None when it is gone. Raises ``StoreDamaged``."""
        return self._blobs.read(blob)

    def prune(self, now: float, limit: int) -> int:
        """Forget up to ``limit`` expired outcomes with their blobs, and give some of their room back.

        Raises ``StoreFull``: deleting needs room too.
        """
        if now >= self._sweep_at:
            self._sweep_at = now + LEFT_S / 4
            self._blobs.remove_left(now)
        with self._db.reading() as connection:
            is_due = self._retention.has_due(connection, now)
        forgotten = self._forget_expired(now, limit) if is_due else 0  # an idle router leaves the disk alone
        with self._db.reading() as connection:
            (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
        if free_pages > FREE_PAGES_MAX:
            self._db.vacuum(min(VACUUM_PAGES, free_pages - FREE_PAGES_MAX))
        return forgotten

    def _forget_expired(self, now: float, limit: int) -> int:
        with self._db.transaction() as counters:
            connection = self._db.connection
            forgotten = self._retention.forget_expired(connection, now, limit)
            counters.outcomes -= len(forgotten)
            counters.noted = Counters().noted
            keys = blob_keys(forgotten)
            delete(connection, "blobs", "key", keys)
        self._blobs.remove(keys)
        return len(forgotten)

    def usage(self) -> StoreUsage:
        """How full the store is; takes the reserve again when there is room for it.

        Raises ``StoreError`` where the file is no longer in its place.
        """
        self._db.check_place()
        free_bytes = self._free_bytes()
        self._ballast.restore(free_bytes, self._free_bytes_min)
        counters = self._db.counters
        return StoreUsage(free_bytes, counters.outcomes, counters.batches)

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._db.close()

    def _make_room(self) -> bool:
        self._db.cut_back_log()
        return self._ballast.release()

    def _free_bytes(self) -> int:
        stat = os.statvfs(self.path.parent)
        return stat.f_bavail * stat.f_frsize
