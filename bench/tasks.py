"""The task functions that all entrants of scenarios run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from mesh import AsyncResult, Mesh
from mesh.api.task import Task

SHIP = "BENCH_SHIP"
"""In a client's environment: the workers do not have this module, so functions go with their code."""

SLOWNESS = "BENCH_SLOWNESS"
"""In a worker's environment: how many times as long as others it takes for ``work``."""

FORGOTTEN_AT_ONCE = 1_000

app = Mesh("bench.tasks")


def nothing(element: int | None = None) -> None:
    """Do nothing."""


def echo(payload: Any) -> Any:
    """Give back what was given."""
    return payload


def work(seconds: float) -> float:
    """Take so long; the end by the clock that all processes of a machine share."""
    time.sleep(seconds * float(os.environ.get(SLOWNESS, "1")))
    return time.monotonic()


noop = app.task(nothing)
echoing = app.task(echo)
working = app.task(work)


def submitter(task: Task[..., Any]) -> Callable[..., AsyncResult[Any]]:
    """How to submit calls of ``task`` to the mesh under test."""
    if not os.environ.get(SHIP):
        return task.delay
    function = task.run

    def submit(*args: Any) -> AsyncResult[Any]:
        return app.submit(function, *args)

    return submit


def let_go(results: Sequence[AsyncResult[Any]]) -> None:
    """Have a mesh that runs already forget these, which are finished: its users want none of them.

    One that the bench has started goes with all it has: there it would be work for nothing.
    """
    if os.environ.get(SHIP):
        ids = [result.id for result in results]
        for first in range(0, len(ids), FORGOTTEN_AT_ONCE):
            app.connection.forget(ids[first : first + FORGOTTEN_AT_ONCE])
        app.status()  # answered when the router has read what was sent before
