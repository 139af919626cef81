"""Routers that share one Redis server, while any of them is killed or held up: nothing is lost, or done twice."""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from tests.chaos.checker import Fault
from tests.chaos.nemesis import Load, kill_router, pause
from tests.chaos.test_kill import new_seed
from tests.cluster import Cluster, Node, send, wait_until
from tests.redis_server import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

ROUNDS = int(os.environ.get("MESH_CHAOS_ROUNDS", "8"))


def start_router(cluster: Cluster, redis: Server, name: str) -> Node:
    node = cluster.start(name, "router", "-l", "info", "--store", f"{redis.url}?router={name}")
    cluster.wait_up(node)
    return node


def test_what_a_router_that_is_killed_had_is_done_by_another_and_runs_once(cluster: Cluster, redis: Server) -> None:
    first = start_router(cluster, redis, "one")
    cluster.worker("w1", slots=2)
    app = cluster.client()
    results = [send(app, "work", i, 0.02) for i in range(600)]
    app.flush(timeout=10.0)
    other = start_router(cluster, redis, "two")
    wait_until(lambda: len(cluster.runs()) >= 20, 10.0, "they run")
    first.kill()
    assert [result.get(timeout=40.0) for result in results] == list(range(600))
    assert "adopted what router" in other.text()
    runs = Counter(run.id for run in cluster.runs() if run.what == "start")
    assert set(runs.values()) == {1}, f"{sum(runs.values()) - 600} ran again"
    again = cluster.again(first)
    cluster.wait_up(again)
    assert ", 0 unfinished tasks" in again.text()
    assert app.AsyncResult(results[-1].id).get(timeout=10.0) == 599


@pytest.mark.parametrize("at_most_once", [False, True])
def test_routers_that_are_killed_and_held_up_at_any_time_lose_nothing(
    cluster: Cluster, redis: Server, at_most_once: bool
) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    routers = [start_router(cluster, redis, name) for name in ("one", "two", "three")]
    for name in ("w1", "w2"):
        cluster.worker(name)
    load = Load(cluster, 2, seed, at_most_once=at_most_once)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.1, 1.0)
        number = rng.randrange(len(routers))
        if rng.random() < 0.7:
            load.faults.append(kill_router(routers[number]))
            pause(rng, 0.0, rng.choice([0.2, 7.0]))  # it is back before it is missed, or not
            routers[number] = cluster.again(routers[number])
            cluster.wait_up(routers[number])
        else:
            began = time.monotonic()
            routers[number].stop()
            pause(rng, 1.0, 8.0)
            routers[number].go_on()
            load.faults.append(Fault("router", began, None, time.monotonic()))
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict
    wait_until(lambda: not redis.admin.keys("taskmesh:{t}:r:*:journal"), 30.0, "all journals are empty")
    assert not redis.admin.exists("taskmesh:{t}:adopted")


def test_a_router_that_is_held_up_past_its_lock_learns_it_and_goes_on_with_nothing(
    cluster: Cluster, redis: Server
) -> None:
    first = start_router(cluster, redis, "one")
    app = cluster.client()
    results = [send(app, "work", i) for i in range(200)]
    app.flush(timeout=10.0)
    other = start_router(cluster, redis, "two")
    first.stop()
    wait_until(lambda: "adopted what router" in other.text(), 15.0, "it is adopted")
    first.go_on()
    wait_until(lambda: "was thought lost and begins anew" in first.text(), 10.0, "it learns it")
    wait_until(lambda: ", 0 unfinished tasks, start 2" in first.text(), 10.0, "it begins anew")
    cluster.worker("w1")
    assert [result.get(timeout=30.0) for result in results] == list(range(200))
    runs = Counter(run.id for run in cluster.runs() if run.what == "start")
    assert set(runs.values()) == {1}
    assert first.is_running and other.is_running


