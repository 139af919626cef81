"""A worker with a key of its own is revoked while it runs a task: it is cut off for good, the task runs elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.net.runtime_dir import RuntimeDir
from tests.cluster import REPOSITORY, Cluster, send, wait_until

pytestmark = pytest.mark.processes


def mesh(cluster: Cluster, *arguments: str, **environ: str) -> str:
    """What ``mesh ARGUMENTS`` prints."""
    return subprocess.run(
        [sys.executable, "-m", "nodes", *arguments],
        cwd=REPOSITORY,
        env=cluster.environ | environ,
        check=True,
        capture_output=True,
        text=True,
        timeout=30.0,
    ).stdout.strip()


def test_a_revoked_worker_is_cut_off_and_its_task_runs_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    router = cluster.router()
    (record,) = RuntimeDir(os.environ).routers("t")
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path)}
    printed = mesh(cluster, "node", "enroll", "w1", mesh(cluster, "key", "public"), **elsewhere)
    assert printed.startswith("mesh --mesh t node allow w1 worker mesh1-node:")
    own = mesh(cluster, "key", "show", "--secret", **elsewhere)
    assert own.startswith("mesh1-worker:") and own.split(":")[1] not in printed

    cluster.environ["MESH_KEY"] = own
    w1 = cluster.worker("w1", "--router", str(record.tcp).removeprefix("tcp://"), wait=False)
    del cluster.environ["MESH_KEY"]
    wait_until(lambda: "does not accept our key" in w1.text(), 20.0, "it is not let in before it is allowed")
    mesh(cluster, *printed.removeprefix("mesh ").split())
    cluster.wait_welcomed(w1)
    assert [one["name"] for one in json.loads(mesh(cluster, "node", "list", "--json"))] == ["w1"]

    app = cluster.client()
    result = send(app, "work", 1, 2.0)
    wait_until(lambda: [run for run in cluster.runs() if run.what == "start"], 10.0, "the task runs")
    mesh(cluster, "node", "revoke", "w1")
    wait_until(lambda: not app.status()["workers"], 3.0, "its session is over")
    cluster.worker("w2")
    result.get(timeout=20.0)
    starts = [run for run in cluster.runs() if run.what == "start"]
    assert [run.attempt for run in starts] == [1, 2] and starts[0].pid != starts[1].pid

    wait_until(lambda: "was revoked" in w1.text().split("welcomed")[-1], 5.0, "it is told why")
    status = app.status()
    assert [worker["name"].split("@")[0] for worker in status["workers"]] == ["w2"]
    assert status["router"]["transport"]["counters"]["revoked"] == 1
    assert "turned away since its start:" in mesh(cluster, "status")
    assert router.is_running and "connections cut: 1" in router.text()
