"""The SQLite file of a store: who holds it, whether it is whole, and transactions that are counted.

Each transaction adds one to ``Counters.commits``, in the file and then in the tail file beside it; so a start can
tell that commits are missing, which SQLite itself does not.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from mesh.errors import StoreDamaged, StoreError, StoreFull
from mesh.store.checkpoint import Checkpointer
from mesh.store.counters import Counters
from mesh.store.lock import FileLock
from mesh.store.salvage import forgive_left_out, left_out, move_damaged_rows, rebuild
from mesh.store.schema import prepare
from mesh.store.tail import Tail, TailFile

CHECKED_BYTES_MAX = 1 << 30  # a larger file is not read through at start
SMALL_COMMIT_BYTES = 16 << 10  # the pages that every commit touches
BUSY_S = 10.0  # how long a commit waits for another program that writes to the file

_SYNCHRONOUS = {"disk": "FULL", "process": "NORMAL"}
_PRAGMAS = """
PRAGMA auto_vacuum = INCREMENTAL; -- before the first table, or never
PRAGMA journal_mode = WAL;
PRAGMA wal_autocheckpoint = 0; -- the checkpointer does it
PRAGMA journal_size_limit = 67108864;
PRAGMA secure_delete = OFF; -- Debian switches it on: each settled batch would be overwritten with zeros
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -65536;
PRAGMA synchronous = NORMAL; -- until the tables are there: the first commit that is synced syncs all before it
"""
_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
WAY_OUT = (
    "nothing of it was served, and tasks that are missing must be submitted again. "
    "To go on with what is left, start once with salvage"
)


class Database:
    """An open store file. ``salvaged`` has a line for each thing that was given up to open it."""

    def __init__(self, path: Path, *, level: str, salvage: bool, moving: bool = False) -> None:
        self.path = path
        self.salvaged: list[str] = []
        self._broken = ""
        self._expected = 0
        self._lock = FileLock(Path(f"{path}.lock"), moving=moving)
        try:
            self._tail = TailFile(Path(f"{path}.tail"))
            try:
                self._open(level, salvage)
            except BaseException:
                self._tail.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    def _open(self, level: str, salvage: bool) -> None:
        try:
            self.connection = self._connect(level)
        except StoreDamaged:
            if not salvage:
                raise
            self.salvaged += self._rebuilt()
            self._broken = ""
            self.connection = self._connect(level)
        try:
            if salvage:
                self._salvage()
            elif text := left_out(self.connection):
                raise StoreDamaged(f"{self.path}: {text}; {WAY_OUT}")
            self._file = os.stat(self.path)
            self.counters = self._read_counters()
            self._check_tail(self.counters, level)
            self._checkpointer = Checkpointer(self.path)
        except sqlite3.Error as error:
            self.connection.close()
            raise self._translated(error) from error
        except BaseException:
            self.connection.close()
            raise

    def _rebuilt(self) -> list[str]:
        try:
            return rebuild(self.path)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _connect(self, level: str) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # 512 statements: every width of every statement is prepared once
        connection = sqlite3.connect(self.path, isolation_level=None, cached_statements=512, timeout=BUSY_S)
        # A damaged text must reach the checksum that tells whose it is, not fail on the way.
        connection.text_factory = _decode
        try:
            connection.executescript(_PRAGMAS)
            if self.path.stat().st_size < CHECKED_BYTES_MAX:
                found = connection.execute("PRAGMA quick_check(3)").fetchall()
                if found != [("ok",)]:
                    raise StoreDamaged(f"{self.path}: {'; '.join(text for (text,) in found)}; {WAY_OUT}")
            prepare(connection, self.path)
            connection.execute("INSERT OR IGNORE INTO meta VALUES (1, 0, 0, 0, 0, 0, 0, ?)", (Counters().checksum(),))
            connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[level]}")
        except sqlite3.Error as error:
            connection.close()
            raise self._translated(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_counters(self) -> Counters:
        *values, crc = self.connection.execute(
            "SELECT boot, commits, last_seq, last_n, outcomes, batches, crc FROM meta WHERE id = 1"
        ).fetchone()
        counters = Counters(*values)
        if counters.checksum() != crc:
            raise StoreDamaged(f"{self.path}: the row of counters was changed since it was written; {WAY_OUT}")
        return counters

    def _check_tail(self, counters: Counters, level: str) -> None:
        tail = self._tail.read()
        if tail is None or tail.commits <= counters.commits:
            return
        rows = f"rows {counters.last_seq + 1}..{tail.last_seq}"
        power_cut = "at level process a power cut does this, too; " if level == "process" else ""
        raise StoreDamaged(
            f"{self.path}: the journal lost its tail: commits {counters.commits + 1}..{tail.commits} were made and are "
            f"not there any more ({rows if tail.last_seq > counters.last_seq else 'outcomes only'}). The write-ahead "
            f"log was damaged or removed, or this is an older copy of the file; {power_cut}{WAY_OUT}"
        )

    def _salvage(self) -> None:
        self.salvaged += move_damaged_rows(self.connection)
        if text := left_out(self.connection):
            forgive_left_out(self.connection)
            self.salvaged.append(text)
        tail = self._tail.read() or Tail(0, 0)
        boot, commits, last_seq = self.connection.execute("SELECT boot, commits, last_seq FROM meta").fetchone()
        if tail.commits > commits:
            self.salvaged.append(f"commits {commits + 1}..{tail.commits} are lost")
        if tail.last_seq > last_seq:
            self.salvaged.append(f"journal rows {last_seq + 1}..{tail.last_seq} are lost")
        (newest, batches) = self.connection.execute("SELECT coalesce(max(seq), 0), count(*) FROM journal").fetchone()
        (last_n, outcomes) = self.connection.execute("SELECT coalesce(max(n), 0), count(*) FROM results").fetchone()
        # Numbers that were given out once are not given out again.
        self.counters = Counters(
            boot, max(commits, tail.commits), max(last_seq, tail.last_seq, newest), last_n, outcomes, batches
        )
        self._write_counters(self.counters)

    def _write_counters(self, counters: Counters) -> None:
        self.connection.execute(
            "UPDATE meta SET boot = ?, commits = ?, last_seq = ?, last_n = ?, outcomes = ?, batches = ?, crc = ?",
            (*counters.values(), counters.checksum()),
        )

    @contextmanager
    def transaction(self) -> Iterator[Counters]:
        """Write all or nothing. Changes to the counters given count with the commit.

        Raises ``StoreFull`` (the file is as before and may be tried again) and ``StoreError``.
        """
        if self._broken or self._checkpointer.failed:
            raise StoreError(
                f"{self.path}: {self._broken or self._checkpointer.failed}; what is on disk is uncertain since then: "
                "restart the router, which reads it anew"
            )
        counters = copy(self.counters)
        counters.commits += 1
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield counters
            self._write_counters(counters)
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._translated(error) from error
        except BaseException:
            self._roll_back()
            raise
        self.counters = counters
        self._tail.write(counters.commits, counters.last_seq)
        self._checkpointer.wrote(self._expected + SMALL_COMMIT_BYTES)
        self._expected = 0

    def expect(self, size: int) -> None:
        """Say that this transaction is about ``size`` bytes large, for the checkpointer's pace."""
        self._expected = size

    def _roll_back(self) -> None:
        if not self.connection.in_transaction:
            return  # SQLite did it by itself
        try:
            self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._broken = f"rollback: {error}"

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read what was committed. Raises ``StoreDamaged``, ``StoreError``."""
        try:
            yield self.connection
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def check_place(self) -> None:
        """Raise ``StoreError`` where the file was removed or replaced: what is written ends with this process."""
        try:
            here = os.path.samestat(os.stat(self.path), self._file)
        except OSError:
            here = False
        if not here:
            raise StoreError(f"{self.path}: the file was removed or replaced while it was in use")

    def cut_back_log(self) -> None:
        """Give the room of the write-ahead log back to the disk."""
        self._checkpointer.cut_back()

    def vacuum(self, pages: int) -> None:
        """Give up to ``pages`` unused pages back to the disk; between transactions only."""
        # execute() would free one page, whatever the number
        with self.reading() as connection:
            connection.executescript(f"PRAGMA incremental_vacuum({pages})")

    def close(self) -> None:
        """Copy the log into the file and let go of it."""
        self._checkpointer.stop()
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            pass  # the log stays beside the file and is read at the next start
        finally:
            self.connection.close()
            self._tail.close()
            self._lock.release()

    def _translated(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if name in _FULL:
            return StoreFull(f"{self.path}: the disk is full; nothing of this commit was written")
        if code in _DAMAGED:
            self._broken = str(error)
            return StoreDamaged(f"{self.path}: {error} ({name}); {WAY_OUT}")
        if code == sqlite3.SQLITE_BUSY:
            return StoreError(f"{self.path}: another program has been writing to this file for {BUSY_S:.0f} s")
        if code == sqlite3.SQLITE_IOERR:
            # An fsync that failed once may succeed the next time without the data being on disk.
            self._broken = f"{error} ({name})"
        return StoreError(f"{self.path}: {error} ({name})")


def _decode(text: bytes) -> str:
    return text.decode(errors="replace")
