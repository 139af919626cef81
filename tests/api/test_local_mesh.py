"""The mesh inside a test's process: what its threads do at the same time harms nothing."""

from __future__ import annotations

import threading

import pytest

from mesh import ConfigError, Mesh, testing
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


def test_periodic_tasks_in_the_code_are_there_to_be_triggered_and_do_not_fire_by_themselves():
    app = Mesh("local")
    runs = []

    @app.on_after_configure.connect
    def setup(sender, **kwargs):
        task = sender.task(name="work")(lambda n: runs.append(n))
        sender.add_periodic_task(0.001, task, (2,), name="handled")

    app.conf.beat_schedule = {"beaten": {"task": "work", "schedule": 0.001, "args": (1,)}}
    with local_mesh(app) as mesh:
        app.schedules.trigger("beaten").get(timeout=10)
        app.schedules.trigger("handled").get(timeout=10)
        assert runs == [1, 2]
        assert [(row.name, row.app, row.fired) for row in app.schedules.list()] == [
            ("beaten", "local", 0),
            ("handled", "local", 0),
        ]
        assert mesh.router.periodic.lease.holder is None
    with local_mesh(app):  # and in the next test
        assert len(app.schedules.list()) == 2


def test_a_periodic_task_of_a_script_is_left_out_and_one_that_cannot_be_is_an_error():
    app = Mesh()
    app.add_periodic_task(10, "__main__.work", name="of the script")
    with local_mesh(app):
        assert app.schedules.list() == []
    app.conf.beat_schedule = {"e": {"task": "work", "schedule": "wrong"}}
    with pytest.raises(ConfigError, match="'e'"), local_mesh(app):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "mesh-local"]
