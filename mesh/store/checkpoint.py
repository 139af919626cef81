"""Copies the write-ahead log into the database from a thread of its own, so that no commit has to stop for it."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

WRITTEN_MAX = 8 << 20  # bytes committed before the copy starts; on a full disk the reserve has room for twice that
DIRTY_S = 1.0  # the longest a commit waits to be copied
LOG_MAX = 64 << 20  # size of the log above which it is cut back, which makes the next commit wait
CUT_WAIT_S = 0.1  # commits are held up this long for readers that keep the log from being cut

_PASSING = frozenset({"SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED"})


class Checkpointer:
    """``failed`` says why copying stopped for good, or is empty."""

    def __init__(self, path: Path) -> None:
        self.failed = ""
        self._path = path
        self._log = Path(f"{path}-wal")
        self._written = 0
        self._dirty = threading.Event()
        self._now = threading.Event()
        self._cut = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mesh-checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, size: int) -> None:
        """Note that about ``size`` bytes were committed."""
        self._written += size
        if not self._dirty.is_set():
            self._dirty.set()
        if self._written >= WRITTEN_MAX:
            self._written = 0
            self._now.set()

    def cut_back(self) -> None:
        """Copy at once and shrink the log: the disk is full."""
        self._cut = True
        self._dirty.set()
        self._now.set()

    def stop(self) -> None:
        """Finish the copy that is under way and end the thread."""
        self._stopping = True
        self._dirty.set()
        self._now.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=CUT_WAIT_S)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            while not self.failed:
                self._dirty.wait()
                self._now.wait(DIRTY_S)
                self._dirty.clear()
                self._now.clear()
                if self._stopping:
                    return
                self._checkpoint(connection)
        except sqlite3.Error as error:
            self.failed = f"checkpoint: {error}"
        finally:
            connection.close()

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        try:
            _, logged, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            pinned = copied < logged  # by a long read of another program: cutting would only make commits wait
            if not pinned and (self._cut or os.path.getsize(self._log) > LOG_MAX):
                # What the first pass left is little, and only that is copied while commits wait.
                self._cut = False
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            if error.sqlite_errorname not in _PASSING:
                self.failed = f"checkpoint: {error} ({error.sqlite_errorname})"
        except FileNotFoundError:
            self.failed = f"checkpoint: {self._log} was removed while the router was running"
