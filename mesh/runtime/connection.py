"""A process's connection to the mesh: a thread that runs the client machine, and what the user's threads call.

Handing over a task must cost the caller next to nothing, so no lock is taken: the user's threads append to a list
and set dictionary entries, each atomic under the interpreter's lock, and wake the loop only when it sleeps. The loop
first says that it sleeps and then looks at the list; a caller first appends and then looks whether the loop sleeps.

Results are held weakly: by id, in ``_handles``. A handle that is dropped before its task is finished leaves its id in
``dropped``, where the loop finds it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Protocol

from mesh.clock import Clock, SystemClock
from mesh.core.client import ClientMachine
from mesh.core.commands import (
    Command,
    DropPeer,
    PublishOutcomes,
    PublishRefused,
    PublishRejected,
    PublishReply,
    PublishUnknown,
    Send,
)
from mesh.core.events import (
    Event,
    MessageReceived,
    PeerLost,
    QueryAsked,
    ResultsForgotten,
    ResultsWatched,
    RouterFound,
    StopRequested,
    TasksCancelled,
)
from mesh.errors import MeshError, Overloaded, Refused, Unavailable, UnknownTask
from mesh.messages import Accepted, SayHello, Submit, Welcome
from mesh.model import Blob, FunctionCode, Outcome, Payload, Peer, TaskOptions, TaskSpec
from mesh.runtime.channels import Buffer, RouterChannels, Transport
from mesh.runtime.exiting import call_at_exit
from mesh.runtime.finding import Finder
from mesh.runtime.submissions import Batcher, Submission
from mesh.settings import Settings
from mesh.wire.codec import blobs_of

POLL_S = 0.25  # how often a waiting thread looks whether there is still hope of a router

log = logging.getLogger("mesh.connection")


class Handle(Protocol):
    """What waits for the outcome of a task."""

    id: str

    def settle(self, end: Outcome | MeshError, parts: Sequence[Buffer] | None = None) -> None:
        """Take the outcome, or why there will be none. Called on the connection's thread."""
        ...


