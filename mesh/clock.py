"""The two clocks, told apart by type: wall time for what people wrote down, monotonic time for waiting."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class Now(NamedTuple):
    """One reading of both clocks. ``wall``: UTC seconds; ``mono``: seconds from an arbitrary start, never back."""

    wall: float
    mono: float


class Clock(Protocol):
    """Where a process gets the time from."""

    def now(self) -> Now: ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Now:
        return Now(time.time(), time.monotonic())
