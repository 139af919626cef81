"""Tasks that wait for a moment, soonest first; what no longer waits costs no memory for long."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from mesh.core.record import TaskRecord

COMPACT_ABOVE = 256


class Timers:
    """``waits(task)``: whether an unfinished task still waits here. All moments are UTC seconds."""

    def __init__(self, tasks: dict[str, TaskRecord], waits: Callable[[TaskRecord], bool]) -> None:
        self._tasks = tasks
        self._waits = waits
        self._heap: list[tuple[float, int, str]] = []
        self._compact_above = COMPACT_ABOVE

    def add(self, at: float, task: TaskRecord) -> None:
        """``task`` waits for ``at``."""
        heapq.heappush(self._heap, (at, task.order, task.id))
        if len(self._heap) > self._compact_above:
            self._heap = [entry for entry in self._heap if self._waiting(entry) is not None]
            heapq.heapify(self._heap)
            self._compact_above = max(COMPACT_ABOVE, 2 * len(self._heap))

    def next(self) -> float | None:
        """The next moment at which ``due`` may have something."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[tuple[float, TaskRecord]]:
        """Take out those whose moment has come, with the moment."""
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            task = self._waiting(entry)
            if task is not None:
                yield entry[0], task

    def _waiting(self, entry: tuple[float, int, str]) -> TaskRecord | None:
        task = self._tasks.get(entry[2])
        return task if task is not None and task.order == entry[1] and self._waits(task) else None
