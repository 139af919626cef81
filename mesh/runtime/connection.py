"""A process's connection to the mesh: a thread that runs the client machine, and what the user's threads call.

Handing over a task must cost the caller next to nothing, so no lock is taken: the user's threads append to a list
and set dictionary entries, each atomic under the interpreter's lock, and wake the loop only when it sleeps. The loop
first says that it sleeps and then looks at the list; a caller first appends and then looks whether the loop sleeps.

Who waits for a result is in ``mesh.runtime.promises``, who for an answer in ``mesh.runtime.questions``, where the
routers are in ``mesh.runtime.routers``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from mesh.clock import Clock, SystemClock
from mesh.core.client import ClientMachine
from mesh.core.commands import (
    Command,
    PublishDropped,
    PublishOutcomes,
    PublishRefused,
    PublishRejected,
    PublishReply,
    PublishUnknown,
    PublishUnwatched,
    Send,
    SessionEnded,
)
from mesh.core.events import (
    Event,
    ResultsForgotten,
    ResultsWatched,
    StopRequested,
    TasksCancelled,
)
from mesh.errors import ConfigError, Overloaded, Refused, Unavailable, UnknownTask
from mesh.messages import Submit
from mesh.model import Blob, Buffer, FunctionCode, TaskOptions, TaskSpec, payload_sizes
from mesh.runtime.channels import RouterChannels, Transport
from mesh.runtime.dialing import Dialing
from mesh.runtime.exiting import call_at_exit
from mesh.runtime.flushing import Flush, Lost, rejection, tasks_of
from mesh.runtime.promises import Promise, Promises
from mesh.runtime.prospects import POLL_S
from mesh.runtime.questions import Questions
from mesh.runtime.router_events import RouterEvents
from mesh.runtime.routers import Routers
from mesh.runtime.submissions import Submission, grouped
from mesh.settings import Settings
from mesh.wire.codec import blobs_of

SILENT_END_S = 1.0  # a program that ends waits so long for its submits before it says what it waits for
GATHER_S = 0.0001  # where few are submitted turn after turn: each would wake this thread, and leave in its own message
GATHERED_FROM = 64  # submissions that are worth a message
LOST_NAMED_MAX = 10  # of the tasks that a program leaves behind

log = logging.getLogger("mesh.connection")


class Connection:
    """A client's machine on a thread of its own. ``dialing``: how it gets to routers."""

    def __init__(
        self,
        machine: ClientMachine,
        settings: Settings,
        transport: Transport,
        dialing: Dialing,
        clock: Clock | None = None,
    ) -> None:
        self._machine = machine
        self._settings = settings
        self._transport = transport
        self._clock = clock or SystemClock()
        self._routers = Routers(settings, transport, dialing, self._clock)
        self._promises = Promises()
        self._waiting_for = self._promises.by_id
        self.dropped = self._promises.dropped
        self._channels = RouterChannels(transport, self._parts_of)
        self._from_routers = RouterEvents(self._routers, self._channels, self._clock)
        self.questions = Questions(settings, self._routers, self._ask, self._wait_until, self.situation)
        self._pid = os.getpid()

        # written by the user's threads, emptied by the loop
        self._submissions: list[Submission] = []
        self._fresh_bytes = 0  # of payloads in ``_submissions``; a lost update under threads lasts until they are taken
        self._requests: deque[Event] = deque()
        self._parts: dict[str, Sequence[Buffer]] = {}  # large payloads on their way out, by key

        self._sleeping = False
        self._closing = False
        self._ended = "this app is closed"
        self._changed = threading.Condition()
        self._waiting = 0  # threads that wait for ``_changed``

        self._blobs_of_batch: dict[int, list[str]] = {}
        self._lost: Lost | None = None
        self._is_run = False  # the last turn was for submissions alone
        self._taken = 0  # submissions the machine was given
        self._in_hand = 0  # those of them that it may not count yet
        self._now = self._clock.now()  # of the last turn
        self._flushes: list[Flush] = []

        self._thread = threading.Thread(target=self._run, name="mesh-connection", daemon=True)
        self._thread.start()
        self._routers.start()
        self._forget_exit = call_at_exit(self._close_at_exit)

    # what the user's threads call

    def submit(
        self,
        options: TaskOptions,
        task: TaskSpec,
        parts: Sequence[Buffer],
        promise: Promise | None,
        code: FunctionCode | None = None,
        chosen: bool = False,
    ) -> Promise | None:
        """Take over a task; ``promise`` is told its outcome for as long as a handle holds it.

        The promise to hold is given back: it is another one where this process waits for a chosen id already.

        Blocks at ``submit_tasks_max`` and ``submit_bytes_max`` for up to ``submit_timeout_s``, then raises
        ``Overloaded`` or ``Unavailable``: the task was not taken.
        """
        machine, settings, submissions = self._machine, self._settings, self._submissions
        if (
            len(submissions) + machine.unaccepted >= settings.submit_tasks_max
            or self._fresh_bytes + machine.unaccepted_bytes >= settings.submit_bytes_max
        ):
            self._wait_for_room()
        payload = task.payload
        if isinstance(payload, Blob):
            self._keep_parts(payload, parts)
        else:
            self._fresh_bytes += len(payload)
        if promise is not None:
            if chosen:
                promise = self._promises.join(promise)
            else:  # a made id is new: no look whether somebody waits for it
                self._waiting_for[task.id] = promise
        submissions.append(Submission(options, task, code, chosen))
        if self._sleeping:
            self._sleeping = False
            self._transport.wake()
        if self._closing:  # looked at last: the loop may have ended since we began
            if isinstance(payload, Blob):
                self._channels.withdraw(payload.key)
            raise Unavailable(f"{self._ended}: nothing can be submitted any more")
        return promise

    def watch(self, promise: Promise) -> Promise:
        """Have ``promise`` told of its task's outcome, whoever submitted it; give back the one to hold."""
        promise, new = self._promises.watch(promise)
        if new:
            self._ask(ResultsWatched([promise.id]))
            if self._closing:
                raise Unavailable(f"{self._ended}: no result can come any more")
        return promise

    def is_foreign(self, task_id: str) -> bool:
        """Whether this process did not submit this task."""
        return self._promises.is_foreign(task_id)

    def forget(self, ids: Sequence[str]) -> None:
        """Let the mesh forget these outcomes; handles that still wait for them wait for nothing until asked again."""
        for task_id in ids:
            self._promises.forget(task_id)
        self._ask(ResultsForgotten(list(ids), drop=True))

    def cancel(self, ids: Sequence[str], terminate: bool = False, signal: str = "SIGKILL") -> None:
        """Cancel these tasks; see ``mesh.messages.Cancel``."""
        self._ask(TasksCancelled(list(ids), terminate, signal))

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything submitted before is accepted.

        Raises ``Overloaded`` or ``Unavailable`` when something was rejected since the last flush, or when something
        is still not accepted after ``timeout`` seconds.
        """
        flush = Flush()
        self._flushes.append(flush)
        self._wake()
        if not self._wait_until(lambda: flush.batches == set(), timeout):
            flush.batches = set()
            left = self._count_unaccepted()
            raise self._not_taken(f"{tasks_of(left, 'is', 'are')} not accepted after {timeout:g} s")
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost.error()

    def patience(self, deadline: float | None) -> float:
        """See ``Prospects.patience``."""
        return self._routers.prospects.patience(deadline)

    def raise_if_hopeless(self) -> None:
        """See ``Prospects.raise_if_hopeless``."""
        self._routers.prospects.raise_if_hopeless()

    def situation(self) -> str:
        """See ``Prospects.situation``; and why what is submitted is not accepted, where routers say so."""
        situation, full = self._routers.prospects.situation(), self._machine.full
        if not full:
            return situation
        those = "it" if len(self._machine.routers) == 1 else f"{len(full)} of them"
        return f"{situation}; {those} can accept nothing now, and tell of nothing: {'; '.join(dict.fromkeys(full))}"

    @property
    def is_full(self) -> bool:
        """Whether a router accepts nothing that is new, and says so."""
        return bool(self._machine.full)

    def close(self, flush_s: float | None = None) -> None:
        """Hand over what is submitted, for up to ``flush_s`` (default ``exit_flush_s``) seconds, and disconnect."""
        self._forget_exit()
        if self._closing or os.getpid() != self._pid:
            return
        try:
            self._hand_over(self._settings.exit_flush_s if flush_s is None else flush_s)
        finally:  # also after Ctrl-C
            self._closing = True
            self._routers.close()
            self._transport.wake()
            if threading.current_thread() is not self._thread:
                self._thread.join(timeout=5.0)

    def _close_at_exit(self) -> None:
        """Close; Ctrl-C meanwhile ends the wait, and there is nobody left to raise it to."""
        with suppress(KeyboardInterrupt):
            self.close()

    def _hand_over(self, limit_s: float) -> None:
        """Wait until all is accepted; say what is lost however that ends."""
        if not self._count_unaccepted() or not self._thread.is_alive():
            return
        began = time.monotonic()

        def is_done() -> bool:
            return not self._count_unaccepted()

        try:
            if not self._wait_until(is_done, min(SILENT_END_S, limit_s), hopeless=False):
                left_s = min(limit_s - SILENT_END_S, self._routers.prospects.hope_s)
                if left_s > 0:
                    tasks, all_s = tasks_of(self._count_unaccepted()), left_s + SILENT_END_S
                    log.warning("waiting up to %.3g s for a router to accept %s; Ctrl-C gives up", all_s, tasks)
                    with suppress(Refused, Unavailable, ConfigError):  # no router is to be expected: said below
                        self._wait_until(is_done, left_s)
        finally:
            left = self._count_unaccepted()
            if left:
                waited = time.monotonic() - began
                log.error(
                    "%s not accepted in %.1f s and %s LOST (%s); %s",
                    tasks_of(left, "was", "were"),
                    waited,
                    "is" if left == 1 else "are",
                    self._name_unaccepted(),
                    self.situation(),
                )

    def _name_unaccepted(self) -> str:
        """Some of them, for people: the first of those that the loop does not have in hand just now."""
        named = [
            f"{batch.options[task.option].name} {task.id}"
            for batch in list(self._machine.batches.values())[:LOST_NAMED_MAX]
            for task in batch.tasks[:LOST_NAMED_MAX]
        ]
        named += [f"{one.options.name} {one.task.id}" for one in self._submissions[:LOST_NAMED_MAX]]
        more = ", ..." if len(named) > LOST_NAMED_MAX or len(named) < self._count_unaccepted() else ""
        return ", ".join(named[:LOST_NAMED_MAX]) + more

    def _count_unaccepted(self) -> int:
        """How many, and never too few: looked at in the order in which the loop passes them on."""
        return len(self._submissions) + self._in_hand + self._machine.unaccepted

    def _ask(self, event: Event) -> None:
        self._requests.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._sleeping:
            self._sleeping = False
            self._transport.wake()

    def _keep_parts(self, blob: Blob, parts: Sequence[Buffer]) -> None:
        """What was submitted must not change when the caller writes to his array afterwards: it is copied, once."""
        kept = self._leave_in_depot(blob, parts)
        if kept is None:
            kept = [part if memoryview(part).readonly else bytes(part) for part in parts]
        self._parts[blob.key] = kept
        self._fresh_bytes += blob.size

    def _leave_in_depot(self, blob: Blob, parts: Sequence[Buffer]) -> Sequence[Buffer] | None:
        """Write a payload into the depot of our router; its bytes as they lie there, None where it is not to be."""
        home = self._machine.home
        depot = self._channels.depots.get(home) if home is not None else None
        left = depot.leave(blob, parts, self._settings.free_bytes_min) if depot is not None else None
        if depot is None or left is None:
            return None
        kept = depot.keep(left)
        if not kept:
            depot.remove(left)
            return None
        self._channels.offer(depot, left)
        return kept

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
        waiting = tasks_of(len(self._submissions) + machine.unaccepted, "waits", "wait")
        text = f"{waiting} to be accepted for {settings.submit_timeout_s:g} s; nothing was taken"
        if self._routers.welcomed and self._machine.rejection is None:
            raise Overloaded(f"{text}; {self.situation()}")
        raise self._not_taken(text)

    def _not_taken(self, text: str) -> Overloaded | Unavailable:
        """What to raise where routers are too slow with what is submitted: a router's own reason, if it gave one."""
        rejection = self._machine.rejection
        if rejection is not None and self._routers.welcomed:
            return Overloaded(f"{text}: {rejection.reason}", rejection.retry_after_s)
        return Unavailable(f"{text}; {self.situation()}")

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
            self._routers.close()
            self._channels.withdraw_all()
            self._transport.close()
            self._promises.fail_all(Unavailable(f"{self._ended} before the task's result came"))
            self._notify()

    def _leave(self) -> None:
        for command in self._machine.handle([StopRequested()], self._clock.now()):
            self._apply(command)

    def _turn(self) -> None:
        """One wake-up: wait, take in everything there is, let the machine decide, do what it says."""
        arrivals = self._transport.receive(self._pause_s())
        self._sleeping = False
        events = self._from_routers.take(arrivals)
        self._collect_work(events)
        self._now = self._clock.now()
        commands = self._machine.handle(events, self._now)
        self._in_hand = 0
        for command in commands:
            self._apply(command)
        self._channels.forget_arrived()  # of outcomes nobody here waits for any more
        if self._blobs_of_batch:
            self._drop_parts()
        if self._flushes:
            self._advance_flushes()
        if self._waiting:
            self._notify()

    def _advance_flushes(self) -> None:
        batches = self._machine.batches
        for flush in list(self._flushes):
            if flush.goal is None:
                flush.goal = self._taken + len(self._submissions)
            if flush.batches is None:
                if self._taken < flush.goal:
                    continue
                flush.batches = set(batches)
            flush.batches &= batches.keys()
            if not flush.batches:
                self._flushes.remove(flush)

    def _pause_s(self) -> float:
        self._sleeping = True
        if self._submissions or self._requests or self._closing or self._routers.has_news:
            return 0.0
        if self._flushes and any(flush.batches is None for flush in self._flushes):
            return 0.0
        deadline = self._machine.next_deadline()
        if deadline is None:
            return self._settings.heartbeat_s
        # Counted from the last turn, which saves a look at the clock and makes deadlines late by a turn at most.
        return min(self._settings.heartbeat_s, max(0.0, deadline - self._now.mono))

    def _drop_parts(self) -> None:
        """Large payloads of batches that were accepted are the router's now; of those given up nobody needs them."""
        batches = self._machine.batches
        for number in [number for number in self._blobs_of_batch if number not in batches]:
            for key in self._blobs_of_batch.pop(number):
                self._parts.pop(key, None)
                self._channels.withdraw(key)

    def _collect_work(self, events: list[Event]) -> None:
        submissions = self._submissions
        is_run = bool(submissions) and not events
        if is_run and self._is_run and len(submissions) < GATHERED_FROM:
            time.sleep(GATHER_S)
        self._is_run = is_run
        if submissions:
            # A bounded bite: what came from the network must not wait for a long backlog.
            bite = submissions[: 2 * self._settings.batch_tasks_max]
            self._in_hand = len(bite)
            del submissions[: len(bite)]
            if submissions:
                taken = payload_sizes([submission.task.payload for submission in bite])
                self._fresh_bytes = max(0, self._fresh_bytes - taken)
            else:
                self._fresh_bytes = 0
            self._taken += len(bite)
            events += grouped(bite)
        while self._requests:
            events.append(self._requests.popleft())
        if self.dropped:
            gone = self._promises.take_dropped()
            if gone:
                events.append(ResultsForgotten(gone))

    def _apply(self, command: Command) -> None:
        kind = type(command)
        if kind is Send:
            self._send(command)  # type: ignore[arg-type]
        elif isinstance(command, PublishOutcomes):
            self._promises.publish(command.outcomes, self._channels.take_buffers)
        elif isinstance(command, PublishRejected):
            self._on_rejected(command)
        elif isinstance(command, PublishUnknown):
            for task_id in command.ids:
                self._promises.fail(task_id, UnknownTask(f"no router knows task {task_id}: {command.reason}"))
        elif isinstance(command, PublishUnwatched):
            log.error("%d results cannot be waited for: %s", len(command.ids), command.reason)
            for task_id in command.ids:
                self._promises.fail(task_id, Overloaded(f"task {task_id} cannot be waited for: {command.reason}"))
        elif isinstance(command, PublishReply):
            self.questions.answer(command)
        elif isinstance(command, PublishRefused):
            self._routers.prospects.refuse(command.reason)
        elif isinstance(command, PublishDropped):
            log.error("%s", command.reason)
        elif isinstance(command, SessionEnded):
            self._from_routers.end_session(command)

    def _send(self, command: Send) -> None:
        message = command.message
        if type(message) is Submit and self._parts:
            keys = [blob.key for blob in blobs_of(message)]
            if keys:
                self._blobs_of_batch[message.batch] = keys
        self._channels.send(command.peer, message)

    def _on_rejected(self, command: PublishRejected) -> None:
        error = rejection(command)
        self._lost = (self._lost or Lost()).with_more(len(command.ids), error)
        log.error("%s not accepted: %s", tasks_of(len(command.ids), "was", "were"), command.reason)
        for task_id in command.ids:
            self._promises.fail(task_id, error)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
