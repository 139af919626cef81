"""A router against clients and workers that keep no rule: whatever they say, its promises hold.

The rules are what may happen to it; some messages are legal, others stale, doubled, of the wrong node or of no sense.
After each the machine's own ``check`` must pass, and what it said must be what it promised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.clock import Now
from mesh.core.commands import Command, Send
from mesh.core.events import Event, PeerLost
from mesh.core.router import RouterMachine
from mesh.messages import (
    Accepted,
    Bye,
    Cancel,
    Credit,
    Deliver,
    Drop,
    Message,
    Outcomes,
    Query,
    Released,
    Settled,
    Submit,
    Unwatch,
    Watch,
)
from mesh.model import Blob, Ending, Outcome, Peer, Retrying, Settlement, TaskOptions, TaskSpec, TaskState
from mesh.runtime.router_step import RouterStep
from mesh.settings import Settings
from mesh.store.memory import MemoryStore
from mesh.wire.codec import blobs_of
from tests.core.make import MONO, WALL, got, hello_client, hello_worker

SETTINGS = Settings(queued_tasks_max=60, heartbeat_s=2.0, grace_s=3.0, deaths_max=5, commit_delay_s=0.0)
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Submit).decode

Handle = Callable[[Sequence[Event], Now], list[Command]]

CLIENTS = [Peer(b"c1"), Peer(b"c2"), Peer(b"c1 anew")]
WORKERS = [Peer(b"w1"), Peer(b"w2"), Peer(b"w1 anew")]
NODE_IDS = {**dict(zip(CLIENTS, ["c1", "c2", "c1"])), **dict(zip(WORKERS, ["w1", "w2", "w1"]))}

ids = st.integers(0, 25).map("t{}".format)
batches = st.lists(ids, max_size=6) | st.lists(ids, min_size=3, max_size=6, unique=True)
clients = st.sampled_from(CLIENTS)
workers = st.sampled_from(WORKERS)
kinds = st.sampled_from(
    [
        TaskOptions("work"),
        TaskOptions("work"),
        TaskOptions("work", "other", 3),
        TaskOptions("work", at_most_once=True),
        TaskOptions("work", ignore_result=True),
        TaskOptions("once at w2"),
        TaskOptions("nobody has it"),
    ]
)
WISHES: list[Callable[[list[str]], Message]] = [
    Watch,
    lambda ids: Watch(ids, own=True),
    Unwatch,
    Cancel,
    lambda ids: Cancel(ids, terminate=True),
]
endings = st.sampled_from([Ending.SUCCEEDED, Ending.SUCCEEDED, *Ending])


class RouterRules(RuleBasedStateMachine):
    """One router on one store, restarted now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.seconds = 0.0
        self.held: dict[Peer, dict[str, int]] = {worker: {} for worker in WORKERS}  # as told to us
        self.submitted: set[str] = set()
        self.accepted: set[str] = set()
        self.told: dict[str, set[tuple[TaskState, int]]] = {}
        self.words: dict[tuple[str, Ending], set[int]] = {}  # attempts that workers told us the ending of
        self.started_once: set[tuple[str, int]] = set()
        self.batches: dict[tuple[Peer, int], list[str]] = {}
        self.next_batch = 0
        self.blobs: dict[str, Blob] = {}  # all large payloads that ever came
        self.is_full = False
        self.store.room = lambda: not self.is_full
        self.start()

    # the process around the machine

    def start(self) -> None:
        found = self.store.recover()
        self.machine = RouterMachine("r", "router", SETTINGS, boot=found.boot, next_seq=found.next_seq)
        batches = [(b.seq, b.accepted_at, decode(b.raw), b.settled) for b in found.batches]
        self.machine.restore(batches, found.marks, found.nodes, found.functions)
        self.step = RouterStep(
            self.machine,
            self.store,
            encode_submit=encode,
            send=self.on_sent,
            drop=lambda peer: None,
            session=lambda peer: 0,
        )
        self.machine.handle = self.watched(self.machine.handle)  # type: ignore[method-assign]
        self.happen()

    def watched(self, handle: Handle) -> Handle:
        """Looks at what is delivered when it is decided: a delivery that waits for its commit may leave later."""

        def look(events: Sequence[Event], now: Now) -> list[Command]:
            commands = handle(events, now)
            for command in commands:
                if isinstance(command, Send) and isinstance(command.message, Deliver):
                    worker = self.machine.workers[command.peer]
                    assert worker.held <= worker.window, "more was delivered than the worker takes"
            return commands

        return look

    def on_delivered(self, peer: Peer, message: Deliver) -> None:
        for delivery in message.tasks:
            start, options = (delivery.id, delivery.retries), message.options[delivery.option]
            assert start not in self.started_once, "delivered at most once, and now a second time"
            if options.at_most_once or (options.name == "once at w2" and NODE_IDS[peer] == "w2"):
                self.started_once.add(start)

    def now(self) -> Now:
        return Now(WALL + self.seconds, MONO + self.seconds)

    def happen(self, *events: Event, new_blobs: Sequence[Blob] = ()) -> None:
        self.seconds += 0.001
        self.step.step(events, self.now(), new_blobs)

    def hear(self, peer: Peer, message: Message) -> None:
        came = {blob.key: blob for blob in blobs_of(message)}
        self.blobs |= came
        self.happen(got(peer, message), new_blobs=[b for b in came.values() if self.store.put_blob(b, [b"data"])])

    def on_sent(self, peer: Peer, message: Message) -> None:
        if isinstance(message, Deliver):
            self.on_delivered(peer, message)
            for delivery in message.tasks:
                assert delivery.attempt > self.held[peer].get(delivery.id, 0), "an attempt was delivered twice"
                self.held[peer][delivery.id] = delivery.attempt
        elif isinstance(message, Drop):
            for task_id, attempt in message.attempts:
                if self.held[peer].get(task_id) == attempt:
                    del self.held[peer][task_id]
        elif isinstance(message, Accepted):
            for number in message.batches:
                self.accepted.update(self.batches[peer, number])
        elif isinstance(message, Outcomes):
            for outcome in message.outcomes:
                self.told.setdefault(outcome.id, set()).add((outcome.state, outcome.attempts))

    @initialize()
    def everybody_connects(self) -> None:
        for client in CLIENTS:
            self.client_connects(client)
        for worker in WORKERS[:2]:
            self.worker_connects(worker, 4, False)

    # clients

    @rule(client=clients)
    def client_connects(self, client: Peer) -> None:
        self.hear(client, hello_client(NODE_IDS[client]))

    @rule(
        client=clients, wanted=batches, options=kinds, repeated=st.booleans(), late=st.booleans(), large=st.booleans()
    )
    def client_submits(
        self, client: Peer, wanted: list[str], options: TaskOptions, repeated: bool, late: bool, large: bool
    ) -> None:
        known = self.submitted & set(wanted)
        self.next_batch += 1
        fields: dict[str, Any] = {"eta": WALL + self.seconds + 1.5} if late else {}
        payloads = [Blob(f"{i} of {client!r}", [4]) if large else b"x" * len(i) for i in wanted]
        specs = [TaskSpec(i, 0, payload, **fields) for i, payload in zip(wanted, payloads)]
        self.batches[client, self.next_batch] = wanted
        if client in self.machine.clients:
            self.submitted |= set(wanted)
        self.hear(client, Submit(self.next_batch, [options], specs, repeated or bool(known)))

    @rule(client=clients, wanted=st.lists(ids, min_size=1, max_size=4), what=st.sampled_from(WISHES))
    def client_wishes(self, client: Peer, wanted: list[str], what: Callable[[list[str]], Message]) -> None:
        self.hear(client, what(wanted))

    @rule(client=clients, what=st.sampled_from(["status", "states", "story", "purge", "nonsense"]), about=batches)
    def client_asks(self, client: Peer, what: str, about: list[str]) -> None:
        self.hear(client, Query(1, what, [] if what == "purge" else about))

    # workers

    @rule(worker=workers, window=st.integers(0, 6), forgetful=st.booleans())
    def worker_connects(self, worker: Peer, window: int, forgetful: bool) -> None:
        for other, node_id in NODE_IDS.items():
            if node_id == NODE_IDS[worker] and other != worker:
                self.held[worker].update(self.held[other])
                self.held[other].clear()
        if forgetful:
            self.held[worker].clear()
        claims = list(self.held[worker].items())
        self.hear(
            worker,
            hello_worker(
                NODE_IDS[worker],
                window,
                held=claims,
                queues=("default", "other"),
                tasks=("work", "once at w2"),
                at_most_once=("once at w2",) if NODE_IDS[worker] == "w2" else (),
            ),
        )

    @rule(worker=workers, window=st.integers(0, 8))
    def worker_grants(self, worker: Peer, window: int) -> None:
        self.hear(worker, Credit(window))

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), ending=endings, cut=st.booleans(), window=st.integers(0, 3))
    def worker_settles(self, data: st.DataObject, ending: Ending, cut: bool, window: int) -> None:
        """Some of what it holds. With ``cut`` the connection breaks before the answer, so it says it again."""
        worker = data.draw(st.sampled_from([w for w in WORKERS if self.held[w]]))
        if worker not in self.machine.workers:
            self.worker_connects(worker, window, False)
        held = self.held[worker]
        if not held:
            return
        chosen = data.draw(st.lists(st.sampled_from(sorted(held)), min_size=1, max_size=4, unique=True))
        message = Settled(1, [self.word(worker, i, held[i], ending) for i in chosen])
        if cut:
            before = dict(held)
            self.hear(worker, message)
            self.held[worker] = before
            self.worker_connects(worker, window, False)
        for task_id in chosen:
            self.held[worker].pop(task_id, None)
        self.hear(worker, message)

    @rule()
    def workers_succeed(self) -> None:
        """All of them, with all they hold."""
        for worker in WORKERS:
            if worker in self.machine.workers and (held := self.held[worker]):
                self.held[worker] = {}
                self.hear(worker, Settled(3, [self.word(worker, i, held[i], Ending.SUCCEEDED) for i in held]))

    @rule(worker=workers, task_id=ids, attempt=st.integers(0, 5), ending=endings)
    def worker_settles_what_it_may_not_hold(self, worker: Peer, task_id: str, attempt: int, ending: Ending) -> None:
        self.hear(worker, Settled(2, [self.word(worker, task_id, attempt, ending)]))

    def word(self, worker: Peer, task_id: str, attempt: int, ending: Ending) -> Settlement:
        large = Blob(f"{task_id} of {NODE_IDS[worker]} in attempt {attempt}", [4])
        small = (len(task_id) + attempt) % 2
        retry = Retrying(WALL + self.seconds + 0.5, b"again" if small else large) if ending is Ending.RETRY else None
        self.words.setdefault((task_id, ending), set()).add(attempt)
        return Settlement(task_id, attempt, ending, b"done" if small or retry else large, retry=retry)

    @rule(worker=workers, task_id=ids, attempt=st.integers(0, 3), recall=st.booleans())
    def worker_releases(self, worker: Peer, task_id: str, attempt: int, recall: bool) -> None:
        if self.held[worker].get(task_id) == attempt:
            del self.held[worker][task_id]
        session = self.machine.workers.get(worker)
        if session is not None and (lease := session.leases.get(task_id)) is not None and lease.attempt == attempt:
            rare = lease.rare
            self.started_once.discard((task_id, rare.retries if rare is not None else 0))
        self.hear(worker, Released([(task_id, attempt)], recall))

    # both

    @rule(peer=st.sampled_from([*CLIENTS, *WORKERS]), gently=st.booleans())
    def node_leaves(self, peer: Peer, gently: bool) -> None:
        if gently:
            self.hear(peer, Bye("enough"))
        else:
            self.happen(PeerLost(peer))

    @rule(seconds=st.sampled_from([0.01, 0.6, 2.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.is_full = self.is_full and seconds < 0.5
        self.happen()

    @rule()
    def store_is_full_for_a_while(self) -> None:
        self.is_full = True

    @rule(in_order=st.booleans())
    def router_restarts(self, in_order: bool) -> None:
        self.is_full = False
        self.start()
        if in_order:
            self.everybody_connects()

    # what holds

    @invariant()
    def the_books_balance(self) -> None:
        self.machine.check()

    @invariant()
    def no_credit_is_negative(self) -> None:
        assert all(worker.credit >= 0 for worker in self.machine.workers.values())

    @invariant()
    def a_death_and_a_retry_are_counted_once(self) -> None:
        for task in self.machine.table.tasks.values():
            if task.rare is not None:
                assert task.rare.deaths <= len(self.words.get((task.id, Ending.LOST), ()))
                assert task.rare.retries <= len(self.words.get((task.id, Ending.RETRY), ()))

    @invariant()
    def each_task_has_one_outcome_and_nobody_was_told_of_an_unknown_one(self) -> None:
        assert set(self.told) <= self.submitted
        assert all(len(endings) == 1 for endings in self.told.values()), self.told

    @invariant()
    def what_was_accepted_is_durable(self) -> None:
        if self.machine.halted:
            return  # nobody is told meanwhile, and a start now would take what is not committed yet
        durable = {outcome.id for outcome in self.stored()}
        for batch in self.store.recover().batches:
            durable.update(spec.id for spec in decode(batch.raw).tasks)
        assert self.accepted <= durable

    @invariant()
    def what_was_told_is_what_is_stored(self) -> None:
        stored = {outcome.id: outcome for outcome in self.stored()}
        for task_id, endings in self.told.items():
            assert (stored[task_id].state, stored[task_id].attempts) in endings

    @invariant()
    def the_store_has_the_large_payloads_that_somebody_needs_and_no_others(self) -> None:
        if self.machine.halted:
            return
        payloads = [task.payload for task in self.machine.table.tasks.values()]
        payloads += [outcome.payload for outcome in self.stored()]
        needed = {payload.key for payload in payloads if isinstance(payload, Blob)}
        assert {key for key, blob in self.blobs.items() if self.store.read_blob(blob) is not None} == needed

    def stored(self) -> list[Outcome]:
        return self.store.outcomes(sorted(self.submitted))


TestRouter = RouterRules.TestCase
TestRouter.settings = settings(stateful_step_count=50)
