"""The table of legal task transitions; the diagram in the docs is made from it.

A finished task never changes again: its record is gone, and whatever is still said about it is stale.
"""

from __future__ import annotations

from mesh.model import TaskState

SCHEDULED, READY, LEASED = TaskState.SCHEDULED, TaskState.READY, TaskState.LEASED
SUCCEEDED, FAILED, DEAD = TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DEAD
CANCELLED, EXPIRED = TaskState.CANCELLED, TaskState.EXPIRED

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    # SUCCEEDED from SCHEDULED or READY: a worker that was taken for gone came back with a success; that, and DEAD,
    # also because another router had the task too, and says how it ended
    SCHEDULED: frozenset({READY, LEASED, SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD}),
    READY: frozenset({LEASED, SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD}),
    LEASED: frozenset({READY, SCHEDULED, SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
    EXPIRED: frozenset(),
    DEAD: frozenset(),
}

FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> scheduled: eta or countdown", "    [*] --> ready"]
    for state, following in TRANSITIONS.items():
        lines += [f"    {state} --> {after}" for after in sorted(following)]
    lines += [f"    {state} --> [*]" for state in TRANSITIONS if state in FINAL]
    return "\n".join(lines) + "\n"
