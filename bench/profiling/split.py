"""Where the processor time of a task goes, by part, from two looks at the processes of a mesh."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cpu import by_thread
from bench.profiling.counters import COUNTERS, PARTS, Spent, read

IO_THREADS = "ZMQbg"
"""What the names of ZeroMQ's own threads begin with."""

OWN_PART = {"router": "router", "worker": "agent", "executors": "executor", "client": "client"}
"""What a process's time is for that is spent neither on the wire nor in the journal."""


@dataclass(frozen=True)
class Look:
    """What the processes of one role have used so far. ``io_s``, ``own_s``: in ZeroMQ's threads, and in all others."""

    io_s: float = 0.0
    own_s: float = 0.0
    counted: Mapping[str, Spent] = field(default_factory=dict)


def look(pids: Sequence[int], counters: Path) -> Look:
    """At the processes of one role, as they are now."""
    io_s = own_s = 0.0
    counted = dict.fromkeys(PARTS, Spent())
    for pid in pids:
        for name, seconds in by_thread(pid).items():
            if name.startswith(IO_THREADS):
                io_s += seconds
            else:
                own_s += seconds
        for part, spent in read(counters, pid).items():
            counted[part] = counted[part].plus(spent)
    return Look(io_s, own_s, counted)


def look_at_myself() -> dict[str, float]:
    """This process's own ``Look``, as numbers that can be told; see ``told``."""
    here = look([os.getpid()], Path(os.environ[COUNTERS]))
    return {
        "io_s": here.io_s,
        "own_s": here.own_s,
        **{f"wire_{k}": v for k, v in here.counted["wire"]._asdict().items()},
    }


def told(numbers: Mapping[str, float]) -> Look:
    """What a process has told of itself."""
    return Look(numbers["io_s"], numbers["own_s"], {"wire": Spent(*(numbers[f"wire_{k}"] for k in Spent._fields))})


@dataclass(frozen=True)
class Split:
    """Seconds of processor time by part; the disk's time; and how often something was counted."""

    parts: Mapping[str, float]
    journal_wait_s: float
    calls: float


def split(before: Mapping[str, Look], after: Mapping[str, Look]) -> Split:
    """What was used between two looks at each role."""
    parts = dict.fromkeys(("client", "wire", "router", "journal", "agent", "executor"), 0.0)
    wait_s = calls = 0.0
    for role, now in after.items():
        then = before.get(role, Look())
        counted = {part: spent.minus(then.counted.get(part, Spent())) for part, spent in now.counted.items()}
        wire, journal = counted.get("wire", Spent()), counted.get("journal", Spent())
        parts["wire"] += now.io_s - then.io_s + wire.cpu_s
        parts["journal"] += journal.cpu_s
        parts[OWN_PART[role]] += now.own_s - then.own_s - wire.cpu_s - journal.cpu_s
        wait_s += journal.wall_s - journal.cpu_s
        calls += wire.calls + journal.calls
    return Split(parts, wait_s, calls)
