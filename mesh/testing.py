"""For users' own tests: run tasks at once in the test, or on a real mesh inside the process.

``local_mesh`` wires the real role machines, the real wire format and the memory store together on one thread; tasks
run on threads beside it. What it leaves out: sockets, processes, disks. A thread cannot be killed: a task over its
time limit is given up and its outcome is that of a killed one, but it runs on in the background.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mesh.api.app import Mesh
from mesh.api.options import a_kind
from mesh.clock import Now, SystemClock
from mesh.core.commands import (
    Command,
    GiveFunction,
    KillExecutor,
    ReclaimChunk,
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
    MessageReceived,
    PeerLost,
    RouterFound,
)
from mesh.core.links import OUTSIDE, RouterLinks
from mesh.core.router import RouterMachine
from mesh.core.scheduler import SchedulerMachine
from mesh.core.worker import WorkerMachine
from mesh.messages import Message
from mesh.model import Buffer, Delivery, Peer, Role, Settlement, TaskOptions
from mesh.net.arrivals import Arrivals
from mesh.net.find import Found, Search
from mesh.runtime.connection import Connection
from mesh.runtime.execute import Runner
from mesh.runtime.registry import TaskFunction, definitions
from mesh.runtime.router_step import RouterStep
from mesh.store.memory import MemoryStore
from mesh.wire.codec import decode_from_node, encode, encode_body
from mesh.wire.functions import PYTHON

ROUTER, WORKER = Peer(b"router"), Peer(b"worker")
ENDPOINT = "local"
NOBODY = 0  # no executor has this number

Frames = Sequence[Any]


@contextmanager
def eager(app: Mesh, *, propagate: bool = True) -> Iterator[Mesh]:
    """Run tasks in the calling thread as they are submitted; with ``propagate`` their errors are raised there."""
    _check_app("eager", app)
    before = app.conf.task_always_eager, app.conf.task_eager_propagates
    app.conf.update(task_always_eager=True, task_eager_propagates=propagate)
    try:
        yield app
    finally:
        app.conf.update(task_always_eager=before[0], task_eager_propagates=before[1])


@contextmanager
def local_mesh(app: Mesh, *, slots: int = 1, queues: Sequence[str] = ("default",)) -> Iterator[LocalMesh]:
    """Have ``app`` submit to a mesh inside this process: one router, one worker with ``slots`` threads.

    The worker knows the tasks of ``app``, those that are defined later too. The periodic tasks in the code of ``app``
    are there to be looked at and triggered; by itself nothing fires. On exit everything that was submitted and not
    finished is gone. Raises ``ConfigError`` for a periodic task that cannot be.
    """
    _check_app("local_mesh", app)
    mesh = LocalMesh(app, slots, queues)
    connector, connection = app.connector, app.open_connection
    app.connector, app.open_connection = mesh.connect, None
    try:
        yield mesh
    finally:
        mesh.close()
        app.connector, app.open_connection = connector, connection


def _check_app(verb: str, app: Mesh) -> None:
    if not isinstance(app, Mesh):
        raise TypeError(f"{verb} takes an app, got {a_kind(app)}: write {verb}(app), with app = Mesh(...)")


class LocalTransport:
    """A client's end of the connection to the router of a ``LocalMesh``, and its way there."""

    def __init__(self, mesh: LocalMesh, peer: Peer) -> None:
        self._mesh = mesh
        self._peer = peer
        self._inbox: queue.SimpleQueue[Frames | None] = queue.SimpleQueue()
        self._is_new = False

    def find(self) -> Search:
        return Search([Found((ENDPOINT,), "local", "inside this process")], "inside this process")

    def rest(self) -> None:
        """Nothing was begun."""

    def connect(self, endpoint: str) -> Peer:
        self._is_new = True
        return ROUTER

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        """It ends with this process."""

    def disconnect(self, peer: Peer) -> None:
        """There is one router, and it does not move."""

    def send(self, peer: Peer, frames: Frames) -> bool:
        self._mesh.tell(lambda: self._mesh.receive(self._peer, frames))
        return True

    def receive(self, timeout_s: float | None) -> Arrivals:
        arrivals = Arrivals()
        if self._is_new:
            self._is_new = False
            arrivals.connected.append(ROUTER)
            return arrivals
        try:
            frames = self._inbox.get(timeout=timeout_s)
            while True:
                if frames is not None:
                    arrivals.messages.append((ROUTER, list(frames), None))
                frames = self._inbox.get_nowait()
        except queue.Empty:
            return arrivals

    def put(self, frames: Frames) -> None:
        """Let ``receive`` return this; from any thread."""
        self._inbox.put(frames)

    def wake(self) -> None:
        self._inbox.put(None)

    def close(self, linger_s: float = 0.0) -> None:
        self._mesh.tell(lambda: self._mesh.lose(self._peer))


