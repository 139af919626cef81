"""Who in this process waits for which outcome, held weakly: a handle that nobody keeps costs nothing.

The user's threads add entries and the loop takes them away; each step is one dictionary operation, atomic under the
interpreter's lock. A handle that is dropped before its task is finished leaves its id in ``dropped``.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from mesh.errors import MeshError
from mesh.model import Blob, Outcome
from mesh.wire.parts import Buffer


class Handle(Protocol):
    """What waits for the outcome of a task."""

    id: str

    def settle(self, end: Outcome | MeshError, parts: Sequence[Buffer] | None = None) -> None:
        """Take the outcome, or why there will be none. Called on the connection's thread."""
        ...


class Handles:
    """Handles by task id."""

    def __init__(self) -> None:
        self.by_id: dict[str, weakref.ref[Any]] = {}
        self.dropped: deque[str] = deque()
        self._foreign: set[str] = set()  # ids among them that this process did not submit

    def add(self, handle: Handle) -> bool:
        """Add a handle of an id that may have others; False where the id is waited for already."""
        reference = self.by_id.get(handle.id)
        known = reference() if reference is not None else None
        if known is None:
            self.by_id[handle.id] = weakref.ref(handle)
            return True
        if known is not handle:  # two handles of one task: the later one hears it from the earlier one
            known.share(handle)
        return False

    def watch(self, handle: Handle) -> bool:
        """Add a handle whose task this process need not have submitted; True where a router must be asked."""
        if self.add(handle):
            self._foreign.add(handle.id)
            return True
        return False

    def is_foreign(self, task_id: str) -> bool:
        """Whether this process did not submit this task, or keeps no handle of it."""
        return task_id in self._foreign or task_id not in self.by_id

    def publish(self, outcomes: Sequence[Outcome], parts: dict[str, list[Buffer]]) -> None:
        """Settle the handles of these tasks; ``parts`` are the large payloads by key."""
        take = self.by_id.pop
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

    def fail(self, task_id: str, error: MeshError) -> None:
        """Settle a handle with the reason why it will have no outcome."""
        reference = self.by_id.get(task_id)
        handle = reference() if reference is not None else None
        self.forget(task_id)
        if handle is not None:
            handle.settle(error)

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
        for _ in range(len(self.dropped)):
            task_id = self.dropped.popleft()
            reference = self.by_id.get(task_id)
            if reference is not None and reference() is None:  # else another handle of it was made since
                self.forget(task_id)
                gone.append(task_id)
        return gone
