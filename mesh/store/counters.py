"""What is true of a store file as a whole: one row, written with every commit."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32


@dataclass(slots=True)
class Counters:
    """The row of ``meta``: what is true of the file as a whole."""

    boot: int = 0
    commits: int = 0
    last_seq: int = 0  # of the journal
    last_n: int = 0  # of the results
    outcomes: int = 0
    batches: int = 0
    # not in the row:
    noted: tuple[int, float] = (-1, 0.0)  # the block of results last noted for expiry, and for when
    early: tuple[int, int] | None = None  # a result came before its batch: the result before it, the newest such batch

    def values(self) -> tuple[int, ...]:
        """The row, but for its checksum."""
        return self.boot, self.commits, self.last_seq, self.last_n, self.outcomes, self.batches

    def checksum(self) -> int:
        """Over the row."""
        return crc32(struct.pack("<6q", *self.values()))
