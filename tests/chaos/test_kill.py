"""kill -9 of every kind of process, at random moments, under load: nothing lost, one outcome each."""

from __future__ import annotations

import os
import random

import pytest

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


def test_kills_of_everything_at_once_lose_nothing(cluster: Cluster) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    router = cluster.router(grace_s=1.0, deaths_max=1000)
    workers = [cluster.worker("w1", slots=2), cluster.worker("w2")]
    load = Load(cluster, 2, seed)
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
