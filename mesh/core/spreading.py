"""Spreads ready tasks over the credit of workers.

Queues take turns; within a queue the higher priority goes first, within a priority what was accepted first. Lanes of
one queue and priority that the same workers can serve are one front: their tasks are taken together in order, so
that many task names in one queue cost no more than one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from mesh.core.peers import Worker
from mesh.core.placing import deal, shares
from mesh.core.queues import Lane
from mesh.core.record import TaskRecord

WINDOW_PARTS = 16  # of a worker's window: less than one part is not worth a message of its own

Hands = dict[Worker, list[TaskRecord]]


class Front:
    """Lanes of one queue and priority that the same workers can serve."""

    def __init__(self, priority: int, workers: list[Worker]) -> None:
        self.priority = priority
        self.workers = workers
        self._heads: list[tuple[int, int, Lane]] = []  # a heap of (order of the oldest task, number, lane)

    def add(self, lane: Lane) -> None:
        head = lane.head()
        if head is not None:
            heapq.heappush(self._heads, (head.order, lane.number, lane))

    def order(self) -> int | None:
        """When the oldest task was accepted; None when there are no more."""
        return self._heads[0][0] if self._heads else None

    def take(self, count: int, before: int | None) -> list[TaskRecord]:
        """Up to ``count`` of the oldest tasks; with ``before`` only those accepted earlier than that order."""
        taken: list[TaskRecord] = []
        heads = self._heads
        while heads and len(taken) < count:
            order, _, lane = heads[0]
            if before is not None and order >= before:
                break
            heapq.heappop(heads)
            rivals = [limit for limit in (before, self.order()) if limit is not None]
            taken += lane.take(count - len(taken), min(rivals, default=None))
            self.add(lane)
        return taken


def spread(lanes: Iterable[Lane], able: Callable[[Lane], list[Worker]], turn: int) -> Hands:
    """Take tasks from the lanes and deal them out until there are no more tasks or no more credit for them.

    The tasks are leased to the workers here; their state is the caller's to change. ``turn`` says whose turn it is
    among the queues.
    """
    hands: Hands = {}
    queues = _fronts(lanes, able)
    names = sorted(queues)
    names = names[turn % len(names) :] + names[: turn % len(names)] if names else names
    while names:
        names = [name for name in names if _serve(queues[name], len(names), hands)]
    return hands


def _fronts(lanes: Iterable[Lane], able: Callable[[Lane], list[Worker]]) -> dict[str, list[Front]]:
    """The fronts of each queue, highest priority first."""
    fronts: dict[tuple[str, int, tuple[int, ...]], Front] = {}
    for lane in lanes:
        if not len(lane):
            continue
        workers = able(lane)
        key = (lane.queue, lane.priority, tuple(map(id, workers)))
        front = fronts.get(key)
        if front is None:
            front = fronts[key] = Front(lane.priority, workers)
        front.add(lane)
    queues: dict[str, list[Front]] = {}
    for (queue, _, _), front in fronts.items():
        queues.setdefault(queue, []).append(front)
    for found in queues.values():
        found.sort(key=lambda front: -front.priority)
    return queues


def _serve(fronts: list[Front], rivals: int, hands: Hands) -> bool:
    """Give out tasks of one queue, a share of the credit where ``rivals`` queues want it; False when none could be."""
    ready = [(order, front) for front in fronts if (order := front.order()) is not None and _credit(front)]
    if not ready:
        return False
    top = ready[0][1].priority
    ready = sorted(((o, f) for o, f in ready if f.priority == top), key=lambda pair: pair[0])
    front = ready[0][1]
    workers = [worker for worker in front.workers if worker.credit]
    limit = max(1, sum(worker.credit for worker in workers) // rivals)
    taken = front.take(limit, ready[1][0] if len(ready) > 1 else None)
    workers = _receivers(workers, len(taken))
    dealt = [taken] if len(workers) == 1 else deal(taken, shares(len(taken), workers))
    for worker, tasks in zip(workers, dealt):
        if tasks:
            worker.leases.update({task.id: task for task in tasks})
            hands.setdefault(worker, []).extend(tasks)
    return True


def _receivers(workers: list[Worker], count: int) -> list[Worker]:
    """Of very many workers the least loaded ones, so that each gets as many of ``count`` tasks as are worth a message.

    That is a part of what it wants at hand: of long tasks one, of tiny ones hundreds.
    """
    part = max(1, min(worker.window for worker in workers) // WINDOW_PARTS)
    most = -(-count // part)
    if most >= len(workers):
        return workers
    chosen = heapq.nsmallest(most, workers, key=_load)
    return chosen if sum(worker.credit for worker in chosen) >= count else workers


def _load(worker: Worker) -> float:
    return worker.held / worker.slots


def _credit(front: Front) -> bool:
    return any(worker.credit for worker in front.workers)