class LocalMesh:
    """A router and a worker on one thread. Everything below ``close`` belongs to that thread."""

    def __init__(self, app: Mesh, slots: int, queues: Sequence[str]) -> None:
        settings = app.settings
        self._app = app
        self._clock = SystemClock()
        self._mail: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._clients: dict[Peer, LocalTransport] = {}
        self._connections: list[Connection] = []
        self._links = RouterLinks("local")
        self.store = MemoryStore()
        self._router_events: list[Event] = []
        self._worker_events: list[Event] = [RouterFound(ROUTER)]
        self.router = RouterMachine("local", "local", settings)
        self._step = RouterStep(
            self.router,
            self.store,
            encode_submit=encode_body,
            send=self._send_from_router,
            drop=self._links.close,
            session=self._links.session,
        )
        self.worker = WorkerMachine(
            "worker",
            "local",
            settings,
            slots=slots,
            queues=queues,
            python=PYTHON,
            scheduler=SchedulerMachine(settings, leads=False),
        )
        self._executors: dict[int, _Executor] = {}
        self._entries = app.periodic.entries(of_script=False)  # first: what is called for them may define tasks
        self._defined = definitions(app.tasks)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mesh-local", daemon=True)
        self._thread.start()

    def connect(self) -> Connection:
        """A connection of the app to this mesh."""
        transport = LocalTransport(self, Peer(f"client-{self._app.new_id()}".encode()))
        self.tell(lambda: self._clients.__setitem__(transport._peer, transport))
        machine = self._app.new_machine()
        connection = Connection(machine, self._app.settings, transport, transport)
        self._connections.append(connection)
        return connection

    def tell(self, act: Callable[[], None]) -> None:
        """Have ``act`` done on the mesh's thread."""
        self._mail.put(act)

    def close(self) -> None:
        """End the mesh. Tasks that run are not waited for."""

        def act() -> None:
            self._closed = True

        for connection in self._connections:
            connection.close()
        self.tell(act)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        for command in self.worker.start():
            self._apply(command)
        while not self._closed:
            self._take_mail()
            self._learn_tasks()
            now = self._clock.now()
            while True:
                events, self._router_events = self._router_events, []
                self._step.step(events, now)
                events, self._worker_events = self._worker_events, []
                for command in self.worker.handle(events, now):
                    self._apply(command)
                if not self._router_events and not self._worker_events:
                    break
        for executor in self._executors.values():
            executor.stop()

    def _learn_tasks(self) -> None:
        """Have the worker say anew what it knows, where ``app`` has more tasks by now."""
        names = sorted(self._app.tasks)
        if self.worker.tasks is not None and self.worker.tasks != names:
            self.worker.tasks = None
            self._worker_events.append(ExecutorStarted(NOBODY, names, *self._defined))

    def _take_mail(self) -> None:
        try:
            self._mail.get(timeout=self._pause_s(self._clock.now()))()
            while True:
                self._mail.get_nowait()()
        except queue.Empty:
            return

    def _pause_s(self, now: Now) -> float:
        deadlines = [d for d in (self._step.next_deadline(), self.worker.next_deadline()) if d is not None]
        return max(0.0, min([now.mono + 1.0, *deadlines]) - now.mono)

    # between client and router

    def receive(self, peer: Peer, frames: Frames) -> None:
        incoming = decode_from_node(frames)
        for blob, parts in incoming.blobs:
            self.store.put_blob(blob, [bytes(part) for part in parts])
        taken = self._links.take(peer, incoming.session, incoming.number, incoming.message, incoming.raw, None)
        if isinstance(taken, Message):
            self._clients[peer].put(encode(taken, incoming.session, OUTSIDE))
        elif taken is not None:
            self._router_events.append(taken)

    def lose(self, peer: Peer) -> None:
        if self._clients.pop(peer, None) is not None:
            self._links.close(peer)
            self._router_events.append(PeerLost(peer))

    def _send_from_router(self, peer: Peer, message: Message) -> None:
        if peer == WORKER:
            self._worker_events.append(MessageReceived(ROUTER, message))
            return
        stamp = self._links.stamp(peer)
        client = self._clients.get(peer)
        if stamp is not None and client is not None:
            client.put(encode(message, *stamp, self.store.read_blob))

    # between worker and executors

    def _apply(self, command: Command) -> None:
        if isinstance(command, Send):
            self._router_events.append(MessageReceived(WORKER, command.message, None, Role.WORKER))
        elif isinstance(command, StartExecutor):
            self._executors[command.executor] = _Executor(self, self._app, command.executor)
            tasks, name = list(self._app.tasks), str(self._app.main or "local")[:255]
            started = ExecutorStarted(command.executor, tasks, *self._defined, name, self._entries)
            self._worker_events.append(started)
        elif isinstance(command, RunChunk):
            parts = {d.id: self._parts(d) for d in command.tasks}
            self._executors[command.executor].put(command.options, command.tasks, parts)
        elif isinstance(command, GiveFunction):
            self._executors[command.executor].runner.add_function(command.code, ())
        elif isinstance(command, ReclaimChunk):
            back = ExecutorReclaimed(command.executor, self._executors[command.executor].take_back())
            # By mail, behind what has ended meanwhile: else the worker would ask again for what it takes for unstarted.
            self.tell(lambda: self._worker_events.append(back))
        elif isinstance(command, StopExecutor):
            self._executors[command.executor].stop()
        elif isinstance(command, KillExecutor):
            self.end(command.executor, command.signal)

    def end(self, executor: int, cause: str) -> None:
        """An executor's thread ended, or is given up."""
        given_up = self._executors.pop(executor, None)
        if given_up is not None:
            given_up.take_back()
            given_up.stop()
            self._worker_events.append(ExecutorEnded(executor, cause))

    def _parts(self, delivery: Delivery) -> Sequence[Buffer]:
        return [] if isinstance(delivery.payload, bytes) else self.store.read_blob(delivery.payload) or []

    def settle(self, executor: int, settlement: Settlement, parts: Sequence[Buffer]) -> None:
        if executor not in self._executors:
            return  # it was given up
        if not isinstance(settlement.payload, bytes):
            self.store.put_blob(settlement.payload, [bytes(part) for part in parts])
        self._worker_events.append(ExecutorSettled(executor, [settlement]))


