"""Real worker nodes: draining, time limits, replaced executors, cancelled tasks."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter

import pytest

from mesh.errors import TaskFailed, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from mesh.net.keys import new_key
from tests.cluster import APP, Cluster, send, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]


def test_a_worker_that_is_told_to_stop_finishes_what_runs_and_gives_back_the_rest(cluster: Cluster) -> None:
    cluster.router()
    leaving = cluster.worker("leaving", slots=2)
    app = cluster.client()
    own = set(leaving.executors())
    results = [send(app, "whose", 0.5) for _ in range(12)]
    wait_until(lambda: len(cluster.runs()) == 2, 5.0, "two run")
    cluster.worker("other", slots=2)
    leaving.terminate()
    wait_until(lambda: "asked to stop" in leaving.text(), 5.0, "it drains")
    told = time.monotonic()
    assert leaving.wait(5.0) == 0
    assert "lost" not in leaving.text(), "what it leaves on purpose is not lost"
    values = [result.get(timeout=10.0) for result in results]
    assert own & set(values), "what ran there ended there"
    starts = [run for run in cluster.runs() if run.what == "start"]
    assert all(run.at < told + 0.1 for run in starts if run.pid in own), "nothing more was started there"
    assert set(Counter(run.id for run in starts).values()) == {1}, "nothing ran twice"
    assert app.status()["router"]["counters"]["stale"] == 0


def test_a_second_signal_stops_a_worker_at_once_and_no_task_is_lost(cluster: Cluster) -> None:
    cluster.router()
    leaving = cluster.worker("leaving", slots=2)
    app = cluster.client()
    results = [send(app, "work", i, 3.0) for i in range(2)]
    wait_until(lambda: len(cluster.runs()) == 2, 5.0, "two run")
    leaving.terminate()
    wait_until(lambda: "asked to stop" in leaving.text(), 5.0, "it drains")
    begun = time.monotonic()
    leaving.terminate()
    assert leaving.wait(5.0) == 0
    assert time.monotonic() - begun < 1.5
    cluster.worker("other", slots=2)
    assert [result.get(timeout=10.0) for result in results] == [0, 1]


def test_a_task_over_its_time_limit_is_killed_and_its_executor_replaced(cluster: Cluster) -> None:
    cluster.router()
    worker = cluster.worker("w1", slots=1)
    app = cluster.client()
    before = worker.executors()
    begun = time.monotonic()
    result = send(app, "work", 1, 30.0, time_limit=0.5)
    with pytest.raises(TimeLimitExceeded, match=r"0\.5 s") as caught:
        result.get(timeout=10.0)
    assert str(caught.value).count(result.id) == 1
    assert 0.5 <= time.monotonic() - begun < 2.0
    assert send(app, "work", 2).get(timeout=5.0) == 2
    assert worker.executors() != before
    assert f"executor 1: SIGKILL; killed for {APP}.work[{result.id}], over its time limit of 0.5 s" in worker.text()
    assert [run.what for run in cluster.runs() if run.id == result.id] == ["start"]
    assert dict(cluster.outcomes())[result.id] == "failed"


def test_what_a_definition_says_of_time_and_repetition_counts_for_a_caller_that_knows_the_name_only(
    cluster: Cluster,
) -> None:
    cluster.router()
    cluster.worker("w1", slots=2)
    app = cluster.client()
    slow, once = send(app, "limited", 30.0), send(app, "die_once")
    with pytest.raises(TimeLimitExceeded, match=r"0\.5 s"):
        slow.get(timeout=10.0)
    with pytest.raises(WorkerLostError, match="at most once"):
        once.get(timeout=10.0)
    assert Counter(run.id for run in cluster.runs()) == {slow.id: 1, once.id: 1}


def test_what_a_task_raises_fails_it_once_and_leaves_its_executor_alone(cluster: Cluster) -> None:
    cluster.router()
    worker = cluster.worker("w1", slots=1)
    app = cluster.client()
    pid = send(app, "executor_pid").get(timeout=10.0)
    for kind in ("unshowable", "exit"):
        result = send(app, "fail", kind)
        with pytest.raises(TaskFailed, match={"unshowable": "Unshowable", "exit": "SystemExit"}[kind]):
            result.get(timeout=10.0)
    with pytest.raises(TaskFailed, match="cannot be sent: SystemExit"):
        app.submit(lambda: type("Odd", (), {"__reduce__": lambda self: sys.exit(4)})()).get(timeout=10.0)
    assert send(app, "executor_pid").get(timeout=10.0) == pid
    assert "executor 1:" not in worker.text()
    assert app.status()["router"]["counters"]["redelivered"] == 0


def test_a_worker_with_a_wrong_key_says_so_once_and_looks_on(cluster: Cluster) -> None:
    router = cluster.router("--listen", "127.0.0.1:*")
    (address,) = re.findall(r"tcp://(127\.0\.0\.1:\d+)", router.text())
    stranger = cluster.worker("w1", "--router", address, wait=False, key=new_key().text)
    wait_until(lambda: "another mesh key" in stranger.text(), 10.0, "it says so")
    wait_until(lambda: "no router yet: the router refused this node" in stranger.text(), 10.0, "it says so again")
    assert stranger.text().count("mesh.connection: the router at") == 1
    assert stranger.is_running


def test_executors_are_replaced_after_their_number_of_tasks(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1", "--max-tasks-per-child", "10", slots=1)
    app = cluster.client()
    pids = [result.get(timeout=20.0) for result in [send(app, "executor_pid") for _ in range(100)]]
    # One that is slow gives back what it has not begun, after its end was decided: then it ran fewer.
    assert max(Counter(pids).values()) <= 10
    assert len(set(pids)) >= 10


def test_a_queued_task_can_be_cancelled_and_never_runs(cluster: Cluster) -> None:
    cluster.router()
    app = cluster.client()
    results = [send(app, "work", i) for i in range(20)]
    app.flush(timeout=5.0)
    results[7].revoke()
    with pytest.raises(TaskRevokedError):
        results[7].get(timeout=5.0)
    cluster.worker("w1")
    assert [result.get(timeout=5.0) for i, result in enumerate(results) if i != 7]
    assert results[7].id not in {run.id for run in cluster.runs()}
    assert results[7].state == "REVOKED"


def test_a_running_task_is_cancelled_only_with_terminate(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    patient = send(app, "work", 1, 0.5)
    wait_until(cluster.runs, 5.0, "it runs")
    patient.revoke()
    assert patient.get(timeout=5.0) == 1
    hasty = send(app, "work", 2, 30.0)
    wait_until(lambda: hasty.id in {run.id for run in cluster.runs()}, 5.0, "it runs")
    hasty.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        hasty.get(timeout=5.0)
    assert send(app, "work", 3).get(timeout=5.0) == 3


def test_a_task_waits_for_its_eta_and_a_retry_for_its_countdown(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    begun = time.monotonic()
    later = send(app, "work", 1, countdown=0.6)
    assert send(app, "retry_once").get(timeout=5.0) == 1
    assert later.get(timeout=5.0) == 1
    assert time.monotonic() - begun >= 0.6


def test_a_task_for_a_queue_that_nobody_serves_is_parked_until_somebody_does(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    result = send(app, "work", 1, queue="images")
    assert send(app, "work", 2).get(timeout=5.0) == 2
    (row,) = [queue for queue in app.status()["queues"] if queue["name"] == "images"]
    assert row["parked"] == 1 and "images" in row["parked_why"][0]
    cluster.worker("w2", "-Q", "images")
    assert result.get(timeout=5.0) == 1


def test_a_worker_that_leaves_does_not_ask_whether_a_router_is_there(cluster: Cluster) -> None:
    cluster.router()
    worker = cluster.script(  # a patient one would have to live for seconds first
        "import sys, nodes.worker\n"
        "from nodes.cli.main import main\n"
        "nodes.worker.LONELY_S = 0.0\n"
        f"sys.exit(main(['worker', '-A', {APP!r}, '-c', '1']))"
    )
    app = cluster.client()
    wait_until(lambda: app.status()["workers"], 20.0, "the router knows the worker")
    worker.terminate()
    log, _ = worker.communicate(timeout=10.0)
    assert worker.returncode == 0, log
    assert "no router yet" not in log[log.index("asked to stop") :]


SKEWED = "import os, time\n_time = time.time\ntime.time = lambda: _time() + float(os.environ['SKEW'])\n"


def skewed(cluster: Cluster, seconds: float) -> dict[str, str]:
    """An environment in which Python's clock is so far ahead."""
    place = cluster.place / "skew"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(SKEWED)
    return {"PYTHONPATH": str(place), "SKEW": str(seconds)}


def test_a_retry_and_an_expiry_take_their_time_whatever_the_workers_clock_shows(cluster: Cluster) -> None:
    cluster.router()
    own = cluster.environ
    cluster.environ = own | skewed(cluster, 3600.0)
    cluster.worker("ahead")
    cluster.environ = own
    app = cluster.client()
    assert app.send_task(f"{APP}.retry_once", (), expires=600).get(timeout=30.0) == 1


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_countdown_and_an_expiry_take_their_time_whatever_the_callers_clock_shows(
    cluster: Cluster, seconds: float
) -> None:
    cluster.router()
    cluster.worker("w")
    own = cluster.environ
    cluster.environ = own | skewed(cluster, seconds)
    script = cluster.script("print(echo.apply_async((1,), countdown=0.1, expires=600).get(timeout=30))")
    cluster.environ = own
    assert script.communicate(timeout=60)[0].strip() == "1"
