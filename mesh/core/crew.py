"""Which executor runs what: chunks, time limits, reclaims, deaths, shipped functions.

User code runs in executors only. What is known of one is in ``mesh.core.executors``.
"""

from __future__ import annotations

from math import inf
from operator import attrgetter

from mesh.clock import Now
from mesh.core.commands import (
    Command,
    GiveFunction,
    KillExecutor,
    ReclaimChunk,
    ReportEnded,
    RunChunk,
    Send,
    StartExecutor,
    StopExecutor,
)
from mesh.core.events import ExecutorEnded, ExecutorReclaimed, ExecutorSettled
from mesh.core.executors import Executor, Held, Phase, named, pace_name
from mesh.core.holding import Holding
from mesh.core.owed import Owed
from mesh.core.pace import Pace
from mesh.messages import Cancel, Function, GetFunction
from mesh.model import Blob, Ending, ErrorInfo, FunctionCode, Peer, Settlement, TaskOptions
from mesh.settings import Settings

STUCK_S = 0.010  # an executor silent this long gives back what it has not started
RESTART_S = 0.2  # half the first pause before an executor takes the place of one that did nothing; it doubles
RESTART_MAX_S = 30.0
FAILURES_MAX = 16  # counted: long past the longest pause
FUNCTIONS_MAX = 512  # shipped functions a node keeps, and an executor before it is replaced

_runtime_s = attrgetter("runtime_s")


