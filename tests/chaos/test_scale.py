"""A million queued tasks: no cliff in memory, in a restart, or in how fast they drain."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from mesh import Mesh
from tests.cluster import Cluster, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.scale, pytest.mark.timeout(600)]

MANY = int(os.environ.get("MESH_SCALE_TASKS", "1000000"))
FEW = 10_000


def submit(app: Mesh, count: int) -> float:
    """Queue ``count`` tasks that nobody waits for; how many per second were accepted."""
    begun = time.monotonic()
    for number in range(count):
        app.send_task("tests.cluster_tasks.echo", (number,), ignore_result=True)
    app.flush(timeout=120.0)
    return count / (time.monotonic() - begun)


def drain(cluster: Cluster, app: Mesh, count: int) -> float:
    """Start a worker, wait until nothing is left; how many tasks per second it finished."""
    worker = cluster.worker(f"w{count}", slots=2)
    begun, left = time.monotonic(), count
    first = wait_until(lambda: 0 <= (left := cluster.tasks_left(app)) < count and (time.monotonic(), left), 10.0)
    wait_until(lambda: cluster.tasks_left(app) == 0, 300.0, f"{left} tasks are finished")
    rate = first[1] / (time.monotonic() - first[0]) if first[1] else count / (time.monotonic() - begun)
    worker.terminate()
    worker.wait(10.0)
    return rate


def test_a_million_queued_tasks_need_little_memory_and_drain_as_fast_as_few(cluster: Cluster) -> None:
    router = cluster.router()
    app = cluster.client()
    submit(app, FEW)
    few = drain(cluster, app, FEW)
    before = psutil.Process(router.pid).memory_info().rss
    accepted = submit(app, MANY)
    per_task = (psutil.Process(router.pid).memory_info().rss - before) / MANY
    begun = time.monotonic()
    router.kill()
    router = cluster.again(router)
    cluster.wait_up(router)
    restart_s = time.monotonic() - begun
    wait_until(lambda: cluster.tasks_left(app) == MANY, 20.0, "all are there after a restart")
    many = drain(cluster, app, MANY)
    print(
        f"{accepted:.0f} accepted/s, {per_task:.0f} bytes each in the router, restart in {restart_s:.1f} s, "
        f"drained {few:.0f}/s of {FEW} and {many:.0f}/s of {MANY}"
    )
    assert len(cluster.outcomes()) == MANY + FEW
    assert per_task < 500
    assert many > 0.5 * few
