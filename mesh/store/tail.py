"""How far the journal has come, written beside the database after each commit.

SQLite drops the rest of a damaged write-ahead log without a word. A start that finds fewer commits than this file
names knows that something is missing. The file is never synced while running: it may lag, which is harmless.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple


class Tail(NamedTuple):
    """The last commit known to have been made, and the last journal row then."""

    commits: int
    last_seq: int


class TailFile:
    """One fixed-width line, overwritten in place by one system call."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> Tail | None:
        """What the file says; None where there is nothing readable, and so nothing known."""
        return _tail_in(os.pread(self._fd, 100, 0))

    def write(self, commits: int, last_seq: int) -> None:
        """Remember this commit. An error here takes no promise back, so a full disk is passed over."""
        line = b"%020d %020d" % (commits, last_seq)
        try:
            os.pwrite(self._fd, b"%b %b\n" % (line, _checksum(line)), 0)
        except OSError:
            return

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def read_tail(path: Path) -> Tail | None:
    """What the file at ``path`` says, if it is there; it is left alone."""
    try:
        return _tail_in(path.read_bytes()[:100])
    except OSError:
        return None


def _tail_in(text: bytes) -> Tail | None:
    words = text.split()
    if len(words) != 3 or _checksum(b" ".join(words[:2])) != words[2]:
        return None
    return Tail(int(words[0]), int(words[1]))


def _checksum(line: bytes) -> bytes:
    return b"%08x" % zlib.crc32(line)
