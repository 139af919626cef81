"""The tasks and messages that the parts are fed with: as small as real no-op tasks, and as varied in their ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.api.ids import TaskIds
from mesh.clock import Now
from mesh.core.events import MessageReceived
from mesh.messages import Hello, Settled, Submit, WorkerInfo
from mesh.model import Ending, Outcome, Peer, Role, Settlement, TaskOptions, TaskSpec, TaskState
from mesh.wire.payload import encode, encode_call

NAME = "bench.noop"
OPTIONS = TaskOptions(NAME)
CALL = encode_call((), {}, key="", inline_max=1 << 16, total_max=1 << 20).payload
RESULT = encode(None, key="", inline_max=1 << 16, total_max=1 << 20).payload
BATCH = 1_000

CLIENT, WORKER, ROUTER = Peer(b"client"), Peer(b"worker"), Peer(b"router")
WALL = 1_800_000_000.0


def clock() -> Iterator[Now]:
    """Readings that advance by a millisecond each."""
    at = 0.0
    while True:
        at += 0.001
        yield Now(WALL + at, at)


def specs(count: int) -> list[TaskSpec]:
    new_id = TaskIds()
    return [TaskSpec(new_id(), 0, CALL) for _ in range(count)]


def submits(count: int, batch: int = BATCH) -> Iterator[Submit]:
    """SUBMITs of ``batch`` tasks each, ``count`` tasks in all."""
    tasks = specs(count)
    for number, start in enumerate(range(0, count, batch), 1):
        yield Submit(number, [OPTIONS], tasks[start : start + batch])


def settlement(task_id: str) -> Settlement:
    return Settlement(task_id, 1, Ending.SUCCEEDED, RESULT, WALL + 0.5, 1.2e-6)


def settled(number: int, tasks: Iterable[TaskSpec]) -> Settled:
    return Settled(number, [settlement(task.id) for task in tasks])


def outcome(task_id: str, batch: int = 1) -> Outcome:
    return Outcome(
        task_id,
        TaskState.SUCCEEDED,
        RESULT,
        None,
        NAME,
        "default",
        "worker1@bench",
        1,
        0,
        WALL,
        WALL + 0.5,
        WALL + 1.0,
        WALL + 86_401.0,
        batch,
    )


def hellos(window: int) -> list[MessageReceived]:
    """What a client and a worker with this credit say to a router first."""
    info = WorkerInfo(["default"], [NAME], 2, window)
    return [
        MessageReceived(CLIENT, Hello(Role.CLIENT, "client", "client", "3.11", "0"), None, Role.CLIENT),
        MessageReceived(WORKER, Hello(Role.WORKER, "worker", "worker", "3.11", "0", info), None, Role.WORKER),
    ]
