"""How the tests make stores and what they put into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesh.core.commands import AppendBatch, RecordOutcomes, SaveFunction, SaveMarks, SaveNode
from mesh.messages import Submit
from mesh.model import Blob, ErrorInfo, FunctionCode, NodeInfo, Outcome, TaskMark, TaskOptions, TaskSpec, TaskState
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


def append(seq: int, *ids: str, accepted_at: float = 1000.5) -> AppendBatch:
    return AppendBatch(seq, submit_of(*ids), None, accepted_at)


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
ARGUMENTS = Blob("t2:arguments", BLOB.sizes)
CODE = FunctionCode("d1", "3.11", b"code")
PARTS = [b"abcde", b"x" * MIB, b"yyy"]


def fill_to_be_adopted(store: Store) -> None:
    """Two batches, of which one task is finished, and something of each kind that goes with them."""
    store.recover()
    store.put_blob(ARGUMENTS, PARTS)
    large = Submit(1, [TaskOptions("t")], [TaskSpec("t2", 0, ARGUMENTS)])
    store.commit(
        [
            append(1, "a", "b"),
            AppendBatch(2, large, None, 1001.5),
            SaveMarks([TaskMark("b", 1, 3, 1, 0)]),
            SaveNode(NodeInfo("n1", "one")),
            SaveFunction(CODE, 5.0),
            RecordOutcomes([outcome_of("a", batch=1)]),
        ]
    )
