"""Forgets outcomes whose time is over, without an index that each outcome would have to pay for.

Results are numbered as they come and looked at in blocks of 1024 numbers; the table ``expiries`` has for each
block the earliest moment at which something in it may be forgotten.
"""

from __future__ import annotations

import sqlite3

from mesh.store.counters import Counters
from mesh.store.statements import delete

BLOCK_BITS = 10
BLOCKS_MAX = 64  # blocks looked at in one call


def note_expiries(connection: sqlite3.Connection, counters: Counters, first_n: int, expires_at: float) -> None:
    """Remember that results from ``first_n`` on came, none of which expires before ``expires_at``."""
    for block in range(first_n >> BLOCK_BITS, (counters.last_n >> BLOCK_BITS) + 1):
        if counters.noted[0] == block and counters.noted[1] <= expires_at:
            continue
        counters.noted = (block, expires_at)
        connection.execute(
            "INSERT INTO expiries (block, first_at) VALUES (?, ?) "
            "ON CONFLICT (block) DO UPDATE SET first_at = min(first_at, excluded.first_at)",
            (block, expires_at),
        )


class Retention:
    """Walks through the blocks, going on where the last call stopped."""

    def __init__(self) -> None:
        self._last_block = -1

    def forget_expired(self, connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[str | None]]:
        """Delete up to ``limit`` outcomes that expired, from at most ``BLOCKS_MAX`` blocks; their ``blob`` columns."""
        forgotten: list[tuple[str | None]] = []
        for block in self._due(connection, now):
            left = limit - len(forgotten)
            if left <= 0:
                break
            numbers = (block << BLOCK_BITS, ((block + 1) << BLOCK_BITS) - 1)
            # An outcome whose batch is open keeps its task from running again after a restart.
            rows = connection.execute(
                "SELECT n, blob FROM results WHERE n BETWEEN ? AND ? AND expires_at < ? "
                "AND batch NOT IN (SELECT seq FROM journal) LIMIT ?",
                (*numbers, now, left),
            ).fetchall()
            delete(connection, "results", "n", [n for n, _ in rows])
            forgotten += [(blob,) for _, blob in rows]
            if len(rows) < left:
                self._last_block = block
                _correct(connection, block, numbers)
        return forgotten

    def has_due(self, connection: sqlite3.Connection, now: float) -> bool:
        """Whether there may be outcomes that expired."""
        return bool(self._due(connection, now))

    def _due(self, connection: sqlite3.Connection, now: float) -> list[int]:
        sql = "SELECT block FROM expiries WHERE first_at < ? AND block {} ? ORDER BY block LIMIT ?"
        ahead = connection.execute(sql.format(">"), (now, self._last_block, BLOCKS_MAX)).fetchall()
        behind = connection.execute(sql.format("<="), (now, self._last_block, BLOCKS_MAX - len(ahead))).fetchall()
        return [block for (block,) in ahead + behind]


def _correct(connection: sqlite3.Connection, block: int, numbers: tuple[int, int]) -> None:
    """Write down when the rest of a block, now looked at to its end, may be forgotten."""
    (first_at,) = connection.execute("SELECT min(expires_at) FROM results WHERE n BETWEEN ? AND ?", numbers).fetchone()
    if first_at is None:
        connection.execute("DELETE FROM expiries WHERE block = ?", (block,))
    else:
        connection.execute("UPDATE expiries SET first_at = ? WHERE block = ?", (first_at, block))
