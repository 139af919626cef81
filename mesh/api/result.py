"""``AsyncResult``: the handle of a task, whoever submitted it. Celery's state names live here and nowhere else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct, field

from mesh.api.hints import explain_absent
from mesh.api.options import checked_timeout
from mesh.errors import (
    MeshError,
    NotRegistered,
    StoreDamaged,
    TaskExpired,
    TaskFailed,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,
    UnknownTask,
    WorkerLostError,
)
from mesh.model import Buffer, ErrorInfo, Outcome, TaskState
from mesh.runtime.depot import PayloadFile
from mesh.runtime.promises import Promise
from mesh.wire import payload as payloads
from mesh.wire.exceptions import rebuild_exception

if TYPE_CHECKING:
    from mesh.api.app import Mesh

R = TypeVar("R")

log = logging.getLogger("mesh.result")

PENDING, RECEIVED, SUCCESS, FAILURE = "PENDING", "RECEIVED", "SUCCESS", "FAILURE"
REVOKED, REJECTED, UNKNOWN = "REVOKED", "REJECTED", "UNKNOWN"

SILENT_WAIT_S = 5.0  # a wait without a timeout asks then whether anybody can run the task
STUCK = (
    "it waits: "  # how a story of ``mesh.core.story`` begins where nobody can; others wait for a time or a free worker
)
ASK_AGAIN_S = 0.05  # pause before asking again for an id that nobody knows yet

CELERY_STATES: dict[str, str] = {
    TaskState.SCHEDULED: PENDING,
    TaskState.READY: PENDING,
    TaskState.LEASED: RECEIVED,  # a worker has it; whether it has started, only the worker knows
    TaskState.SUCCEEDED: SUCCESS,
    TaskState.FAILED: FAILURE,
    TaskState.CANCELLED: REVOKED,
    TaskState.EXPIRED: REVOKED,
    TaskState.DEAD: FAILURE,
}

# What routers and workers say of a task in their own words, without an exception that was raised.
_TOLD_ERRORS: dict[str, type[MeshError]] = {
    f"mesh.errors.{kind.__name__}": kind
    for kind in (NotRegistered, TaskExpired, TaskRevokedError, TimeLimitExceeded, WorkerLostError)
}


def _no_app() -> Mesh:
    """Stand for an app that was not given, for which a check would cost every submit."""
    raise TypeError("a result belongs to an app: use app.AsyncResult(id)")


class AsyncResult(Struct, Generic[R], gc=False, eq=False):
    """A task that was submitted. Nothing is kept for a handle that nobody holds.

    A struct, which the garbage collector does not follow: a script may hold millions.
    """

    id: str
    _mesh: Mesh = field(default_factory=_no_app)
    _promise: Promise | None = None  # shared by all handles of the task in this process; None: not asked for yet

    # waiting

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float | None = None) -> R:
        """The result, waiting up to ``timeout`` seconds; raises what the task raised.

        It is read anew each time: what is done to one value is not seen in another.
        With ``timeout=0`` it only looks: what this process submitted is told to it, for any other id the mesh is asked
        once, for ``connect_timeout_s`` at most: ``TimeoutError`` where the task is not finished, ``Unavailable``
        where nobody answers. With ``propagate=False`` the exception is returned instead.
        A result that was changed on disk is lost: that is a ``StoreDamaged``, and the task counts as failed from then.
        ``interval`` is accepted for Celery's sake: nothing is polled. Without a timeout it warns once, in the log, when
        nobody can run the task. Raises ``TimeoutError``, ``UnknownTask``,
        ``Unavailable``, or the task's own exception.
        """
        promise = self._promise
        if promise is None or (type(promise.end) is not Outcome and not self._is_told()):
            checked_timeout(timeout)
            if timeout is not None and timeout <= 0 and self._mesh.connection.is_foreign(self.id):
                self._look()
            else:
                self._wait(timeout)
        return self._value(propagate)  # type: ignore[no-any-return]

    wait = get

    def __await__(self) -> Generator[Any, None, R]:
        if not self._is_told():
            yield from self._wait_async().__await__()
        return self._value(True)  # type: ignore[no-any-return]

    def _look(self) -> None:
        """Take the outcome if there is one; an id that nobody knows has no time to become known."""
        self._mesh.look_up(self)
        if self._end is None:
            self._give_up(0.0, unknown=False)

    def _wait(self, timeout: float | None) -> None:
        begun = time.monotonic()
        unknown = False
        while True:
            left = None if timeout is None else max(0.0, begun + timeout - time.monotonic())
            if left is None:
                self._wait_without_end()
            elif not self.wait_once(left):
                self._give_up(timeout or 0.0, unknown)
                return
            if not self._is_unknown_yet(begun):
                return
            unknown = True
            time.sleep(ASK_AGAIN_S)

    def _wait_without_end(self) -> None:
        """Wait for as long as it takes, and warn once where the router says that nobody will run the task as it is.

        The router is asked rarely, and ever more so: the task may run, and lose its worker later.
        """
        pause = SILENT_WAIT_S
        while not self.wait_once(pause):
            pause *= 2
            why = self.story()
            if why.startswith(STUCK):
                log.warning("still waiting for the result of task %s: %s", self.id, why)
                self.wait_once(None)
                return

    def _give_up(self, timeout: float, unknown: bool) -> None:
        """Raise ``TimeoutError`` that says why the task is not finished, unless it ends while that is asked."""
        why = self.story()
        if self.is_unknown() or (unknown and not why):
            why = "no router knows its id"
        if self._end is None:
            situation = f": {why}" if why else f"; {self.situation()}"
            waited = f"no result of task {self.id} after {round(timeout, 3):g} s"
            raise timed_out((waited if timeout > 0 else f"task {self.id} is not finished") + situation, why)

    async def _wait_async(self) -> None:
        # asyncio takes 30 ms to import: who awaits has it already, and nobody else pays for it
        awaiting = import_module("mesh.api.awaiting")
        begun = time.monotonic()
        while True:
            connection = self._mesh.connection
            self.watch()
            await awaiting.wait_settled(self, connection)
            if not self._is_unknown_yet(begun):
                return
            await awaiting.pause(ASK_AGAIN_S)

    def _is_unknown_yet(self, begun: float) -> bool:
        """Whether to ask again for an id nobody knows: its submitter may be slower than its reader."""
        end = self._end  # None: another waiter has had the same answer and asks again
        if end is not None and not isinstance(end, UnknownTask):
            return False
        if time.monotonic() - begun >= self._mesh.settings.unknown_grace_s:
            return False
        self.is_unknown()
        return True

    def watch(self) -> None:
        """Have the mesh asked for the outcome, unless this process waits for it already."""
        connection = self._mesh.connection
        with self._mesh.callbacks_lock:  # two threads may ask by one handle, which is to be counted once
            self._promise = connection.watch(self._promise or Promise(self.id))

    def _own_promise(self) -> Promise:
        with self._mesh.callbacks_lock:
            if self._promise is None:
                self._promise = Promise(self.id)
            return self._promise

    def wait_once(self, timeout: float | None) -> bool:
        """Wait for the outcome, or the first answer that there is none; False when ``timeout`` seconds are over.

        Raises ``Unavailable``, ``Refused``, ``NoKey``.
        """
        if self._end is not None:
            return True
        connection = self._mesh.connection
        self.watch()
        settled = threading.Lock()
        settled.acquire()
        self.add_done_callback(settled.release)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not settled.acquire(timeout=connection.patience(deadline)):
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                connection.raise_if_hopeless()
            return True
        finally:
            self.remove_done_callback(settled.release)

    def is_settled(self) -> bool:
        """Whether this process knows how the task ended."""
        return self._end is not None

    def is_unknown(self) -> bool:
        """Whether the last answer was that nobody knows the id; it is forgotten with this question."""
        promise = self._promise
        if promise is None or not isinstance(promise.end, UnknownTask):
            return False
        promise.end = None
        return True

    def story(self) -> str:
        """Why the task is not finished, in the words of its router; empty when it is, or when no router says."""
        return self._mesh.connection.questions.story(self.id) if self._end is None else ""

    def _is_told(self) -> bool:
        """Whether this process knows how the task ended. That nobody knew its id may answer an earlier question."""
        return self._end is not None and not self.is_unknown()

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the task is settled: now, or on the connection's thread, so it must not block."""
        promise = self._own_promise()
        if promise.end is None:
            with self._mesh.callbacks_lock:
                if promise.callbacks is None:
                    promise.callbacks = []
                promise.callbacks.append(callback)
            if self.is_settled():  # meanwhile, perhaps before it could see the callback
                promise.run_callbacks()
        else:
            callback()

    def remove_done_callback(self, callback: Callable[[], None]) -> None:
        """Nobody waits for this callback any more; nothing where it was called already."""
        promise = self._own_promise()
        with self._mesh.callbacks_lock, suppress(ValueError):
            if promise.callbacks is not None:
                promise.callbacks.remove(callback)

    def on_settled(self, tell: Callable[[AsyncResult[R]], None]) -> Callable[[], None]:
        """Call ``tell`` with this result once the mesh has told the outcome; see ``add_done_callback``.

        Give back what takes that back: until then, or the outcome, the promise holds this handle.
        """
        if self._end is None:
            self.watch()
        callback = partial(tell, self)
        self.add_done_callback(callback)
        return partial(self.remove_done_callback, callback)

    def patience(self, deadline: float | None) -> float:
        """See ``Connection.patience``."""
        return self._mesh.connection.patience(deadline)

    def raise_if_hopeless(self) -> None:
        """See ``Connection.raise_if_hopeless``."""
        self._mesh.connection.raise_if_hopeless()

    def situation(self) -> str:
        """See ``Connection.situation``."""
        return self._mesh.connection.situation()

    @property
    def _end(self) -> Outcome | MeshError | None:
        promise = self._promise
        return None if promise is None else promise.end

    @property
    def _lost(self) -> MeshError | None:
        """Why the bytes of a large result are not to be had, once that was found."""
        promise = self._promise
        return promise.buffers if promise is not None and isinstance(promise.buffers, MeshError) else None

    def __del__(self) -> None:
        try:
            promise = self._promise
        except AttributeError:  # it was refused before it was complete
            return
        if promise is not None and not isinstance(promise.end, Outcome):
            connection = self._mesh.open_connection
            if connection is not None:
                connection.dropped.append(promise)

    # the outcome

    def _value(self, propagate: bool) -> Any:
        promise = self._promise
        assert promise is not None, "asked for the value of an unsettled task"
        end = promise.end
        error: BaseException
        buffers = promise.buffers
        if type(end) is Outcome and end.state is TaskState.SUCCEEDED and not isinstance(buffers, MeshError):
            try:
                own = _own_memory(buffers)
            except StoreDamaged as damaged:
                promise.buffers = error = damaged
            else:
                return payloads.decode(end.payload, own) if end.payload else None
        else:
            error = self._error()
        self.is_unknown()  # somebody may submit it yet: ask again next time
        if propagate:
            raise error
        return error

    def _error(self) -> BaseException:
        if self._lost is not None:
            return self._lost
        end = self._end
        if end is None:  # it was an answer that another waiter has had, too
            return UnknownTask(f"no router knows task {self.id}: never accepted, or its result is kept no longer")
        if not isinstance(end, Outcome):
            return end
        error = end.error
        if error is None:
            return TaskFailed(f"task {self.id} ({end.name}) ended as {end.state}")
        told = _TOLD_ERRORS.get(error.type) if error.pickled is None else None
        return rebuild_exception(error) if told is None else told(f"task {self.id} ({end.name}): {error.message}")

    @property
    def _outcome(self) -> Outcome | None:
        """The outcome, asking the mesh for it where this process was not told yet."""
        if not self._is_told() and self._mesh.connection.is_foreign(self.id):
            self._mesh.look_up(self)
            self.is_unknown()
        return self._end if isinstance(self._end, Outcome) else None

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def state(self) -> str:
        """One of Celery's state names, or ``UNKNOWN`` where no router knows the id.

        The mesh is asked, for ``connect_timeout_s`` at most, unless the outcome is here. Raises ``Unavailable``.
        """
        if not self._is_told():
            known = self._mesh.look_up(self)
            if self.is_unknown() or not self.is_settled():
                return CELERY_STATES.get(known or "", UNKNOWN)
        end = self._end
        if isinstance(end, Outcome):
            return CELERY_STATES[end.state] if self._lost is None else FAILURE
        return REJECTED

    status = state

    def ready(self) -> bool:
        """Whether the task is finished; does not wait for that.

        For an id this process did not submit the mesh is asked, for ``connect_timeout_s`` at most. Raises
        ``Unavailable``.
        """
        if not self._is_told() and self._mesh.connection.is_foreign(self.id):
            self._mesh.look_up(self)
            self.is_unknown()
        return self._end is not None

    def successful(self) -> bool:
        """Whether the task is finished and returned a result, which was not found to be lost since."""
        if not self.ready() or self._lost is not None:
            return False
        return isinstance(self._end, Outcome) and self._end.state is TaskState.SUCCEEDED

    def failed(self) -> bool:
        """Whether the task is finished and did not succeed."""
        return self.ready() and not self.successful()

    @property
    def result(self) -> Any:
        """The result, or the exception where the task failed, or None while it is not finished."""
        return self._value(False) if self.ready() else None

    info = result

    @property
    def error(self) -> ErrorInfo | None:
        """The exception as data, as it came from the worker, or why the result is lost."""
        outcome = self._outcome
        lost = self._lost
        if lost is not None:
            return ErrorInfo(f"{type(lost).__module__}.{type(lost).__qualname__}", str(lost))
        return outcome.error if outcome is not None else None

    @property
    def traceback(self) -> str | None:
        """The text of the traceback on the worker, where there is one."""
        error = self.error
        return error.traceback or None if error is not None else None

    @property
    def name(self) -> str | None:
        """The task's name; None until it is finished."""
        outcome = self._outcome
        return outcome.name if outcome is not None else None

    @property
    def queue(self) -> str | None:
        """The queue it was in; None until it is finished."""
        outcome = self._outcome
        return outcome.queue if outcome is not None else None

    @property
    def worker(self) -> str | None:
        """The name of the worker that finished it; None until then."""
        outcome = self._outcome
        return outcome.worker or None if outcome is not None else None

    @property
    def retries(self) -> int | None:
        """How often it was retried; None until it is finished."""
        outcome = self._outcome
        return outcome.retries if outcome is not None else None

    @property
    def date_done(self) -> datetime | None:
        """When it was finished (UTC); None until then."""
        outcome = self._outcome
        return datetime.fromtimestamp(outcome.finished_at, UTC) if outcome is not None else None

    @property
    def runtime_s(self) -> float | None:
        """Seconds its last attempt ran, as the worker measured them, 0 if it never did; None until it is finished."""
        outcome = self._outcome
        return outcome.runtime_s if outcome is not None else None

    # changing the task's fate

    def forget(self) -> None:
        """Let the mesh forget the outcome; nobody can ask for it afterwards. A handle that has it keeps it.

        Of a task that is not finished there is none: this process waits for it no more, wakes nobody who did, and the
        outcome is kept for its time when it comes. ``get`` asks for it, and ``forget`` then drops it.
        """
        self._mesh.connection.forget([self.id])

    def revoke(self, terminate: bool = False, signal: str = "SIGKILL") -> None:
        """Cancel the task unless it has started; with ``terminate`` also then, by ``signal``.

        A finished task stays as it is.
        """
        self._mesh.connection.cancel([self.id], terminate, signal)

    # identity

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, AsyncResult) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncResult, (self.id, self._mesh)

    def __copy__(self) -> Any:
        """Another handle of the task; each is counted."""
        make, arguments = self.__reduce__()
        return make(*arguments)


