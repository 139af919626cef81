"""kill -9 of every kind of process, at random moments, under load: nothing lost, one outcome each."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from tests.chaos.checker import Verdict
from tests.chaos.nemesis import Load, kill_executor, kill_router, kill_worker, pause
from tests.cluster import Cluster, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

ROUNDS = int(os.environ.get("MESH_CHAOS_ROUNDS", "20"))


def new_seed() -> int:
    """A new one for each run; set MESH_CHAOS_SEED to the one that was printed to make the same moments again."""
    seed = int(os.environ.get("MESH_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"MESH_CHAOS_SEED={seed}")
    return seed


def test_killed_executors_lose_nothing(cluster: Cluster) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    cluster.router(deaths_max=1000)  # the killer is as likely as not to meet the same task three times
    worker = cluster.worker("w1", slots=2)
    load = Load(cluster, 2, seed)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.05, 0.4)
        load.faults.append(
            wait_until(lambda: kill_executor(cluster, worker, rng), 10.0, "an executor that works is killed")
        )
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict


def test_killed_agents_lose_nothing(cluster: Cluster) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    cluster.router()
    workers = [cluster.worker("w1"), cluster.worker("w2")]
    load = Load(cluster, 2, seed)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.05, 0.5)
        victim = rng.randrange(2)
        load.faults.append(kill_worker(workers[victim]))
        workers[victim] = cluster.again(workers[victim])
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict


def test_a_killed_router_loses_nothing(cluster: Cluster) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    router = cluster.router()
    cluster.worker("w1")
    cluster.worker("w2")
    load = Load(cluster, 2, seed)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.1, 0.6)
        load.faults.append(kill_router(router))
        router = cluster.again(router)
        if rng.random() < 0.8:
            cluster.wait_up(router)
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict


def kill_everything(cluster: Cluster, *, at_most_once: bool) -> Verdict:
    seed = new_seed()
    rng = random.Random(seed)
    router = cluster.router(grace_s=1.0, deaths_max=1000)
    workers = [cluster.worker("w1", slots=2), cluster.worker("w2")]
    load = Load(cluster, 2, seed, at_most_once=at_most_once)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.0, 0.4)
        what, victim = rng.random(), rng.randrange(2)
        if what < 0.3:
            load.faults.append(kill_router(router))
            router = cluster.again(router)
        elif what < 0.6:
            load.faults.append(kill_worker(workers[victim]))
            workers[victim] = cluster.again(workers[victim])
        elif (fault := kill_executor(cluster, workers[victim], rng)) is not None:
            load.faults.append(fault)
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict
    return verdict


def test_kills_of_everything_at_once_lose_nothing(cluster: Cluster) -> None:
    kill_everything(cluster, at_most_once=False)


def test_tasks_that_are_delivered_at_most_once_never_run_twice_whatever_is_killed(cluster: Cluster) -> None:
    assert kill_everything(cluster, at_most_once=True).duplicates == 0
    states = Counter(state for _, state in cluster.outcomes())
    print(states)
    assert set(states) <= {"succeeded", "failed"}


def test_what_a_killed_client_had_confirmed_is_run_once(cluster: Cluster) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    cluster.router()
    cluster.worker("w1", slots=2)
    watcher = cluster.client()
    for number in range(5):
        script = cluster.script(f"while True: print(work.delay({number}).id, flush=True) or app.flush()")
        assert script.stdout is not None
        confirmed = [script.stdout.readline().strip() for _ in range(rng.randint(2, 200))]
        script.kill()
        confirmed.extend(script.communicate()[0].split("\n")[:-1])
        confirmed.pop()  # it may have been killed before its flush
        for task_id in confirmed:
            assert watcher.AsyncResult(task_id).get(timeout=10.0) == number
    wait_until(lambda: cluster.tasks_left(watcher) == 0, 10.0, "nothing is left")
    wait_until(lambda: watcher.status()["router"]["clients"] == 1, 5.0, "dead clients are forgotten")
    assert max(Counter(run.id for run in cluster.runs() if run.what == "start").values()) == 1
