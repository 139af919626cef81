"""A mesh whose store moves to a Redis server between two lives of its router."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import REPOSITORY, Cluster, send, wait_until
from tests.redis_server import Server

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

LARGE = "x" * 300_000


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    directory = Path(cluster.place, "redis")
    directory.mkdir()
    server = Server(directory, "disk")
    yield server
    server.close()


def mesh(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nodes", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=cluster.environ, capture_output=True, text=True, timeout=60)


def test_a_router_started_where_its_store_went_runs_what_was_unfinished(cluster: Cluster, server: Server) -> None:
    router = cluster.router()
    worker = cluster.worker("w1")
    app = cluster.client()
    finished = send(app, "echo", LARGE)
    assert finished.get(timeout=20.0) == LARGE
    worker.terminate()
    worker.wait(20.0)
    waiting = [send(app, "work", 7), send(app, "echo", LARGE + "y"), app.submit(lambda n: n * 6, 7)]
    wait_until(lambda: cluster.tasks_left(app) == len(waiting), 20.0, "all are accepted")

    info = mesh(cluster, "store", "info", "--json")
    assert json.loads(info.stdout)["unfinished_tasks"] == len(waiting), info.stderr
    in_use = mesh(cluster, "store", "migrate", f"sqlite://{cluster.store}", server.url)
    assert in_use.returncode == 2
    assert f"is in use by pid {router.pid}" in in_use.stderr
    app.close()
    router.terminate()
    router.wait(20.0)

    moved = mesh(cluster, "store", "migrate", f"sqlite://{cluster.store}", server.url)
    assert moved.returncode == 0, moved.stderr
    by_mistake = mesh(cluster, "router")
    assert by_mistake.returncode == 2
    assert f"was moved to {server.url}" in by_mistake.stderr

    cluster.environ["MESH_STORE"] = server.url
    cluster.router()
    cluster.worker("w2")
    later = cluster.client()
    results = [later.AsyncResult(result.id).get(timeout=30.0) for result in [finished, *waiting]]
    assert results == [LARGE, 7, LARGE + "y", 42]
    assert mesh(cluster, "store", "check").returncode == 0


def test_what_workers_hold_runs_once_though_their_router_moves_to_redis_and_back(
    cluster: Cluster, server: Server
) -> None:
    router = cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    held = send(app, "work", 7, 8.0)
    wait_until(cluster.runs, 20.0, "it runs")
    app.close()
    back = f"sqlite://{cluster.place}/back.db"
    ids: set[str] = set()
    for source, target in ((f"sqlite://{cluster.store}", server.url), (server.url, back)):
        router.terminate()
        router.wait(20.0)
        moved = mesh(cluster, "store", "migrate", source, target)
        assert moved.returncode == 0, moved.stderr
        cluster.environ["MESH_STORE"] = target
        router = cluster.router()
        ids.add(json.loads(mesh(cluster, "status", "--json").stdout)["router"]["id"])
    assert cluster.client().AsyncResult(held.id).get(timeout=30.0) == 7
    assert [run.what for run in cluster.runs()] == ["start", "end"]
    assert len(ids) == 1