def test_a_router_that_is_held_up_for_four_seconds_is_not_robbed(cluster: Cluster, redis: Server) -> None:
    first = start_router(cluster, redis, "one")
    app = cluster.client()
    results = [send(app, "work", i) for i in range(50)]
    app.flush(timeout=10.0)
    other = start_router(cluster, redis, "two")
    first.stop()
    time.sleep(4.0)  # how long it is held up is what is tested
    first.go_on()
    cluster.worker("w1")
    assert [result.get(timeout=30.0) for result in results] == list(range(50))
    assert "adopted" not in other.text() and "thought lost" not in first.text()


def test_a_router_elsewhere_of_the_same_name_goes_on_within_five_seconds(cluster: Cluster, redis: Server) -> None:
    first = start_router(cluster, redis, "one")
    app = cluster.client()
    results = [send(app, "work", i) for i in range(50)]
    app.flush(timeout=10.0)
    cluster.worker("w1", wait=False)
    lock = next(iter(redis.admin.keys("taskmesh:{t}:r:*:lock")))
    first.stop()
    holder = redis.admin.get(lock).replace(b'"where":"', b'"where":"another machine ')  # type: ignore[union-attr]
    redis.admin.set(lock, holder, keepttl=True)
    first.kill()
    killed_at = time.monotonic()
    again = cluster.again(first)
    cluster.wait_up(again)
    assert results[0].get(timeout=10.0) == 0
    assert time.monotonic() - killed_at < 5.0
    assert "50 unfinished tasks" in again.text()


def test_results_of_any_router_are_found_through_any_other(cluster: Cluster, redis: Server) -> None:
    first = start_router(cluster, redis, "one")
    cluster.worker("w1")
    app = cluster.client()
    large = b"y" * 3_000_000
    small, big = send(app, "echo", 1), send(app, "echo", large)
    assert (small.get(timeout=20.0), big.get(timeout=20.0)) == (1, large)
    other = start_router(cluster, redis, "two")
    first.stop()
    try:
        reader = cluster.client()
        assert reader.AsyncResult(small.id).get(timeout=20.0) == 1
        assert reader.AsyncResult(big.id).get(timeout=20.0) == large
    finally:
        first.go_on()
    assert other.is_running


def test_large_payloads_and_shipped_functions_of_a_lost_router_are_the_adopters(
    cluster: Cluster, redis: Server
) -> None:
    first = start_router(cluster, redis, "one")
    app = cluster.client()
    large = b"z" * 2_000_000
    offset = 5
    echoed = [send(app, "echo", large) for _ in range(5)]
    shipped = app.submit(lambda value: value + offset, 3)
    app.flush(timeout=20.0)
    other = start_router(cluster, redis, "two")
    first.kill()
    wait_until(lambda: "adopted what router" in other.text(), 15.0, "it is adopted")
    cluster.worker("w1")
    assert shipped.get(timeout=20.0) == 8
    assert [result.get(timeout=20.0) for result in echoed] == [large] * 5
    again = cluster.again(first)
    cluster.wait_up(again)
    assert cluster.client().AsyncResult(echoed[0].id).get(timeout=20.0) == large
    assert not redis.admin.keys("taskmesh:{t}:r:*:b:*arg*")


def test_routers_whose_server_was_emptied_write_their_parts_anew_and_can_be_adopted(
    cluster: Cluster, redis: Server
) -> None:
    first = start_router(cluster, redis, "one")
    other = start_router(cluster, redis, "two")
    cluster.worker("w1", slots=2)
    app = cluster.client()
    results = [send(app, "work", i, 0.02) for i in range(300)]
    app.flush(timeout=10.0)
    wait_until(lambda: len(cluster.runs()) >= 20, 10.0, "they run")
    redis.admin.flushall()
    for router in (first, other):
        wait_until(lambda router=router: "is written anew" in router.text(), 10.0, "it notices")  # type: ignore[misc]
    first.kill()
    assert [result.get(timeout=40.0) for result in results] == list(range(300))
    runs = Counter(run.id for run in cluster.runs() if run.what == "start")
    assert set(runs.values()) == {1}, f"{sum(runs.values()) - 300} ran again"
    assert "thought lost" not in other.text()
