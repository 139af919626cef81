"""Judges a history of clients, tasks and faults: what was lost, what came from nowhere, what ran twice without cause.

The parts of a history are append-only logs written by those who saw it: clients (what they submitted, what was
confirmed, which outcomes they were told), task bodies (each start and end), the one who made the faults, and at the
end the store. All times are seconds of the monotonic clock, which the processes of a host share.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

ACKNOWLEDGED_S = 5.0
"""A result may be on its way this long after the task's end: a router that was killed must come back first."""


@dataclass(frozen=True)
class Execution:
    """One run of a task's body; ``ended`` is None where the process did not live to write it."""

    id: str
    attempt: int
    pid: int
    started: float
    ended: float | None = None


@dataclass(frozen=True)
class Fault:
    """Something done to these processes (None: to the router, and so to every task) at this time."""

    what: str
    at: float
    pids: frozenset[int] | None = None
    until: float | None = None  # for what lasts, such as SIGSTOP

    def explains(self, earlier: Execution, later: Execution) -> bool:
        """Whether the earlier execution was in progress, or its result unacknowledged, when this happened."""
        if self.pids is not None and earlier.pid not in self.pids:
            return False
        last = inf if earlier.ended is None else earlier.ended + ACKNOWLEDGED_S
        end = self.at if self.until is None else self.until
        return earlier.started <= end and self.at <= min(last, later.started)


@dataclass
class History:
    """All that was seen; ``told`` and ``stored`` have one entry for each time an outcome was seen."""

    invoked: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    executions: list[Execution] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)  # (id, outcome) at a client
    stored: list[tuple[str, str]] = field(default_factory=list)  # (id, state) in the store at the end
    faults: list[Fault] = field(default_factory=list)
    failures_expected: bool = False  # an accepted task may end without having been executed


@dataclass
class Verdict:
    """What is wrong with a history, by kind; ``duplicates`` are those that a fault explains."""

    lost: set[str]
    unfinished: set[str]
    unexpected: set[str]
    outcomes_twice: set[str]
    outcomes_contradict: set[str]
    unexplained: list[Execution]
    duplicates: int

    @property
    def is_good(self) -> bool:
        return not (
            self.lost
            or self.unfinished
            or self.unexpected
            or self.outcomes_twice
            or self.outcomes_contradict
            or self.unexplained
        )

    def __str__(self) -> str:
        lines = [f"{self.duplicates} executions were repeated beside a fault"]
        for name in ("lost", "unfinished", "unexpected", "outcomes_twice", "outcomes_contradict", "unexplained"):
            found = list(getattr(self, name))
            if found:
                lines.append(f"{name}: {len(found)}: {', '.join(map(str, found[:5]))}")
        return "\n".join(lines)


def judge(history: History) -> Verdict:
    """Hold a history that is over, with everything drained, against the promises."""
    by_id: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in history.executions:
        by_id[execution.id].append(execution)
    executed = set(by_id)
    stored = Counter(task_id for task_id, _ in history.stored)
    told: defaultdict[str, set[str]] = defaultdict(set)
    for task_id, outcome in history.told:
        told[task_id].add(outcome)
    states = dict(history.stored)
    lost = {task_id for task_id in history.accepted - executed if states.get(task_id, "succeeded") == "succeeded"}
    if not history.failures_expected:
        lost |= {task_id for task_id in history.accepted if states.get(task_id, "succeeded") != "succeeded"}
    repeats = sum(len(runs) - 1 for runs in by_id.values())
    unexplained = [later for runs in by_id.values() for later in _unexplained(runs, history.faults)]
    return Verdict(
        lost=lost,
        unfinished=history.accepted - set(stored),
        unexpected=(executed | set(stored)) - history.invoked,
        outcomes_twice={task_id for task_id, count in stored.items() if count > 1},
        outcomes_contradict={
            task_id for task_id, outcomes in told.items() if len(outcomes) > 1 or outcomes != {states.get(task_id)}
        },
        unexplained=unexplained,
        duplicates=repeats - len(unexplained),
    )


def _unexplained(runs: Iterable[Execution], faults: Iterable[Fault]) -> list[Execution]:
    """The executions of one task, after its first, that no fault accounts for; a hit accounts for one."""
    ordered = sorted(runs, key=lambda run: run.started)
    used: set[tuple[int, Fault]] = set()
    found = []
    for place, later in enumerate(ordered[1:], 1):
        hits = (
            (number, fault)
            for number, earlier in enumerate(ordered[:place])
            for fault in faults
            if (number, fault) not in used and fault.explains(earlier, later)
        )
        hit = next(hits, None)
        if hit is None:
            found.append(later)
        else:
            used.add(hit)
    return found


def read_runs(lines: Iterable[str]) -> list[Execution]:
    """The executions in the log that task bodies write: ``start|end id attempt pid time``."""
    open_: dict[tuple[str, int, int], Execution] = {}
    done: list[Execution] = []
    for line in lines:
        what, task_id, attempt, pid, at = line.split()
        key = (task_id, int(attempt), int(pid))
        if what == "start":
            if key in open_:
                done.append(open_[key])
            open_[key] = Execution(task_id, int(attempt), int(pid), float(at))
        else:
            run = open_.pop(key)
            done.append(Execution(run.id, run.attempt, run.pid, run.started, float(at)))
    return done + list(open_.values())


def read_clients(lines: Iterable[str], history: History) -> None:
    """Add what clients write: ``invoke id``, ``ok id``, ``unknown id`` or ``outcome id state``."""
    for line in lines:
        what, task_id, *rest = line.split()
        if what == "invoke":
            history.invoked.add(task_id)
        elif what == "ok":
            history.accepted.add(task_id)
        elif what == "outcome":
            history.accepted.add(task_id)  # who is told an outcome knows that it was accepted
            history.told.append((task_id, rest[0]))
        else:
            assert what == "unknown", line
