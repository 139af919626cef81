"""The executors of a worker node, for its agent's loop: commands in, events out, no waiting.

An executor's story is ExecutorFailed alone (it could not load the user's modules), or ExecutorStarted, then what it
settled and gave back, then ExecutorEnded; one that dies before it is ready has ExecutorEnded alone. What an executor
wrote before it died is told before its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from mesh.core.commands import GiveFunction, KillExecutor, ReclaimChunk, RunChunk, StartExecutor, StopExecutor
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorFailed,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
)
from mesh.model import Blob, Buffer, Ending, ErrorInfo, Payload, Settlement
from mesh.runtime.depot import Depot
from mesh.runtime.executor_frames import (
    Chunk,
    Code,
    Done,
    ExecutorSetup,
    FromExecutor,
    Ready,
    Reclaim,
    Reclaimed,
    Stop,
    blobs_of,
    split_buffers,
    with_blob,
)
from mesh.runtime.executor_process import ExecutorProcess
from mesh.settings import Settings
from mesh.wire.parts import cut

PoolCommand = StartExecutor | RunChunk | GiveFunction | ReclaimChunk | StopExecutor | KillExecutor


class Watcher(Protocol):
    """Polls file descriptors for the pool; those that are ready are to be passed to ``ExecutorPool.events``."""

    def watch_fd(self, fd: int, write: bool = False) -> None: ...

    def unwatch_fd(self, fd: int) -> None: ...


class ExecutorPool:
    """Starts executors, feeds them and tells what becomes of them.

    ``blobs_in`` holds the parts of large payloads that came from routers and is only read here; the parts of large
    results are put into ``blobs_out``. Both by blob key. ``depot_of`` gives the depot of the router of a task, where
    large payloads lie that are not sent; ``offer`` is told of what an executor left there.

    Executors die with the thread that started them (Linux counts threads there): use a pool from a thread that
    lives as long as it.
    """

    def __init__(
        self,
        watcher: Watcher,
        *,
        app: str | None,
        include: Sequence[str] = (),
        worker_name: str,
        settings: Settings,
        loglevel: str = "info",
        directory: str | None = None,
    ) -> None:
        self.blobs_in: dict[str, list[Buffer]] = {}
        self.blobs_out: dict[str, Sequence[Buffer]] = {}
        self.depot_of: Callable[[str], Depot | None] = lambda task_id: None
        self.offer: Callable[[Depot, Blob], None] = lambda depot, left: None
        self._watcher = watcher
        self._settings = settings
        self._directory = directory
        self._setup = ExecutorSetup(
            agent_pid=os.getpid(),
            worker_name=worker_name,
            app=app,
            include=list(include),
            loglevel=loglevel,
            inline_bytes_max=settings.inline_bytes_max,
            payload_bytes_max=settings.payload_bytes_max,
        )
        self._executors: dict[int, ExecutorProcess] = {}
        self._watched: dict[int, ExecutorProcess] = {}  # by file descriptor
        self._stillborn: list[Event] = []
        self._deadlines: dict[int, float] = {}  # by number: when to kill those that are not ready, or not gone

    def apply(self, command: PoolCommand) -> None:
        """Carry out a command. One for an executor that has ended meanwhile is nothing: its end will be told."""
        if isinstance(command, StartExecutor):
            self._start(command.executor)
            return
        executor = self._executors.get(command.executor)
        if executor is None:
            return
        match command:
            case RunChunk(options=options, tasks=tasks):
                executor.owed += len(tasks)
                depot = self.depot_of(tasks[0].id)
                chunk = Chunk(options, tasks) if depot is None else Chunk(options, tasks, depot.directory, depot.sync)
                executor.send(chunk, self._parts_of([task.payload for task in tasks]))
            case GiveFunction(code=code):
                executor.send(Code(code), self._parts_of([code.payload]))
            case ReclaimChunk():
                executor.send(Reclaim())
            case StopExecutor():
                self._stop(executor)
            case KillExecutor(signal=name):
                self._kill(executor, signal.Signals.__members__.get(name, signal.SIGKILL))
        self._watch(executor, executor.fds())

    def next_deadline(self) -> float | None:
        """When ``events`` must be called even if no file descriptor is ready (monotonic)."""
        if self._stillborn:
            return 0.0
        return min(self._deadlines.values()) if self._deadlines else None

    def events(self, ready: Iterable[int]) -> list[Event]:
        """What has happened. ``ready``: the file descriptors that are ready."""
        events: list[Event] = [*self._stillborn]
        self._stillborn.clear()
        for fd in ready:
            executor = self._watched.get(fd)
            if executor is not None:
                executor.flush()
                self._read(executor, events, exited=fd == executor.pidfd)
        if self._deadlines:
            self._kill_late()
        return events

    def pids(self) -> dict[int, int]:
        """The process ids by the executors' numbers."""
        return {number: executor.pid for number, executor in self._executors.items()}

    def close(self, kill: bool = False) -> None:
        """End all executors and wait for them: those that are running a task get ``kill_grace_s``, or nothing."""
        for executor in self._executors.values():
            if kill:
                executor.kill(signal.SIGKILL)
            else:
                self._stop(executor)
        deadline = monotonic() + self._settings.kill_grace_s
        for executor in self._executors.values():
            executor.wait(max(0.0, deadline - monotonic()))
            executor.kill(signal.SIGKILL)
            executor.wait(None)
            self._reap(executor)
        self._executors.clear()

    def _start(self, number: int) -> None:
        assert number not in self._executors, f"executor {number} is still there"
        try:
            executor = ExecutorProcess(number, self._setup, self._directory)
        except OSError as error:  # no memory, no process, no descriptor: it is tried again as one that died
            self._stillborn.append(ExecutorEnded(number, f"cannot be started: {error}"))
            return
        self._executors[number] = executor
        self._deadlines[number] = monotonic() + self._settings.executor_start_s
        self._watch(executor, executor.fds())

    def _watch(self, executor: ExecutorProcess, wanted: Mapping[int, bool]) -> None:
        before = executor.watched
        if wanted is before:
            return
        for fd in before.keys() - wanted.keys():
            del self._watched[fd]
            self._watcher.unwatch_fd(fd)
        for fd, write in wanted.items():
            if before.get(fd) is not write:
                self._watched[fd] = executor
                self._watcher.watch_fd(fd, write)
        executor.watched = wanted

    def _stop(self, executor: ExecutorProcess) -> None:
        executor.stopping = True
        executor.send(Stop())
        if not executor.ready:
            executor.kill(signal.SIGKILL)
        else:
            self._end_in_time(executor)

    def _end_in_time(self, executor: ExecutorProcess) -> None:
        """Do not wait for ever for one that has told us all it had to, or can tell us nothing any more."""
        through = executor.stopping and not executor.owed
        if (through or executor.hung_up) and executor.number not in self._deadlines:
            self._deadlines[executor.number] = monotonic() + self._settings.kill_grace_s

    def _kill(self, executor: ExecutorProcess, number: signal.Signals) -> None:
        executor.kill(number)
        if number != signal.SIGKILL:
            self._deadlines[executor.number] = monotonic() + self._settings.kill_grace_s

    def _kill_late(self) -> None:
        now = monotonic()
        for number in [number for number, deadline in self._deadlines.items() if now >= deadline]:
            del self._deadlines[number]
            executor = self._executors[number]
            if not executor.ready:
                executor.killed_for = (
                    f"not ready after {self._settings.executor_start_s:g} s (setting executor_start_s)"
                )
            elif executor.stopping and not executor.owed and not executor.unreadable:
                executor.killed_for = "stopped"  # it is through; a thread that a task left behind keeps it from ending
            executor.kill(signal.SIGKILL)

    def _read(self, executor: ExecutorProcess, events: list[Event], *, exited: bool) -> None:
        number = executor.number
        while not executor.unreadable:
            try:
                for message, raw in executor.read():
                    events.append(self._event(executor, message, raw))
            except Exception as error:  # whatever it sent must end nobody but itself
                executor.unreadable = True
                executor.killed_for = f"unreadable frame: {type(error).__name__}: {error}"
                executor.kill(signal.SIGKILL)
            if executor.drained or not exited:
                break
        if exited:
            del self._executors[number]
            cause = self._reap(executor)
            if not executor.failed:
                events.append(ExecutorEnded(number, cause))
            return
        self._end_in_time(executor)
        self._watch(executor, executor.fds())

    def _reap(self, executor: ExecutorProcess) -> str:
        self._deadlines.pop(executor.number, None)
        self._watch(executor, {})
        return executor.reap()

    def _event(self, executor: ExecutorProcess, message: FromExecutor, raw: memoryview) -> Event:
        number = executor.number
        match message:
            case Done(settlements=settlements, depot=directory):
                executor.owed -= len(settlements)
                return ExecutorSettled(number, self._take_results(settlements, raw, directory))
            case Reclaimed(ids=ids):
                executor.owed -= len(ids)
                return ExecutorReclaimed(number, ids)
            case Ready(error=str(reason)):
                executor.failed = True
                return ExecutorFailed(number, reason)
            case Ready():
                executor.ready = True
                self._deadlines.pop(number, None)
                found = (message.tasks, message.time_limits, message.at_most_once, message.app, message.entries)
                return ExecutorStarted(number, *found)

    def _take_results(self, settlements: list[Settlement], raw: memoryview, directory: str | None) -> list[Settlement]:
        """Keep the bytes of large results for as long as a router may want them (again)."""
        blobs = list(blobs_of(settlements))
        if not blobs:
            return settlements
        sent = [blob for blob in blobs if blob.file is None]
        for blob, buffers in zip(sent, split_buffers(raw, sent)):
            self.blobs_out[blob.key] = [part for buffer in buffers for part in cut(buffer)]
        if len(sent) == len(blobs) or directory is None:
            return settlements
        return [self._take_left(settlement, directory) for settlement in settlements]

    def _take_left(self, settlement: Settlement, directory: str) -> Settlement:
        """A result that was left in a depot: its router is told once where; for later it is mapped here.

        Where that cannot be, for the router was started anew meanwhile and has cleared its depot, the result is lost.
        """
        for left in blobs_of((settlement,)):
            if left.file is None:
                continue
            depot = self.depot_of(settlement.id)
            if depot is None or depot.directory != directory:
                depot = Depot(directory)  # its router is away: it will be sent
            kept = depot.keep(left)
            if not kept:
                error = ErrorInfo("WorkerLost", f"its large result was lost with its router's depot, {directory}")
                return replace(settlement, ending=Ending.LOST, payload=b"", retry=None, error=error)
            self.blobs_out[left.key] = kept
            self.offer(depot, left)
            return with_blob(settlement, replace(left, file=None))
        return settlement

    def _parts_of(self, payloads: Sequence[Payload]) -> list[Buffer]:
        return [part for p in payloads if type(p) is Blob and p.file is None for part in self.blobs_in[p.key]]
