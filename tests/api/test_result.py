"""``AsyncResult`` against a mesh inside the process: Celery's words, waiting, errors, weak handles."""

from __future__ import annotations

import asyncio
import builtins
import gc
import pickle
import threading
import time

import numpy
import pytest

from mesh import (
    AsyncResult,
    Mesh,
    TaskExpired,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,
    Unavailable,
    UnknownTask,
)
from mesh.api.result import CELERY_STATES, EagerResult
from mesh.errors import StoreDamaged
from mesh.model import Outcome, TaskOptions, TaskState
from mesh.runtime.depot import Depot
from mesh.runtime.promises import Promise
from mesh.testing import local_mesh
from mesh.wire.payload import encode
from tests.api.scripted_router import ScriptedRouter
from tests.api.waiting import MeshWithMachine, wait_until

app = MeshWithMachine("results")
gate = threading.Event()


@app.task
def add(a, b=0):
    return a + b


@app.task(name="boom")
def boom(text):
    raise ValueError(text)


@app.task
def wait_for_gate():
    gate.wait(20)
    return "open"


@app.task(time_limit=0.1)
def wait_a_little():
    gate.wait(20)


@app.task(bind=True, max_retries=3)
def stubborn(self, succeed_at):
    if self.request.retries < succeed_at:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(bind=True)
def seen(self):
    return self.request.headers, self.request.delivery_info, self.request.hostname


@app.task(bind=True, priority=9)
def urgent(self):
    return self.request.delivery_info["priority"]


@app.task(bind=True)
def family(self):
    return self.request.id, self.request.parent_id, self.request.root_id


@app.task(bind=True)
def with_subtask(self):
    return self.request.id, family.delay().id


@pytest.fixture(scope="module")
def mesh():
    with local_mesh(app, slots=3) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(mesh):
    gate.clear()
    yield
    gate.set()


def test_every_state_of_a_task_has_a_name_of_celery():
    assert set(CELERY_STATES) == set(TaskState)
    assert set(CELERY_STATES.values()) <= {"PENDING", "RECEIVED", "SUCCESS", "FAILURE", "REVOKED"}


@pytest.mark.parametrize(
    "name",
    [
        *("id", "task_id", "get", "wait", "ready", "successful", "failed", "state", "status", "result", "info"),
        *("traceback", "forget", "revoke", "name", "worker", "retries", "queue", "date_done"),
    ],
)
@pytest.mark.parametrize("kind", [AsyncResult, EagerResult])
def test_what_celerys_result_has_is_here(kind, name):
    assert hasattr(kind, name)


@pytest.mark.filterwarnings("error")  # also what a finalizer raises
def test_a_result_without_an_app_says_how_to_get_one():
    for wrong in (lambda: AsyncResult("x"), lambda: EagerResult("x")):
        with pytest.raises(TypeError, match=r"use app.AsyncResult\(id\)"):
            wrong()
    with pytest.raises(TypeError, match="id"):
        AsyncResult()
    gc.collect()


def test_a_result_tells_all_about_its_task():
    result = add.delay(1, b=2)

    assert result.get(timeout=5) == 3
    assert (result.state, result.status) == ("SUCCESS", "SUCCESS")
    assert result.ready() and result.successful() and not result.failed()
    assert (result.result, result.info, result.traceback) == (3, 3, None)
    assert (result.name, result.queue, result.worker, result.retries) == (add.name, "default", "local", 0)
    assert abs(result.date_done.timestamp() - time.time()) < 5


def test_an_error_of_the_task_is_raised_here_with_its_traceback_there():
    result = boom.delay("no way")

    with pytest.raises(ValueError, match="no way") as caught:
        result.get(timeout=5)
    assert "in boom" in caught.value.remote_traceback and "in boom" in str(caught.value.__cause__)
    assert "in boom" in result.traceback
    assert (result.state, result.failed(), result.successful()) == ("FAILURE", True, False)
    assert isinstance(result.get(propagate=False), ValueError)
    assert isinstance(result.result, ValueError)


def test_a_task_that_no_worker_knows_is_parked_and_shown():
    result = app.send_task("no.such.task", (1,))
    app.flush(5)

    assert result.state == "PENDING"
    assert any("no.such.task" in why for queue in app.status()["queues"] for why in queue["parked_why"])
    assert app.purge() == 1
    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)


def test_a_wait_that_runs_out_leaves_the_task_alone():
    result = wait_for_gate.delay()

    with pytest.raises(TimeoutError, match=result.id):
        result.get(timeout=0.05)
    with pytest.raises(builtins.TimeoutError):
        result.get(timeout=0)
    wait_until(lambda: result.state == "RECEIVED")
    assert not result.ready() and result.result is None and result.worker is None
    gate.set()
    assert result.get(timeout=5) == "open"


