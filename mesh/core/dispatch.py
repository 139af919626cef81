"""Gives ready tasks to the workers that can run them, and takes unstarted ones back for those that idle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from mesh.clock import Now
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.core.packing import pack, task_bytes_with
from mesh.core.peers import Worker
from mesh.core.queues import Lane
from mesh.core.record import Kind, TaskRecord
from mesh.core.spreading import WINDOW_PARTS, spread
from mesh.core.tasks import TaskTable
from mesh.messages import Deliver, Message, Recall, Released
from mesh.model import Delivery, TaskOptions

RECALL_PAUSE_S = 0.020  # after a worker had nothing to give back


class Dispatch:
    """Deliveries and recalls of one router."""

    def __init__(self, table: TaskTable, members: Membership, ledger: Ledger) -> None:
        self._table = table
        self._members = members
        self._ledger = ledger
        self._able: dict[int, dict[Worker, None]] = {}  # by lane number
        self._turn = 0
        self._recall_at: dict[Worker, float] = {}  # no use in asking it earlier

    def run(self, now: Now) -> None:
        """Deal out what is ready, as far as there is credit for it."""
        if self._recall_at:
            loaded = self._members.loaded
            self._recall_at = {w: at for w, at in self._recall_at.items() if at > now.mono and w in loaded}
        if not self._members.hungry:
            return
        self._turn += 1
        self._look_who_is_able()
        while self._deal_out(now):
            pass  # what ended instead has left its credit to others
        if self._members.loaded:
            self._recall(now)

    def _deal_out(self, now: Now) -> bool:
        """Deliver what there is credit for; whether something was not to be delivered, and has ended."""
        ended = False
        for worker, tasks in spread(self._table.ready.runnable(self._able_now), self._hungry, self._turn).items():
            ended |= self._deliver(worker, tasks, now)
            self._members.weigh(worker)
        return ended

    def next_deadline(self) -> float | None:
        """When a worker that had nothing to give back may be asked again."""
        return min(self._recall_at.values()) if self._recall_at else None

    def _hungry(self, lane: Lane) -> list[Worker]:
        """Those that can run what stands in this lane, and have credit; looks at the fewer of the two."""
        able, hungry = self._able_now(lane), self._members.hungry
        fewer, others = (able, hungry) if len(able) <= len(hungry) else (hungry, able)
        return [worker for worker in fewer if worker in others]

    def _look_who_is_able(self) -> None:
        if self._members.changed:
            self._table.ready.unpark()
        if self._members.changed or self._table.lanes_dropped:
            self._members.changed = self._table.lanes_dropped = False
            self._able.clear()

    def able(self, lane: Lane) -> Collection[Worker]:
        """The workers that can run what stands in this lane."""
        self._look_who_is_able()
        return self._able_now(lane)

    def _able_now(self, lane: Lane) -> dict[Worker, None]:
        able = self._able.get(lane.number)
        if able is None:
            workers = self._members.workers.values()
            able = self._able[lane.number] = {w: None for w in workers if w.lack(lane.queue, lane.need) is None}
        return able

    def _deliver(self, worker: Worker, tasks: list[TaskRecord], now: Now) -> bool:
        """Deliver these but what ends instead, for another router may have it; whether there was any."""
        table, peer = self._table, worker.peer
        options = _options_of(tasks)
        once = {n for n, found in options.items() if found.at_most_once or found.name in worker.at_most_once}
        elsewhere = [task for task in tasks if task.batch.elsewhere and task.kind.number in once] if once else []
        if elsewhere:
            for task in elsewhere:
                del worker.leases[task.id]
            table.end_elsewhere(elsewhere, now)
            self._deliver(worker, [task for task in tasks if task.id in worker.leases], now)
            return True
        starts = [task for task in tasks if task.kind.number in once] if once else []
        rest = [task for task in tasks if task.kind.number not in once] if once else tasks
        at_once = table.lease(rest, peer)
        recorded = table.lease(starts, peer)  # at most once: the start is written down before the delivery
        for task in starts:
            table.mark_started(task)
        size_of = task_bytes_with(options)
        for part in pack(at_once, size_of):
            self._ledger.send(peer, _deliver(options, part, len(tasks), now.wall))
        for part in pack(recorded, size_of):
            self._ledger.send_after_commit(peer, _deliver(options, part, len(tasks), now.wall))
        return False

    def _recall(self, now: Now) -> None:
        """Where a worker idles while another holds unstarted tasks that it could run, ask for some back."""
        idle = [worker for worker in self._members.hungry if worker.held < worker.slots]
        if not idle:
            return
        # What is no more than a part of its window, it will have run before others could.
        rich = [w for w in self._members.loaded if w.held > w.slots + w.window // WINDOW_PARTS]
        idle_slots = sum(worker.slots for worker in idle)
        for donor in [w for w in rich if not w.recalled and w not in self._recall_at]:
            if self._could_help(idle, donor):
                donor.recalled = True
                excess = donor.held - donor.slots
                count = max(1, excess * idle_slots // (donor.slots + idle_slots))
                self._ledger.send(donor.peer, Recall(count))

    def _could_help(self, idle: Sequence[Worker], donor: Worker) -> bool:
        """Whether one of those who idle could run something of what ``donor`` holds."""
        lanes = {task.kind.lane.number: task.kind.lane for task in donor.leases.values()}
        return any(taker in self._able_now(lane) for lane in lanes.values() for taker in idle if taker is not donor)

    def on_released(self, worker: Worker, message: Released, now: Now) -> None:
        """Take back what a worker has not started."""
        returned = []
        for task_id, attempt in message.attempts:
            task = worker.leases.get(task_id)
            if task is not None and task.attempt == attempt:
                del worker.leases[task_id]
                returned.append(task)
        self._table.take_back_start(returned)
        self._table.requeue(returned, now)
        if message.recall:
            worker.recalled = False
            if not returned:
                self._recall_at[worker] = now.mono + RECALL_PAUSE_S
        else:
            worker.draining = True
        self._members.weigh(worker)


def _options_of(tasks: Iterable[TaskRecord]) -> dict[int, TaskOptions]:
    """By the number that names them on the wire."""
    options: dict[int, TaskOptions] = {}
    last: Kind | None = None
    for task in tasks:
        if task.kind is not last:  # almost always it is that of the one before
            last = task.kind
            options[last.number] = last.options
    return options


def _deliver(options: dict[int, TaskOptions], part: Sequence[Delivery], total: int, wall: float) -> Message:
    if len(part) < total:
        used = {delivery.option for delivery in part}
        options = {number: found for number, found in options.items() if number in used}
    expires = any([delivery.expires_at is not None for delivery in part])
    return Deliver(options, list(part), wall if expires else 0.0)
