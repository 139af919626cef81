"""Statements over many rows, in a few fixed widths so that each is prepared once.

One statement for many rows and not ``executemany``: that takes the interpreter lock anew for each row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

_WIDTHS = (256, 32, 4, 1)


def insert(connection: sqlite3.Connection, table: str, columns: str, values: Sequence[Any], conflict: str = "") -> int:
    """Insert rows whose values follow each other in ``values``; how many were new.

    ``conflict`` is what SQLite shall do about a row whose key is there already: an ``OR ...`` of its INSERT.
    """
    count = columns.count(",") + 1
    inserted = 0
    for start, width in _chunks(len(values) // count):
        part = values[start * count : (start + width) * count]
        inserted += connection.execute(_insert_text(table, columns, width, conflict), part).rowcount
    return inserted


@lru_cache(maxsize=256)
def _insert_text(table: str, columns: str, width: int, conflict: str) -> str:
    row = f"({', '.join('?' * (columns.count(',') + 1))})"
    return f"INSERT {conflict} INTO {table} ({columns}) VALUES {', '.join([row] * width)}"


def delete(connection: sqlite3.Connection, table: str, key: str, values: Sequence[Any]) -> int:
    """Delete the rows with these keys; how many there were."""
    deleted = 0
    for start, width in _chunks(len(values)):
        marks = ", ".join("?" * width)
        sql = f"DELETE FROM {table} WHERE {key} IN ({marks})"
        deleted += connection.execute(sql, values[start : start + width]).rowcount
    return deleted


def select(
    connection: sqlite3.Connection, table: str, columns: str, key: str, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """The rows with these keys."""
    rows: list[tuple[Any, ...]] = []
    for start, width in _chunks(len(values)):
        marks = ", ".join("?" * width)
        sql = f"SELECT {columns} FROM {table} WHERE {key} IN ({marks})"
        rows += connection.execute(sql, values[start : start + width]).fetchall()
    return rows


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    """Cut ``count`` rows into (start, width), wide ones first."""
    start = 0
    for width in _WIDTHS:
        while count - start >= width:
            yield start, width
            start += width