def test_a_wait_that_runs_out_says_why_the_task_is_not_finished():
    parked, later = app.send_task("no.such.task"), add.apply_async((1,), countdown=1_000)
    for result, why in ((parked, "knows task 'no.such.task' (start one with -A"), (later, "it waits for its time, ")):
        with pytest.raises(TimeoutError, match=f"no result of task {result.id} after 0.1 s: it waits") as caught:
            result.get(timeout=0.1)
        assert why in caught.value.why and str(caught.value).endswith(caught.value.why)
        assert why in result.story()
        result.revoke()
    with pytest.raises(TimeoutError, match="no router knows its id"):
        app.AsyncResult("nobody").get(timeout=0.15)
    done = add.delay(1)
    assert done.get(timeout=5) == 1 and done.story() == ""


def test_a_wait_without_a_timeout_warns_once_where_nobody_can_run_the_task(monkeypatch, caplog):
    monkeypatch.setattr("mesh.api.result.SILENT_WAIT_S", 0.01)
    result = app.send_task("no.such.task")
    waiting = threading.Thread(target=result.get, kwargs={"propagate": False})
    waiting.start()
    wait_until(lambda: caplog.records)
    result.revoke()
    waiting.join(5)

    assert not waiting.is_alive()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"task {result.id}: it waits: no worker" in caplog.text and "start one with -A" in caplog.text


def test_a_wait_that_runs_out_names_the_worker_that_has_the_task():
    result = wait_for_gate.delay()
    wait_until(lambda: result.state == "RECEIVED")

    with pytest.raises(TimeoutError, match=r"it runs on worker local \(attempt 1\)"):
        result.get(timeout=0)


def test_retries_are_counted():
    result = stubborn.delay(2)

    assert result.get(timeout=5) == 2
    assert result.retries == 2


def test_any_process_can_ask_by_id():
    done = add.delay(1)
    done.get(timeout=5)
    other = app.AsyncResult(done.id)

    assert other.state == "SUCCESS" and other.ready() and other.get(timeout=1) == 1
    assert other == done and hash(other) == hash(done)
    assert app.AsyncResult(boom.delay("x").id).get(timeout=5, propagate=False).args == ("x",)


def test_two_handles_of_one_task_both_hear_of_it():
    first = wait_for_gate.delay()
    second = app.AsyncResult(first.id)
    third = app.AsyncResult(first.id)
    assert second.state in ("PENDING", "RECEIVED") and not third.ready()
    gate.set()

    assert [r.get(timeout=5) for r in (third, second, first)] == ["open"] * 3


def test_the_later_handle_hears_of_it_when_the_earlier_one_is_dropped():
    first = wait_for_gate.delay()
    second = app.AsyncResult(first.id)
    assert not second.ready()
    del first
    gc.collect()
    gate.set()

    assert second.get(timeout=5) == "open"


def test_an_id_nobody_knows_is_unknown_after_a_grace():
    hasty = Mesh("hasty", unknown_grace_s=0.1)
    with local_mesh(hasty):
        nobody = hasty.AsyncResult("nobody-knows-me")

        assert nobody.state == "UNKNOWN" and not nobody.ready()
        began = time.monotonic()
        with pytest.raises(UnknownTask, match="nobody-knows-me"):
            nobody.get(timeout=5)
        assert 0.1 <= time.monotonic() - began < 3
        assert nobody.worker is None


def test_that_nobody_knew_an_id_says_nothing_of_later():
    """Two questions may be under way: the answer to the first is not to be taken for the end of the task."""

    def doubted():
        return AsyncResult("known-later", app, Promise("known-later", UnknownTask("no router knows task known-later")))

    assert doubted().state == "UNKNOWN"
    result = doubted()
    assert not result.ready() and not result.failed() and result.result is None and result.error is None
    add.apply_async((4,), task_id="known-later").get(timeout=5)
    assert doubted().state == "SUCCESS"
    assert doubted().successful() and doubted().name == add.name
    assert doubted().get(timeout=5) == doubted().get(timeout=0) == 4

    async def main():
        return await doubted()

    assert asyncio.run(main()) == 4


