"""What is in the journal at a start: workers may still hold it, and other routers may have finished it.

It waits until the workers that were there have spoken, or ``grace_s`` are over, and until the other routers, if there
are any, have said what they know of it. Then it is run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from mesh.clock import Now
from mesh.core.afar import Afar
from mesh.core.commands import AskOthers
from mesh.core.events import OthersFound, SettledElsewhere, UnknownElsewhere
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.core.packing import pack, text_bytes
from mesh.core.peers import Session
from mesh.core.states import SUCCEEDED
from mesh.core.tasks import TaskTable
from mesh.messages import Drop, Unknown
from mesh.model import Ending, Outcome, Role, Settlement
from mesh.settings import Settings


class Limbo:
    """Of the router ``router_id``. The tasks themselves are in ``table.limbo``."""

    def __init__(
        self,
        settings: Settings,
        router_id: str,
        table: TaskTable,
        members: Membership,
        ledger: Ledger,
        counters: dict[str, int],
        afar: Afar,
    ) -> None:
        self._afar = afar
        self._settings = settings
        self._router_id = router_id
        self._table = table
        self._members = members
        self._ledger = ledger
        self._counters = counters
        self._asked: dict[str, None] = {}  # tasks that other routers may have finished
        self._others = 0  # routers that are connected
        self._until: float | None = None  # workers may speak until then
        self._adopting = 0  # journals that are not all here: nobody was asked what he holds of them

    def begin(self, *, others: bool) -> None:
        """Wait for what the workers say, and ``others``, other routers."""
        if others and self._table.limbo:
            self._asked = dict.fromkeys(self._table.limbo)
            self._ledger.add(AskOthers(list(self._asked)))
        self._until = inf

    def hold(self) -> None:
        """A journal is being adopted: nothing leaves until it is all here."""
        self._adopting += 1
        self._until = inf

    def release(self) -> None:
        """It is, and the workers have been asked."""
        self._adopting -= 1

    def tick(self, now: Now) -> None:
        """Do what is due."""
        if self._until is None or self._adopting:
            return
        awaited = self._members.awaited or self._asked
        if self._until == inf:  # they have had no chance to speak before
            self._until = now.mono + (self._settings.grace_s if awaited else 0.0)
        if now.mono < self._until and awaited:
            return
        self._until = None
        self._members.give_up_unheard()
        if not self._others:
            self._asked.clear()
        self._table.leave_limbo([task_id for task_id in self._table.limbo if task_id not in self._asked], now)
        for session in self._members.clients.values():
            watched = self._table.watching.of(session.peer) if session.role is Role.ROUTER else []
            self.yield_to(session, watched)

    def next_deadline(self) -> float:
        """The monotonic second at which ``tick`` has something to do."""
        return inf if self._until is None or self._adopting else self._until

    def on_others_found(self, event: OthersFound, now: Now) -> None:
        """Other routers came or went; while there are any, what they were asked about is theirs to answer."""
        self._others = self._afar.others = event.count
        self._members.name_others(event.addresses)
        if not self._others and self._until is None:
            self._run_here(list(self._asked), now)

    def on_unknown_elsewhere(self, event: UnknownElsewhere, now: Now) -> None:
        """No other router knows these: they are to be run here."""
        self._run_here(event.ids, now)
        self._afar.deny(event.ids)

    def _run_here(self, ids: Sequence[str], now: Now) -> None:
        for task_id in ids:
            self._asked.pop(task_id, None)
        if self._until is None:  # else a worker may still hold them
            self._table.leave_limbo(ids, now)

    def yield_to(self, session: Session, ids: Sequence[str]) -> list[str]:
        """Of what a router asks about, tell it to run what it and we wait for each other's word on; the rest.

        The one with the lesser id runs it, and the other waits for how that ends.
        """
        greater = self._router_id > session.node_id.partition(".")[0]
        if session.role is not Role.ROUTER or not greater or self._until is not None:
            return list(ids)
        limbo, asked = self._table.limbo, self._asked
        yielded = [task_id for task_id in ids if task_id in asked and task_id in limbo]
        for task_id in yielded:
            self._table.watching.remove(session.peer, task_id)
        for part in pack(yielded, text_bytes):
            self._ledger.send(session.peer, Unknown(list(part)))
        return [task_id for task_id in ids if not (task_id in asked and task_id in limbo)]

    def on_settled_elsewhere(self, event: SettledElsewhere, now: Now) -> None:
        """Other routers had these too, and they ended there: the end is the same here."""
        self._afar.look_up([outcome.id for outcome in event.outcomes])
        for outcome in event.outcomes:
            self._asked.pop(outcome.id, None)
            task = self._table.tasks.get(outcome.id)
            if task is None:
                continue
            self._counters["settled_elsewhere"] += 1
            holder = self._members.workers.get(task.worker) if task.worker is not None else None
            if holder is not None:
                holder.leases.pop(task.id, None)
                self._members.weigh(holder)
                self._ledger.send(holder.peer, Drop([(task.id, task.attempt)]))
            self._table.finish(task, _settlement_of(outcome), outcome.state, now, outcome.worker)


def _settlement_of(outcome: Outcome) -> Settlement:
    """How an attempt ended that another router has counted; only its payload, error and times are looked at."""
    started_at, runtime_s = outcome.started_at, outcome.runtime_s
    ending = Ending.SUCCEEDED if outcome.state is SUCCEEDED else Ending.FAILED
    return Settlement(outcome.id, outcome.attempts, ending, outcome.payload, started_at, runtime_s, outcome.error)
