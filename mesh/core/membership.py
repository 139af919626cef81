"""Who takes part in the mesh of a router: nodes say HELLO, connect anew, are silent too long, and leave."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import AskOthers, DropPeer
from mesh.core.events import MessageReceived, OthersFound, SettledElsewhere, UnknownElsewhere
from mesh.core.ledger import Ledger
from mesh.core.packing import attempt_bytes, pack, text_bytes
from mesh.core.peers import Session, Worker
from mesh.core.permits import may_be
from mesh.core.record import TaskRecord
from mesh.core.states import READY, SUCCEEDED
from mesh.core.tasks import TaskTable
from mesh.messages import PROTOCOL, Cancel, Drop, Heartbeat, Hello, Refuse, Unknown, Welcome
from mesh.model import Ending, NodeInfo, Outcome, Peer, Role, Settlement
from mesh.settings import Settings

ATTEMPT_MAX = 1 << 31  # no task was ever tried so often: a claim beyond it is a lie, and must not be counted on from


class Membership:
    """The sessions of one router. ``welcome`` greets; ``changed``: who can run what is to be worked out anew."""

    def __init__(
        self, settings: Settings, welcome: Welcome, table: TaskTable, ledger: Ledger, counters: dict[str, int]
    ) -> None:
        self._settings = settings
        self._welcome = welcome
        self._table = table
        self._ledger = ledger
        self._counters = counters
        self.workers: dict[Peer, Worker] = {}
        self.clients: dict[Peer, Session] = {}
        self.hungry: dict[Worker, None] = {}  # those that have credit left
        self.loaded: dict[Worker, None] = {}  # those that hold more than they can run at once
        self.changed = True
        self._nodes: dict[str, NodeInfo] = {}  # workers as the store has them
        self._expected: set[str] = set()  # those of them that may hold what is in limbo
        self._asked: dict[str, None] = {}  # tasks in limbo that other routers may have finished
        self._others = 0  # routers that are connected
        self._addresses: list[str] = []  # theirs
        self._limbo_until: float | None = None
        self._next_round = 0.0

    def restore(self, nodes: Sequence[NodeInfo], *, others: bool) -> None:
        """These workers may still hold tasks of the journal: wait for what they say, and ``others``, other routers."""
        if others and self._table.limbo:
            self._asked = dict.fromkeys(self._table.limbo)
            self._ledger.add(AskOthers(list(self._asked)))
        self._nodes = {node.node_id: node for node in nodes}
        self._expected = set(self._nodes)
        self._limbo_until = inf

    def tick(self, now: Now) -> None:
        """Do what is due."""
        if self._limbo_until == inf:  # they have had no chance to speak before
            self._limbo_until = now.mono + (self._settings.grace_s if self._expected or self._asked else 0.0)
        if self._limbo_until is not None and (now.mono >= self._limbo_until or not (self._expected or self._asked)):
            self._limbo_until = None
            for node_id in sorted(self._expected):
                self._forget_node(node_id)
            self._expected.clear()
            if not self._others:
                self._asked.clear()
            self._table.leave_limbo([task_id for task_id in self._table.limbo if task_id not in self._asked], now)
            for session in self.clients.values():
                watched = self._table.watching.of(session.peer) if session.role is Role.ROUTER else []
                self.yield_to(session, watched)
        if now.mono >= self._next_round:
            self._next_round = now.mono + self._settings.heartbeat_s / 2
            self._make_round(now)

    def next_deadline(self) -> float:
        """The monotonic second at which ``tick`` has something to do."""
        return self._next_round if self._limbo_until is None else min(self._next_round, self._limbo_until)

    def on_others_found(self, event: OthersFound, now: Now) -> None:
        """Other routers came or went; while there are any, what they were asked about is theirs to answer."""
        self._others, self._addresses = event.count, event.addresses
        self._welcome = replace(self._welcome, routers=event.addresses)
        if not self._others and self._limbo_until is None:
            self._run_here(list(self._asked), now)

    def on_unknown_elsewhere(self, event: UnknownElsewhere, now: Now) -> None:
        """No other router knows these: they are to be run here."""
        self._run_here(event.ids, now)

    def _run_here(self, ids: Sequence[str], now: Now) -> None:
        for task_id in ids:
            self._asked.pop(task_id, None)
        if self._limbo_until is None:  # else a worker may still hold them
            self._table.leave_limbo(ids, now)

    def yield_to(self, session: Session, ids: Sequence[str]) -> list[str]:
        """Of what a router asks about, tell it to run what it and we wait for each other's word on; the rest.

        The one with the lesser id runs it, and the other waits for how that ends.
        """
        greater = self._welcome.router_id > session.node_id.partition(".")[0]
        if session.role is not Role.ROUTER or not greater or self._limbo_until is not None:
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
        for outcome in event.outcomes:
            self._asked.pop(outcome.id, None)
            task = self._table.tasks.get(outcome.id)
            if task is None:
                continue
            self._counters["settled_elsewhere"] += 1
            holder = self.workers.get(task.worker) if task.worker is not None else None
            if holder is not None:
                holder.leases.pop(task.id, None)
                self.weigh(holder)
                self._ledger.send(holder.peer, Drop([(task.id, task.attempt)]))
            self._table.finish(task, _settlement_of(outcome), outcome.state, now, outcome.worker)

    def get(self, peer: Peer) -> Session | None:
        """The session with ``peer``, if there is one."""
        return self.clients.get(peer) or self.workers.get(peer)

    def weigh(self, worker: Worker) -> None:
        """What a worker holds, or will hold, has changed: a wake-up looks at those it concerns, and not at all."""
        if worker.credit:
            self.hungry[worker] = None
        else:
            self.hungry.pop(worker, None)
        if worker.held > worker.slots:
            self.loaded[worker] = None
        else:
            self.loaded.pop(worker, None)

    def refuse(self, peer: Peer, code: str, reason: str, ids: Sequence[str] = ()) -> None:
        """Tell a peer what it may not do; with ``ids``: what alone of its message."""
        self._counters["refused"] += 1
        self._ledger.send(peer, Refuse(code, reason, list(ids)))

    def on_hello(self, event: MessageReceived, now: Now) -> None:
        """Open a session, or say why not."""
        hello: Hello = event.message  # type: ignore[assignment]
        peer = event.peer
        role = _known_role(hello.role)
        if hello.protocol != PROTOCOL:
            numbers = f"protocol {hello.protocol} here, {PROTOCOL} at the router"
            self.refuse(peer, "protocol", f"{numbers}: install the same version of taskmesh on both")
        elif role is None or (role is Role.WORKER) != (hello.worker is not None):
            self.refuse(peer, "invalid", f"a HELLO of role {hello.role!r} is not understood")
        elif not may_be(event.role, role):
            self.refuse(peer, "role", f"a {event.role} key does not make a {role}")
        else:
            self._ledger.send(peer, self._welcome)
            if role is Role.WORKER:
                self._welcome_worker(peer, hello, now)
            else:
                self._welcome_client(Session(peer, hello, role, now.mono), now)
            return
        self._ledger.add(DropPeer(peer))

    def _welcome_client(self, client: Session, now: Now) -> None:
        """It says next what it waits for, so what it waited for on an earlier connection can go."""
        for earlier in [c.peer for c in self.clients.values() if c.node_id == client.node_id and c.peer != client.peer]:
            self.dismiss(earlier, "it connected anew", now)
        self._table.watching.leave(client.peer)
        self.clients.setdefault(client.peer, client).heard = now.mono

    def _welcome_worker(self, peer: Peer, hello: Hello, now: Now) -> None:
        info = hello.worker
        assert info is not None
        worker = self.workers.get(peer) or self._take_over(peer, hello.node_id)
        if worker is None:
            worker = self.workers[peer] = Worker(peer, hello, info, now.mono)
        else:
            worker.introduce(hello, info)
            worker.heard = now.mono
        self.changed = True
        if hello.node_id not in self._nodes:
            self._nodes[hello.node_id] = node = NodeInfo(hello.node_id, hello.name)
            self._ledger.nodes[node.node_id] = node
        held: dict[str, int] = {}
        for task_id, attempt in info.held:  # an id stands there twice where an earlier attempt is not acknowledged
            held[task_id] = max(attempt, held.get(task_id, 0))
        self._reconcile(worker, held, now)
        self.weigh(worker)
        self._expected.discard(hello.node_id)

    def _take_over(self, peer: Peer, node_id: str) -> Worker | None:
        """A worker that connects anew, before we saw its old connection end, keeps what it holds."""
        worker = next((w for w in self.workers.values() if w.node_id == node_id), None)
        if worker is None:
            return None
        del self.workers[worker.peer]
        self._ledger.add(DropPeer(worker.peer))
        for task in worker.leases.values():
            task.worker = peer
        worker.peer = peer
        worker.acks = []  # what is not acknowledged it says again
        self.workers[peer] = worker
        return worker

    def _reconcile(self, worker: Worker, held: dict[str, int], now: Now) -> None:
        """Bring our leases in line with what the worker says that it holds."""
        undelivered = [task for i, task in worker.leases.items() if held.get(i, -1) != task.attempt]
        for task in undelivered:
            del worker.leases[task.id]
        self._return_undelivered(undelivered, now)
        not_yours: list[tuple[str, int]] = []
        claims: list[tuple[TaskRecord, int]] = []
        for task_id, attempt in held.items():
            if task_id in worker.leases:
                continue
            claimed = self._table.tasks.get(task_id)
            if claimed is None or not self._may_adopt(claimed, attempt):
                not_yours.append((task_id, attempt))
                continue
            claims.append((claimed, attempt))
            worker.leases[task_id] = claimed
        self._table.adopt(claims, worker.peer)
        for part in pack(not_yours, attempt_bytes):
            self._ledger.send(worker.peer, Drop(list(part)))
        for task in worker.leases.values():
            if task.rare is not None and (cancel := task.rare.cancel) is not None:
                self._ledger.send(worker.peer, Cancel([task.id], cancel.terminate, cancel.signal))

    def _return_undelivered(self, tasks: list[TaskRecord], now: Now) -> None:
        """Deliveries that got lost on the way; whether an at-most-once task started cannot be known."""
        self._counters["redelivered"] += len(tasks)
        again = [
            task
            for task in tasks
            if not task.at_most_once or self._table.settle_lost(task, "its delivery was lost", now, node=True)
        ]
        self._table.requeue(again, now)

    def _may_adopt(self, task: TaskRecord, attempt: int) -> bool:
        """Whether nobody else holds the task, it does not wait for its time, and this attempt is its last and open."""
        if not task.attempt <= attempt <= ATTEMPT_MAX or (task.rare is not None and attempt <= task.rare.settled):
            return False
        return task.id in self._table.limbo or task.state is READY

    def lose(self, peer: Peer, cause: str, now: Now) -> None:
        """A node is gone; what a worker held goes elsewhere."""
        worker = self.workers.get(peer)
        if worker is not None:
            self._lose_worker(worker, cause, now)
        if self.clients.pop(peer, None) is not None:
            self._table.watching.leave(peer)

    def dismiss(self, peer: Peer, cause: str, now: Now) -> None:
        """As ``lose``, of a node whose connection may live: its session ends."""
        self.lose(peer, cause, now)
        self._ledger.add(DropPeer(peer))

    def _lose_worker(self, worker: Worker, cause: str, now: Now) -> None:
        del self.workers[worker.peer]
        self.hungry.pop(worker, None)
        self.loaded.pop(worker, None)
        self.changed = True
        self._forget_node(worker.node_id)
        leases = list(worker.leases.values())
        self._counters["redelivered"] += len(leases)
        cause = f"worker {worker.name}: {cause}"
        self._table.requeue([task for task in leases if self._table.settle_lost(task, cause, now, node=True)], now)

    def _forget_node(self, node_id: str) -> None:
        if self._nodes.pop(node_id, None) is not None:
            self._ledger.nodes[node_id] = None

    def _make_round(self, now: Now) -> None:
        """Look who was silent too long, and say that we live."""
        silence = self._settings.heartbeat_s * self._settings.liveness
        for session in (*self.workers.values(), *self.clients.values()):
            if now.mono - session.heard >= silence:
                self.dismiss(session.peer, f"not heard of for {silence:g} s", now)
        for session in (*self.workers.values(), *self.clients.values()):
            if now.mono - session.told >= self._settings.heartbeat_s * 0.9:
                session.told = now.mono
                word = Heartbeat(now.wall, load=len(self._table.tasks), routers=self._addresses)
                self._ledger.send(session.peer, word)


def _known_role(role: str) -> Role | None:
    try:
        known = Role(role)
    except ValueError:
        return None
    return known


def _settlement_of(outcome: Outcome) -> Settlement:
    """How an attempt ended that another router has counted; only its payload, error and times are looked at."""
    started_at, runtime_s = outcome.started_at, outcome.runtime_s
    ending = Ending.SUCCEEDED if outcome.state is SUCCEEDED else Ending.FAILED
    return Settlement(outcome.id, outcome.attempts, ending, outcome.payload, started_at, runtime_s, outcome.error)
