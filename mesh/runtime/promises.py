"""Who in this process waits for which outcome: a task whose handles are all dropped costs nothing any more.

A task has one ``Promise`` here, which all its handles hold, and which is found by the task's id while it is waited
for. The garbage collector follows neither: a script may hold millions of handles, and none leads back to itself but by
a callback that is still to be called.

The user's threads add promises and the loop takes them away. Adding one of a new id is one dictionary operation,
atomic under the interpreter's lock; whatever else there is about handles of one id is done under a lock of our own.
A handle that is dropped before its task is finished leaves its promise in ``dropped``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from mesh.errors import MeshError
from mesh.model import Blob, Outcome
from mesh.runtime.depot import Buffers, PayloadFile


class Promise(Struct, gc=False, eq=False):
    """What this process knows of how a task ended. ``holders``: how many handles have it."""

    id: str
    end: Outcome | MeshError | None = None
    buffers: PayloadFile | Buffers | None = None
    callbacks: list[Callable[[], None]] | None = None
    holders: int = 1

    def settle(self, end: Outcome | MeshError, buffers: PayloadFile | Buffers | None = None) -> None:
        """Take the outcome, or why there will be none. Called on the connection's thread; the first word counts."""
        if self.end is None:
            self.buffers = buffers
            self.end = end
            if self.callbacks is not None:
                self.run_callbacks()

    def run_callbacks(self) -> None:
        """Call each callback once, whichever threads do so at the same time."""
        callbacks = self.callbacks
        while callbacks:
            try:
                callback = callbacks.pop()
            except IndexError:  # another thread took the last one
                return
            callback()


class Promises:
    """Promises by task id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Promise] = {}
        self.dropped: deque[Promise] = deque()
        self._foreign: set[str] = set()  # ids among them that this process did not submit
        self._sharing = threading.Lock()

    def join(self, promise: Promise) -> Promise:
        """The promise that is waited for under this id: ``promise``, unless there is one already."""
        with self._sharing:
            known = self.by_id.setdefault(promise.id, promise)
            if known is not promise:
                known.holders += 1
            return known

    def watch(self, promise: Promise) -> tuple[Promise, bool]:
        """As ``join``, for a task this process need not have submitted; with True where a router must be asked."""
        if self.by_id.get(promise.id) is promise:
            return promise, False
        known = self.join(promise)
        if known is promise:
            self._foreign.add(promise.id)
        return known, known is promise

    def is_foreign(self, task_id: str) -> bool:
        """Whether this process did not submit this task, or keeps no handle of it."""
        return task_id in self._foreign or task_id not in self.by_id

    def publish(self, outcomes: Sequence[Outcome], take_buffers: Callable[[Blob], PayloadFile | Buffers]) -> None:
        """Settle the promises of these tasks; ``take_buffers`` gives the bytes of large payloads."""
        take = self.by_id.pop
        for outcome in outcomes:
            promise = take(outcome.id, None)
            if promise is not None:
                payload = outcome.payload
                promise.settle(outcome, take_buffers(payload) if type(payload) is Blob else None)
        if self._foreign:
            self._foreign.difference_update([outcome.id for outcome in outcomes])

    def fail(self, task_id: str, error: MeshError) -> None:
        """Settle a promise with the reason why it will have no outcome."""
        promise = self.by_id.get(task_id)
        self.forget(task_id)
        if promise is not None:
            promise.settle(error)

    def fail_all(self, error: MeshError) -> None:
        for task_id in list(self.by_id):
            self.fail(task_id, error)

    def forget(self, task_id: str) -> None:
        """Stop waiting for a task."""
        self.by_id.pop(task_id, None)
        self._foreign.discard(task_id)

    def take_dropped(self) -> list[str]:
        """The ids nobody waits for any more."""
        gone = []
        with self._sharing:
            for _ in range(len(self.dropped)):
                promise = self.dropped.popleft()
                promise.holders -= 1
                if promise.holders == 0 and self.by_id.get(promise.id) is promise:
                    self.forget(promise.id)
                    gone.append(promise.id)
        return gone
