"""What becomes of a task when a worker says how an attempt ended, and when that is acknowledged."""

from __future__ import annotations

from mesh.clock import Now
from mesh.core.clocks import settled
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.core.peers import Worker
from mesh.core.record import TaskRecord
from mesh.core.states import CANCELLED, EXPIRED, FAILED, SUCCEEDED
from mesh.core.tasks import TaskTable
from mesh.messages import Drop, Settled
from mesh.model import Ending, Settlement

ACK_PAUSE_S = 0.020  # settlements are acknowledged together: a worker loses nothing by keeping them so long


class Settling:
    """Settlements of one router."""

    def __init__(self, table: TaskTable, members: Membership, ledger: Ledger, counters: dict[str, int]) -> None:
        self._table = table
        self._members = members
        self._ledger = ledger
        self._counters = counters
        self.ack_at: float | None = None  # when to acknowledge what was settled
        self._unanswered: list[Worker] = []  # they have settled since

    def tick(self, now: Now) -> None:
        """Acknowledge what is due."""
        if self.ack_at is None or now.mono < self.ack_at:
            return
        self.ack_at = None
        for worker in self._unanswered:
            if worker.acks and self._members.workers.get(worker.peer) is worker:
                self._ledger.acks[worker.peer] = worker.acks
                worker.acks = []
        self._unanswered.clear()

    def on_settled(self, worker: Worker, message: Settled, now: Now) -> None:
        """Finish these tasks, or let them run again."""
        table = self._table
        tasks, leases, peer, name = table.tasks, worker.leases, worker.peer, worker.name
        lost: list[TaskRecord] = []
        for settlement in settled(message, self._members.later(worker, message.at, now)):
            task = tasks.get(settlement.id)
            if task is None:
                self._counters["stale"] += 1
                continue
            if task.worker != peer or task.attempt != settlement.attempt:
                self._on_stale(task, settlement, worker, now)
                continue
            if leases.pop(settlement.id, None) is None:  # said twice in one message
                self._counters["stale"] += 1
                continue
            worker.settled += 1
            ending = settlement.ending
            if ending is Ending.SUCCEEDED:
                table.finish(task, settlement, SUCCEEDED, now, name)
            elif ending is Ending.FAILED:
                table.finish(task, settlement, FAILED, now, name)
            elif ending is Ending.RETRY:
                table.settle_retry(task, settlement, now)
            elif ending is Ending.LOST:
                self._counters["redelivered"] += 1
                cause = settlement.error.message if settlement.error else "its process died"
                if table.settle_lost(task, cause, now, node=False):
                    lost.append(task)
            else:
                state = CANCELLED if ending is Ending.CANCELLED else EXPIRED
                table.end(task, state, now, settlement.error, name)
        table.requeue(lost, now)
        self._members.weigh(worker)
        if not worker.acks:
            self._unanswered.append(worker)
        worker.acks.append(message.batch)
        if self.ack_at is None:
            self.ack_at = now.mono + ACK_PAUSE_S

    def _on_stale(self, task: TaskRecord, settlement: Settlement, worker: Worker, now: Now) -> None:
        """A word on an attempt that is no longer the worker's: only a success still counts, and it is the first."""
        if settlement.ending is not Ending.SUCCEEDED:
            self._counters["stale"] += 1
            return
        self._counters["late_successes"] += 1
        holder = self._members.workers.get(task.worker) if task.worker is not None else None
        if holder is not None:
            holder.leases.pop(task.id, None)
            self._members.weigh(holder)
            self._ledger.send(holder.peer, Drop([(task.id, task.attempt)]))
        self._table.finish(task, settlement, SUCCEEDED, now, worker.name)
