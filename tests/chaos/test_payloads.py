"""kill -9 of whoever has a large payload in hand: none is lost, none is mixed up, and no file stays behind."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh import AsyncResult
from mesh.runtime.depot import MARKER
from tests.chaos.nemesis import kill_executor, kill_router, kill_worker, pause
from tests.chaos.test_kill import ROUNDS, new_seed
from tests.cluster import Cluster, Node, send, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

KIB = 1 << 10


def kill_one(cluster: Cluster, rng: random.Random, nodes: list[Node]) -> None:
    """Kill the router, a worker or an executor, and start anew what is not started by itself."""
    victim = rng.randrange(len(nodes))
    if victim == 0:
        kill_router(nodes[0])
    elif rng.random() < 0.5:
        kill_worker(nodes[victim])
    else:
        kill_executor(cluster, nodes[victim], rng)
        return
    nodes[victim] = cluster.again(nodes[victim])


@pytest.mark.parametrize("way", ["by files", "in frames"])
def test_large_payloads_survive_the_death_of_whoever_has_them(cluster: Cluster, way: str) -> None:
    rng = random.Random(new_seed())
    nodes = [cluster.router(grace_s=1.0, deaths_max=1000, losses_max=1000)]
    nodes += [cluster.worker("w1"), cluster.worker("w2")]
    app = cluster.client(submit_timeout_s=60.0, connect_timeout_s=30.0)
    sent: list[tuple[bytes, AsyncResult[bytes]]] = []
    for _ in range(ROUNDS):
        if way == "in frames":  # the depot cannot be seen by who connects from now on
            for link in (cluster.place / "r").glob("*.depot"):
                link.unlink(missing_ok=True)
        for _ in range(rng.randint(1, 6)):
            data = rng.randbytes(rng.choice([1, 100, 700, 2000]) * KIB)
            sent.append((data, send(app, "echo", data)))
        pause(rng, 0.0, 0.3)
        kill_one(cluster, rng, nodes)
    for data, result in sent:
        assert result.get(timeout=60.0) == data, result.id
    for _, result in sent:
        result.forget()
    wait_until(lambda: cluster.tasks_left(app) == 0, 30.0, "the router has heard all that was said to it")
    cluster.wait_up(nodes[0])
    nodes[0].terminate()
    assert nodes[0].wait(10.0) == 0
    nodes[0] = cluster.again(nodes[0])
    cluster.wait_up(nodes[0])
    depot = Path(f"{cluster.store}.blobs")
    left = [name for name in os.listdir(depot) if not name.startswith(MARKER)]
    assert not left, f"files stay: {left[:3]}"


def held(place: Path, size: int) -> Callable[[], bytes]:
    """A task that ends once there is a file ``go`` in ``place``; it leaves ``over`` there and gives this many bytes."""

    def wait() -> bytes:
        while not (place / "go").exists():
            time.sleep(0.01)
        (place / "over").touch()
        return b"x" * size

    return wait


def test_a_large_result_that_comes_while_the_router_is_away_is_told_to_the_next(cluster: Cluster) -> None:
    router = cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    result = app.submit(held(cluster.place, 1 << 20))
    wait_until(lambda: result.state == "RECEIVED", 5.0, "it runs")
    router.kill()
    (cluster.place / "go").touch()
    depot = Path(f"{cluster.store}.blobs")
    wait_until(lambda: any("." in name for name in os.listdir(depot)), 5.0, "the result is left")
    router = cluster.again(router)
    assert result.get(timeout=15.0) == b"x" * (1 << 20)
    assert send(app, "echo", 1).get(timeout=5.0) == 1


def test_large_arguments_that_wait_when_their_router_dies_harm_no_executor(cluster: Cluster) -> None:
    router = cluster.router()
    worker = cluster.worker("w1")
    app = cluster.client()
    pid = send(app, "executor_pid").get(timeout=5.0)
    blocker = app.submit(held(cluster.place, 0))
    results = [send(app, "echo", b"x" * (1 << 20)) for _ in range(2)]
    app.flush(5.0)
    wait_until(lambda: results[0].state == "RECEIVED", 5.0, "the worker has it")
    router.kill()
    wait_until(lambda: "was lost" in worker.text(), 5.0, "the worker knows")
    (cluster.place / "go").touch()
    wait_until((cluster.place / "over").exists, 5.0, "the executor comes to what waits")
    cluster.again(router)
    assert [result.get(timeout=15.0) for result in results] == [b"x" * (1 << 20)] * 2
    blocker.get(timeout=5.0)
    assert send(app, "executor_pid").get(timeout=5.0) == pid, worker.text()
