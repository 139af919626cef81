"""Keeps a mesh busy and kills parts of it: ``python -m bench.clients.recovery MESH_UP_PID SECONDS_OF_A_TASK``.

For each word, the role of a process, it kills one such process of that mesh with SIGKILL and says what became of the
load. Tasks tell when they ended by the clock that all processes of a machine share, so a result that was on its way
when the process died is not taken for work that was done after it.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
from time import monotonic
from typing import Any

from bench.clients.talk import answer, word
from bench.ending import end_with_starter
from bench.meshes import roles
from bench.tasks import app, working
from mesh import AsyncResult
from mesh.errors import MeshError

UNDER_WAY = 200  # tasks, all the time
SETTLE = 150  # results after the mesh works again, before the next kill
PATIENCE_S = 60.0


class Load:
    """``UNDER_WAY`` tasks, each replaced when it is done."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._finished: queue.SimpleQueue[AsyncResult[float]] = queue.SimpleQueue()
        self.under_way: set[AsyncResult[float]] = set()

    def fill(self) -> None:
        """Submit until as many are under way as should be."""
        while len(self.under_way) < UNDER_WAY:
            result = working.delay(self._seconds)
            self.under_way.add(result)
            result.on_settled(self._finished.put)

    def next(self) -> AsyncResult[float]:
        """The next that is done. Raises ``Empty`` when none is for a long time."""
        result = self._finished.get(timeout=PATIENCE_S)
        self.under_way.discard(result)
        return result


def main(supervisor: int, seconds: float) -> None:
    """Kill for each word; without one, take the results that are due, and end."""
    end_with_starter()
    with app:
        load = Load(seconds)
        for _ in range(SETTLE):
            load.fill()
            load.next()
        answer({})
        while role := word():
            answer(_kill_and_watch(load, roles(supervisor)[role][0]))


def _kill_and_watch(load: Load, pid: int) -> dict[str, Any]:
    """What a kill did: ``next_s`` until there is the result of a task that ended after it, ``all_s`` until there are
    those of all that were under way; and how many tasks were lost, or given out again, until the mesh works as before.
    """
    load.fill()
    owed = set(load.under_way)
    killed_at = monotonic()
    os.kill(pid, signal.SIGKILL)
    next_s = all_s = PATIENCE_S
    lost = redelivered = after = 0
    while owed or after < SETTLE:
        try:
            result = load.next()
        except queue.Empty:
            return {"next_s": next_s, "all_s": all_s, "lost": lost + len(load.under_way), "redelivered": redelivered}
        load.fill()
        try:
            ended_at = result.get()
        except MeshError:
            lost, ended_at = lost + 1, 0.0
        if ended_at > killed_at:
            after += 1
            next_s = min(next_s, monotonic() - killed_at)
        outcome = result._outcome
        redelivered += outcome is not None and outcome.attempts > 1
        if result in owed:
            owed.discard(result)
            all_s = monotonic() - killed_at
    return {"next_s": next_s, "all_s": all_s, "lost": lost, "redelivered": redelivered}


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
