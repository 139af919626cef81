"""The ready tasks of a router: a lane for each queue, priority and need, in order of acceptance.

A need is what a worker must have to run a task. Tasks of one queue with different needs stand in different lanes,
so that a task nobody can run parks in its lane and holds up nobody else; ``order`` keeps the lanes of a queue and
priority in step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from mesh.model import TaskOptions, TaskState

if TYPE_CHECKING:
    from mesh.core.record import TaskRecord

_order = attrgetter("order")

COMPACT_ABOVE = 64  # removed tasks a lane may hold before it is rebuilt


class Need(NamedTuple):
    """What running a task takes: its name known, or its shipped code and the Python it was shipped from."""

    name: str
    function: str | None
    python: str | None


class Lane:
    """Ready tasks that any worker with the right queue and abilities may take, oldest first.

    A task removed from the middle stays in the deque, no longer READY, until it is met or the lane is rebuilt.
    ``scheduled`` counts the tasks that will stand here when their time has come.
    """

    __slots__ = ("_removed", "need", "number", "priority", "queue", "scheduled", "tasks")

    def __init__(self, number: int, queue: str, priority: int, need: Need) -> None:
        self.number = number
        self.queue = queue
        self.priority = priority
        self.need = need
        self.tasks: deque[TaskRecord] = deque()
        self.scheduled = 0
        self._removed = 0

    def __len__(self) -> int:
        return len(self.tasks) - self._removed

    def head(self) -> TaskRecord | None:
        """The oldest ready task."""
        tasks = self.tasks
        while tasks:
            if tasks[0].state is TaskState.READY:
                return tasks[0]
            tasks.popleft()
            self._removed -= 1
        return None

    def take(self, count: int, before: int | None = None) -> list[TaskRecord]:
        """Up to ``count`` of the oldest; with ``before`` only those accepted earlier than that order."""
        tasks = self.tasks
        if self._removed == 0 and before is None:
            if count >= len(tasks):
                taken = list(tasks)
                tasks.clear()
                return taken
            return [tasks.popleft() for _ in range(count)]
        taken = []
        while len(taken) < count and (head := self.head()) is not None:
            if before is not None and head.order >= before:
                break
            taken.append(tasks.popleft())
        return taken

    def put_back(self, returned: Iterable[TaskRecord]) -> None:
        """Tasks that were taken and not run go where their order puts them: nearly always before all others."""
        oldest_first = sorted(returned, key=_order)
        head = self.head()
        if oldest_first and head is not None and head.order < oldest_first[-1].order:
            self.tasks = deque(merge(oldest_first, self, key=_order))
            self._removed = 0
        else:
            self.tasks.extendleft(reversed(oldest_first))

    def remove_one(self) -> None:
        """One of the tasks is no longer READY; the caller has changed its state."""
        self._removed += 1
        if self._removed > COMPACT_ABOVE and self._removed * 2 > len(self.tasks):
            self.compact()

    def compact(self) -> None:
        """Drop the removed ones; needed at once for a removed task that may become READY again."""
        self.tasks = deque(task for task in self.tasks if task.state is TaskState.READY)
        self._removed = 0

    def __iter__(self) -> Iterator[TaskRecord]:
        return (task for task in self.tasks if task.state is TaskState.READY)


class ReadyQueues:
    """All lanes of a router.

    A wake-up looks at those only that may have tasks which somebody can run: thousands of queues that nobody serves
    slow down no other.
    """

    def __init__(self, lanes_max: int) -> None:
        self._lanes: dict[tuple[str, int, Need], Lane] = {}
        self._stocked: dict[int, Lane] = {}  # by number
        self._parked: dict[int, Lane] = {}  # with tasks that nobody can run
        self._lanes_max = lanes_max
        self._next_number = 0

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def lane(self, options: TaskOptions) -> Lane:
        """The lane for these options."""
        key = (options.queue, options.priority, Need(options.name, options.function, options.python))
        lane = self._lanes.get(key)
        if lane is None:
            self._next_number += 1
            lane = self._lanes[key] = Lane(self._next_number, *key)
        return lane

    def stock(self, lane: Lane) -> None:
        """A task was added to this lane."""
        self._stocked[lane.number] = lane

    def unpark(self) -> None:
        """Who can run what has changed."""
        self._stocked |= self._parked
        self._parked.clear()

    def runnable(self, able: Callable[[Lane], Collection[object]]) -> list[Lane]:
        """The lanes with tasks that somebody is ``able`` to run."""
        found = []
        for number, lane in list(self._stocked.items()):
            if len(lane) and able(lane):
                found.append(lane)
                continue
            del self._stocked[number]
            if len(lane):
                self._parked[number] = lane
        return found

    def crowded(self) -> bool:
        """Whether there are so many lanes that unused ones should go."""
        return len(self._lanes) > self._lanes_max

    def drop_unused(self, used: set[int]) -> None:
        """Forget the empty lanes whose number is not among ``used``."""
        self._lanes = {k: lane for k, lane in self._lanes.items() if lane.tasks or lane.number in used}
        self._stocked = {number: lane for number, lane in self._stocked.items() if lane.tasks}
        self._parked = {number: lane for number, lane in self._parked.items() if lane.tasks}

    def check(self) -> None:
        """Raise ``AssertionError`` where a lane with tasks would be overlooked."""
        looked_at = self._stocked.keys() | self._parked.keys()
        assert {lane.number for lane in self if len(lane)} <= looked_at, "a lane with tasks is overlooked"
