"""A mesh whose journal is on a Redis server, while that is killed, held up and started again: nothing is lost."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.chaos.nemesis import Load, kill_router, pause
from tests.chaos.test_kill import new_seed
from tests.cluster import Cluster, send, wait_until
from tests.redis_server import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

ROUNDS = int(os.environ.get("MESH_CHAOS_ROUNDS", "8"))


@pytest.fixture
def server(cluster: Cluster, redis: Server) -> Server:
    """Where the routers' stores are."""
    cluster.environ["MESH_STORE"] = redis.url
    return redis


def test_a_redis_that_is_killed_or_hangs_and_a_router_that_is_killed_lose_nothing(
    cluster: Cluster, server: Server
) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    router = cluster.router(store_timeout_s=0.5)
    cluster.worker("w1")
    cluster.worker("w2")
    load = Load(cluster, 2, seed)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.1, 0.6)
        what = rng.random()
        if what < 0.4:
            server.kill()
            pause(rng, 0.0, 1.0)
            server.start()
        elif what < 0.7:
            os.kill(server.running.pid, signal.SIGSTOP)
            pause(rng, 0.1, 1.5)
            os.kill(server.running.pid, signal.SIGCONT)
        else:
            load.faults.append(kill_router(router))
            router = cluster.again(router)
            cluster.wait_up(router)
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict


def test_while_redis_is_away_nothing_is_told_and_the_mesh_goes_on_by_itself(cluster: Cluster, server: Server) -> None:
    router = cluster.router(store_timeout_s=0.5)
    cluster.worker("w1")
    app = cluster.client()
    assert send(app, "echo", 3).get(timeout=10) == 3
    os.kill(server.running.pid, signal.SIGSTOP)
    held = send(app, "echo", 7)
    wait_until(lambda: "the store is away" in router.text(), 10.0, "the router says so")
    assert not held.ready()
    os.kill(server.running.pid, signal.SIGCONT)
    assert held.get(timeout=20) == 7
    assert router.is_running


def test_a_router_that_is_started_before_its_redis_waits_for_it(cluster: Cluster, server: Server) -> None:
    server.kill()
    router = cluster.start("router", "router", "-l", "info")
    wait_until(lambda: "for its store" in router.text(), 10.0, "the router says what it waits for")
    server.start()
    cluster.wait_up(router)


def test_large_payloads_and_shipped_functions_are_kept_in_redis_and_two_routers_share_results(
    cluster: Cluster, server: Server
) -> None:
    cluster.start("first", "router", "-l", "info", "--store", f"{server.url}?router=one")
    cluster.wait_up(cluster.nodes[-1])
    cluster.worker("w1")
    app = cluster.client()
    large = b"x" * 3_000_000
    result = send(app, "echo", large)
    assert result.get(timeout=20) == large
    offset = 5
    assert app.submit(lambda value: value + offset, 3).get(timeout=20) == 8
    assert server.admin.keys("taskmesh:{t}:r:*:b:*"), "the payload is there"
    cluster.nodes[0].kill()
    cluster.start("second", "router", "-l", "info", "--store", f"{server.url}?router=two")
    cluster.wait_up(cluster.nodes[-1])
    assert cluster.client().AsyncResult(result.id).get(timeout=20) == large
    cluster.nodes[-1].kill()
    again = cluster.again(cluster.nodes[0])
    cluster.wait_up(again)
    assert send(app, "echo", large).get(timeout=20) == large