class Connection:
    """``find`` gives the endpoints of routers and what was tried; it is called on a thread of its own.

    ``connect`` opens a connection to an endpoint of the transport; it is called on the connection's thread.
    """

    def __init__(
        self,
        machine: ClientMachine,
        settings: Settings,
        transport: Transport,
        connect: Callable[[str], Peer],
        find: Callable[[], tuple[Iterable[str], str]],
        clock: Clock | None = None,
    ) -> None:
        self._machine = machine
        self._settings = settings
        self._transport = transport
        self._clock = clock or SystemClock()
        self._connect = connect
        self._channels = RouterChannels(transport, self._parts_of)
        self._finder = Finder(find, self._on_found)
        self._batcher = Batcher()
        self._pid = os.getpid()

        # written by the user's threads, emptied by the loop
        self._submissions: list[Submission] = []
        self._fresh_bytes = 0  # of payloads in ``_submissions``; a lost update under threads lasts until they are taken
        self._requests: deque[Event] = deque()
        self._parts: dict[str, Sequence[Buffer]] = {}  # large payloads on their way out, by key
        self._found: deque[tuple[list[str], bool]] = deque()  # endpoints; whether they are all there are
        self.dropped: deque[str] = deque()

        self._handles: dict[str, weakref.ref[Any]] = {}
        self._foreign: set[str] = set()  # ids among them that this process did not submit
        self._replies: dict[int, bytes | None] = {}
        self._next_request = count(1).__next__

        self._sleeping = False
        self._closing = False
        self._ended = "this app is closed"
        self._changed = threading.Condition()
        self._waiting = 0  # threads that wait for ``_changed``

        self._peers: dict[str, Peer] = {}  # by endpoint
        self._welcomed: set[Peer] = set()
        self._blobs_of_batch: dict[int, list[str]] = {}
        self._tried = "still looking for a router"
        self._started = time.monotonic()
        self._ever_connected = False
        self._refused: str | None = None
        self._lost: _Lost | None = None
        self._taken = 0  # submissions the machine was given
        self._flushes: list[_Flush] = []

        self._thread = threading.Thread(target=self._run, name="mesh-connection", daemon=True)
        self._thread.start()
        self._finder.start()
        self._forget_exit = call_at_exit(self.close)

    # what the user's threads call

    def submit(
        self,
        options: TaskOptions,
        task: TaskSpec,
        parts: Sequence[Buffer],
        handle: Handle | None,
        code: FunctionCode | None = None,
        chosen: bool = False,
    ) -> None:
        """Take over a task; ``handle`` is told its outcome for as long as somebody holds it.

        Blocks at ``submit_tasks_max`` and ``submit_bytes_max`` for up to ``submit_timeout_s``, then raises
        ``Overloaded`` or ``Unavailable``: the task was not taken.
        """
        machine, settings, submissions = self._machine, self._settings, self._submissions
        if (
            len(submissions) + machine.unaccepted >= settings.submit_tasks_max
            or self._fresh_bytes + machine.unaccepted_bytes >= settings.submit_bytes_max
        ):
            self._wait_for_room()
        if self._closing:
            raise Unavailable(f"{self._ended}: nothing can be submitted any more")
        payload = task.payload
        if isinstance(payload, Blob):
            self._keep_parts(payload, parts)
        else:
            self._fresh_bytes += len(payload)
        if handle is not None:
            self._handles[task.id] = weakref.ref(handle)
        submissions.append(Submission(options, task, code, chosen))
        if self._sleeping:
            self._sleeping = False
            self._transport.wake()

    def watch(self, handle: Handle) -> None:
        """Have ``handle`` told of its task's outcome, whoever submitted it."""
        reference = self._handles.get(handle.id)
        known = reference() if reference is not None else None
        if known is handle:
            return
        if known is not None:  # two handles of one task: the later one hears it from the earlier one
            known.share(handle)
            return
        self._handles[handle.id] = weakref.ref(handle)
        self._foreign.add(handle.id)
        self._ask(ResultsWatched([handle.id]))

    def is_foreign(self, handle: Handle) -> bool:
        """Whether this process did not submit the task of ``handle``."""
        return handle.id in self._foreign or handle.id not in self._handles

    def forget(self, ids: Sequence[str]) -> None:
        """Let the mesh forget these outcomes; handles that still wait for them wait for nothing until asked again."""
        for task_id in ids:
            self._handles.pop(task_id, None)
            self._foreign.discard(task_id)
        self._ask(ResultsForgotten(list(ids), drop=True))

    def cancel(self, ids: Sequence[str], terminate: bool = False, signal: str = "SIGKILL") -> None:
        """Cancel these tasks; see ``mesh.messages.Cancel``."""
        self._ask(TasksCancelled(list(ids), terminate, signal))

    def query(self, what: str, arguments: Sequence[str] = (), timeout: float | None = None) -> bytes:
        """Ask a router; the answer is JSON. Raises ``Unavailable`` when none answers in ``timeout`` seconds."""
        limit = self._settings.connect_timeout_s if timeout is None else timeout
        request = self._next_request()
        self._replies[request] = None
        self._ask(QueryAsked(request, what, tuple(arguments)))
        try:
            if not self._wait_until(lambda: self._replies[request] is not None, limit):
                raise Unavailable(f"no router answered the question for {what!r} in {limit:g} s; {self.situation()}")
            body = self._replies[request]
            assert body is not None, "woken without an answer"
            return body
        finally:
            self._replies.pop(request, None)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything submitted before is accepted.

        Raises ``Overloaded`` or ``Unavailable`` when something was rejected since the last flush, or when something
        is still not accepted after ``timeout`` seconds.
        """
        flush = _Flush(self._taken + len(self._submissions))
        self._flushes.append(flush)
        if not self._wait_until(lambda: flush.batches == set(), timeout):
            flush.batches = set()
            left = len(self._submissions) + self._machine.unaccepted
            raise Unavailable(f"{left} tasks are not accepted after {timeout:g} s; {self.situation()}")
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost.error()

    def patience(self, deadline: float | None) -> float:
        """Seconds a thread may wait in one go for something that a router must do; -1 for as long as it takes."""
        remaining = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if self._welcomed:
            return remaining
        return POLL_S if remaining < 0 else min(POLL_S, remaining)

    def raise_if_hopeless(self) -> None:
        """Raise ``Refused`` when a router did, ``Unavailable`` when none was ever found in ``connect_timeout_s``."""
        if self._refused is not None and not self._welcomed:
            raise Refused(self._refused)
        waited = time.monotonic() - self._started
        if not self._ever_connected and waited >= self._settings.connect_timeout_s:
            raise Unavailable(self.situation())

    def situation(self) -> str:
        """Whether there is a router, and what was tried to find one; for people."""
        if self._refused is not None and not self._welcomed:
            return f"the router refused this client: {self._refused}"
        if self._welcomed:
            return f"connected to {len(self._welcomed)} router{'s' * (len(self._welcomed) > 1)}"
        lost = "the connection to the router was lost" if self._ever_connected else "no router found"
        waited = time.monotonic() - self._started
        return f"{lost} for mesh {self._settings.mesh!r} ({waited:.1f} s). {self._tried}"

    def close(self, flush_s: float | None = None) -> None:
        """Hand over what is submitted, for up to ``flush_s`` (default ``exit_flush_s``) seconds, and disconnect."""
        self._forget_exit()
        if self._closing or os.getpid() != self._pid:
            return
        left = len(self._submissions) + self._machine.unaccepted
        if left and self._thread.is_alive():
            limit = self._settings.exit_flush_s if flush_s is None else flush_s
            machine, submissions = self._machine, self._submissions
            self._wait_until(lambda: not submissions and machine.unaccepted == 0, limit, hopeless=False)
            left = len(submissions) + machine.unaccepted
            if left:
                log.error("%d tasks were not accepted in %g s and are LOST; %s", left, limit, self.situation())
        self._closing = True
        self._finder.close()
        self._transport.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)

    def _ask(self, event: Event) -> None:
        self._requests.append(event)
        if self._sleeping:
            self._sleeping = False
            self._transport.wake()

    def _keep_parts(self, blob: Blob, parts: Sequence[Buffer]) -> None:
        # What was submitted must not change when the caller writes to his array afterwards.
        self._parts[blob.key] = [part if memoryview(part).readonly else bytes(part) for part in parts]
        self._fresh_bytes += blob.size

    def _parts_of(self, blob: Blob) -> Sequence[Buffer] | None:
        return self._parts.get(blob.key)

    def _wait_for_room(self) -> None:
        if threading.current_thread() is self._thread:
            return  # a finalizer that submits: the loop cannot wait for itself
        settings, machine = self._settings, self._machine

        def has_room() -> bool:
            return (
                len(self._submissions) + machine.unaccepted < settings.submit_tasks_max
                and self._fresh_bytes + machine.unaccepted_bytes < settings.submit_bytes_max
            )

        if self._wait_until(has_room, settings.submit_timeout_s, hopeless=False):
            return
        waiting = len(self._submissions) + machine.unaccepted
        text = f"{waiting} tasks wait to be accepted for {settings.submit_timeout_s:g} s; nothing was taken"
        if self._welcomed:
            raise Overloaded(f"{text}; {self.situation()}")
        raise Unavailable(f"{text}; {self.situation()}")

    def _wait_until(self, condition: Callable[[], bool], timeout: float | None, *, hopeless: bool = True) -> bool:
        """Wait for what the loop does; ``hopeless``: raise when no router is to be expected."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._waiting += 1
            try:
                while not condition():
                    if self._closing or not self._thread.is_alive():
                        raise Unavailable(self._ended)
                    remaining = POLL_S if deadline is None else deadline - time.monotonic()
                    if remaining <= 0:
                        return False
                    if hopeless:
                        self.raise_if_hopeless()
                    self._changed.wait(min(POLL_S, remaining))
            finally:
                self._waiting -= 1
        return True

    # the loop

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
            self._leave()
        except BaseException as error:
            log.exception("the connection's thread failed; nothing more will be sent or received")
            self._ended = f"the connection's thread failed ({error!r})"
        finally:
            self._closing = True
            self._finder.close()
            self._transport.close()
            self._fail_all(Unavailable(f"{self._ended} before the task's result came"))
            self._notify()

    def _leave(self) -> None:
        for command in self._machine.handle([StopRequested()], self._clock.now()):
            self._apply(command)

    def _turn(self) -> None:
        """One wake-up: wait, take in everything there is, let the machine decide, do what it says."""
        arrivals = self._transport.receive(self._pause_s())
        self._sleeping = False
        events = self._collect_arrivals(arrivals)
        self._connect_to_found()
        self._collect_work(events)
        now = self._clock.now()
        for command in self._machine.handle(events, now):
            self._apply(command)
        self._channels.parts.clear()  # of outcomes nobody here waits for any more
        if self._flushes:
            self._advance_flushes()
        if self._waiting:
            self._notify()

    def _has_new_flush(self) -> bool:
        return any(flush.batches is None for flush in self._flushes)

    def _advance_flushes(self) -> None:
        batches = self._machine.batches
        for flush in list(self._flushes):
            if flush.batches is None:
                if self._taken < flush.goal:
                    continue
                flush.batches = set(batches)
            flush.batches &= batches.keys()
            if not flush.batches:
                self._flushes.remove(flush)

    def _pause_s(self) -> float:
        self._sleeping = True
        if self._submissions or self._requests or self._found or self._closing or self._has_new_flush():
            return 0.0
        deadline = self._machine.next_deadline()
        if deadline is None:
            return self._settings.heartbeat_s
        return min(self._settings.heartbeat_s, max(0.0, deadline - self._clock.now().mono))

    def _collect_arrivals(self, arrivals: Any) -> list[Event]:
        events: list[Event] = []
        receive = self._channels.receive
        for peer, frames, _role in arrivals.messages:
            event = receive(peer, frames)
            if event is not None:
                self._look_at(event)
                events.append(event)
        for peer in arrivals.lost:
            self._lose(peer)
            events.append(PeerLost(peer))
        events += [RouterFound(peer) for peer in arrivals.connected]
        for problem in arrivals.problems:
            log.warning("%s", problem.text)
            self._tried = problem.text
        return events

    def _look_at(self, event: MessageReceived) -> None:
        """What a message means to the shell, besides what the machine makes of it."""
        message = event.message
        if type(message) is Accepted:
            if self._blobs_of_batch:
                for batch in message.batches:
                    for key in self._blobs_of_batch.pop(batch, ()):
                        self._parts.pop(key, None)
        elif type(message) is Welcome:
            self._welcomed.add(event.peer)
            self._ever_connected = True
            self._refused = None
            self._finder.pause()
            if message.routers:
                self._found.append((message.routers, False))
        elif type(message) is SayHello:
            self._welcomed.discard(event.peer)

    def _connect_to_found(self) -> None:
        while self._found:
            endpoints, complete = self._found.popleft()
            if complete:
                self._disconnect_all_but(endpoints)
            for endpoint in endpoints:
                if endpoint in self._peers:
                    continue
                try:
                    self._peers[endpoint] = self._connect(endpoint)
                except MeshError as error:  # no key: somebody may type `mesh join` while we wait
                    if self._tried != str(error):
                        log.warning("%s", error)
                    self._tried = str(error)

    def _disconnect_all_but(self, endpoints: Sequence[str]) -> None:
        """Routers come back at other addresses: do not knock at the old ones for ever."""
        for endpoint, peer in list(self._peers.items()):
            if peer not in self._welcomed and endpoint not in endpoints:
                del self._peers[endpoint]
                self._transport.disconnect(peer)

    def _on_found(self, endpoints: list[str], tried: str) -> None:
        """On the finder's thread: tell the loop."""
        if not self._welcomed and not endpoints:
            self._tried = tried
        if endpoints:
            self._found.append((endpoints, True))
            self._transport.wake()

    def _collect_work(self, events: list[Event]) -> None:
        submissions = self._submissions
        if submissions:
            # A bounded bite: what came from the network must not wait for a long backlog.
            bite = submissions[: 2 * self._settings.batch_tasks_max]
            del submissions[: len(bite)]
            taken = sum(_size(submission.task.payload) for submission in bite)
            self._fresh_bytes = max(0, self._fresh_bytes - taken) if submissions else 0
            self._taken += len(bite)
            events += self._batcher.events(bite)
        while self._requests:
            events.append(self._requests.popleft())
        if self.dropped:
            self._forget_dropped(events)

    def _forget_dropped(self, events: list[Event]) -> None:
        handles, dropped = self._handles, self.dropped
        gone = []
        for _ in range(len(dropped)):
            task_id = dropped.popleft()
            reference = handles.get(task_id)
            if reference is not None and reference() is None:
                del handles[task_id]
                self._foreign.discard(task_id)
                gone.append(task_id)
        if gone:
            events.append(ResultsForgotten(gone))

    def _apply(self, command: Command) -> None:
        kind = type(command)
        if kind is Send:
            self._send(command)  # type: ignore[arg-type]
        elif isinstance(command, PublishOutcomes):
            self._publish(command.outcomes)
        elif isinstance(command, PublishRejected):
            self._on_rejected(command)
        elif isinstance(command, PublishUnknown):
            for task_id in command.ids:
                error = UnknownTask(f"no router knows task {task_id}: never accepted, or its result is kept no longer")
                self._settle(task_id, error)
        elif isinstance(command, PublishReply):
            if command.request in self._replies:
                self._replies[command.request] = command.body
        elif isinstance(command, PublishRefused):
            log.error("a router refuses: %s", command.reason)
            if not self._welcomed:
                self._refused = command.reason
        elif isinstance(command, DropPeer):
            self._lose(command.peer)

    def _send(self, command: Send) -> None:
        message = command.message
        if type(message) is Submit and self._parts:
            keys = [blob.key for blob in blobs_of(message)]
            if keys:
                self._blobs_of_batch[message.batch] = keys
        self._channels.send(command.peer, message)

    def _publish(self, outcomes: Sequence[Outcome]) -> None:
        take, parts = self._handles.pop, self._channels.parts
        for outcome in outcomes:
            reference = take(outcome.id, None)
            payload = outcome.payload
            theirs = parts.pop(payload.key, None) if type(payload) is Blob else None
            if reference is not None:
                handle = reference()
                if handle is not None:
                    handle.settle(outcome, theirs)
        if self._foreign:
            self._foreign.difference_update([outcome.id for outcome in outcomes])

    def _settle(self, task_id: str, error: MeshError) -> None:
        reference = self._handles.pop(task_id, None)
        self._foreign.discard(task_id)
        handle = reference() if reference is not None else None
        if handle is not None:
            handle.settle(error)

    def _on_rejected(self, command: PublishRejected) -> None:
        error = _rejection(command)
        self._lost = (self._lost or _Lost()).with_more(len(command.ids), error)
        log.error("%d tasks were not accepted: %s", len(command.ids), command.reason)
        for task_id in command.ids:
            self._parts.pop(task_id, None)
            self._settle(task_id, error)

    def _fail_all(self, error: MeshError) -> None:
        for task_id in list(self._handles):
            self._settle(task_id, error)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _lose(self, peer: Peer) -> None:
        if peer in self._welcomed:
            log.warning("the connection to a router was lost; connecting again by itself")
        self._welcomed.discard(peer)
        self._channels.close(peer)
        if not self._welcomed:
            self._finder.start()


