"""The router's decisions: what it accepts, which task goes to which worker, and who is told of what.

No I/O, no clock, no randomness: events and the time come in, commands go out. A task's state changes in
``mesh.core.tasks`` only; here are the sessions, the verbs and the spreading of work over credit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from mesh.clock import Now
from mesh.core.commands import Command, DropPeer, LookUpFunction, LookUpOutcomes
from mesh.core.events import (
    Event,
    FunctionLookedUp,
    MessageReceived,
    OutcomesLookedUp,
    PeerLost,
    StoreFilled,
    StoreFreed,
)
from mesh.core.ledger import Ledger
from mesh.core.packing import attempt_bytes, pack, task_bytes_with, text_bytes
from mesh.core.peers import Session, Worker
from mesh.core.queues import Lane
from mesh.core.record import TaskRecord
from mesh.core.spreading import spread
from mesh.core.states import CANCELLED, EXPIRED, FAILED, LEASED, READY, SUCCEEDED
from mesh.core.status import snapshot
from mesh.core.tasks import TaskTable
from mesh.messages import (
    PROTOCOL,
    Bye,
    Cancel,
    Credit,
    Deliver,
    Drop,
    Function,
    GetFunction,
    Heartbeat,
    Hello,
    Message,
    PutFunction,
    Query,
    Recall,
    Refuse,
    Rejected,
    Released,
    Reply,
    SayHello,
    Settled,
    Submit,
    Unknown,
    Unwatch,
    Watch,
    Welcome,
)
from mesh.model import Delivery, Ending, FunctionCode, NodeInfo, Peer, Role, TaskMark
from mesh.settings import Settings

CLIENT_VERBS = frozenset({Submit, Watch, Unwatch, Cancel, Query, PutFunction})
WORKER_VERBS = frozenset({Credit, Settled, Released, GetFunction})
RECALL_PAUSE_S = 0.020  # after a worker had nothing to give back
ACK_PAUSE_S = 0.020  # settlements are acknowledged together: a worker loses nothing by keeping them so long
PURGES_MAX = 100
PURGE_AT_ONCE = 20_000  # tasks cancelled in one wake-up, so that a purge of millions stops nobody


class RouterMachine:
    """One router. ``boot`` is how often it was started on its store; ``durability`` is the store's level."""

    def __init__(
        self,
        router_id: str,
        name: str,
        settings: Settings,
        *,
        version: str = "0",
        durability: str = "memory",
        boot: int = 1,
        next_seq: int = 1,
        routers: Sequence[str] = (),
    ) -> None:
        self.router_id = router_id
        self.name = name
        self.settings = settings
        self.version = version
        self.durability = durability
        self.boot = boot
        self.routers = list(routers)
        self._ledger = Ledger()
        self.table = TaskTable(settings, self._ledger, next_seq)
        self.workers: dict[Peer, Worker] = {}
        self.clients: dict[Peer, Session] = {}
        self.nodes: dict[str, NodeInfo] = {}
        self.expected: set[str] = set()  # nodes that may hold what is in limbo
        self.limbo_until: float | None = None
        self.full: str | None = None  # why the store takes no new tasks
        self.halted = False  # it takes nothing at all
        self.counters: dict[str, int] = dict.fromkeys(
            ("stale", "refused", "rejected", "redelivered", "duplicates", "late_successes", "garbage", "problems"), 0
        )
        self.since: Now | None = None
        self._now = Now(0.0, 0.0)
        self._next_round = 0.0
        self._able: dict[int, list[Worker]] = {}
        self._turn = 0
        self._acks: dict[Peer, list[int]] = {}  # batches of settlements, not yet acknowledged
        self._ack_at: float | None = None
        self._purges: list[tuple[Peer, int, list[str], int]] = []
        self._handlers: dict[type, Callable[[Any, Now], None]] = {
            MessageReceived: self._on_message,
            PeerLost: self._on_peer_lost,
            OutcomesLookedUp: self._on_outcomes_looked_up,
            FunctionLookedUp: self._on_function_looked_up,
            StoreFilled: self._on_store_filled,
            StoreFreed: self._on_store_freed,
        }
        self._verbs: dict[type, Callable[[Any, Any, Now], None]] = {
            Bye: self._on_bye,
            Heartbeat: self._on_heartbeat,
            Watch: self._on_watch,
            Unwatch: self._on_unwatch,
            Cancel: self._on_cancel,
            Query: self._on_query,
            PutFunction: self._on_put_function,
            Credit: self._on_credit,
            Settled: self._on_settled,
            Released: self._on_released,
            GetFunction: self._on_get_function,
        }

    # the machine

    def handle(self, events: Sequence[Event], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        if self.since is None:
            self.since = now
        self._now = now
        for event in events:
            self._handlers[type(event)](event, now)
        self._tick(now)
        self._dispatch(now)
        return self._ledger.close()

    def count(self, what: str) -> int:
        """Count something that the process around the machine has seen; how often it was."""
        self.counters[what] += 1
        return self.counters[what]

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        if self._purges:
            return self._now.mono
        deadline = self._next_round
        for own in (self.limbo_until, self._ack_at):
            if own is not None and own < deadline:
                deadline = own
        due = self.table.next_due()
        if due is not None:
            deadline = min(deadline, self._now.mono + (due - self._now.wall))
        for worker in self.workers.values():
            if self._now.mono < worker.recall_after < deadline:
                deadline = worker.recall_after
        return deadline

    def restore(
        self,
        batches: Sequence[tuple[int, float, Submit, set[str]]],
        marks: Sequence[TaskMark],
        nodes: Sequence[NodeInfo],
        now: Now,
    ) -> None:
        """Begin with what the journal held: (seq, accepted_at, tasks, finished ids), oldest first."""
        by_id = {mark.id: mark for mark in marks}
        for seq, accepted_at, submit, settled in batches:
            self.table.restore(seq, accepted_at, submit, settled, by_id)
        self.nodes = {node.node_id: node for node in nodes}
        self.expected = set(self.nodes)
        self.limbo_until = now.mono + (self.settings.grace_s if self.expected else 0.0)

    def _tick(self, now: Now) -> None:
        if self.limbo_until is not None and (now.mono >= self.limbo_until or not self.expected):
            self.limbo_until = None
            for node_id in sorted(self.expected):
                self._forget_node(node_id)
            self.expected.clear()
            self.table.leave_limbo(now)
        self.table.advance(now)
        if now.mono >= self._next_round:
            self._next_round = now.mono + self.settings.heartbeat_s / 2
            self._make_round(now)
        if self._ack_at is not None and now.mono >= self._ack_at:
            self._ack_at = None
            self._ledger.acks.update(self._acks)
            self._acks = {}
        if self._purges:
            self._go_on_purging(now)

    def _make_round(self, now: Now) -> None:
        """Look who was silent too long, and say that we live."""
        silence = self.settings.heartbeat_s * self.settings.liveness
        for worker in [w for w in self.workers.values() if now.mono - w.heard >= silence]:
            self._lose_worker(worker, f"not heard of for {silence:g} s", now)
            self._ledger.add(DropPeer(worker.peer))
        for session in (*self.workers.values(), *self.clients.values()):
            if now.mono - session.told >= self.settings.heartbeat_s * 0.9:
                session.told = now.mono
                self._ledger.send(session.peer, Heartbeat(now.wall))

    # sessions

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        peer, message = event.peer, event.message
        verb = type(message)
        if verb is Hello:
            self._on_hello(event, now)
            return
        session: Session | None
        if verb in WORKER_VERBS:
            session = self.workers.get(peer)
        else:
            session = self.clients.get(peer) or self.workers.get(peer)
        if session is None:
            self._say_hello(peer, verb)
            return
        session.heard = now.mono
        if verb is Submit:
            self._on_submit(session, message, event.raw, now)  # type: ignore[arg-type]
            return
        if verb in CLIENT_VERBS and session.role is Role.WORKER:
            self._refuse(peer, "role", f"a worker may not send {verb.__name__}")
            return
        self._verbs[verb](session, message, now)

    def _say_hello(self, peer: Peer, verb: type) -> None:
        if peer in self.clients and verb in WORKER_VERBS:
            self._refuse(peer, "role", f"a client may not send {verb.__name__}")
        else:
            self._ledger.send(peer, SayHello())
            self._ledger.add(DropPeer(peer))

    def _refuse(self, peer: Peer, code: str, reason: str) -> None:
        self.counters["refused"] += 1
        self._ledger.send(peer, Refuse(code, reason))

    def _on_hello(self, event: MessageReceived, now: Now) -> None:
        hello: Hello = event.message  # type: ignore[assignment]
        peer = event.peer
        role = _known_role(hello.role)
        if hello.protocol != PROTOCOL:
            reason = f"protocol {hello.protocol} there, {PROTOCOL} here: install the same version of taskmesh on both"
            self._refuse(peer, "protocol", reason)
        elif role is None or (role is Role.WORKER) != (hello.worker is not None):
            self._refuse(peer, "invalid", f"a HELLO of role {hello.role!r} is not understood")
        elif event.role is not None and event.role is not role and event.role is not Role.ADMIN:
            self._refuse(peer, "role", f"a {event.role} key does not make a {role}")
        else:
            welcome = Welcome(self.router_id, self.name, self.version, self.durability, self.routers)
            self._ledger.send(peer, welcome)
            if role is Role.WORKER:
                self._welcome_worker(peer, hello, now)
            elif (client := self.clients.get(peer)) is not None:
                client.heard = now.mono
            else:
                self.clients[peer] = Session(peer, hello, role, now.mono)
            return
        self._ledger.add(DropPeer(peer))

    def _welcome_worker(self, peer: Peer, hello: Hello, now: Now) -> None:
        info = hello.worker
        assert info is not None
        worker = self.workers.get(peer) or self._take_over(peer, hello.node_id)
        if worker is None:
            worker = self.workers[peer] = Worker(peer, hello, info, now.mono)
        else:
            worker.introduce(hello, info)
            worker.heard = now.mono
        self._able.clear()
        if hello.node_id not in self.nodes:
            self.nodes[hello.node_id] = node = NodeInfo(hello.node_id, hello.name)
            self._ledger.nodes[node.node_id] = node
        held: dict[str, int] = {}
        for task_id, attempt in info.held:  # an id stands there twice where an earlier attempt is not acknowledged
            held[task_id] = max(attempt, held.get(task_id, 0))
        self._reconcile(worker, held, now)
        self.expected.discard(hello.node_id)

    def _take_over(self, peer: Peer, node_id: str) -> Worker | None:
        """A worker that connects anew, before we saw its old connection end, keeps what it holds."""
        worker = next((w for w in self.workers.values() if w.node_id == node_id), None)
        if worker is None:
            return None
        del self.workers[worker.peer]
        self._acks.pop(worker.peer, None)
        self._ledger.add(DropPeer(worker.peer))
        for task in worker.leases.values():
            task.worker = peer
        worker.peer = peer
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
            claimed = self.table.tasks.get(task_id)
            if claimed is None or not self._may_adopt(claimed, attempt):
                not_yours.append((task_id, attempt))
                continue
            claims.append((claimed, attempt))
            worker.leases[task_id] = claimed
        self.table.adopt(claims, worker.peer)
        for part in pack(not_yours, attempt_bytes):
            self._ledger.send(worker.peer, Drop(list(part)))
        for task in worker.leases.values():
            if task.rare is not None and (cancel := task.rare.cancel) is not None:
                self._ledger.send(worker.peer, Cancel([task.id], cancel.terminate, cancel.signal))

    def _return_undelivered(self, tasks: list[TaskRecord], now: Now) -> None:
        """Deliveries that got lost on the way; whether an at-most-once task started cannot be known."""
        self.counters["redelivered"] += len(tasks)
        again = [
            task
            for task in tasks
            if not task.kind.options.at_most_once
            or self.table.settle_lost(task, "its delivery was lost", now, node=True)
        ]
        self.table.requeue(again, now)

    def _may_adopt(self, task: TaskRecord, attempt: int) -> bool:
        """Whether nobody else holds the task, it does not wait for its time, and this attempt is its last and open."""
        if attempt < task.attempt or (task.rare is not None and attempt <= task.rare.settled):
            return False
        return task.id in self.table.limbo or task.state is READY

    def _on_peer_lost(self, event: PeerLost, now: Now) -> None:
        worker = self.workers.get(event.peer)
        if worker is not None:
            self._lose_worker(worker, "connection lost", now)
        self._drop_client(event.peer)

    def _on_bye(self, session: Session, message: Bye, now: Now) -> None:
        if isinstance(session, Worker):
            self._lose_worker(session, f"it left ({message.reason})" if message.reason else "it left", now)
        self._drop_client(session.peer)
        self._ledger.add(DropPeer(session.peer))

    def _drop_client(self, peer: Peer) -> None:
        if self.clients.pop(peer, None) is not None:
            self.table.watching.leave(peer)

    def _lose_worker(self, worker: Worker, cause: str, now: Now) -> None:
        del self.workers[worker.peer]
        self._acks.pop(worker.peer, None)
        self._able.clear()
        self._forget_node(worker.node_id)
        leases = list(worker.leases.values())
        self.counters["redelivered"] += len(leases)
        cause = f"worker {worker.name}: {cause}"
        self.table.requeue([task for task in leases if self.table.settle_lost(task, cause, now, node=True)], now)

    def _forget_node(self, node_id: str) -> None:
        if self.nodes.pop(node_id, None) is not None:
            self._ledger.nodes[node_id] = None

    def _on_heartbeat(self, session: Session, message: Heartbeat, now: Now) -> None:
        if isinstance(session, Worker):
            session.running = message.running

    # clients

    def _on_submit(self, session: Session, submit: Submit, raw: bytes | None, now: Now) -> None:
        peer = session.peer
        if session.role is Role.WORKER:
            self._refuse(peer, "role", "a worker may not submit")
            return
        tasks = self.table.tasks
        fresh = [spec.id for spec in submit.tasks if spec.id not in tasks] if submit.repeated else None
        refusal = self._refusal(submit, len(submit.tasks) if fresh is None else len(fresh))
        if refusal is not None and (fresh is None or self.full is not None or refusal[0] == "invalid"):
            self._reject(peer, submit, refusal)
        elif fresh:  # those that are finished are not new, and not to be refused
            self._ledger.add(LookUpOutcomes(peer, fresh, submit, raw))
        else:
            self._accept(peer, submit, raw, (), now)

    def _accept(self, peer: Peer, submit: Submit, raw: bytes | None, known: Collection[str], now: Now) -> None:
        self.table.accept(peer, submit, raw, known, now)
        self._ledger.accepted[peer].append(submit.batch)

    def _reject(self, peer: Peer, submit: Submit, refusal: tuple[str, str]) -> None:
        self.counters["rejected"] += 1
        self._ledger.send(peer, Rejected(submit.batch, *refusal))

    def _refusal(self, submit: Submit, fresh: int) -> tuple[str, str] | None:
        """(code, reason) when this batch, with so many tasks that are not here yet, cannot be taken."""
        count = len(submit.options)
        if not all(0 <= option < count for option in {spec.option for spec in submit.tasks}):
            return "invalid", "a task refers to options that were not sent with it"
        if not fresh:
            return None
        if self.full is not None:
            return "overloaded", self.full
        table, settings = self.table, self.settings
        if len(table.tasks) + fresh > settings.queued_tasks_max:
            return "overloaded", f"{len(table.tasks)} tasks are queued; the limit is {settings.queued_tasks_max}"
        if table.bytes >= settings.queued_bytes_max:
            return "overloaded", f"{table.bytes} bytes are queued; the limit is {settings.queued_bytes_max}"
        return None

    def _on_outcomes_looked_up(self, event: OutcomesLookedUp, now: Now) -> None:
        peer = event.peer
        if event.outcomes:
            self._ledger.news[peer] += event.outcomes
        known = {outcome.id for outcome in event.outcomes}
        if event.submit is not None:
            self.counters["duplicates"] += len(known)
            fresh = sum(1 for i in event.ids if i not in known and i not in self.table.tasks)
            refusal = self._refusal(event.submit, fresh)
            if refusal is not None:
                self._reject(peer, event.submit, refusal)
            else:
                self._accept(peer, event.submit, event.raw, known, now)
            return
        unknown = []
        for task_id in event.ids:
            if task_id in known:
                continue
            if task_id in self.table.tasks:  # it came while we looked
                self._watch(peer, task_id)
            else:
                unknown.append(task_id)
        for part in pack(unknown, text_bytes):
            self._ledger.send_after_commit(peer, Unknown(list(part)))

    def _on_watch(self, session: Session, message: Watch, now: Now) -> None:
        tasks = self.table.tasks
        absent = []
        for task_id in message.ids:
            if task_id in tasks:
                self._watch(session.peer, task_id)
            else:
                absent.append(task_id)
        if absent:
            self._ledger.add(LookUpOutcomes(session.peer, absent))

    def _watch(self, peer: Peer, task_id: str) -> None:
        limit = self.settings.watched_ids_max
        if self.table.watching.count(peer) >= limit:
            self._refuse(peer, "watched", f"no more than {limit} ids can be watched (watched_ids_max): {task_id}")
        else:
            self.table.watch(peer, task_id)

    def _on_unwatch(self, session: Session, message: Unwatch, now: Now) -> None:
        for task_id in message.ids:
            self.table.watching.remove(session.peer, task_id)
        if message.forget:
            self._ledger.forgotten += [i for i in message.ids if i not in self.table.tasks]

    def _on_cancel(self, session: Session, message: Cancel, now: Now) -> None:
        by_worker: dict[Peer, list[str]] = {}
        for task_id in message.ids:
            task = self.table.tasks.get(task_id)
            if task is None:
                continue
            if task.state is LEASED and task.worker is not None:
                task.rarely().cancel = message
                by_worker.setdefault(task.worker, []).append(task_id)
            elif task_id not in self.table.limbo:
                self.table.end(task, CANCELLED, now)
            else:
                task.rarely().cancel = message
        for peer, ids in by_worker.items():
            for part in pack(ids, text_bytes):
                self._ledger.send(peer, Cancel(list(part), message.terminate, message.signal))

    def _on_query(self, session: Session, message: Query, now: Now) -> None:
        if message.what == "status":
            answer: object = snapshot(self, now)
        elif message.what == "states":
            tasks = self.table.tasks
            answer = {i: tasks[i].state for i in message.arguments if i in tasks}
        elif message.what == "purge":
            self._purge(session.peer, message)
            return
        else:
            answer = {"error": f"unknown query {message.what!r}; known: status, states, purge"}
        # Not after the commit: a full store is what people ask the status for.
        self._ledger.send(session.peer, Reply(message.request, msgspec.json.encode(answer)))

    def _purge(self, peer: Peer, query: Query) -> None:
        if len(self._purges) < PURGES_MAX:
            self._purges.append((peer, query.request, query.arguments, 0))
        else:
            answer = {"error": f"{PURGES_MAX} purges are under way already; try again later"}
            self._ledger.send(peer, Reply(query.request, msgspec.json.encode(answer)))

    def _go_on_purging(self, now: Now) -> None:
        peer, request, queues, done = self._purges.pop(0)
        waiting = [
            task
            for lane in self.table.ready
            if not queues or lane.queue in queues
            for task in _first(lane, PURGE_AT_ONCE)
        ][:PURGE_AT_ONCE]
        for task in waiting:
            self.table.end(task, CANCELLED, now)
        done += len(waiting)
        if len(waiting) == PURGE_AT_ONCE:
            self._purges.append((peer, request, queues, done))
        else:
            self._ledger.send_after_commit(peer, Reply(request, msgspec.json.encode({"purged": done})))

    def _on_put_function(self, session: Session, message: PutFunction, now: Now) -> None:
        self._ledger.functions.append(message.code)

    # workers

    def _on_credit(self, worker: Worker, message: Credit, now: Now) -> None:
        worker.window = max(0, message.window)

    def _on_settled(self, worker: Worker, message: Settled, now: Now) -> None:
        table = self.table
        tasks, leases, peer, name = table.tasks, worker.leases, worker.peer, worker.name
        lost: list[TaskRecord] = []
        for settlement in message.settlements:
            task = tasks.get(settlement.id)
            if task is None:
                self.counters["stale"] += 1
                continue
            if task.worker != peer or task.attempt != settlement.attempt:
                self._on_stale(task, settlement, worker, now)
                continue
            del leases[settlement.id]
            worker.settled += 1
            ending = settlement.ending
            if ending is Ending.SUCCEEDED:
                table.finish(task, settlement, SUCCEEDED, now, name)
            elif ending is Ending.FAILED:
                table.finish(task, settlement, FAILED, now, name)
            elif ending is Ending.RETRY:
                table.settle_retry(task, settlement, now)
            elif ending is Ending.LOST:
                self.counters["redelivered"] += 1
                cause = settlement.error.message if settlement.error else "its process died"
                if table.settle_lost(task, cause, now, node=False):
                    lost.append(task)
            else:
                state = CANCELLED if ending is Ending.CANCELLED else EXPIRED
                table.end(task, state, now, settlement.error, name)
        self.table.requeue(lost, now)
        self._acks.setdefault(peer, []).append(message.batch)
        if self._ack_at is None:
            self._ack_at = now.mono + ACK_PAUSE_S

    def _on_stale(self, task: TaskRecord, settlement: Any, worker: Worker, now: Now) -> None:
        """A word on an attempt that is no longer the worker's: only a success still counts, and it is the first."""
        if settlement.ending is not Ending.SUCCEEDED:
            self.counters["stale"] += 1
            return
        self.counters["late_successes"] += 1
        holder = self.workers.get(task.worker) if task.worker is not None else None
        if holder is not None:
            holder.leases.pop(task.id, None)
            self._ledger.send(holder.peer, Drop([(task.id, task.attempt)]))
        self.table.finish(task, settlement, SUCCEEDED, now, worker.name)

    def _on_released(self, worker: Worker, message: Released, now: Now) -> None:
        returned = []
        for task_id, attempt in message.attempts:
            task = worker.leases.get(task_id)
            if task is not None and task.attempt == attempt:
                del worker.leases[task_id]
                returned.append(task)
        self.table.requeue(returned, now)
        if message.recall:
            worker.recalled = False
            if not returned:
                worker.recall_after = now.mono + RECALL_PAUSE_S
        else:
            worker.draining = True

    def _on_get_function(self, worker: Worker, message: GetFunction, now: Now) -> None:
        self._ledger.add(LookUpFunction(worker.peer, message.digest))

    def _on_function_looked_up(self, event: FunctionLookedUp, now: Now) -> None:
        code: FunctionCode | None = event.code
        self._ledger.send(event.peer, Function(event.digest, code))

    # the store

    def _on_store_filled(self, event: StoreFilled, now: Now) -> None:
        self.full, self.halted = event.reason, event.halt

    def _on_store_freed(self, event: StoreFreed, now: Now) -> None:
        self.full, self.halted = None, False

    # spreading the work

    def able(self, lane: Lane) -> list[Worker]:
        """The workers that can run what stands in this lane."""
        if self.table.lanes_changed:
            self.table.lanes_changed = False
            self._able.clear()
        able = self._able.get(lane.number)
        if able is None:
            able = [w for w in self.workers.values() if w.lack(lane.queue, lane.need) is None]
            self._able[lane.number] = able
        return able

    def _dispatch(self, now: Now) -> None:
        if not self.workers or self.halted:
            return
        self._turn += 1
        for worker, tasks in spread(self.table.ready, self.able, self._turn).items():
            self._deliver(worker, tasks)
        self._recall(now)

    def _deliver(self, worker: Worker, tasks: list[TaskRecord]) -> None:
        table, peer = self.table, worker.peer
        at_once: list[Delivery] = []
        recorded: list[Delivery] = []  # at most once: the start is written down before the delivery
        options = {task.kind.number: task.kind.options for task in tasks}
        for task in tasks:
            delivery = table.lease(task, peer)
            if task.kind.options.at_most_once:
                table.mark_started(task)
                recorded.append(delivery)
            else:
                at_once.append(delivery)
        size_of = task_bytes_with(options)
        for part in pack(at_once, size_of):
            self._ledger.send(peer, _deliver(options, part, len(tasks)))
        for part in pack(recorded, size_of):
            self._ledger.send_after_commit(peer, _deliver(options, part, len(tasks)))

    def _recall(self, now: Now) -> None:
        """Where a worker idles while another holds unstarted tasks that it could run, ask for some back."""
        workers = self.workers.values()
        if len(self.workers) < 2:
            return
        idle = [w for w in workers if w.held < w.slots and w.credit]
        if not idle:
            return
        donors = [w for w in workers if w.held > w.slots and not w.recalled and w.recall_after <= now.mono]
        for donor in donors:
            if any(self._could_take(taker, donor) for taker in idle if taker is not donor):
                donor.recalled = True
                excess = donor.held - donor.slots
                count = max(1, excess * sum(w.slots for w in idle) // (donor.slots + sum(w.slots for w in idle)))
                self._ledger.send(donor.peer, Recall(count))

    def _could_take(self, taker: Worker, donor: Worker) -> bool:
        lanes = {task.kind.lane.number: task.kind.lane for task in donor.leases.values()}
        return any(taker in self.able(lane) for lane in lanes.values())

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken. Called after every step of a test."""
        self.table.check()
        held: dict[str, Peer] = {}
        for peer, worker in self.workers.items():
            for task_id, task in worker.leases.items():
                assert task_id not in held, f"{task_id} is leased twice; {task.story()}"
                held[task_id] = peer
                assert task.worker == peer and task.state is LEASED, task.story()
                assert self.table.tasks.get(task_id) is task, task.story()
        leased = {t.id for t in self.table.tasks.values() if t.state is LEASED}
        assert leased == set(held), "leased tasks without a holder, or the reverse"
        if not self.halted:
            for lane in self.table.ready:
                hungry = [w for w in self.able(lane) if w.credit > 0]
                assert not (len(lane) and hungry), f"work and credit both idle in queue {lane.queue}"


def _deliver(options: dict[int, Any], part: Sequence[Delivery], total: int) -> Message:
    if len(part) < total:
        used = {delivery.option for delivery in part}
        options = {number: found for number, found in options.items() if number in used}
    return Deliver(options, list(part))


def _known_role(role: str) -> Role | None:
    try:
        known = Role(role)
    except ValueError:
        return None
    return None if known is Role.ROUTER else known


def _first(lane: Lane, count: int) -> list[TaskRecord]:
    return [task for task, _ in zip(lane, range(count))]