class _LocalRunner(Runner):
    """Runs the tasks that the app has when they are called."""

    def __init__(self, app: Mesh) -> None:
        settings = app.settings
        super().__init__(
            app.tasks,
            worker_name="local",
            inline_bytes_max=settings.inline_bytes_max,
            payload_bytes_max=settings.payload_bytes_max,
        )
        self._tasks = app.tasks

    def find(self, name: str, digest: str | None) -> TaskFunction:
        return self._tasks.get(name) or super().find(name, digest)


class _Executor:
    """A thread that runs tasks."""

    def __init__(self, mesh: LocalMesh, app: Mesh, number: int) -> None:
        self._mesh = mesh
        self._number = number
        self._work: queue.SimpleQueue[tuple[TaskOptions, Delivery, Sequence[Buffer]] | None] = queue.SimpleQueue()
        self.runner = _LocalRunner(app)
        threading.Thread(target=self._run, name=f"mesh-executor-{number}", daemon=True).start()

    def put(self, options: dict[int, TaskOptions], tasks: list[Delivery], parts: dict[str, Sequence[Buffer]]) -> None:
        for delivery in tasks:
            self._work.put((options[delivery.option], delivery, parts[delivery.id]))

    def take_back(self) -> list[str]:
        """The ids of what was not started, which will not be."""
        ids = []
        try:
            while (work := self._work.get_nowait()) is not None:
                ids.append(work[1].id)
        except queue.Empty:
            pass
        return ids

    def stop(self) -> None:
        """End when everything is done."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            options, delivery, parts = work
            settlement, result_parts = self.runner.run(delivery, options, parts)
            self._tell(settlement, result_parts)
        self._mesh.tell(lambda: self._mesh.end(self._number, "exit code 0"))

    def _tell(self, settlement: Settlement, parts: Sequence[Buffer]) -> None:
        self._mesh.tell(lambda: self._mesh.settle(self._number, settlement, parts))
