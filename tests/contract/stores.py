"""How the tests make stores and what they put into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesh.messages import Submit
from mesh.model import Blob, ErrorInfo, Outcome, TaskOptions, TaskSpec, TaskState
from mesh.store.base import Store


@dataclass
class Disk:
    """Where stores of one test live: ``reopen`` is what a start of the router after a crash or a stop does."""

    open: Callable[[], Store]
    level: str
    store: Store | None = None

    def start(self) -> Store:
        self.store = self.open()
        return self.store

    def reopen(self) -> Store:
        assert self.store is not None
        self.store.close()
        return self.start()


def submit_of(*ids: str) -> Submit:
    return Submit(1, [TaskOptions("tasks.add")], [TaskSpec(i, 0, b"args of " + i.encode()) for i in ids])


def outcome_of(task_id: str, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "state": TaskState.SUCCEEDED,
        "payload": b"result of " + task_id.encode(),
        "name": "tasks.add",
        "queue": "default",
        "worker": "w1",
        "attempts": 1,
        "accepted_at": 1000.25,
        "started_at": 1001.5,
        "finished_at": 1002.75,
        "expires_at": 2000.0,
        "runtime_s": 1.125,
    }
    return Outcome(task_id, **(values | changes))


ERROR = ErrorInfo("ValueError", "bad value: ünïcödé", "Traceback ...\nValueError", b"\x80pickled", "(1, 2)")
MIB = 1 << 20
BLOB = Blob("t1:result", [5, 0, MIB + 3])
PARTS = [b"abcde", b"x" * MIB, b"yyy"]
