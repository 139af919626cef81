"""Reads a store file beside the router that has it: through a connection that cannot write."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from mesh.entries import Entry, Position
from mesh.errors import RowDamaged, StoreDamaged, StoreError, StoreFull
from mesh.model import Blob, FunctionCode, NodeInfo, Outcome, TaskMark
from mesh.store.base import StoredBatch
from mesh.store.blob_file import cut_parts, file_name, map_blob
from mesh.store.counters import Counters
from mesh.store.lock import holder_of
from mesh.store.moved import MoveFile
from mesh.store.reading import CHUNK, Facts, Rows
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
from mesh.store.salvage import left_out
from mesh.store.schema import refuse_other
from mesh.store.statements import select
from mesh.store.tail import read_tail

WAIT_S = 10.0  # for a router that has the file locked for itself, as when it closes
_FAULTS_NAMED = 10

T = TypeVar("T")


class SqliteReader:
    """Of the file at ``path``. Opening raises ``StoreError`` where it is missing, not a store, older or newer."""

    def __init__(self, path: Path, level: str = "disk") -> None:
        self.path = path.resolve()
        self.url = f"sqlite://{quote(str(self.path))}" + ("" if level == "disk" else f"?level={level}")
        self._level = level
        self._blobs = Path(f"{self.path}.blobs")
        self._settled: dict[int, set[str]] = {}
        if not self.path.is_file():
            raise StoreError(f"{self.path}: there is no store")
        with translated(self.path):
            self._connection = read_only(self.path)
            try:
                missing = refuse_other(self._connection, self.path)
            except BaseException:
                self._connection.close()
                raise
        if missing:
            self._connection.close()
            raise StoreError(
                f"{self.path}: this store was written by an older version, or never used: start a router on it once"
            )

    def facts(self) -> Facts:
        """What the file says of itself. Raises ``StoreDamaged`` where its counters are not what was written."""
        counters = self._counters()
        with translated(self.path):
            marks, functions, entries = (self._count(table) for table in ("marks", "functions", "schedules"))
            router_id = router_of(self._connection, self.path)
        return Facts(
            router_id=router_id,
            level=self._level,
            where=str(self.path),
            shared=str(self.path),
            size=self._size(),
            boot=counters.boot,
            commits=counters.commits,
            last_seq=counters.last_seq,
            batches=counters.batches,
            outcomes=counters.outcomes,
            marks=marks,
            functions=functions,
            entries=entries,
            holder=holder_of(Path(f"{self.path}.lock")),
            move=MoveFile(self.path).read(),
        )

    def _counters(self) -> Counters:
        with translated(self.path):
            columns = "boot, commits, last_seq, last_n, outcomes, batches, crc"
            row = self._connection.execute(f"SELECT {columns} FROM meta WHERE id = 1").fetchone()
        if row is None:
            return Counters()
        *values, crc = row
        counters = Counters(*values)
        if counters.checksum() != crc:
            raise StoreDamaged(f"{self.path}: the row of counters was changed since it was written")
        return counters

    def _count(self, table: str) -> int:
        (count,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)

    def _size(self) -> int:
        files = [self.path, Path(f"{self.path}-wal")]
        with os.scandir(self._blobs) if self._blobs.is_dir() else _nothing() as found:
            return sum(_size_of(file) for file in [*files, *(Path(entry.path) for entry in found)])

    def seqs(self) -> list[int]:
        """The numbers of the batches that are open, in order. What is finished in them is looked up here, too."""
        self._settled = {}
        with self._snapshot() as connection:
            seqs = [seq for (seq,) in connection.execute("SELECT seq FROM journal ORDER BY seq")]
            for seq, task_id in connection.execute(SETTLED):  # results have no index by batch: read them once
                self._settled.setdefault(seq, set()).add(task_id)
        return seqs

    def batches(self, seqs: Sequence[int]) -> list[tuple[int, StoredBatch | None]]:
        """These batches with the ids in them that were finished when ``seqs`` was asked."""
        with translated(self.path):
            rows = select(self._connection, "journal", "seq, accepted_at, raw, crc", "seq", seqs)
        found: list[tuple[int, StoredBatch | None]] = []
        for seq, accepted_at, raw, crc in sorted(rows, key=lambda row: int(row[0])):
            whole = journal_is_whole(seq, accepted_at, raw, crc)
            found.append((seq, StoredBatch(seq, raw, accepted_at, self._settled.get(seq, set())) if whole else None))
        return found

    def marks(self) -> Rows[TaskMark]:
        """By id of the task."""
        return self._raw("marks", "id", mark_of)

    def entries(self) -> Rows[Entry]:
        """By name."""
        return self._raw("schedules", "name", entry_of)

    def positions(self) -> Rows[Position]:
        """By name of the entry."""
        return self._raw("positions", "name", position_of)

    def _raw(self, table: str, key: str, read: Callable[[object, int], T | None]) -> Rows[T]:
        for rows in self._pages(f"{key}, raw, crc", table, key, ""):
            yield [(str(name), read(raw, crc)) for name, raw, crc in rows]

    def nodes(self) -> Rows[NodeInfo]:
        """By id of the node; these have no checksum."""
        for rows in self._pages("node_id, name", "nodes", "node_id", ""):
            yield [(node_id, NodeInfo(node_id, name)) for node_id, name in rows]

    def apps(self) -> Rows[float]:
        """When the code of each was declared, by name; these have no checksum."""
        for rows in self._pages("app, declared_at", "schedule_apps", "app", ""):
            yield [(app, declared_at) for app, declared_at in rows]

    def functions(self) -> Rows[tuple[FunctionCode, float]]:
        """Shipped functions and when each was last used, by digest."""
        for rows in self._pages(FUNCTION_COLUMNS, "functions", "digest", ""):
            with translated(self.path):
                digests = [row[0] for row in rows]
                uses = dict(select(self._connection, "function_uses", "digest, used_at", "digest", digests))
            chunk: list[tuple[str, tuple[FunctionCode, float] | None]] = []
            for row in rows:
                code = _unless_damaged(function_of, row)
                chunk.append((row[0], None if code is None else (code, uses.get(row[0]) or 0.0)))
            yield chunk

    def outcomes(self, *, of_all: bool = False) -> Rows[Outcome]:
        """In the order in which they came."""
        for rows in self._pages(FULL_COLUMNS, "results", "n", 0):
            yield [(row[1], _unless_damaged(outcome_of, row)) for row in rows]

    def outcomes_of(self, ids: Sequence[str]) -> list[Outcome]:
        """The whole outcomes there are of these ids."""
        with translated(self.path):
            rows = select(self._connection, "results", FULL_COLUMNS, "id", ids)
        found = (_unless_damaged(outcome_of, row) for row in rows)
        return [outcome for outcome in found if outcome is not None]

    def _pages(self, columns: str, table: str, key: str, first: str | int) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in the order of their keys, each page read for itself: a long read would keep the log from being cut."""
        sql = f"SELECT {key}, {columns} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {CHUNK}"
        last: Any = first
        while True:
            with translated(self.path):
                rows = self._connection.execute(sql, (last,)).fetchall()
            if not rows:
                return
            yield [row[1:] for row in rows]
            last = rows[-1][0]

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload in parts; None when it is gone. Raises ``StoreDamaged``."""
        try:
            return list(cut_parts(blob, map_blob(self._blobs / file_name(blob.key), blob)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"blob {blob.key}: {error}") from error

    def faults(self) -> list[str]:
        """Pages that SQLite cannot read, commits and batches that are missing."""
        with translated(self.path):
            found = self._connection.execute(f"PRAGMA quick_check({_FAULTS_NAMED})").fetchall()
        faults = [text for (text,) in found if text != "ok"]
        tail = read_tail(Path(f"{self.path}.tail"))  # first: it is written after the commit that it speaks of
        try:
            with self._snapshot():
                counters, batches = self._counters(), self._count("journal")
                if lossy := left_out(self._connection):
                    faults.append(lossy)
        except StoreDamaged as damaged:
            return [*faults, str(damaged)]
        if tail is not None and tail.commits > counters.commits:
            faults.append(f"commits {counters.commits + 1}..{tail.commits} were made and are not there any more")
        if batches != counters.batches:
            faults.append(f"batches in the journal: {batches} where {counters.batches} were written")
        return faults

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        with translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def loose_ends(self) -> list[str]:
        """None: rows are found by what they are."""
        return []

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises ``sqlite3.Error``."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_S)
    connection.text_factory = _decode
    return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite says as ``StoreDamaged``, ``StoreFull`` or ``StoreError``."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise StoreDamaged(f"{path}: this is no store, or its beginning is damaged ({error})") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise StoreDamaged(f"{path}: {error}") from error
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull(f"{path}: the disk is full") from error
        raise StoreError(f"{path}: {error}") from error


def _unless_damaged(read: Callable[[Sequence[Any]], T], row: Sequence[Any]) -> T | None:
    try:
        return read(row)
    except (RowDamaged, ValueError, msgspec.MsgspecError):
        return None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return 0


@contextmanager
def _nothing() -> Iterator[list[os.DirEntry[str]]]:
    yield []


def _decode(text: bytes) -> str:
    return text.decode(errors="replace")
