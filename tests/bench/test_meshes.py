"""The mesh under test: apart from the user's own, and gone afterwards."""

from __future__ import annotations

import psutil
import pytest

from bench.meshes import mesh_environment, running_mesh
from bench.peers.measured import measure
from bench.processes import talking
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
def test_a_mesh_can_have_several_nodes_and_come_over_tcp(tmp_path):
    with running_mesh(tmp_path, level="memory", concurrency=1, slowness=(1.0, 2.0), tcp=True) as mesh:
        assert mesh.environ["MESH_ROUTERS"].startswith("tcp://127.0.0.1:")
        assert {role: len(pids) for role, pids in mesh.pids.items()} == {"router": 1, "worker": 2, "executors": 2}
        assert len(measure("bench.peers.mesh", "slots", environ=mesh.environ)) == 2


@pytest.mark.processes
def test_a_process_that_is_talked_to_is_ended_and_says_why_it_failed():
    with pytest.raises(MeshError, match="invalid literal"), talking("bench.clients.crowd", "many", "c") as talk:
        talk.answer()
    assert not psutil.pid_exists(talk.pid)
