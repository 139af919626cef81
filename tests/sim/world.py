"""A mesh in one thread: real role machines, real links and the memory store on a simulated clock and a bad network.

Everything comes from one seed, so the same seed gives the same history. ``World.log`` is that history.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mesh.clock import Now
from mesh.core.client import ClientMachine
from mesh.core.commands import (
    DropPeer,
    Exit,
    GiveFunction,
    KillExecutor,
    PublishOutcomes,
    PublishRejected,
    PublishUnknown,
    ReclaimChunk,
    ReportEnded,
    RunChunk,
    Send,
    StartExecutor,
    StopExecutor,
)
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
    PeerLost,
    RouterFound,
    StopRequested,
    TasksCancelled,
    TasksSubmitted,
)
from mesh.core.links import NodeLinks, RouterLinks
from mesh.core.router import RouterMachine
from mesh.core.worker import WorkerMachine
from mesh.messages import Message, Submit
from mesh.model import (
    Blob,
    Delivery,
    Ending,
    ErrorInfo,
    FunctionCode,
    Outcome,
    Payload,
    Peer,
    Retrying,
    Settlement,
    TaskOptions,
    TaskSpec,
)
from mesh.runtime.payload_intake import PayloadIntake
from mesh.runtime.router_step import RouterStep
from mesh.settings import Settings
from mesh.store.memory import MemoryStore
from mesh.wire.codec import blobs_of

WALL = 1_800_000_000.0  # an arbitrary date
ROUTER = Peer(b"router")
encode = msgspec.msgpack.Encoder().encode
decode_submit = msgspec.msgpack.Decoder(Submit).decode


@dataclass
class Faults:
    """How bad the network and the machines are. Probabilities per message, delays in seconds."""

    drop: float = 0.0
    double: float = 0.0
    delay_s: float = 0.002
    reorder: bool = False  # without it each way between two nodes keeps its order, as a connection does


class World:
    """Nodes by address, one clock, one network."""

    def __init__(self, seed: int, faults: Faults, settings: Settings | None = None, **router: Any) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.faults = faults
        self.settings = settings or Settings(hello_retry_s=0.5, grace_s=3.0, function_ttl_s=1.5)
        self.now_s = 0.0
        self.log: list[str] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._arrival: dict[tuple[Peer, Peer], float] = {}
        self.store = MemoryStore()
        self.router: RouterNode | None = None
        self.workers: dict[Peer, WorkerNode] = {}
        self.clients: dict[Peer, ClientNode] = {}
        self._names = 0
        self.accepted: set[str] = set()
        self.outcomes: dict[str, list[Outcome]] = {}
        self.runs: dict[str, int] = {}
        self.blobs: dict[str, Blob] = {}  # all large payloads that ever reached a router
        self.disturbances = 0
        self.start_router()

    # time

    def now(self) -> Now:
        return Now(WALL + self.now_s, 1000.0 + self.now_s)

    def at(self, due_s: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_s, self._order, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, action)

    def run(self, until_s: float, *, stop: Callable[[], bool] = lambda: False) -> None:
        while self._due and self._due[0][0] <= until_s and not stop():
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        if not stop():
            self.now_s = max(self.now_s, until_s)

    def note(self, text: str) -> None:
        self.log.append(f"{self.now_s:10.4f} {text}")

    def is_large(self, task_id: str) -> bool:
        """Whether the payloads of a task are large: of each third one."""
        return zlib.crc32(task_id.encode()) % 3 == 0

    # the network

    def transmit(self, source: Peer, target: Peer, session: int, number: int, message: Message) -> None:
        faults, rng = self.faults, self.random
        copies = int(rng.random() >= faults.drop) + int(rng.random() < faults.double)
        for _ in range(copies):
            due = self.now_s + 0.0001 + rng.uniform(0, faults.delay_s)
            if not faults.reorder:
                due = self._arrival[source, target] = max(due, self._arrival.get((source, target), 0.0) + 1e-9)
            self.at(due, lambda: self._arrive(source, target, session, number, message))

    def _arrive(self, source: Peer, target: Peer, session: int, number: int, message: Message) -> None:
        node = self.router if target == ROUTER else self.workers.get(target) or self.clients.get(target)
        if node is not None:
            node.receive(source, session, number, message)

    # nodes

    def name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def start_router(self) -> None:
        self.note("router starts")
        self.router = RouterNode(self)
        self.router.wake([])

    def cut_connection(self, node: Node) -> None:
        """A connection breaks and is made anew: the node has another address, and either end may notice first."""
        self.note(f"{node.machine.name} loses its connection")
        self.disturbances += 1
        old = node.peer
        node.lost_router()
        self.after(self.random.uniform(0, 0.5), lambda: self.tell_router(PeerLost(old)))

    def readdress(self, node: Node) -> None:
        """A new connection is a new address; what is under way to the old one is lost."""
        nodes: dict[Peer, Any] = self.workers if node.peer in self.workers else self.clients
        del nodes[node.peer]
        node.peer = Peer(f"{node.machine.name}.{self.name('c')}".encode())
        nodes[node.peer] = node

    def crash_router(self) -> None:
        """The process is gone, with everything it had not committed; the others see the connection break."""
        self.note("router crashes")
        self.disturbances += 1
        self.router = None
        for node in [*self.workers.values(), *self.clients.values()]:
            node.lost_router()

    def add_worker(self, slots: int = 2, **options: Any) -> WorkerNode:
        node = WorkerNode(self, self.name("worker"), slots, **options)
        self.workers[node.peer] = node
        node.begin()
        return node

    def crash_worker(self, node: WorkerNode) -> None:
        self.note(f"{node.machine.name} crashes")
        self.disturbances += 1
        node.crashed = True
        del self.workers[node.peer]
        self.after(0.001, lambda: self.tell_router(PeerLost(node.peer)))

    def add_client(self) -> ClientNode:
        node = ClientNode(self, self.name("client"))
        self.clients[node.peer] = node
        node.wake([RouterFound(ROUTER)])
        return node

    def tell_router(self, event: Event) -> None:
        if self.router is not None:
            self.router.wake([event])

    # what must hold

    def drained(self) -> bool:
        """Nothing is left to do anywhere."""
        return (
            self.router is not None
            and not self.router.machine.table.tasks
            and all(not c.inbox and not c.machine.batches and not c.machine.waiting for c in self.clients.values())
        )

    def check(self) -> None:
        """Every acknowledged task has one outcome, and nobody heard of one that was never submitted."""
        submitted = {task_id for client in self.clients.values() for task_id in client.submitted}
        for task_id, told in self.outcomes.items():
            assert task_id in submitted, f"an outcome for {task_id}, which nobody submitted"
            assert all((o.state, o.payload) == (told[0].state, told[0].payload) for o in told), (
                f"{task_id} ended in more than one way: {told}"
            )
        stored = {o.id: o for o in self.store.outcomes(sorted(submitted))}
        lost = sorted(self.accepted - set(stored))
        assert not lost, f"accepted and lost: {lost}"
        for outcome in stored.values():
            assert outcome.error is None or outcome.error.type != "mesh.errors.NotRegistered", (
                f"a function went: {outcome}"
            )
        for task_id, told in self.outcomes.items():
            assert stored[task_id].state == told[0].state, f"{task_id}: told {told[0].state}, stored {stored[task_id]}"
        if self.drained():
            needed = {outcome.payload.key for outcome in stored.values() if isinstance(outcome.payload, Blob)}
            kept = {blob.key for blob in self.blobs.values() if self.store.read_blob(blob) is not None}
            assert kept == needed, "large payloads are lost, or stay for nobody"
        for client in self.clients.values():
            silent = client.submitted - set(self.outcomes) - client.rejected
            assert not silent, f"{client.machine.name} was never told of {sorted(silent)}"


@dataclass
class Node:
    """What workers and clients share: a machine behind links, woken by messages and by its own deadline."""

    world: World
    peer: Peer
    machine: Any
    links: NodeLinks = field(default_factory=NodeLinks)
    crashed: bool = False
    inbox: list[Event] = field(default_factory=list)
    _turning: bool = False
    _armed: float = -1.0

    def receive(self, source: Peer, session: int, number: int, message: Message) -> None:
        event = self.links.take(source, session, number, message)
        if event is not None:
            self.wake([event])

    def lost_router(self) -> None:
        self.links.close(ROUTER)
        self.world.readdress(self)
        self.wake([PeerLost(ROUTER)])

    def wake(self, events: list[Event]) -> None:
        """Have the machine told of this, at once or with what comes in the next moment, as a busy process does."""
        self.inbox += events
        if not self._turning:
            self._turning = True
            self.world.after(self.world.random.choice((0.0, 0.0, 0.004)), self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self.crashed:
            return
        events, self.inbox = self.inbox, []
        self.obey(self.machine.handle(events, self.world.now()))
        self.machine.check()
        self._arm()

    def _arm(self) -> None:
        deadline = self.machine.next_deadline()
        if deadline is None:
            return
        due = max(deadline - 1000.0, self.world.now_s + 1e-6)
        if self._armed > self.world.now_s and self._armed <= due:
            return
        self._armed = due
        self.world.at(due, lambda: self._alarm(due))

    def _alarm(self, due: float) -> None:
        if self._armed == due:
            self._armed = -1.0
            self.wake([])

    def obey(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Send):
                stamp = self.links.stamp(command.peer, command.message)
                if stamp is not None:
                    self.world.transmit(self.peer, command.peer, *stamp, command.message)
            else:
                self.effect(command)

    def effect(self, command: Any) -> None:
        raise NotImplementedError


class ClientNode(Node):
    """A client that remembers what it submitted and what it was told."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, Peer(name.encode()), ClientMachine(name, name, world.settings))
        self.submitted: set[str] = set()
        self.rejected: set[str] = set()
        self.unknown: list[str] = []

    def submit(self, count: int, options: TaskOptions | None = None, **fields: Any) -> list[str]:
        world = self.world
        ids = [world.name("t") for _ in range(count)]
        specs = [TaskSpec(i, 0, Blob(f"{i} arguments", [4]) if world.is_large(i) else b"", **fields) for i in ids]
        self.submitted |= {spec.id for spec in specs}
        world.note(f"{self.machine.name} submits {[spec.id for spec in specs]}")
        digest = options.function if options is not None else None
        functions = () if digest is None else (FunctionCode(digest, "", b"code"),)
        self.wake([TasksSubmitted([options or TaskOptions("work")], specs, functions)])
        return [spec.id for spec in specs]

    def cancel(self, ids: list[str], terminate: bool = False) -> None:
        self.wake([TasksCancelled(ids, terminate)])

    def _turn(self) -> None:
        before = dict(self.machine.batches)
        super()._turn()
        for number, batch in before.items():
            if number not in self.machine.batches:
                self.world.accepted |= {task.id for task in batch.tasks} - self.rejected

    def effect(self, command: Any) -> None:
        world = self.world
        if isinstance(command, PublishOutcomes):
            for outcome in command.outcomes:
                world.note(f"{self.machine.name} is told {outcome.id} {outcome.state} attempt {outcome.attempts}")
                world.outcomes.setdefault(outcome.id, []).append(outcome)
        elif isinstance(command, PublishRejected):
            assert command.code != "function", f"tasks were given up for a function: {command.reason}"
            self.rejected |= set(command.ids)
        elif isinstance(command, PublishUnknown):
            self.unknown += command.ids