explain_absent(AsyncResult)


def _own_memory(buffers: PayloadFile | Sequence[Buffer] | None) -> Sequence[Buffer]:
    """A large payload for one reader: what it does to a value must not be seen in another. Raises ``StoreError``."""
    if isinstance(buffers, PayloadFile):
        return buffers.read()
    return [memoryview(part).toreadonly() for part in buffers or ()]  # the decoder copies what may be written to


def timed_out(text: str, why: str) -> TimeoutError:
    """The error of a wait that ran out."""
    error = TimeoutError(text)
    error.why = why
    return error


class EagerResult(AsyncResult[R], eq=False):
    """The result of a task that ran in this process. It has the interface of ``AsyncResult``."""

    _result: Any = None
    _exception: BaseException | None = None

    def _value(self, propagate: bool) -> Any:
        if self._exception is None:
            return self._result
        if propagate:
            raise self._exception
        return self._exception

    def _error(self) -> BaseException:
        assert self._exception is not None, "asked for the error of a task that succeeded"
        return self._exception

    def forget(self) -> None:
        """Nothing was stored, so nothing is forgotten."""

    def revoke(self, terminate: bool = False, signal: str = "SIGKILL") -> None:
        """It has run already."""

    def __reduce__(self) -> tuple[Any, ...]:
        return EagerResult, (self.id, self._mesh, self._promise, self._result, self._exception)
