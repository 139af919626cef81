"""The mesh under test: apart from the user's own, and gone afterwards."""

from __future__ import annotations

import json

import psutil
import pytest
from click.testing import CliRunner

from bench.cli import bench
from bench.meshes import mesh_environment, running_mesh
from bench.peers.measured import measure
from mesh.errors import MeshError


def test_the_mesh_under_test_is_not_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("MESH_ROUTERS", "10.0.0.1:4000")
    monkeypatch.setenv("MESH_NAME", "production")
    monkeypatch.setenv("MESH_CHUNK_S", "0.004")
    environ = mesh_environment(tmp_path, "process")
    assert "MESH_ROUTERS" not in environ
    assert environ["MESH_NAME"] != "production"
    assert environ["MESH_STORE"] == f"sqlite://{tmp_path}/mesh.db?level=process"
    assert environ["MESH_CHUNK_S"] == "0.004", "settings can be tried out"


def test_a_measurement_that_fails_says_why():
    with pytest.raises(MeshError, match="KeyError: 'juggling'"):
        measure("bench.peers.floor", "juggling", 1, 1)


@pytest.mark.processes
def test_a_mesh_runs_tasks_and_leaves_no_process_behind(tmp_path):
    with running_mesh(tmp_path, level="memory", concurrency=1) as mesh:
        pids = [pid for role in mesh.pids.values() for pid in role]
        assert len(pids) == 3
        assert measure("bench.peers.mesh", "tasks", 100, environ=mesh.environ)["per_s"] > 0
        assert measure("bench.peers.mesh", "mapped", 100, environ=mesh.environ)["per_s"] > 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.processes
def test_a_node_that_cannot_start_is_reported_with_its_last_words(tmp_path):
    with pytest.raises(MeshError, match="disc"), running_mesh(tmp_path, level="disc", concurrency=1):
        pass


@pytest.mark.processes
@pytest.mark.parametrize(
    ("scenario", "ratios"),
    [
        (
            "throughput",
            {"to_executor", "to_floor", "map_to_executor", "cpu_to_floor", "curve_to_ipc", "curve_cpu_to_ipc"},
        ),
        ("latency", {"p50_to_floor", "p99_to_floor"}),
    ],
)
def test_a_scenario_prints_one_json_object(scenario, ratios):
    options = ["--json", "--runs", "1", "--tasks", "200", "--level", "memory", "-c", "1"]
    done = CliRunner().invoke(bench, [scenario, *options], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["scenario"] == scenario
    assert set(report["ratios"]) == ratios
    assert report["settings"]["level"] == "memory" and report["settings"]["executors"] == 1
    assert report["machine"]["cpus"] and report["machine"]["fdatasync_us"] > 0
    assert all(figure["min"] <= figure["median"] <= figure["max"] for figure in report["figures"].values())
