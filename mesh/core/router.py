"""The router's decisions: events and the time come in, commands go out. No I/O, no clock, no randomness.

This is the table of what can happen and who decides about it: who takes part (``membership``), what is accepted
(``admission``), who runs it (``dispatch``), how it ended (``settling``), what is cancelled at once (``purging``), what
periodic tasks there are and which are fired (``periodic``). A task's state changes in ``tasks`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from mesh.clock import Now
from mesh.core.admission import Admission
from mesh.core.adopting import Adopting
from mesh.core.afar import Afar
from mesh.core.commands import Command, DropPeer, LookUpFunction, Record
from mesh.core.dispatch import Dispatch
from mesh.core.events import (
    BatchesAdopted,
    Event,
    FunctionLookedUp,
    JournalAdopted,
    JournalClaimed,
    MessageReceived,
    OthersFound,
    OutcomesLookedUp,
    PeerHeard,
    PeerLost,
    SettledElsewhere,
    StoreFilled,
    StoreFreed,
    UnknownElsewhere,
)
from mesh.core.ledger import Ledger
from mesh.core.limbo import Limbo
from mesh.core.membership import Membership
from mesh.core.packing import pack, text_bytes
from mesh.core.peers import Session, Worker
from mesh.core.periodic import Periodic
from mesh.core.permits import CLIENT_VERBS, WORKER_VERBS, may_ask
from mesh.core.purging import Purges
from mesh.core.queues import Lane
from mesh.core.room import Room
from mesh.core.settling import Settling
from mesh.core.states import CANCELLED, LEASED
from mesh.core.status import Surroundings, snapshot
from mesh.core.story import stories
from mesh.core.tasks import TaskTable
from mesh.entries import Entry, Position
from mesh.messages import (
    Bye,
    Cancel,
    Claim,
    Credit,
    Function,
    GetFunction,
    Heartbeat,
    Hello,
    PutFunction,
    Query,
    Released,
    Reply,
    SayHello,
    Settled,
    Submit,
    Unwatch,
    Watch,
    Welcome,
)
from mesh.model import NodeInfo, Peer, Role, TaskMark
from mesh.settings import Settings

COUNTERS = (
    "stale",
    "refused",
    "rejected",
    "redelivered",
    "duplicates",
    "late_successes",
    "settled_elsewhere",
    "adopted",
    "garbage",
    "problems",
    "firings",
    "firings_caught_up",
    "firings_skipped",
    "firings_elsewhere",
    "firings_refused",
    "firings_stale",
    "entries_refused",
)


class RouterMachine:
    """One router. ``boot`` is how often it was started on its store; ``durability`` is the store's level.

    ``shared``: other routers have that store, too.
    """

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
        shared: bool = False,
    ) -> None:
        self.router_id = router_id
        self.name = name
        self.version = version
        self.durability = durability
        self._is_shared = shared
        self.boot = boot
        self.settings = settings
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.surroundings = Surroundings()  # as the process around the machine sees them; for people
        self.since: Now | None = None
        self.room = room = Room()
        self._now = Now(0.0, 0.0)
        welcome = Welcome(router_id, name, version, durability, boot=boot, shared=shared)
        self._ledger = ledger = Ledger()
        self.table = table = TaskTable(settings, ledger, next_seq)
        self._members = members = Membership(settings, welcome, table, ledger, self.counters, room)
        afar = Afar(settings, table, ledger)
        self._limbo = limbo = Limbo(settings, router_id, table, members, ledger, self.counters, afar)
        shared_afar = afar if shared else None
        self._admission = Admission(settings, table, members, limbo, ledger, self.counters, shared_afar, room)
        self._dispatch = Dispatch(table, members, ledger)
        self._settling = Settling(table, members, ledger, self.counters)
        self._purges = Purges(table, ledger, room)
        no_room = self._admission.no_room
        self.periodic = Periodic(
            settings, router_id, boot, members, table, no_room, ledger, self.counters, room, shared=shared
        )
        self._adopting = Adopting(table, members, limbo, afar, self.periodic.firings, self.counters)
        self._handlers = self._event_handlers() | self.periodic.events
        self._verbs = self._verb_handlers() | self.periodic.verbs

    def _event_handlers(self) -> dict[type, Callable[[Any, Now], None]]:
        return {
            MessageReceived: self._on_message,
            PeerLost: self._on_peer_lost,
            PeerHeard: self._on_peer_heard,
            OutcomesLookedUp: self._admission.on_outcomes_looked_up,
            FunctionLookedUp: self._on_function_looked_up,
            OthersFound: self._on_others_found,
            SettledElsewhere: self._limbo.on_settled_elsewhere,
            UnknownElsewhere: self._limbo.on_unknown_elsewhere,
            JournalClaimed: self._adopting.on_claimed,
            BatchesAdopted: self._adopting.on_batches,
            JournalAdopted: self._adopting.on_adopted,
            StoreFilled: self._on_store_filled,
            StoreFreed: self._on_store_freed,
        }

    def _verb_handlers(self) -> dict[type, Callable[[Any, Any, Now], None]]:
        return {
            Bye: self._on_bye,
            Heartbeat: self._members.on_heartbeat,
            Watch: self._admission.on_watch,
            Unwatch: self._admission.on_unwatch,
            Cancel: self._on_cancel,
            Query: self._on_query,
            PutFunction: self._on_put_function,
            Credit: self._on_credit,
            Settled: self._settling.on_settled,
            Released: self._dispatch.on_released,
            Claim: self._members.on_claim,
            GetFunction: self._on_get_function,
        }

    # the machine

    def handle(self, events: Sequence[Event], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        if self.since is None:
            self.since = now
            self.periodic.begin(now)
        else:
            away_s = now.mono - self._now.mono
            self._members.excuse(away_s, now)
            self.periodic.wake(away_s, now)
        self._now = now
        self.room.tick(now)
        for event in events:
            self._handlers[type(event)](event, now)
        self._limbo.tick(now)
        self._members.tick(now)
        self.table.advance(now)
        self._settling.tick(now)
        self.periodic.lead(now)
        if self._purges and not self.halted:
            self._purges.go_on(now)
        self.periodic.fire(now)
        if not self.halted:
            self._dispatch.run(now)
            self.table.functions.prune(now)  # else one that is saved and one that goes could wait for the same commit
        self.periodic.tell()
        return self._ledger.close()

    def count(self, what: str) -> int:
        """Count something that the process around the machine has seen; how often it was."""
        self.counters[what] += 1
        return self.counters[what]

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        now = self._now
        if self._purges and not self.halted:
            return now.mono
        deadline = min(self._members.next_round, self._limbo.next_deadline())
        due = self.table.next_due()
        due_at = None if due is None else now.mono + (due - now.wall)
        recall_at = None if self.halted else self._dispatch.next_deadline()
        for at in (due_at, self._settling.ack_at, recall_at, self.periodic.next_deadline(now)):
            if at is not None and at < deadline:
                deadline = at
        return deadline

    def restore(
        self,
        batches: Iterable[tuple[int, float, Submit, set[str]]],
        marks: Sequence[TaskMark],
        nodes: Sequence[NodeInfo],
        functions: Mapping[str, float] | None = None,
        *,
        apps: Mapping[str, float] | None = None,
        entries: Iterable[Entry] = (),
        positions: Iterable[Position] = (),
        others: bool = False,
    ) -> None:
        """Begin with what the journal held: (seq, accepted_at, tasks, finished ids), oldest first.

        ``functions``: the shipped functions of the store, each with its last use, oldest first. ``apps``: those whose
        code has ``entries``, and when each was loaded. ``others``: there may be other routers, which may have been
        given some of these tasks while this one was away.
        """
        self.table.functions.restore(functions or {})
        by_id = {mark.id: mark for mark in marks}
        for seq, accepted_at, submit, settled in batches:
            self.table.restore(seq, accepted_at, submit, settled, by_id)
        self.periodic.restore(apps or {}, entries, positions, others=others)
        self._members.restore(nodes)
        # What other routers have finished of it stands in a store that they share.
        self._limbo.begin(others=others and not self._is_shared)

    def expect_others(self) -> None:
        """Another router came while this one started, and may not know of it: fire nothing until they have met."""
        self.periodic.expect_others()

    def contents(self) -> Iterator[Record]:
        """All that is to be durable, as it is now, for a store that has lost it.

        It may be gone through while other things happen: their own records, after these, make it right again.
        """
        parts = (
            self._members.contents(),
            self.table.functions.contents(),
            list(self.periodic.contents()),
            self.table.contents(),
        )
        return chain(*parts)

    # what may be looked at

    @property
    def workers(self) -> dict[Peer, Worker]:
        """The workers that have a session."""
        return self._members.workers

    @property
    def clients(self) -> dict[Peer, Session]:
        """The clients that have a session."""
        return self._members.clients

    @property
    def full(self) -> str | None:
        """Why the store takes no new tasks; None while it does."""
        return self.room.why

    @property
    def halted(self) -> bool:
        """Whether the store takes nothing at all."""
        return self.room.halted

    def able(self, lane: Lane) -> Collection[Worker]:
        """The workers that can run what stands in this lane."""
        return self._dispatch.able(lane)

    # messages

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        peer, message = event.peer, event.message
        verb = type(message)
        members = self._members
        if verb is Hello:
            self.periodic.forget(peer)
            members.on_hello(event, now)
            self.periodic.greet(peer)
            return
        session = members.workers.get(peer) if verb in WORKER_VERBS else members.get(peer)
        if session is None:
            self._say_hello(peer, verb)
            return
        session.heard = now.mono
        if verb in CLIENT_VERBS and session.role is Role.WORKER:
            members.refuse(peer, "role", f"a worker may not send {verb.__name__}")
        elif verb is Submit:
            self._admission.on_submit(session, message, event.raw, now)  # type: ignore[arg-type]
        elif verb is Query and not may_ask(event.role, message.what):  # type: ignore[attr-defined]
            self._refuse_query(session, event.role, message)  # type: ignore[arg-type]
        else:
            self._verbs[verb](session, message, now)

    def _on_peer_lost(self, event: PeerLost, now: Now) -> None:
        self._members.lose(event.peer, "connection lost", now)
        self.periodic.forget(event.peer)

    def _on_peer_heard(self, event: PeerHeard, now: Now) -> None:
        session = self._members.get(event.peer)
        if session is not None:
            session.heard = now.mono

    def _on_others_found(self, event: OthersFound, now: Now) -> None:
        self._limbo.on_others_found(event, now)
        self.periodic.on_others_found(event, now)

    def _say_hello(self, peer: Peer, verb: type) -> None:
        if peer in self._members.clients and verb in WORKER_VERBS:
            self._members.refuse(peer, "role", f"a client may not send {verb.__name__}")
        else:
            self._ledger.send(peer, SayHello())
            self._ledger.add(DropPeer(peer))

    def _refuse_query(self, session: Session, key: Role | None, query: Query) -> None:
        """In its REPLY: who asked waits for that, and goes on with what is allowed."""
        self.counters["refused"] += 1
        answer = {"error": f"a {key} key may not {query.what}: that takes the whole key of the mesh"}
        self._ledger.send(session.peer, Reply(query.request, msgspec.json.encode(answer)))

    def _on_bye(self, session: Session, message: Bye, now: Now) -> None:
        self._members.dismiss(session.peer, f"it left ({message.reason})" if message.reason else "it left", now)

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
        elif message.what == "story":
            answer = {"stories": stories(self, message.arguments, now)}
        elif message.what == "purge":
            self._purges.begin(session.peer, message)
            return
        else:
            answer = {"error": f"unknown query {message.what!r}; known: status, states, story, purge"}
        # Not after the commit: a full store is what people ask the status for.
        self._ledger.send(session.peer, Reply(message.request, msgspec.json.encode(answer)))

    def _on_put_function(self, session: Session, message: PutFunction, now: Now) -> None:
        kept = self.table.functions.kept
        # One that is not kept is asked for again when a batch that needs it may come in.
        if self.full is None and (message.code.digest in kept or len(kept) < self.settings.functions_max):
            self.table.functions.put(message.code, now)

    def _on_credit(self, worker: Worker, message: Credit, now: Now) -> None:
        worker.window = max(0, message.window)
        self._members.weigh(worker)

    def _on_get_function(self, worker: Worker, message: GetFunction, now: Now) -> None:
        self._ledger.add(LookUpFunction(worker.peer, message.digest))

    def _on_function_looked_up(self, event: FunctionLookedUp, now: Now) -> None:
        if event.code is None:
            self.table.functions.lose(event.digest)
        self._ledger.send(event.peer, Function(event.digest, event.code))

    def _on_store_filled(self, event: StoreFilled, now: Now) -> None:
        self.room.fill(event.reason, event.halt, now)
        self._members.tell_room(now)

    def _on_store_freed(self, event: StoreFreed, now: Now) -> None:
        self.room.free()
        self._members.tell_room(now)

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken. Called after every step of a test."""
        self.table.check()
        self.periodic.check()
        held: dict[str, Peer] = {}
        for peer, worker in self.workers.items():
            for task_id, task in worker.leases.items():
                assert task_id not in held, f"{task_id} is leased twice; {task.story()}"
                held[task_id] = peer
                assert task.worker == peer and task.state is LEASED, task.story()
                assert self.table.tasks.get(task_id) is task, task.story()
        assert set(self._members.hungry) == {w for w in self.workers.values() if w.credit}, "hungry workers miscounted"
        assert set(self._members.loaded) == {w for w in self.workers.values() if w.held > w.slots}, "loaded miscounted"
        leased = {t.id for t in self.table.tasks.values() if t.state is LEASED}
        assert leased == set(held), "leased tasks without a holder, or the reverse"
        if not self.halted:
            for lane in self.table.ready:
                hungry = [w for w in self.able(lane) if w.credit > 0]
                assert not (len(lane) and hungry), f"work and credit both idle in queue {lane.queue}"