class WorkerNode(Node):
    """A worker whose executors run in simulated time. What a task does stands in its name."""

    def __init__(self, world: World, name: str, slots: int, **options: Any) -> None:
        options = {"queues": ["default"], **options}
        machine = WorkerMachine(name, name, world.settings, slots=slots, **options)
        super().__init__(world, Peer(name.encode()), machine)
        self.names = ("work", "fails", "retries", "kills", "slow", "limited")
        self.inside: dict[int, list[tuple[Delivery, TaskOptions]]] = {}
        self.given: set[tuple[int, str]] = set()  # functions, by executor

    def begin(self) -> None:
        self.obey(self.machine.start())
        self.wake([RouterFound(ROUTER)])

    def effect(self, command: Any) -> None:
        world = self.world
        if isinstance(command, StartExecutor):
            number = command.executor
            self.inside[number] = []
            world.after(0.05, lambda: self.wake([ExecutorStarted(number, self.names)]))
        elif isinstance(command, RunChunk):
            tasks = self.inside[command.executor]
            idle = not tasks
            tasks += [(delivery, command.options[delivery.option]) for delivery in command.tasks]
            needed = {options.function for options in command.options.values()} - {None}
            assert {(command.executor, digest) for digest in needed} <= self.given, "run without its function"
            if idle:
                self._next(command.executor)
        elif isinstance(command, ReclaimChunk):
            tasks = self.inside.get(command.executor, [])
            back = [delivery.id for delivery, _ in tasks[1:]]
            del tasks[1:]
            number = command.executor
            world.after(0.001, lambda: self.wake([ExecutorReclaimed(number, back)]))
        elif isinstance(command, (KillExecutor, StopExecutor)):
            self._end(command.executor, getattr(command, "signal", "exit code 0"))
        elif isinstance(command, Exit):
            world.note(f"{self.machine.name} leaves: {command.reason}")
            self.crashed = True
            world.workers.pop(self.peer, None)
        elif isinstance(command, GiveFunction):
            self.given.add((command.executor, command.code.digest))
        elif not isinstance(command, (DropPeer, ReportEnded)):
            raise AssertionError(command)

    def _end(self, executor: int, cause: str) -> None:
        if self.inside.pop(executor, None) is not None:
            self.world.after(0.001, lambda: self.wake([ExecutorEnded(executor, cause)]))

    def _next(self, executor: int) -> None:
        tasks = self.inside.get(executor)
        if not tasks or self.crashed:
            return
        delivery, options = tasks[0]
        rng = self.world.random
        kind = options.name
        long = 3.0 if kind == "slow" else 60.0 if kind == "limited" else rng.choice([0.00001, 0.002, 0.05])
        self.world.runs[delivery.id] = self.world.runs.get(delivery.id, 0) + 1
        self.world.note(f"{self.machine.name} runs {delivery.id} attempt {delivery.attempt}")
        self.world.after(long, lambda: self._finish(executor, delivery, options, long))

    def _finish(self, executor: int, delivery: Delivery, options: TaskOptions, long: float) -> None:
        tasks = self.inside.get(executor)
        if self.crashed or not tasks or tasks[0][0] is not delivery:
            return
        if options.name == "kills":
            self._end(executor, "SIGKILL")
            return
        tasks.pop(0)
        wall = self.world.now().wall
        ending, error, retry = Ending.SUCCEEDED, None, None
        if options.name == "fails":
            ending, error = Ending.FAILED, ErrorInfo("builtins.ValueError", "no")
        elif options.name == "retries" and delivery.retries < 2:
            ending, retry = Ending.RETRY, Retrying(wall + 0.5, self._payload(delivery, "arguments"))
        payload = self._payload(delivery, "result") if ending is Ending.SUCCEEDED else b""
        settlement = Settlement(delivery.id, delivery.attempt, ending, payload, wall - long, long, error, retry)
        more = bool(tasks)
        self.wake([ExecutorSettled(executor, [settlement])])
        if more:
            self._next(executor)

    def _payload(self, delivery: Delivery, what: str) -> Payload:
        if not self.world.is_large(delivery.id):
            return b""
        return Blob(f"{delivery.id} {what} of {self.world.name('attempt')}", [4])

    def crash_executor(self) -> None:
        busy = [number for number, tasks in self.inside.items() if tasks]
        if busy:
            self.world.disturbances += 1
            self._end(self.world.random.choice(busy), "SIGSEGV")

    def stop(self) -> None:
        self.world.note(f"{self.machine.name} is asked to stop")
        self.wake([StopRequested()])