def test_with_a_timeout_of_0_the_mesh_is_asked_once_for_an_id_of_others():
    done = add.delay(1)
    done.get(timeout=5)
    assert app.AsyncResult(done.id).get(timeout=0) == 1
    failed = boom.delay("no")
    failed.get(timeout=5, propagate=False)
    assert app.AsyncResult(failed.id).get(timeout=0, propagate=False).args == ("no",)
    waiting = wait_for_gate.delay().id  # nobody here holds its handle: it is as if another process had submitted it
    with pytest.raises(TimeoutError, match=f"{waiting} is not finished"):
        app.AsyncResult(waiting).get(timeout=0)
    with pytest.raises(UnknownTask, match="nobody-at-all"):
        app.AsyncResult("nobody-at-all").get(timeout=0)


def test_with_a_timeout_of_0_an_outage_is_told_after_the_time_to_connect():
    lonely = Mesh(connect_timeout_s=0.1)
    ScriptedRouter().join(lonely, found=False)
    with pytest.raises(Unavailable, match="the script and nothing else"):
        lonely.AsyncResult("a").get(timeout=0)
    lonely.close()


def test_an_id_may_be_waited_for_before_it_is_submitted():
    early = app.AsyncResult("chosen-before")
    threading.Timer(0.05, lambda: add.apply_async((4,), task_id="chosen-before")).start()

    assert early.get(timeout=5) == 4


def test_a_chosen_id_is_run_once():
    results = [add.apply_async((n,), task_id="only-once") for n in range(3)]

    assert {r.get(timeout=5) for r in results} == {0}


def test_the_outcome_of_an_ignored_result_can_still_be_waited_for():
    result = add.apply_async((1,), ignore_result=True)

    assert result.get(timeout=5) is None
    assert result.successful()


def test_a_finished_task_that_is_revoked_stays_as_it_is():
    result = add.delay(1)
    assert result.get(timeout=5) == 1
    result.revoke(terminate=True)
    anew = app.AsyncResult(result.id)
    assert (anew.state, anew.get(timeout=5)) == ("SUCCESS", 1)


def test_a_revoked_task_never_starts():
    blockers = [wait_for_gate.delay() for _ in range(3)]
    victim = add.apply_async((1,), countdown=30)
    victim.revoke()

    with pytest.raises(TaskRevokedError, match="cancel"):
        victim.get(timeout=5)
    assert victim.state == "REVOKED"
    gate.set()
    app.gather(blockers, timeout=5)


def test_a_running_task_can_be_terminated():
    running = wait_for_gate.delay()
    wait_until(lambda: running.state == "RECEIVED")
    running.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        running.get(timeout=5)


def test_the_time_limit_of_a_definition_counts_for_calls_that_do_not_know_it():
    unknowing = TaskOptions(wait_a_little.name)
    with pytest.raises(TimeLimitExceeded, match=r"0\.1 s"):
        app.send_with(unknowing, (), None, None, None, None, None, None, None).get(timeout=5)


def test_a_task_over_its_time_limit_fails():
    with pytest.raises(TimeLimitExceeded):
        wait_for_gate.apply_async(time_limit=0.1).get(timeout=5)


def test_a_task_that_starts_too_late_expires():
    late = add.apply_async((1,), countdown=0.2, expires=0.05)

    with pytest.raises(TaskExpired):
        late.get(timeout=5)
    assert late.state == "REVOKED"


def test_countdown_holds_a_task_back():
    began = time.monotonic()
    result = add.apply_async((1,), countdown=0.2)

    assert result.state == "PENDING"
    assert result.get(timeout=5) == 1
    assert time.monotonic() - began >= 0.2


def test_a_forgotten_result_is_gone():
    result = add.delay(1)
    result.get(timeout=5)
    result.forget()

    wait_until(lambda: app.AsyncResult(result.id).state == "UNKNOWN")


def test_a_handle_that_has_its_outcome_keeps_it_when_it_is_forgotten():
    result = add.delay(1)
    assert result.get(timeout=5) == 1
    result.forget()

    wait_until(lambda: app.AsyncResult(result.id).state == "UNKNOWN")
    assert (result.state, result.get(timeout=0)) == ("SUCCESS", 1)


def test_a_task_that_is_forgotten_before_it_ends_keeps_its_outcome():
    result = wait_for_gate.delay()
    wait_until(lambda: result.state == "RECEIVED")
    result.forget()
    app.status()  # the router has heard of it
    gate.set()
    wait_until(lambda: app.AsyncResult(result.id).state == "SUCCESS")

    assert result.get(timeout=5) == "open"
    result.forget()
    wait_until(lambda: app.AsyncResult(result.id).state == "UNKNOWN")


def test_a_subtask_knows_its_parent():
    parent, child = with_subtask.delay().get(timeout=5)

    assert app.AsyncResult(child).get(timeout=5) == (child, parent, parent)