class _Flush:
    """Waits until the first ``goal`` submissions are settled. ``batches``: those not accepted; None: not known yet."""

    def __init__(self, goal: int) -> None:
        self.goal = goal
        self.batches: set[int] | None = None


class _Lost:
    """What was rejected since the last flush."""

    def __init__(self, tasks: int = 0, last: MeshError | None = None) -> None:
        self._tasks = tasks
        self._last = last

    def with_more(self, tasks: int, error: MeshError) -> _Lost:
        return _Lost(self._tasks + tasks, error)

    def error(self) -> MeshError:
        text = f"{self._tasks} tasks were not accepted since the last flush; the last reason: {self._last}"
        if isinstance(self._last, Overloaded):
            return Overloaded(text, self._last.retry_after_s)
        return type(self._last)(text) if isinstance(self._last, Unavailable) else MeshError(text)


def _rejection(command: PublishRejected) -> MeshError:
    """What ``get()`` raises for a task that was not accepted."""
    if command.code == "overloaded":
        return Overloaded(f"not accepted: {command.reason}", command.retry_after_s)
    if command.code == "unavailable":
        return Unavailable(f"not accepted: {command.reason}")
    return MeshError(f"not accepted: {command.reason}")


def _size(payload: Payload) -> int:
    return len(payload) if type(payload) is bytes else payload.size  # type: ignore[union-attr]
