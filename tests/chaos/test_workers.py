"""Workers that stop, hang, or are killed by their own tasks."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest

from mesh.errors import WorkerLostError
from tests.cluster import Cluster, send, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]


@pytest.mark.parametrize("with_executors", [False, True])
def test_a_stopped_worker_is_replaced_and_its_late_results_change_nothing(
    cluster: Cluster, with_executors: bool
) -> None:
    cluster.router(heartbeat_s=0.3)
    sleeper = cluster.worker("sleeper", heartbeat_s=0.3, slots=2)
    app, observer = cluster.client(), cluster.client()
    results = [send(app, "whose", 0.4) for _ in range(6)]
    wait_until(lambda: len(cluster.runs()) >= 2, 5.0, "tasks run on the one who will stop")
    own = sleeper.executors()
    stopped = [sleeper.pid, *own] if with_executors else [sleeper.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    cluster.worker("other", heartbeat_s=0.3)
    begun = time.monotonic()
    values = [result.get(timeout=20.0) for result in results]
    assert not set(values) & set(own), "the stopped worker cannot have told anything"
    print(f"all elsewhere {time.monotonic() - begun:.1f} s after the stop")
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: sleeper.text().count("mesh.connection: welcomed") >= 2, 10.0, "it is welcomed again")
    # what it had is settled by now: it works again
    again = [send(app, "whose", 0.05) for _ in range(20)]
    assert set(own) & {result.get(timeout=10.0) for result in again}
    assert [observer.AsyncResult(result.id).get(timeout=5.0) for result in results] == values
    assert Counter(cluster.outcomes()).most_common(1)[0][1] == 1
    assert len(cluster.outcomes()) == 26


def test_a_task_that_holds_the_interpreters_lock_is_no_death(cluster: Cluster) -> None:
    cluster.router(heartbeat_s=0.5)
    worker = cluster.worker("w1", heartbeat_s=0.5, slots=2)
    app = cluster.client()
    executors = worker.executors()
    hanging = send(app, "hold_gil", 4)  # far longer than the three heartbeats after which a silent node is lost
    wait_until(lambda: len(cluster.runs()) == 1, 5.0, "it runs")
    slowest = 0.0
    while not hanging.ready():
        begun = time.monotonic()
        assert send(app, "echo", 1).get(timeout=5.0) == 1
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.02)
    print(f"slowest neighbour: {slowest:.3f} s")
    assert slowest < 1.0
    assert hanging.get(timeout=1.0) == "held"
    assert [run.what for run in cluster.runs()] == ["start", "end"], "it ran once"
    assert worker.executors() == executors, "nobody was killed for it"
    assert app.status()["router"]["counters"]["redelivered"] == 0


def test_a_task_that_kills_its_process_is_dead_lettered_and_its_neighbours_are_not(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1", slots=2)
    app = cluster.client()
    for result in [send(app, "work", i) for i in range(200)]:  # quick ones, so that chunks get long
        result.get(timeout=10.0)
    good = [send(app, "work", i) for i in range(100)]
    poison = send(app, "die")
    good += [send(app, "work", i) for i in range(100, 200)]
    assert [result.get(timeout=20.0) for result in good] == list(range(200))
    with pytest.raises(WorkerLostError) as caught:
        poison.get(timeout=20.0)
    assert str(caught.value).count("SIGKILL") == 3, caught.value
    runs = Counter(run.id for run in cluster.runs() if run.what == "start")
    assert runs.pop(poison.id) == 3
    assert max(runs[result.id] for result in good) <= 2
    assert dict(cluster.outcomes())[poison.id] == "dead"
    assert app.status()["router"]["finished"]["dead"] == 1


def test_several_poisonous_tasks_between_good_ones_blame_only_themselves(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1", slots=2)
    app = cluster.client()
    for result in [send(app, "work", i) for i in range(200)]:
        result.get(timeout=10.0)
    good, poison = [], []
    for number in range(300):
        good.append(send(app, "work", number))
        if number % 60 == 30:
            poison.append(send(app, "die", signal.SIGSEGV))
    assert [result.get(timeout=30.0) for result in good] == list(range(300))
    for result in poison:
        with pytest.raises(WorkerLostError, match=r"SIGSEGV.*SIGSEGV.*SIGSEGV"):
            result.get(timeout=20.0)


def test_an_executor_that_is_killed_again_and_again_is_replaced_each_time(cluster: Cluster) -> None:
    cluster.router()
    worker = cluster.worker("w1")
    app = cluster.client()
    for _ in range(8):
        pid = send(app, "executor_pid").get(timeout=10.0)
        os.kill(pid, signal.SIGKILL)
        assert send(app, "executor_pid").get(timeout=10.0) != pid
    assert worker.text().count("SIGKILL") == 8
