"""The table of task states."""

from __future__ import annotations

import pytest

from mesh.core.queues import Lane, Need
from mesh.core.record import Batch, Kind, TaskRecord
from mesh.core.states import FINAL, LEASED, READY, SCHEDULED, TRANSITIONS
from mesh.model import TaskOptions, TaskState

EVERY = list(TaskState)


def record(state: TaskState) -> TaskRecord:
    kind = Kind(1, TaskOptions("t"), Lane(1, "default", 0, Need("t", None, None)))
    return TaskRecord("the-id", kind, b"", Batch(1, 0.0, None), 1, state)


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(EVERY)


def test_five_states_are_final_and_nothing_leaves_them() -> None:
    assert set(EVERY) - FINAL == {SCHEDULED, READY, LEASED}
    assert all(not TRANSITIONS[state] for state in FINAL)


def test_every_unfinished_state_can_reach_every_final_one() -> None:
    for start in (SCHEDULED, READY, LEASED):
        reached, frontier = {start}, [start]
        while frontier:
            for state in TRANSITIONS[frontier.pop()] - reached:
                reached.add(state)
                frontier.append(state)
        assert reached >= FINAL


@pytest.mark.parametrize("before", EVERY)
@pytest.mark.parametrize("after", EVERY)
def test_a_task_moves_as_the_table_says_and_in_no_other_way(before: TaskState, after: TaskState) -> None:
    task = record(before)
    if after in TRANSITIONS[before]:
        task.move(after)
        assert task.state is after
        return
    with pytest.raises(AssertionError, match=f"the-id cannot go from {before} to {after}; name t, queue default"):
        task.move(after)
    assert task.state is before