class RouterNode:
    """A router on the world's store."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.links = RouterLinks("router")
        found = world.store.recover()
        self.machine = RouterMachine(
            f"r{found.boot}", "router", world.settings, boot=found.boot, next_seq=found.next_seq
        )
        self.machine.restore(
            [(b.seq, b.accepted_at, decode_submit(b.raw), b.settled) for b in found.batches],
            found.marks,
            found.nodes,
            found.functions,
        )
        self.step = RouterStep(
            self.machine,
            world.store,
            encode_submit=encode,
            send=self._send,
            drop=self.links.close,
            session=self.links.session,
        )
        self.intake = PayloadIntake(world.store)
        self._armed = -1.0

    def receive(self, source: Peer, session: int, number: int, message: Message) -> None:
        raw = encode(message) if isinstance(message, Submit) else None
        taken = self.links.take(source, session, number, message, raw, None)
        if isinstance(taken, Message):
            self.world.transmit(ROUTER, source, session, 0, taken)
        elif taken is not None:
            blobs = blobs_of(message)
            self.world.blobs.update((blob.key, blob) for blob in blobs)
            if self.intake.take(source, message, [(blob, [b"data"]) for blob in blobs], maps=False) is None:
                new_blobs, self.intake.new = self.intake.new, []
                self.wake([taken], new_blobs)

    def _send(self, peer: Peer, message: Message) -> None:
        stamp = self.links.stamp(peer)
        if stamp is not None:
            self.world.transmit(ROUTER, peer, *stamp, message)

    def wake(self, events: list[Event], new_blobs: Sequence[Blob] = ()) -> None:
        if self.world.router is not self and self.world.router is not None:
            return
        self.step.step(events, self.world.now(), new_blobs)
        self.machine.check()
        deadline = self.step.next_deadline()
        if deadline is not None:
            due = max(deadline - 1000.0, self.world.now_s + 1e-6)
            if not (self._armed > self.world.now_s and self._armed <= due):
                self._armed = due
                self.world.at(due, lambda: self._alarm(due))

    def _alarm(self, due: float) -> None:
        if self._armed == due and self.world.router is self:
            self._armed = -1.0
            self.wake([])
