"""Seconds spent in a part of a process's work, in a file that others read while it runs.

Two looks at the clock for each call of what is counted, and those are calls for many tasks at once.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, NamedTuple

COUNTERS = "BENCH_COUNTERS"
"""In the environment of a process: the directory where its counters are to be."""

PARTS = ("wire", "journal")
CALLS = 20_000  # to find out what counting costs


class Spent(NamedTuple):
    """``cpu_s``: of the thread's own processor time; ``wall_s``: by the clock, waiting included; in ``calls`` calls."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    calls: float = 0.0

    def plus(self, other: Spent) -> Spent:
        return Spent(*(one + more for one, more in zip(self, other)))

    def minus(self, other: Spent) -> Spent:
        return Spent(*(one - less for one, less in zip(self, other)))


_WIDTH = len(Spent._fields)
_BYTES = 8 * _WIDTH * len(PARTS)


class Counters:
    """Those of this process, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        with _path(directory, os.getpid()).open("w+b") as file:
            file.truncate(_BYTES)
            self._cells = memoryview(mmap.mmap(file.fileno(), _BYTES)).cast("d")

    def counted(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, counted as ``part``. What is counted must not call what is counted."""
        cells, cpu = self._cells, _WIDTH * PARTS.index(part)
        wall, calls = cpu + 1, cpu + 2

        def call(*args: Any, **kwargs: Any) -> Any:
            began, began_at = thread_time(), perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                cells[cpu] += thread_time() - began
                cells[wall] += perf_counter() - began_at
                cells[calls] += 1

        return call


def read(directory: Path, pid: int) -> dict[str, Spent]:
    """What a process has counted so far; nothing where it does not count."""
    try:
        cells = memoryview(_path(directory, pid).read_bytes()).cast("d")
    except FileNotFoundError:
        return dict.fromkeys(PARTS, Spent())
    return {part: Spent(*cells[_WIDTH * i : _WIDTH * (i + 1)]) for i, part in enumerate(PARTS)}


def seconds_per_call(directory: Path) -> float:
    """What counting adds to a call, in this process."""

    def nothing() -> None:
        return None

    def timed(function: Callable[..., Any]) -> float:
        began = thread_time()
        for _ in range(CALLS):
            function()
        return (thread_time() - began) / CALLS

    return max(0.0, timed(Counters(directory).counted(PARTS[0], nothing)) - timed(nothing))


def _path(directory: Path, pid: int) -> Path:
    return directory / f"{pid}.counters"
