"""Processor time of processes: unlike tasks per second it hardly depends on what else the machine does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

Shares = dict[str, float]
"""Seconds of processor time by role."""


def seconds(roles: Mapping[str, Iterable[int]]) -> Shares:
    """What the processes of each role have used so far. A process that is gone counts nothing."""
    return {role: sum(map(_used, pids)) for role, pids in roles.items()}


def children() -> list[int]:
    """The processes this one has started."""
    return [child.pid for child in psutil.Process().children(recursive=True)]


class Meter:
    """Processor time per task of this process and its children, from its making on."""

    def __init__(self) -> None:
        self._pids = children()
        self._before = self._total()

    def us_per_task(self, tasks: int) -> float:
        return (self._total() - self._before) / tasks * 1e6

    def _total(self) -> float:
        return time.process_time() + sum(map(_used, self._pids))


def by_thread(pid: int) -> dict[str, float]:
    """Seconds of processor time of the threads that a process has, by their names. Empty for one that is gone."""
    found: dict[str, float] = {}
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name = (thread / "comm").read_text().strip()
            ns = int((thread / "schedstat").read_text().split()[0])
        except OSError:
            continue
        found[name] = found.get(name, 0.0) + ns / 1e9
    return found


def _used(pid: int) -> float:
    # By threads in nanoseconds; the sum over the process, where the kernel does not tell, comes in hundredths.
    if threads := by_thread(pid):
        return sum(threads.values())
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
