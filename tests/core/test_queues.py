"""A lane keeps the order of acceptance, whatever is taken, put back or removed."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.core.queues import COMPACT_ABOVE, Lane, Need, ReadyQueues
from mesh.core.record import Batch, Kind, TaskRecord
from mesh.model import TaskOptions, TaskState

NEED = Need("t", None, None)
OPTIONS = TaskOptions("t")


def lane_of(count: int) -> tuple[Lane, list[TaskRecord]]:
    lane = Lane(1, "default", 0, NEED)
    kind = Kind(1, OPTIONS, lane)
    tasks = [TaskRecord(f"t{i}", kind, b"", Batch(1, 0.0, None), i, TaskState.READY) for i in range(count)]
    lane.tasks.extend(tasks)
    return lane, tasks


class LaneRules(RuleBasedStateMachine):
    """A lane beside a plain list that does the same slowly."""

    @initialize(count=st.sampled_from([0, 1, 10, 3 * COMPACT_ABOVE]))
    def begin(self, count: int) -> None:
        self.lane, self.model = lane_of(count)
        self.kind = Kind(1, OPTIONS, self.lane)
        self.next_order = count
        self.out: list[TaskRecord] = []

    @rule(count=st.integers(1, 10))
    def accept(self, count: int) -> None:
        for _ in range(count):
            task = TaskRecord("t", self.kind, b"", Batch(1, 0.0, None), self.next_order, TaskState.READY)
            self.next_order += 1
            self.lane.tasks.append(task)
            self.model.append(task)

    @rule(count=st.integers(1, 200), before=st.none() | st.integers(0, 300))
    def take(self, count: int, before: int | None) -> None:
        expected = self.model[:count]
        if before is not None:
            expected = [task for task in expected if task.order < before]
        assert self.lane.take(min(count, len(self.lane)), before) == expected
        del self.model[: len(expected)]
        for task in expected:
            task.move(TaskState.LEASED)
        self.out += expected

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.out)))
        oldest_last = sorted(self.out, key=lambda task: task.order)
        back, self.out = oldest_last[-count:], oldest_last[:-count]
        for task in back:
            task.move(TaskState.READY)
        self.lane.put_back(reversed(back))
        self.model = sorted(back + self.model, key=lambda task: task.order)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel_some(self, data: st.DataObject) -> None:
        places = data.draw(st.sets(st.integers(0, len(self.model) - 1), min_size=1, max_size=len(self.model)))
        for task in [self.model[place] for place in places]:
            task.move(TaskState.CANCELLED)
            self.lane.remove_one()
            self.model.remove(task)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def adopt_one(self, data: st.DataObject) -> None:
        task = self.model.pop(data.draw(st.integers(0, len(self.model) - 1)))
        self.lane.remove_one()
        task.move(TaskState.LEASED)
        self.lane.compact()
        self.out.append(task)

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert len(self.lane) == len(self.model)
        assert list(self.lane) == self.model
        assert self.lane.head() is (self.model[0] if self.model else None)

    @invariant()
    def holds_little_that_is_gone(self) -> None:
        assert len(self.lane.tasks) - len(self.lane) <= max(COMPACT_ABOVE, len(self.lane.tasks) // 2)


TestLane = LaneRules.TestCase
TestLane.settings = settings(stateful_step_count=20)


def stocked(queues: ReadyQueues, *names: str) -> list[Lane]:
    """Lanes with a task each."""
    lanes = []
    for order, name in enumerate(names):
        lane = queues.lane(TaskOptions(name))
        lane.tasks.append(TaskRecord(name, Kind(1, OPTIONS, lane), b"", Batch(1, 0.0, None), order, TaskState.READY))
        queues.stock(lane)
        lanes.append(lane)
    return lanes


def test_the_same_queue_priority_and_need_share_a_lane() -> None:
    queues = ReadyQueues(lanes_max=10)
    first = queues.lane(TaskOptions("t", time_limit_s=1.0))
    assert queues.lane(TaskOptions("t", ignore_result=True)) is first
    others = [TaskOptions("u"), TaskOptions("t", "q"), TaskOptions("t", priority=1), TaskOptions("t", function="d")]
    assert len({first.number, *(queues.lane(options).number for options in others)}) == 5


def test_lanes_that_hold_nothing_go_when_there_are_too_many() -> None:
    queues = ReadyQueues(lanes_max=2)
    lanes = [*stocked(queues, "t0"), queues.lane(TaskOptions("t1")), queues.lane(TaskOptions("t2"))]
    assert queues.crowded()
    queues.drop_unused({lanes[1].number})
    assert list(queues) == lanes[:2]
    assert not queues.crowded()
    queues.check()


def test_a_lane_that_nobody_can_run_is_asked_about_once_until_who_can_run_what_has_changed() -> None:
    queues = ReadyQueues(lanes_max=10)
    good, bad, empty = stocked(queues, "good", "bad", "empty")
    empty.tasks.clear()
    asked: list[Lane] = []

    def able(lane: Lane) -> list[str]:
        asked.append(lane)
        return ["worker"] if lane is good else []

    assert [queues.runnable(able), queues.runnable(able)] == [[good], [good]]
    assert asked == [good, bad, good]
    queues.check()
    queues.unpark()
    assert queues.runnable(lambda lane: ["worker"]) == [good, bad]
