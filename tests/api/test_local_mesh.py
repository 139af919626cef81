"""The mesh inside a test's process: what its threads do at the same time harms nothing."""

from __future__ import annotations

import threading

from mesh import Mesh, testing
from mesh.testing import local_mesh
from tests.api.waiting import wait_until


def test_tasks_that_end_while_they_are_asked_back_are_settled(monkeypatch):
    """A worker asks for what waits behind a long task; all of it, and the long task too, ends in that moment."""
    app = Mesh("local")
    gate = threading.Event()
    ended = []
    take_back = testing._Executor.take_back

    def take_back_late(executor):
        gate.set()
        wait_until(lambda: len(ended) == 3)
        return take_back(executor)

    def work(n):
        if n == 0:
            gate.wait(20)
        ended.append(n)
        return n

    monkeypatch.setattr(testing._Executor, "take_back", take_back_late)
    task = app.task(work)
    with local_mesh(app) as mesh:
        app.gather([task.delay(9) for _ in range(5)], timeout=10)  # known to be short, so that three make one chunk
        ended.clear()
        held = threading.Event()
        mesh.tell(lambda: held.wait(20))  # so that all three come at once
        results = [task.delay(n) for n in range(3)]
        wait_until(lambda: len(app.connection._submissions) == 0)
        held.set()

        assert app.gather(results, timeout=10) == [0, 1, 2]


def test_a_task_that_is_defined_inside_is_known():
    """Whether before the worker said what it knows, after that, or in the place of another."""
    app = Mesh("local")
    with local_mesh(app):
        first = app.task(name="first")(lambda: 1)
        assert first.delay().get(timeout=10) == 1
        second = app.task(name="second", time_limit=5)(lambda: 2)
        assert (second.delay().get(timeout=10), first.delay().get(timeout=10)) == (2, 1)
        assert app.task(name="first")(lambda: 3).delay().get(timeout=10) == 3
