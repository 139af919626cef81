"""What is typed, or comes through a pipe, where a verb asks."""

from __future__ import annotations

import sys

LINE_CHARS_MAX = 1_000


def read_line() -> str:
    """The next line of standard input; empty at its end, and where there is none."""
    # closed (`<&-`) it is None, whatever its type says
    return sys.stdin.readline(LINE_CHARS_MAX) if sys.stdin else ""