def test_headers_and_queue_reach_the_task():
    result = seen.apply_async(headers={"a": "b"}, priority=3)

    assert result.get(timeout=5) == ({"a": "b"}, {"queue": "default", "priority": 3, "redelivered": False}, "local")


def test_a_priority_of_0_counts_before_that_of_the_definition():
    assert [app.send_task(urgent.name, priority=given).get(timeout=5) for given in (None, 0, 1)] == [9, 0, 1]


def test_await_gives_the_result_and_raises_its_error():
    async def main():
        with pytest.raises(ValueError, match="async"):
            await boom.delay("async")
        results = await asyncio.gather(*[add.delay(n) for n in range(50)])
        return results, await add.delay(1)

    assert asyncio.run(main()) == (list(range(50)), 1)


def test_an_await_that_is_cancelled_leaves_the_loop_alone():
    async def main():
        result = wait_for_gate.delay()
        with pytest.raises(builtins.TimeoutError):
            async with asyncio.timeout(0.05):
                await result
        gate.set()
        return await result

    assert asyncio.run(main()) == "open"


def test_many_threads_may_wait_for_one_result():
    result = wait_for_gate.delay()
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(result.get(timeout=5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()

    assert got == ["open"] * 8


def test_a_handle_nobody_holds_leaves_nothing_behind():
    connection = app.connection
    ids = [add.delay(n).id for n in range(500)]
    kept = add.delay(1)
    app.flush(5)
    assert kept.get(timeout=5) == 1
    gc.collect()
    add.delay(2).get(timeout=5)  # one more turn of the loop

    wait_until(lambda: all(map(connection.is_foreign, ids)) and not app.machine.waiting)


def test_a_result_travels_as_an_argument():
    result = add.delay(20)

    assert app.submit(lambda r: r.id, result).get(timeout=5) == result.id
    assert pickle.loads(pickle.dumps(result)) == result


def test_large_arrays_go_there_and_back_and_are_taken_as_they_were():
    array = numpy.arange(300_000, dtype=float)
    result = app.submit(lambda a: a * 2, array)
    array[:] = 0

    assert numpy.array_equal(result.get(timeout=10), numpy.arange(300_000) * 2.0)


@pytest.mark.parametrize("size", [10, 100_000])
def test_each_get_gives_a_value_of_its_own(size):
    payload, parts = encode(numpy.zeros(size), key="zeros", inline_max=1_000, total_max=1 << 30)
    mapped = [bytearray(part) for part in parts]  # a payload in a file comes in memory that may be written to
    result = AsyncResult("zeros", app, Promise("zeros", Outcome("zeros", TaskState.SUCCEEDED, payload), mapped))
    result.get()[:] = 1
    assert not result.get().any()


@pytest.mark.parametrize("size", [100_000, 1_000_000], ids=["read at once", "read when wanted"])
def test_a_task_whose_result_is_found_to_be_damaged_has_failed(tmp_path, size):
    """The file is of the right size, so only who reads all of it sees what happened to it."""
    depot = Depot(str(tmp_path))
    payload, parts = encode(numpy.zeros(size), key="zeros", inline_max=1_000, total_max=1 << 30)
    left = depot.leave(payload, parts)
    [file] = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    end = Outcome("zeros", TaskState.SUCCEEDED, left)
    result = AsyncResult("zeros", app, Promise("zeros", end, depot.open(left)))

    damaged = result.get(propagate=False)
    assert isinstance(damaged, StoreDamaged) and result.result is damaged
    with pytest.raises(StoreDamaged):
        result.get()
    assert (result.state, result.failed(), result.successful()) == ("FAILURE", True, False)
    assert (result.error.type, result.error.message) == ("mesh.errors.StoreDamaged", str(damaged))


def test_a_closed_app_says_so():
    mine = Mesh()
    task = mine.task(name="slow")(wait_for_gate.run)
    with local_mesh(mine):
        result = task.delay()
        mine.flush(5)
    with pytest.raises(Unavailable, match="closed"):
        result.get(timeout=1) if result.is_settled() else pytest.fail("not settled on close")


def test_many_may_wait_for_an_id_that_nobody_knows():
    hasty = Mesh("hasty", unknown_grace_s=0.1)
    told = []

    def wait():
        try:
            shared.get(timeout=5)
        except UnknownTask as unknown:
            told.append(str(unknown))

    with local_mesh(hasty):
        shared = hasty.AsyncResult("nobody-for-many")
        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len(told) == 4 and all("nobody-for-many" in text for text in told)
