"""A worker node's decisions: how much work to ask for, which executor runs what, and what became of it.

No I/O, no clock, no randomness. The agent process around it owns the sockets and the executor processes; user code
runs in executors only, so this machine always answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import Any

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import (
    Command,
    DropPeer,
    Exit,
    GiveFunction,
    KillExecutor,
    PublishRefused,
    ReclaimChunk,
    RunChunk,
    Send,
    StartExecutor,
    StopExecutor,
)
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorFailed,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
    MessageReceived,
    PeerLost,
    RouterFound,
    StopRequested,
)
from mesh.core.executors import Executor, Held, Phase, pace_name
from mesh.core.pace import Pace
from mesh.core.packing import attempt_bytes, pack, settlement_bytes
from mesh.core.sessions import Due, RouterSession
from mesh.messages import (
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
    Recall,
    Refuse,
    Released,
    SayHello,
    Settled,
    SettledAck,
    Shutdown,
    Welcome,
    WorkerInfo,
)
from mesh.model import Blob, Ending, ErrorInfo, FunctionCode, Peer, Role, Settlement, TaskOptions
from mesh.settings import Settings

STUCK_S = 0.010  # an executor silent this long gives back what it has not started
RESTART_S = 0.2  # first pause before an executor that died while starting is started anew; doubles up to 30 s
RESTART_MAX_S = 30.0
HELD_BYTES_MAX = 7 << 18  # of what a HELLO claims, in the 2 MiB a router takes
HELD_ITEM_BYTES = 8  # what a claim takes besides its id
FUNCTIONS_MAX = 512  # shipped functions a node keeps, and an executor before it is replaced


class RouterSide:
    """What the node owes one router: the session, and settlements it has not acknowledged."""

    __slots__ = ("batch", "fresh", "session", "unacked", "window")

    def __init__(self, session: RouterSession) -> None:
        self.session = session
        self.unacked: dict[int, list[Settlement]] = {}
        self.fresh: list[Settlement] = []
        self.batch = 0
        self.window = 0  # as it was last told


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
        labels: dict[str, str] | None = None,
    ) -> None:
        self.node_id = node_id
        self.name = name
        self.settings = settings
        self.slots = slots
        self.queues = list(queues)
        self.python = python
        self.version = version
        self.max_tasks = max_tasks
        self.time_limit_s = time_limit_s  # of tasks that come without one and are defined without one
        self.labels = labels or {}
        self.tasks: list[str] | None = None  # known once an executor has loaded the app
        self._time_limits: Mapping[str, float] = {}  # by the tasks' definitions, and so is the next
        self._at_most_once: frozenset[str] = frozenset()
        self.routers: dict[Peer, RouterSide] = {}
        self.held: dict[str, Held] = {}  # all we answer for, waiting or in an executor
        self.waiting: deque[Held] = deque()  # may hold some that are no longer in ``held``
        self.executors: dict[int, Executor] = {}
        self.unacked = 0  # settlements that some router has not acknowledged
        self._id_bytes = 1  # of the longest id seen
        self.functions: dict[str, FunctionCode] = {}
        self._wanted: dict[str, list[Held]] = {}  # by digest: waits for a shipped function
        self._cancelled: dict[str, Cancel] = {}
        self._busy: dict[int, Executor] = {}  # those that have a chunk
        self._sessions_at = inf  # when a session wants something sent
        self._pace = Pace(settings)
        self._next_executor = 0
        self._restarts: list[float] = []  # when to start executors anew
        self._failed_starts = 0
        self._stopping: float | None = None  # when the drain is over
        self._left = False
        self._out: list[Command] = []
        self._now = Now(0.0, 0.0)
        self._handlers: dict[type, Callable[[Any, Now], None]] = {
            MessageReceived: self._on_message,
            RouterFound: self._on_router_found,
            PeerLost: self._on_peer_lost,
            ExecutorStarted: self._on_executor_started,
            ExecutorSettled: self._on_executor_settled,
            ExecutorReclaimed: self._on_executor_reclaimed,
            ExecutorEnded: self._on_executor_ended,
            ExecutorFailed: self._on_executor_failed,
            StopRequested: self._on_stop_requested,
        }
        self._verbs: dict[type, Callable[[RouterSide, Any, Now], None]] = {
            Welcome: self._on_welcome,
            Refuse: self._on_refuse,
            SayHello: self._on_say_hello,
            Heartbeat: lambda side, message, now: None,
            Deliver: self._on_deliver,
            SettledAck: self._on_settled_ack,
            Recall: self._on_recall,
            Drop: self._on_drop,
            Cancel: self._on_cancel,
            Function: self._on_function,
            Shutdown: lambda side, message, now: self._on_stop_requested(StopRequested(), now),
        }

    # the machine

    def start(self) -> list[Command]:
        """The first commands: the executors."""
        return [self._new_executor() for _ in range(self.slots)]

    def handle(self, events: Sequence[Event], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        self._now = now
        for event in events:
            self._handlers[type(event)](event, now)
        self._tick(now)
        if self._stopping is None:
            self._feed(now)
        else:
            self._go_on_leaving(now)
        self._report(now)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        deadline = self._sessions_at if self.tasks is not None and not self._left else inf
        if self._restarts:
            deadline = min(deadline, self._restarts[0])
        if self._stopping is not None:
            deadline = min(deadline, self._stopping)
        for executor in self._busy.values():
            if executor.kill_as is not None:
                continue
            limit = executor.current().options.time_limit_s
            if limit is not None:
                deadline = min(deadline, executor.progress_at + limit)
            if len(executor.chunk) > 1 and not executor.reclaiming:
                deadline = min(deadline, executor.progress_at + STUCK_S)
        return None if deadline == inf else deadline

    @property
    def running(self) -> int:
        """Executors that have something to run."""
        return len(self._busy)

    def router_of(self, task_id: str) -> Peer | None:
        """The router that a task which is in an executor is from."""
        for executor in self._busy.values():
            held = executor.chunk.get(task_id)
            if held is not None:
                return held.router
        return None

    def blobs_held(self) -> set[str]:
        """Keys of the large payloads that this node may still hand to an executor."""
        helds = [*self.held.values(), *(held for e in self.executors.values() for held in e.chunk.values())]
        keys = {held.delivery.payload.key for held in helds if isinstance(held.delivery.payload, Blob)}
        keys |= {code.payload.key for code in self.functions.values() if isinstance(code.payload, Blob)}
        return keys

    def blobs_owed(self) -> set[str]:
        """Keys of the large payloads in settlements that no router has acknowledged."""
        settlements = [s for side in self.routers.values() for batch in side.unacked.values() for s in batch]
        payloads = [s.payload for s in settlements]
        payloads += [s.retry.payload for s in settlements if s.retry is not None and s.retry.payload is not None]
        return {payload.key for payload in payloads if isinstance(payload, Blob)}

    def _tick(self, now: Now) -> None:
        if now.mono >= self._sessions_at and self.tasks is not None and not self._left:
            self._keep_sessions(now)
        while self._restarts and self._restarts[0] <= now.mono:
            self._restarts.pop(0)
            self._out.append(self._new_executor())
        for executor in self._busy.values():
            self._look_after(executor, now)

    def _keep_sessions(self, now: Now) -> None:
        self._sessions_at = inf
        for peer, side in self.routers.items():
            due = side.session.due(now.mono)
            if due is Due.HELLO:
                self._send(peer, self._hello(peer))
            elif due is Due.HEARTBEAT:
                self._send(peer, Heartbeat(now.wall, self.running))
            # What is heard meanwhile only puts it off; what brings it forward sets ``_sessions_at``.
            self._sessions_at = min(self._sessions_at, side.session.deadline())

    def _look_after(self, executor: Executor, now: Now) -> None:
        """Kill what is over its time limit; take back what waits behind a long task."""
        if executor.kill_as is not None:
            return
        current = executor.current()
        limit = current.options.time_limit_s
        if limit is not None and now.mono >= executor.progress_at + limit:
            why = f"task {current.delivery.id} ran over its time limit of {limit:g} s and was killed"
            error = ErrorInfo("mesh.errors.TimeLimitExceeded", why)
            self._kill(executor, current, Ending.FAILED, error, now)
        elif len(executor.chunk) > 1 and not executor.reclaiming and now.mono >= executor.progress_at + STUCK_S:
            executor.reclaiming = True
            self._out.append(ReclaimChunk(executor.number))

    def _send(self, peer: Peer, message: Message) -> None:
        self._out.append(Send(peer, message))

    # routers

    def _on_router_found(self, event: RouterFound, now: Now) -> None:
        side = self.routers.get(event.peer)
        if side is None:
            self.routers[event.peer] = RouterSide(RouterSession(event.peer, self.settings, now.mono))
        else:
            side.session.lose(now.mono)
        self._sessions_at = now.mono

    def _on_peer_lost(self, event: PeerLost, now: Now) -> None:
        side = self.routers.get(event.peer)
        if side is not None:
            side.session.lose(now.mono + self.settings.hello_retry_s)
            self._sessions_at = now.mono

    def _hello(self, peer: Peer) -> Hello:
        side = self.routers[peer]
        held = self._claims(side)
        side.window = self._window()
        once = sorted(self._at_most_once)
        info = WorkerInfo(self.queues, self.tasks or [], self.slots, side.window, held, self.labels, once)
        return Hello(Role.WORKER, self.node_id, self.name, self.python, self.version, info)

    def _claims(self, side: RouterSide) -> list[tuple[str, int]]:
        """What we answer for to this router, as far as it fits; what is left out, it gives out anew.

        That is what waits: ``_window`` keeps the rest small, so that only a flood of the longest ids reaches it.
        """
        own = [held for held in self.held.values() if held.router == side.session.peer]
        claims = [(held.delivery.id, held.delivery.attempt) for held in own]
        claims += [(s.id, s.attempt) for batch in side.unacked.values() for s in batch]
        if (self._id_bytes + HELD_ITEM_BYTES) * len(claims) <= HELD_BYTES_MAX:
            return claims
        running = {task_id for executor in self._busy.values() for task_id in executor.chunk}
        unstarted = [claim for claim in claims[: len(own)] if claim[0] not in running]
        claims = [claim for claim in claims[: len(own)] if claim[0] in running] + claims[len(own) :] + unstarted
        sizes = accumulate(HELD_ITEM_BYTES + len(task_id.encode()) for task_id, _ in claims)
        fitting = sum(1 for size in sizes if size <= HELD_BYTES_MAX)
        for task_id, _ in claims[max(fitting, len(claims) - len(unstarted)) :]:
            del self.held[task_id]
        return claims[:fitting]

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        side = self.routers.get(event.peer)
        if side is None:
            return
        side.session.heard = now.mono
        self._verbs[type(event.message)](side, event.message, now)

    def _on_welcome(self, side: RouterSide, message: Welcome, now: Now) -> None:
        side.session.welcome(now.mono)
        self._sessions_at = now.mono
        for batch, settlements in side.unacked.items():
            self._send_settled(side, batch, settlements)
        for digest, helds in self._wanted.items():
            if any(held.router == side.session.peer for held in helds):
                self._send(side.session.peer, GetFunction(digest))

    def _on_refuse(self, side: RouterSide, message: Refuse, now: Now) -> None:
        self._out.append(PublishRefused(message.code, message.reason))
        if not side.session.open:
            side.session.refuse(message.reason, now.mono)
            self._sessions_at = now.mono

    def _on_say_hello(self, side: RouterSide, message: SayHello, now: Now) -> None:
        side.session.lose(now.mono)
        self._sessions_at = now.mono

    def _on_settled_ack(self, side: RouterSide, message: SettledAck, now: Now) -> None:
        for batch in message.batches:
            self.unacked -= len(side.unacked.pop(batch, ()))

    # deliveries

    def _on_deliver(self, side: RouterSide, message: Deliver, now: Now) -> None:
        peer, options, held, waiting = side.session.peer, message.options, self.held, self.waiting
        if self.time_limit_s is not None or self._time_limits or self._at_most_once:
            options = {number: self._as_defined(found) for number, found in options.items()}
        for delivery in message.tasks:
            one = Held(peer, delivery, options[delivery.option])
            held[delivery.id] = one
            waiting.append(one)
        ids = [delivery.id for delivery in message.tasks]
        if ids:
            self._id_bytes = max(self._id_bytes, max(map(len, ids)) * (1 if "".join(ids).isascii() else 4))

    def _as_defined(self, options: TaskOptions) -> TaskOptions:
        """The options of a call, with what its caller need not have known."""
        limit, once = options.time_limit_s, options.at_most_once or options.name in self._at_most_once
        if limit is None:
            limit = self._time_limits.get(options.name, self.time_limit_s)
        return replace(options, time_limit_s=limit, at_most_once=once)

    def _on_recall(self, side: RouterSide, message: Recall, now: Now) -> None:
        peer = side.session.peer
        back: list[Held] = []
        kept: list[Held] = []
        while self.waiting and len(back) < message.count:
            held = self.waiting.pop()
            if self.held.get(held.delivery.id) is not held:
                continue
            if held.router == peer:
                back.append(held)
            else:
                kept.append(held)
        self.waiting.extend(reversed(kept))
        self._release(side, back, recall=True)

    def _release(self, side: RouterSide, helds: Iterable[Held], *, recall: bool) -> None:
        attempts = []
        for held in helds:
            attempts.append((held.delivery.id, held.delivery.attempt))
            del self.held[held.delivery.id]
        for part in pack(attempts, attempt_bytes):
            self._send(side.session.peer, Released(list(part), recall))
        if recall and not attempts:
            self._send(side.session.peer, Released([], recall))

    def _on_drop(self, side: RouterSide, message: Drop, now: Now) -> None:
        for task_id, attempt in message.attempts:
            held = self.held.get(task_id)
            if held is not None and held.delivery.attempt == attempt and held.router == side.session.peer:
                del self.held[task_id]  # where it runs already, it may finish: a success may still be the first

    def _on_cancel(self, side: RouterSide, message: Cancel, now: Now) -> None:
        for task_id in message.ids:
            held = self.held.get(task_id)
            if held is None:
                continue
            inside = [executor for executor in self.executors.values() if task_id in executor.chunk]
            if not any(executor.chunk[task_id] is held for executor in inside):
                self._settle(held, Settlement(task_id, held.delivery.attempt, Ending.CANCELLED))
            for executor in inside:  # there may be an earlier attempt, given up by the router
                if len(executor.chunk) > 1:
                    self._cancelled[task_id] = message
                    self._reclaim(executor)
                elif message.terminate:
                    self._kill(executor, executor.chunk[task_id], Ending.CANCELLED, None, now, message.signal)

    def _reclaim(self, executor: Executor) -> None:
        if not executor.reclaiming:
            executor.reclaiming = True
            self._out.append(ReclaimChunk(executor.number))

    def _on_function(self, side: RouterSide, message: Function, now: Now) -> None:
        helds = self._wanted.pop(message.digest, [])
        if message.code is None:
            why = f"the router has no shipped function {message.digest}; submit it again"
            for held in helds:
                if self.held.get(held.delivery.id) is held:
                    error = ErrorInfo("mesh.errors.NotRegistered", why)
                    self._settle(held, Settlement(held.delivery.id, held.delivery.attempt, Ending.FAILED, error=error))
            return
        if len(self.functions) >= FUNCTIONS_MAX:
            del self.functions[next(iter(self.functions))]
        self.functions[message.digest] = message.code
        self.waiting.extendleft(reversed(helds))

    # executors

    def _new_executor(self) -> StartExecutor:
        self._next_executor += 1
        self.executors[self._next_executor] = Executor(self._next_executor)
        return StartExecutor(self._next_executor)

    def _on_executor_started(self, event: ExecutorStarted, now: Now) -> None:
        executor = self.executors.get(event.executor)
        if executor is None:
            return
        executor.phase = Phase.UP
        self._failed_starts = 0
        if self.tasks is None:
            self.tasks = sorted(event.tasks)
            self._time_limits, self._at_most_once = event.time_limits, frozenset(event.at_most_once)
            for side in self.routers.values():
                side.session.lose(now.mono)
            self._sessions_at = now.mono
            self._tick(now)

    def _on_executor_failed(self, event: ExecutorFailed, now: Now) -> None:
        self._out.append(Exit(1, event.reason))
        self._left = True

    def _on_executor_settled(self, event: ExecutorSettled, now: Now) -> None:
        executor = self.executors.get(event.executor)
        if executor is None:
            return
        chunk, all_held, routers = executor.chunk, self.held, self.routers
        options: TaskOptions | None = None  # of a run of settlements that have the same
        total, count = 0.0, 0
        for settlement in event.settlements:
            held = chunk.pop(settlement.id, None)
            if held is None:
                continue
            if all_held.get(settlement.id) is held:
                del all_held[settlement.id]
            routers[held.router].fresh.append(settlement)
            if held.options is not options:
                if options is not None:
                    self._pace.observe(pace_name(options), total, count)
                options, total, count = held.options, 0.0, 0
            total += settlement.runtime_s
            count += 1
        if options is not None:
            self._pace.observe(pace_name(options), total, count)
        executor.progress_at = now.mono
        if not chunk:
            executor.alone = False
            self._busy.pop(executor.number, None)
        if self._cancelled:
            for settlement in event.settlements:
                self._cancelled.pop(settlement.id, None)

    def _on_executor_reclaimed(self, event: ExecutorReclaimed, now: Now) -> None:
        executor = self.executors.get(event.executor)
        if executor is None:
            return
        executor.reclaiming = False
        back = [held for task_id in event.ids if (held := executor.chunk.pop(task_id, None)) is not None]
        if not executor.chunk:
            self._busy.pop(executor.number, None)
        self.waiting.extendleft(reversed(back))
        for held in back:
            if self._cancelled.pop(held.delivery.id, None) is not None:
                self._settle(held, Settlement(held.delivery.id, held.delivery.attempt, Ending.CANCELLED))
        for task_id, held in list(executor.chunk.items()):
            cancel = self._cancelled.pop(task_id, None)
            if cancel is not None and cancel.terminate:
                self._kill(executor, held, Ending.CANCELLED, None, now, cancel.signal)

    def _kill(
        self,
        executor: Executor,
        held: Held,
        ending: Ending,
        error: ErrorInfo | None,
        now: Now,
        signal: str = "SIGKILL",
    ) -> None:
        """End an executor because of one task; what else it had runs elsewhere."""
        if executor.kill_as is not None:
            return
        delivery = held.delivery
        started_at = now.wall - (now.mono - executor.progress_at)
        executor.kill_as = Settlement(
            delivery.id, delivery.attempt, ending, b"", started_at, now.mono - executor.progress_at, error
        )
        self._out.append(KillExecutor(executor.number, signal))

    def _on_executor_ended(self, event: ExecutorEnded, now: Now) -> None:
        executor = self.executors.pop(event.executor, None)
        if executor is None:
            return
        self._busy.pop(executor.number, None)
        back: list[Held] = []
        for held in executor.chunk.values():
            delivery = held.delivery
            self._cancelled.pop(delivery.id, None)
            kill_as = executor.kill_as
            # Of one that was killed what is left may have started: it was not given back.
            if kill_as is None or (kill_as.id != delivery.id and held.options.at_most_once):
                cause = f"executor of {self.name}: {event.cause}"
                lost = Settlement(delivery.id, delivery.attempt, Ending.LOST, error=ErrorInfo("WorkerLost", cause))
                self._settle(held, lost)
            elif kill_as.id == delivery.id:
                self._settle(held, kill_as)
            else:
                back.append(held)
        self.waiting.extendleft(reversed(back))
        if self._stopping is not None:
            return
        up = sum(1 for e in self.executors.values() if e.phase is not Phase.RETIRING)
        if up + len(self._restarts) >= self.slots:
            return
        if executor.phase is Phase.STARTING:
            self._failed_starts += 1
            pause = min(RESTART_S * 2**self._failed_starts, RESTART_MAX_S)
            self._restarts = sorted([*self._restarts, now.mono + pause])
        else:
            self._out.append(self._new_executor())

    def _settle(self, held: Held, settlement: Settlement) -> None:
        if self.held.get(held.delivery.id) is held:
            del self.held[held.delivery.id]
        self.routers[held.router].fresh.append(settlement)

    # handing out work

    def _feed(self, now: Now) -> None:
        """Give idle executors chunks of what waits, oldest first."""
        while self.waiting:
            executor = self._free_executor(now)
            if executor is None:
                return
            chunk = self._next_chunk(executor, now)
            if chunk:
                self._run(executor, chunk, now)

    def _free_executor(self, now: Now) -> Executor | None:
        """The idlest executor that may take a chunk: an idle one, or one that is nearly through."""
        best: Executor | None = None
        first = self.waiting[0]
        for executor in self.executors.values():
            if executor.phase is not Phase.UP or executor.kill_as is not None or executor.reclaiming:
                continue
            if not executor.chunk:
                return executor
            closed = executor.alone or now.mono >= executor.progress_at + STUCK_S
            closed = closed or first.delivery.id in executor.chunk  # an attempt that the router gave up may run there
            if not closed and (best is None or len(executor.chunk) < len(best.chunk)):
                best = executor
        if best is None or first.alone:
            return None
        # A second chunk behind a short one keeps the executor from idling between two.
        runtime = self._pace.runtime(pace_name(next(iter(best.chunk.values())).options))
        nearly_through = runtime * len(best.chunk) < self.settings.chunk_s / 2 and runtime < self.settings.chunk_s / 8
        return best if nearly_through else None

    def _next_chunk(self, executor: Executor, now: Now) -> list[Held]:
        settings, waiting, all_held, pace = self.settings, self.waiting, self.held, self._pace
        count_max = min(settings.chunk_max, -(-len(waiting) // self.slots))
        if self.max_tasks is not None:
            count_max = min(count_max, self.max_tasks - executor.given)
        chunk: list[Held] = []
        left_s = settings.chunk_s
        while waiting and len(chunk) < count_max:
            held = waiting[0]
            delivery, options = held.delivery, held.options
            if all_held.get(delivery.id) is not held:
                waiting.popleft()
                continue
            if delivery.id in executor.chunk or (held.alone and (chunk or executor.chunk)):
                break
            if chunk and held.router != chunk[0].router:
                break  # large payloads lie with their router: a chunk is of one
            waiting.popleft()
            if delivery.expires_at is not None and delivery.expires_at <= now.wall:
                self._settle(held, Settlement(delivery.id, delivery.attempt, Ending.EXPIRED))
                continue
            if options.function is not None and options.function not in self.functions:
                self._want_function(held)
                continue
            chunk.append(held)
            left_s -= pace.runtime(pace_name(options))
            if held.alone or left_s <= 0.0:
                break
        return chunk

    def _want_function(self, held: Held) -> None:
        digest = held.options.function
        assert digest is not None
        waiting = self._wanted.setdefault(digest, [])
        waiting.append(held)
        if len(waiting) == 1:
            self._send(held.router, GetFunction(digest))

    def _run(self, executor: Executor, chunk: list[Held], now: Now) -> None:
        for held in chunk:
            digest = held.options.function
            if digest is not None and digest not in executor.functions:
                executor.functions.add(digest)
                self._out.append(GiveFunction(executor.number, self.functions[digest]))
        if not executor.chunk:
            executor.progress_at = now.mono
            self._busy[executor.number] = executor
        executor.chunk.update((held.delivery.id, held) for held in chunk)
        executor.alone = chunk[0].alone
        executor.given += len(chunk)
        options = {held.delivery.option: held.options for held in chunk}
        self._out.append(RunChunk(executor.number, options, [held.delivery for held in chunk]))
        worn_out = self.max_tasks is not None and executor.given >= self.max_tasks
        if worn_out or len(executor.functions) >= FUNCTIONS_MAX:
            executor.phase = Phase.RETIRING
            self._out.append(StopExecutor(executor.number))
            self._out.append(self._new_executor())

    # telling the routers

    def _window(self) -> int:
        claims_max = HELD_BYTES_MAX // (HELD_ITEM_BYTES + self._id_bytes)  # in one HELLO
        if self._stopping is not None or self.unacked > min(self.settings.unacked_max, 3 * claims_max // 4):
            return 0
        return min(self._pace.window(self.slots), claims_max // 4)

    def _report(self, now: Now) -> None:
        """Send what was settled in this wake-up, and a new credit where it has changed much."""
        for side in self.routers.values():
            if side.fresh:
                for part in pack(side.fresh, settlement_bytes):
                    side.batch += 1
                    settlements = list(part)
                    side.unacked[side.batch] = settlements
                    self.unacked += len(settlements)
                    if side.session.open:
                        self._send_settled(side, side.batch, settlements)
                side.fresh = []
            if side.session.open:
                window = self._window()
                if window != side.window and not 0.8 * side.window < window < 1.25 * side.window:
                    side.window = window
                    self._send(side.session.peer, Credit(window))

    def _send_settled(self, side: RouterSide, batch: int, settlements: list[Settlement]) -> None:
        self._send(side.session.peer, Settled(batch, settlements))

    # leaving

    def _on_stop_requested(self, event: StopRequested, now: Now) -> None:
        if event.at_once:
            self._stopping = now.mono
        elif self._stopping is None:
            self._stopping = now.mono + self.settings.drain_s
            self._restarts.clear()
            for executor in self.executors.values():
                if len(executor.chunk) > 1:
                    self._reclaim(executor)

    def _go_on_leaving(self, now: Now) -> None:
        """Give back what has not started; when nothing is owed any more, or it takes too long, leave."""
        assert self._stopping is not None
        for side in self.routers.values():
            if not side.session.open:
                continue  # a HELLO on its way claims what we hold
            peer = side.session.peer
            running = {task_id for executor in self.executors.values() for task_id in executor.chunk}
            self._release(
                side, [h for i, h in self.held.items() if h.router == peer and i not in running], recall=False
            )
        self.waiting.clear()
        self._wanted.clear()
        # What no router is there to acknowledge will run again; waiting for one would only hold up the stop.
        heard = any(side.session.open for side in self.routers.values())
        owed = self.running or (heard and (self.unacked or any(side.fresh for side in self.routers.values())))
        if self._left or (owed and now.mono < self._stopping):
            return
        self._report(now)
        self._left = True
        for executor in self.executors.values():
            self._out.append(KillExecutor(executor.number))
        for side in self.routers.values():
            if side.session.open:
                self._send(side.session.peer, Bye("stopped"))
                self._out.append(DropPeer(side.session.peer))
        reason = "stopped" if not owed else f"stopped with {self.running} running and {self.unacked} unacknowledged"
        self._out.append(Exit(0, reason))

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken. Called after every step of a test."""
        assert self.unacked == sum(len(part) for side in self.routers.values() for part in side.unacked.values())
        assert self._busy.keys() == {number for number, executor in self.executors.items() if executor.chunk}
        for executor in self.executors.values():
            assert executor.alone <= (len(executor.chunk) <= 1), "a task that must be alone is not"
            for task_id, held in executor.chunk.items():
                assert held.delivery.id == task_id
        waiting = [h for h in self.waiting if self.held.get(h.delivery.id) is h]
        assert len(waiting) == len({h.delivery.id for h in waiting}), "a delivery waits twice"
        if self._stopping is None and self.tasks is not None:
            idle = [
                e
                for e in self.executors.values()
                if e.phase is Phase.UP and not e.chunk and e.kill_as is None and not e.reclaiming
            ]
            assert not (waiting and idle), "work and executors both idle"
