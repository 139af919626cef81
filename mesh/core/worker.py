"""A worker node's decisions: its sessions, what it is given and gives back, how it leaves.

No I/O, no clock, no randomness. The agent process around it owns the sockets and the executor processes; user code
runs in executors only, so this machine always answers. Which executor runs what is decided in ``mesh.core.crew``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.clocks import delivered
from mesh.core.commands import (
    Command,
    DropPeer,
    Exit,
    PublishRefused,
    ReportForgotten,
    Send,
    SessionEnded,
    StopExecutor,
)
from mesh.core.crew import Crew
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorFailed,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
    MessageReceived,
    PeerHeard,
    PeerLost,
    RouterForgotten,
    RouterFound,
    StopRequested,
)
from mesh.core.executors import Executor, Held
from mesh.core.holding import Holding
from mesh.core.owed import Owed
from mesh.core.packing import attempt_bytes, pack
from mesh.core.scheduler import SchedulerMachine
from mesh.core.sessions import Due, RouterSession
from mesh.core.twins import Twins
from mesh.core.worker_router import WorkerRouter
from mesh.messages import (
    Adopted,
    Bye,
    Cancel,
    Claim,
    Credit,
    Deliver,
    Drop,
    Function,
    Heartbeat,
    Hello,
    Message,
    Recall,
    Refuse,
    Released,
    SayHello,
    SettledAck,
    Shutdown,
    Welcome,
    WorkerInfo,
)
from mesh.model import Peer, Role, TaskOptions
from mesh.settings import Settings


class WorkerMachine:
    """One worker node with ``slots`` executors. ``max_tasks``: tasks an executor runs before it is replaced."""

    def __init__(
        self,
        node_id: str,
        name: str,
        settings: Settings,
        *,
        slots: int,
        queues: Sequence[str] = ("default",),
        python: str = "",
        version: str = "0",
        max_tasks: int | None = None,
        time_limit_s: float | None = None,
        scheduler: SchedulerMachine | None = None,
    ) -> None:
        """``scheduler``: what this node does for periodic tasks, in the same sessions; None: nothing.

        Without slots it runs no tasks: one executor loads the app, says what is in it, and ends.
        """
        self.node_id = node_id
        self.name = name
        self.settings = settings
        self.slots = slots
        self.queues = list(queues)
        self.python = python
        self.version = version
        self.scheduler = scheduler
        self.time_limit_s = time_limit_s  # of tasks that come without one and are defined without one
        self.tasks: list[str] | None = None  # known once an executor has loaded the app
        self._time_limits: Mapping[str, float] = {}  # by the tasks' definitions, and so is the next
        self._at_most_once: frozenset[str] = frozenset()
        self._out: list[Command] = []
        self._holding = Holding()
        self._owed = Owed(settings, self._holding, self._out)
        self._twins = Twins(settings, self._holding)
        self._crew = Crew(name, settings, max(1, slots), max_tasks, self._holding, self._owed, self._out)
        self._sessions_at = inf  # when a session wants something sent
        self._stopping: float | None = None  # when the drain is over
        self._left = False
        self._handlers: dict[type, Callable[[Any, Now], None]] = {
            MessageReceived: self._on_message,
            RouterFound: self._on_router_found,
            RouterForgotten: self._on_router_forgotten,
            PeerLost: self._on_peer_lost,
            PeerHeard: self._on_peer_heard,
            ExecutorStarted: self._on_executor_started,
            ExecutorSettled: self._crew.on_settled,
            ExecutorReclaimed: self._crew.on_reclaimed,
            ExecutorEnded: self._crew.on_ended,
            ExecutorFailed: self._on_executor_failed,
            StopRequested: self._on_stop_requested,
        }
        self._verbs: dict[type, Callable[[WorkerRouter, Any, Now], None]] = {
            Welcome: self._on_welcome,
            Refuse: self._on_refuse,
            SayHello: self._on_say_hello,
            Heartbeat: self._on_heartbeat,
            Deliver: self._on_deliver,
            SettledAck: lambda router, message, now: self._owed.acknowledge(router, message.batches),
            Recall: self._on_recall,
            Drop: self._on_drop,
            Cancel: self._on_cancel,
            Function: lambda router, message, now: self._crew.on_function(router.peer, message),
            Adopted: lambda router, message, now: self._hand_over(router, message.routers),
            Shutdown: lambda router, message, now: self._on_stop_requested(StopRequested(), now),
        }

    # the machine

    def start(self) -> list[Command]:
        """The first commands: the executors."""
        for _ in range(max(1, self.slots)):
            self._crew.start()
        return self._take_out()

    def handle(self, events: Sequence[Event], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        self._owed.wall = now.wall
        for event in events:
            self._handlers[type(event)](event, now)
        self._tick(now)
        if len(self.routers) > 1 or self._twins.any or self._owed.of_forgotten:
            self._settle_twins()
        if self._stopping is None:
            self._crew.feed(now)
        else:
            self._go_on_leaving(now)
        self._report()
        if self.scheduler is not None:
            sessions = [peer for peer, router in self.routers.items() if router.session.open]
            self._out += self.scheduler.handle(events, sessions, now)
        return self._take_out()

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        deadline = self._crew.next_deadline()
        if self.tasks is not None and not self._left:
            deadline = min(deadline, self._sessions_at)
        if self._stopping is not None:
            deadline = min(deadline, self._stopping)
        if self.scheduler is not None:
            deadline = min(deadline, self.scheduler.next_deadline())
        return None if deadline == inf else deadline

    def _take_out(self) -> list[Command]:
        out = self._out[:]
        self._out.clear()
        return out

    def _tick(self, now: Now) -> None:
        if now.mono >= self._sessions_at and self.tasks is not None and not self._left:
            self._keep_sessions(now)
        self._crew.tick(now)

    def _send(self, peer: Peer, message: Message) -> None:
        self._out.append(Send(peer, message))

    # what may be looked at

    @property
    def routers(self) -> dict[Peer, WorkerRouter]:
        """What is between the node and each router."""
        return self._owed.routers

    @property
    def executors(self) -> dict[int, Executor]:
        """The executors by number."""
        return self._crew.executors

    @property
    def held(self) -> dict[str, Held]:
        """All deliveries the node answers for."""
        return self._holding.held

    @property
    def unacked(self) -> int:
        """Settlements that some router has not acknowledged."""
        return self._owed.unacked

    @property
    def running(self) -> int:
        """Executors that have something to run."""
        return self._crew.running

    def router_of(self, task_id: str) -> Peer | None:
        """The router that a task which is in an executor is from."""
        return self._crew.router_of(task_id)

    def blobs_held(self) -> set[str]:
        """Keys of the large payloads that this node may still hand to an executor."""
        return self._crew.blobs() | self._twins.blobs()

    def blobs_owed(self) -> set[str]:
        """Keys of the large payloads in settlements that no router has acknowledged."""
        return self._owed.blobs()

    # sessions

    def _keep_sessions(self, now: Now) -> None:
        self._sessions_at = inf
        for peer, router in self.routers.items():
            if (why := router.session.silence(now.mono)) is not None:
                self._out.append(SessionEnded(peer, why, silent=True))
            due = router.session.due(now.mono)
            if due is Due.HELLO:
                self._send(peer, self._hello(router))
            elif due is Due.HEARTBEAT:
                self._send(peer, Heartbeat(now.wall, self.running))
            # What is heard meanwhile only puts it off; what brings it forward sets ``_sessions_at``.
            self._sessions_at = min(self._sessions_at, router.session.deadline())

    def _hello(self, router: WorkerRouter) -> Hello:
        self._settle_twins()
        self._owed.report(router)  # what was settled in this wake-up is claimed with what is not acknowledged
        held = self._owed.claims(router, self._crew.running_ids(), self._twins.of(router.peer))
        router.window = self._window(router)
        once = sorted(self._at_most_once)
        info = WorkerInfo(self.queues, self.tasks or [], self.slots, router.window, held, at_most_once=once)
        return Hello(Role.WORKER, self.node_id, self.name, self.python, self.version, info)

    def _on_router_found(self, event: RouterFound, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is None:
            self.routers[event.peer] = WorkerRouter(RouterSession(event.peer, self.settings, now.mono))
        else:
            router.session.lose(now.mono)
        self._sessions_at = now.mono

    def _on_router_forgotten(self, event: RouterForgotten, now: Now) -> None:
        """Give up what a router wanted, and say what nobody will be told: what runs may finish, it does no harm."""
        router = self.routers.pop(event.peer, None)
        if router is None:
            return
        running = self._crew.forget_router(event.peer)
        under_way = self._crew.running_ids()
        ones = self._holding.of(event.peer)
        for one in ones:
            self._holding.give_up(one)
        given_up = sum(one.delivery.id not in under_way for one in ones)
        self._twins.drop(event.peer, [twin.delivery.id for twin in self._twins.of(event.peer)])
        settlements = router.owed + len(router.fresh)
        if settlements or given_up or running:
            self._out.append(ReportForgotten(event.endpoint, settlements, given_up, running))

    def _on_peer_lost(self, event: PeerLost, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is not None:
            router.session.lose(now.mono + self.settings.hello_retry_s)
            self._sessions_at = now.mono

    def _on_peer_heard(self, event: PeerHeard, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is not None:
            router.session.heard = now.mono

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is None:
            return
        router.session.heard = now.mono
        verb = self._verbs.get(type(event.message))
        if verb is not None:  # else it is one for clients
            verb(router, event.message, now)

    def _on_welcome(self, router: WorkerRouter, message: Welcome, now: Now) -> None:
        router.session.welcome(now.mono)
        router.boot = message.boot
        self._sessions_at = now.mono
        self._owed.report_again(router)
        self._crew.ask_again(router.peer)
        if message.adopted:
            self._hand_over(router, message.adopted)

    def _hand_over(self, router: WorkerRouter, adopted: Mapping[str, int]) -> None:
        """A router has what others had, and so what we hold of them: say what that is. How it ends is told to both.

        What one of them has delivered in a later life is its own.
        """
        attempts: list[tuple[str, int]] = []
        for router_id, boot in adopted.items():
            lost = self.routers.get(Peer(router_id.encode()))
            if lost is None or lost is router or lost.boot > boot or router.adopted.get(lost.peer) == boot:
                continue
            router.adopted[lost.peer] = boot
            attempts += self._twins.share(lost.peer, router.peer)
            attempts += self._owed.share(lost, router)
            self._crew.ask_instead(lost.peer, router.peer)
        parts = list(pack(attempts, attempt_bytes)) or [[]]
        for number, part in enumerate(parts, 1):
            self._send(router.peer, Claim(list(part), more=number < len(parts)))

    def _on_refuse(self, router: WorkerRouter, message: Refuse, now: Now) -> None:
        self._out.append(PublishRefused(message.code, message.reason))
        if not router.session.open:
            router.session.refuse(message.reason, now.mono)
            self._sessions_at = now.mono

    def _on_say_hello(self, router: WorkerRouter, message: SayHello, now: Now) -> None:
        router.session.lose(now.mono)
        self._sessions_at = now.mono

    # executors

    def _on_executor_started(self, event: ExecutorStarted, now: Now) -> None:
        self._crew.on_started(event.executor)
        if not self.slots:
            self._crew.start_no_more()
            self._out.append(StopExecutor(event.executor))
        if self.tasks is None:
            self.tasks = sorted(event.tasks)
            self._time_limits, self._at_most_once = event.time_limits, frozenset(event.at_most_once)
            for router in self.routers.values():
                router.session.lose(now.mono)
            self._sessions_at = now.mono
            self._tick(now)

    def _on_executor_failed(self, event: ExecutorFailed, now: Now) -> None:
        if self.tasks is not None:  # others could: the modules are being changed
            self._crew.on_ended(ExecutorEnded(event.executor, event.reason), now)
            return
        self._out.append(Exit(1, event.reason))
        self._left = True

    def _on_heartbeat(self, router: WorkerRouter, message: Heartbeat, now: Now) -> None:
        """Compare clocks; that it lives was seen already."""
        router.clock.take(message.at, now)

    # deliveries

    def _on_deliver(self, router: WorkerRouter, message: Deliver, now: Now) -> None:
        options = message.options
        if self.time_limit_s is not None or self._time_limits or self._at_most_once:
            options = {number: self._as_defined(found) for number, found in options.items()}
        tasks = delivered(message, router.clock.take(message.at, now) if message.at else 0.0)
        orphans = self._crew.orphans()
        if len(self.routers) > 1 or orphans:
            tasks = self._twins.take(router, tasks, options, orphans)
        self._holding.add(router.peer, tasks, options)

    def _as_defined(self, options: TaskOptions) -> TaskOptions:
        """The options of a call, with what its caller need not have known."""
        limit, once = options.time_limit_s, options.at_most_once or options.name in self._at_most_once
        if limit is None:
            limit = self._time_limits.get(options.name, self.time_limit_s)
        return replace(options, time_limit_s=limit, at_most_once=once)

    def _on_recall(self, router: WorkerRouter, message: Recall, now: Now) -> None:
        self._release(router, self._holding.take_last(router.peer, message.count), recall=True)

    def _release(self, router: WorkerRouter, ones: Iterable[Held], *, recall: bool) -> None:
        attempts = []
        for one in ones:
            attempts.append((one.delivery.id, one.delivery.attempt))
            self._holding.give_up(one)
        for part in pack(attempts, attempt_bytes):
            self._send(router.peer, Released(list(part), recall))
        if recall and not attempts:
            self._send(router.peer, Released([], recall))

    def _on_drop(self, router: WorkerRouter, message: Drop, now: Now) -> None:
        for task_id, attempt in message.attempts:
            one = self.held.get(task_id)
            if one is not None and one.delivery.attempt == attempt and one.router == router.peer:
                self._holding.give_up(one)  # where it runs already, it may finish: a success may still be the first
        self._twins.drop(router.peer, [task_id for task_id, _ in message.attempts])

    def _on_cancel(self, router: WorkerRouter, message: Cancel, now: Now) -> None:
        for task_id in message.ids:
            one = self.held.get(task_id)
            if one is not None:
                self._crew.cancel(one, message, now)

    # telling the routers

    def _window(self, router: WorkerRouter) -> int:
        shut = self._stopping is not None or not self.slots
        return 0 if shut else min(self._crew.window(), self._owed.room(router))

    def _report(self) -> None:
        """Send what was settled in this wake-up, and a new credit where it has changed much."""
        if self._twins.any:  # something may have expired since
            self._settle_twins()
        for router in self.routers.values():
            if router.fresh:
                self._owed.report(router)
            if router.session.open:
                window = self._window(router)
                if window != router.window and not 0.8 * router.window < window < 1.25 * router.window:
                    router.window = window
                    self._send(router.peer, Credit(window))

    def _settle_twins(self) -> None:
        """After all that ends a delivery, or gives it up: what waited for that ends too, or is to be run."""
        self._twins.settle(self.routers, self._owed.of_forgotten)
        if self._twins.any:
            self._twins.promote(self._crew.running_ids())

    # leaving

    def _on_stop_requested(self, event: StopRequested, now: Now) -> None:
        self._crew.start_no_more()
        if event.at_once:
            self._stopping = now.mono
        elif self._stopping is None:
            self._stopping = now.mono + self.settings.drain_s
            self._crew.reclaim_all()

    def _go_on_leaving(self, now: Now) -> None:
        """Give back what has not started; when nothing is owed any more, or it takes too long, leave."""
        assert self._stopping is not None
        running = self._crew.running_ids()
        for router in self.routers.values():
            if router.session.open:  # else a HELLO on its way claims what we hold
                ours = (*self._holding.of(router.peer), *self._twins.of(router.peer))
                unstarted = [one for one in ours if one.delivery.id not in running]
                self._twins.drop(router.peer, [one.delivery.id for one in unstarted])
                self._release(router, unstarted, recall=False)
        self._holding.waiting.clear()
        self._crew.forget_wanted()
        # What is not acknowledged will run again, so a router that may be started anew just now is waited for. One that
        # is gone would only hold up the stop.
        owed = self.running or self._owed.anything(now.mono)
        if not self._left and (not owed or now.mono >= self._stopping):
            self._report()
            behind = self.running or self.unacked
            left = f" with {self._crew.left_behind()} and {self.unacked} unacknowledged" if behind else ""
            self._leave(f"stopped{left}")

    def _leave(self, reason: str) -> None:
        self._left = True
        self._crew.kill_all()
        for router in self.routers.values():
            if router.session.open:
                self._send(router.peer, Bye("stopped"))
                self._out.append(DropPeer(router.peer))
        self._out.append(Exit(0, reason))

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken. Called after every step of a test."""
        self._owed.check()
        self._twins.check(self._crew.running_ids())
        self._crew.check(resting=self._stopping is not None or self.tasks is None)
        if self.scheduler is not None:
            self.scheduler.check()