class Crew:
    """The executors of the node called ``name``, ``slots`` of them; ``max_tasks``: then one is replaced."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        slots: int,
        max_tasks: int | None,
        holding: Holding,
        owed: Owed,
        out: list[Command],
    ) -> None:
        self._name = name
        self._settings = settings
        self._slots = slots
        self._max_tasks = max_tasks
        self._holding = holding
        self._owed = owed
        self._out = out
        self._pace = Pace(settings)
        self.executors: dict[int, Executor] = {}
        self._busy: dict[int, Executor] = {}  # those that have a chunk
        self._functions: dict[str, FunctionCode] = {}
        self._wanted: dict[tuple[Peer, str], list[Held]] = {}  # by router and digest: waits for a shipped function
        self._cancelled: dict[str, Cancel] = {}
        self._next_number = 0
        self._restarts: list[float] = []  # when to start executors anew
        self._failures = 0  # generations of executors that ended without a task since one finished one
        self._failed = 0  # the last executor that is of the last of them
        self._leaving = False
        self._forgot = False  # what a forgotten router delivered may run

    @property
    def running(self) -> int:
        """Executors that have something to run."""
        return len(self._busy)

    def running_ids(self) -> set[str]:
        """The tasks that executors have."""
        return {task_id for executor in self._busy.values() for task_id in executor.chunk}

    def orphans(self) -> set[str]:
        """Those of them that a router delivered which is forgotten."""
        if not self._forgot:
            return set()
        routers = self._owed.routers
        found = {i for e in self._busy.values() for i, one in e.chunk.items() if one.router not in routers}
        self._forgot = bool(found)
        return found

    def router_of(self, task_id: str) -> Peer | None:
        """The router that a task which is in an executor is from."""
        for executor in self._busy.values():
            one = executor.chunk.get(task_id)
            if one is not None:
                return one.router
        return None

    def blobs(self) -> set[str]:
        """Keys of the large payloads that this node may still hand to an executor."""
        ones = [*self._holding.held.values(), *(one for e in self._busy.values() for one in e.chunk.values())]
        keys = {one.delivery.payload.key for one in ones if isinstance(one.delivery.payload, Blob)}
        return keys | {code.payload.key for code in self._functions.values() if isinstance(code.payload, Blob)}

    # time

    def tick(self, now: Now) -> None:
        """Do what is due."""
        while self._restarts and self._restarts[0] <= now.mono:
            self._restarts.pop(0)
            self.start()
        for executor in self._busy.values():
            self._look_after(executor, now)

    def next_deadline(self) -> float:
        """The monotonic second at which ``tick`` has something to do."""
        deadline = self._restarts[0] if self._restarts else inf
        for executor in self._busy.values():
            if executor.kill_as is not None:
                continue
            limit = executor.current().options.time_limit_s
            if limit is not None:
                deadline = min(deadline, executor.progress_at + limit)
            if len(executor.chunk) > 1 and not executor.reclaiming:
                deadline = min(deadline, executor.progress_at + STUCK_S)
        return deadline

    def _look_after(self, executor: Executor, now: Now) -> None:
        """Kill what is over its time limit; take back what waits behind a long task."""
        if executor.kill_as is not None:
            return
        current = executor.current()
        limit = current.options.time_limit_s
        if limit is not None and now.mono >= executor.progress_at + limit:
            why = f"it ran over its time limit of {limit:g} s and was killed"
            error = ErrorInfo("mesh.errors.TimeLimitExceeded", why)
            self._kill(executor, current, f"over its time limit of {limit:g} s", now, Ending.FAILED, error)
        elif len(executor.chunk) > 1 and now.mono >= executor.progress_at + STUCK_S:
            self._reclaim(executor)

    # executors come and go

    def start(self) -> None:
        """Start an executor."""
        self._next_number += 1
        self.executors[self._next_number] = Executor(self._next_number)
        self._out.append(StartExecutor(self._next_number))

    def on_started(self, number: int) -> None:
        """An executor is ready."""
        executor = self.executors.get(number)
        if executor is not None:
            executor.phase = Phase.UP

    def on_settled(self, event: ExecutorSettled, now: Now) -> None:
        """An executor finished some of what it has."""
        executor = self.executors.get(event.executor)
        if executor is None:
            return
        chunk, held = executor.chunk, self._holding.held
        first: Held | None = None
        run: list[Settlement] = []  # of what is from the same router as the first, with the same options: mostly all
        for settlement in event.settlements:
            one = chunk.pop(settlement.id, None)
            if one is None:
                continue
            if held.get(settlement.id) is one:
                del held[settlement.id]
            if first is None or one.options is not first.options or one.router != first.router:
                self._end(first, run)
                first, run = one, []
            run.append(settlement)
        self._end(first, run)
        executor.progress_at = now.mono
        executor.finished = True
        self._failures = 0
        if not chunk:
            executor.alone = False
            self._busy.pop(executor.number, None)
        if self._cancelled:
            for settlement in event.settlements:
                self._cancelled.pop(settlement.id, None)

    def _end(self, first: Held | None, run: list[Settlement]) -> None:
        if first is not None:
            self._owed.tell(first.router, run)
            self._pace.observe(pace_name(first.options), sum(map(_runtime_s, run)), len(run))

    def on_reclaimed(self, event: ExecutorReclaimed, now: Now) -> None:
        """An executor gave back what it had not started."""
        executor = self.executors.get(event.executor)
        if executor is None:
            return
        executor.reclaiming = False
        back = [one for task_id in event.ids if (one := executor.chunk.pop(task_id, None)) is not None]
        executor.given -= len(back)  # they are no part of its share
        if not executor.chunk:
            self._busy.pop(executor.number, None)
        self._holding.put_first(back)
        for one in back:
            if self._cancelled.pop(one.delivery.id, None) is not None:
                self._owed.settle(one, Settlement(one.delivery.id, one.delivery.attempt, Ending.CANCELLED))
        for task_id, one in list(executor.chunk.items()):
            cancel = self._cancelled.pop(task_id, None)
            if cancel is not None and cancel.terminate:
                self._kill(executor, one, "cancelled", now, signal=cancel.signal)

    def on_ended(self, event: ExecutorEnded, now: Now) -> None:
        """An executor is gone: what it had is lost or goes to another, and another takes its place."""
        executor = self.executors.pop(event.executor, None)
        if executor is None:
            return
        self._busy.pop(executor.number, None)
        up = sum(1 for e in self.executors.values() if e.phase is not Phase.RETIRING)
        wanted = not self._leaving and up + len(self._restarts) < self._slots
        pause = self._pause(executor) if wanted else 0.0
        self._take_from_dead(executor, event.cause, pause)
        if pause:
            self._restarts = sorted([*self._restarts, now.mono + pause])
        elif wanted:
            self.start()

    def _pause(self, executor: Executor) -> float:
        """How many seconds pass before another takes its place: longer and longer while none finishes a task.

        None where it took a task along: that is counted against the task, and those behind it must not wait.
        """
        if executor.finished or executor.chunk:
            return 0.0
        if executor.number > self._failed:  # those that were started together fail together, and count once
            self._failed = self._next_number
            self._failures = min(self._failures + 1, FAILURES_MAX)
        return min(RESTART_S * 2.0**self._failures, RESTART_MAX_S)

    def _take_from_dead(self, executor: Executor, cause: str, pause: float) -> None:
        back: list[Held] = []
        along: list[Held] = []
        for one in executor.chunk.values():
            delivery = one.delivery
            self._cancelled.pop(delivery.id, None)
            kill_as = executor.kill_as
            # Of one that was killed what is left may have started: it was not given back.
            if kill_as is None or (kill_as.id != delivery.id and one.options.at_most_once):
                error = ErrorInfo("WorkerLost", f"executor of {self._name}: {cause}")
                self._owed.settle(one, Settlement(delivery.id, delivery.attempt, Ending.LOST, error=error))
                along.append(one)
            elif kill_as.id == delivery.id:
                self._owed.settle(one, kill_as)
            else:
                back.append(one)
        self._holding.put_first(back)
        details = [executor.killed_for] if executor.killed_for else []
        details += [f"took along {named(along)}"] if along else []
        details += [f"it did nothing, so another is started in {pause:g} s only"] if pause else []
        self._out.append(ReportEnded(executor.number, cause, "; ".join(details)))

    def left_behind(self) -> str:
        """What runs, for people."""
        running = [executor.current() for executor in self._busy.values()]
        return f"{len(running)} running" + (f" ({named(running)})" if running else "")

    def start_no_more(self) -> None:
        """No executor takes the place of one that ends."""
        self._leaving = True
        self._restarts.clear()

    def reclaim_all(self) -> None:
        """Let executors finish the one task they are at, and give back the rest."""
        for executor in self.executors.values():
            if len(executor.chunk) > 1:
                self._reclaim(executor)

    def kill_all(self) -> None:
        """End all executors now."""
        for executor in self.executors.values():
            self._out.append(KillExecutor(executor.number))

    def cancel(self, one: Held, cancel: Cancel, now: Now) -> None:
        """Do not run a delivery; where it runs, end it if ``cancel`` says so."""
        task_id = one.delivery.id
        inside = [executor for executor in self._busy.values() if task_id in executor.chunk]
        if not any(executor.chunk[task_id] is one for executor in inside):
            self._owed.settle(one, Settlement(task_id, one.delivery.attempt, Ending.CANCELLED))
        for executor in inside:  # there may be an earlier attempt, given up by the router
            if len(executor.chunk) > 1:
                self._cancelled[task_id] = cancel
                self._reclaim(executor)
            elif cancel.terminate:
                self._kill(executor, executor.chunk[task_id], "cancelled", now, signal=cancel.signal)

    def _reclaim(self, executor: Executor) -> None:
        if not executor.reclaiming:
            executor.reclaiming = True
            self._out.append(ReclaimChunk(executor.number))

    def _kill(
        self,
        executor: Executor,
        one: Held,
        why: str,
        now: Now,
        ending: Ending = Ending.CANCELLED,
        error: ErrorInfo | None = None,
        signal: str = "SIGKILL",
    ) -> None:
        """End an executor because of one task; what else it had runs elsewhere."""
        if executor.kill_as is not None:
            return
        delivery = one.delivery
        started_at = now.wall - (now.mono - executor.progress_at)
        executor.kill_as = Settlement(
            delivery.id, delivery.attempt, ending, b"", started_at, now.mono - executor.progress_at, error
        )
        executor.killed_for = f"killed for {named([one])}, {why}"
        self._out.append(KillExecutor(executor.number, signal))

    # handing out work

    def window(self) -> int:
        """How many deliveries to hold, so that no executor idles and little waits."""
        return self._pace.window(self._slots)

    def feed(self, now: Now) -> None:
        """Give idle executors chunks of what waits, oldest first."""
        waiting = self._holding.waiting
        while waiting:
            executor = self._free_executor(waiting[0], now)
            if executor is None:
                return
            chunk = self._next_chunk(executor, now)
            if chunk:
                self._run(executor, chunk, now)

    def _free_executor(self, first: Held, now: Now) -> Executor | None:
        """The idlest executor that may take a chunk: an idle one, or one that is nearly through."""
        best: Executor | None = None
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
        chunk_s = self._settings.chunk_s
        runtime = self._pace.runtime(pace_name(best.current().options))
        return best if runtime * len(best.chunk) < chunk_s / 2 and runtime < chunk_s / 8 else None

    def _next_chunk(self, executor: Executor, now: Now) -> list[Held]:
        settings, holding = self._settings, self._holding
        waiting, held, has = holding.waiting, holding.held, executor.chunk
        count_max = min(settings.chunk_max, -(-len(waiting) // self._slots))
        if self._max_tasks is not None:
            count_max = min(count_max, self._max_tasks - executor.given)
        chunk: list[Held] = []
        left_s = settings.chunk_s
        last: TaskOptions | None = None  # of those before: nearly all tasks of a chunk have the same
        runtime, limited, known = 0.0, False, True
        numbers: dict[int, TaskOptions] = {}
        while waiting and len(chunk) < count_max:
            one = waiting[0]
            delivery, options = one.delivery, one.options
            if held.get(delivery.id) is not one:
                waiting.popleft()
                continue
            if options is not last:
                if numbers.setdefault(delivery.option, options) != options:
                    break  # a router that was started anew gave the number to others
                last = options
                runtime = self._pace.runtime(pace_name(options))
                limited = options.time_limit_s is not None
                known = options.function is None or options.function in self._functions
            alone = limited or delivery.deaths > 0
            if delivery.id in has or (alone and (chunk or has)):
                break
            if chunk and one.router != chunk[0].router:
                break  # large payloads lie with their router: a chunk is of one
            waiting.popleft()
            if delivery.expires_at is not None and delivery.expires_at <= now.wall:
                self._owed.settle(one, Settlement(delivery.id, delivery.attempt, Ending.EXPIRED))
                continue
            if not known:
                self._want_function(one)
                continue
            chunk.append(one)
            left_s -= runtime
            if alone or left_s <= 0.0:
                break
        return chunk

    def _run(self, executor: Executor, chunk: list[Held], now: Now) -> None:
        options = {one.delivery.option: one.options for one in chunk}
        for found in options.values():
            digest = found.function
            if digest is not None and digest not in executor.functions:
                executor.functions.add(digest)
                self._out.append(GiveFunction(executor.number, self._functions[digest]))
        if not executor.chunk:
            executor.progress_at = now.mono
            self._busy[executor.number] = executor
        executor.chunk.update([(one.delivery.id, one) for one in chunk])
        executor.alone = chunk[0].alone
        executor.given += len(chunk)
        self._out.append(RunChunk(executor.number, options, [one.delivery for one in chunk]))
        worn_out = self._max_tasks is not None and executor.given >= self._max_tasks
        if worn_out or len(executor.functions) >= FUNCTIONS_MAX:
            executor.phase = Phase.RETIRING
            self._out.append(StopExecutor(executor.number))
            self.start()

    # shipped functions

    def _want_function(self, one: Held) -> None:
        digest = one.options.function
        assert digest is not None
        waiting = self._wanted.setdefault((one.router, digest), [])
        waiting.append(one)
        if len(waiting) == 1:
            self._out.append(Send(one.router, GetFunction(digest)))

    def ask_again(self, router: Peer) -> None:
        """A session with a router begins: ask it again for the functions that its tasks wait for."""
        for asked, digest in self._wanted:
            if asked == router:
                self._out.append(Send(router, GetFunction(digest)))

    def ask_instead(self, lost: Peer, router: Peer) -> None:
        """Ask ``router`` for the functions that tasks of ``lost`` wait for."""
        for asked, digest in self._wanted:
            if asked == lost:
                self._out.append(Send(router, GetFunction(digest)))

    def on_function(self, router: Peer, message: Function) -> None:
        """A router answers: all that waits for the code waits for an executor now; without it, its own tasks fail."""
        if message.code is None:
            why = f"the router has no shipped function {message.digest}; submit it again"
            error = ErrorInfo("mesh.errors.NotRegistered", why)
            for one in filter(self._holding.answers_for, self._wanted.pop((router, message.digest), [])):
                ended = Settlement(one.delivery.id, one.delivery.attempt, Ending.FAILED, error=error)
                self._owed.settle(one, ended)
            return
        if message.digest not in self._functions and len(self._functions) >= FUNCTIONS_MAX:
            del self._functions[next(iter(self._functions))]
        self._functions[message.digest] = message.code
        asked = [key for key in self._wanted if key[1] == message.digest]
        self._holding.put_first([one for key in asked for one in self._wanted.pop(key)])

    def forget_router(self, router: Peer) -> str:
        """Nothing of a router's will be run any more; what is under way, for people."""
        self._forgot = True
        for key in [key for key in self._wanted if key[0] == router]:
            del self._wanted[key]
        return named([one for e in self._busy.values() for one in e.chunk.values() if one.router == router])

    def forget_wanted(self) -> None:
        """Nothing that waits will be run here."""
        self._wanted.clear()

    # invariants

    def check(self, *, resting: bool) -> None:
        """Raise ``AssertionError`` if an invariant is broken. ``resting``: nothing is to be handed out."""
        assert self._busy.keys() == {number for number, executor in self.executors.items() if executor.chunk}
        for executor in self.executors.values():
            assert executor.alone <= (len(executor.chunk) <= 1), "a task that must be alone is not"
            for task_id, one in executor.chunk.items():
                assert one.delivery.id == task_id
        waiting = [one for one in self._holding.waiting if self._holding.answers_for(one)]
        assert len(waiting) == len({one.delivery.id for one in waiting}), "a delivery waits twice"
        idle = [
            e
            for e in self.executors.values()
            if e.phase is Phase.UP and not e.chunk and e.kill_as is None and not e.reclaiming
        ]
        assert resting or not (waiting and idle), "work and executors both idle"
