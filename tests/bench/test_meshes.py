"""The mesh under test: apart from the user's own, and gone afterwards."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import psutil
import pytest

from bench.disk import file_system
from bench.joined import Running
from bench.machine import describe
from bench.meshes import mesh_environment, running_mesh
from bench.micro.stopwatch import Stopwatch
from bench.micro.store import run_store
from bench.peers.measured import measure
from bench.processes import last_words, start, talking
from bench.room import check_room
from bench.scenarios.directory import scratch_directory
from bench.tasks import SHIP
from mesh.errors import ConfigError, MeshError, Overloaded, StoreFull
from mesh.settings import Settings
from mesh.store.open import open_store

FULL = {"MESH_FREE_BYTES_MIN": str(1 << 60)}
"""No disk has so much room, so all are full."""


@pytest.fixture
def full_disk(monkeypatch):
    for name, value in FULL.items():
        monkeypatch.setenv(name, value)


def test_the_mesh_under_test_is_not_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("MESH_ROUTERS", "10.0.0.1:4000")
    monkeypatch.setenv("MESH_NAME", "production")
    monkeypatch.setenv("MESH_CHUNK_S", "0.004")
    environ = mesh_environment(tmp_path, "process")
    assert "MESH_ROUTERS" not in environ
    assert environ["MESH_NAME"] != "production"
    assert environ["MESH_STORE"] == f"sqlite://{tmp_path}/mesh.db?level=process"
    assert environ["MESH_CHUNK_S"] == "0.004", "settings can be tried out"


def test_a_directory_of_any_name_has_the_store_in_it(tmp_path):
    directory = tmp_path / "100%25 #1?"
    directory.mkdir()
    environ = mesh_environment(directory, "process")
    open_store(environ["MESH_STORE"], settings=Settings()).close()
    assert (directory / "mesh.db").exists()
    with pytest.raises(StoreFull, match=re.escape(f"free in {directory},")):
        check_room(environ | FULL)


def test_the_store_alone_is_measured_in_a_directory_of_any_name(tmp_path, monkeypatch):
    place = tmp_path / "100%25 #1?"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    run_store(1_000, Stopwatch(), "process")
    assert [*tmp_path.iterdir()] == [place]


@pytest.mark.parametrize("wrong", ["missing", "file"])
def test_another_disk_than_tmpdir_says_is_not_measured(wrong, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / wrong))
    with (
        pytest.raises(ConfigError, match=rf"TMPDIR is {tmp_path / wrong}, and nothing can be written"),
        scratch_directory(),
    ):
        pass


def test_the_report_names_the_disk_that_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with scratch_directory() as directory:
        assert tmp_path in directory.parents
        machine = describe(directory)
    assert machine["directory"] == str(tmp_path)
    assert machine["file_system"] not in ("", "unknown")
    assert file_system(Path("/proc/self")) == "proc"


@pytest.mark.processes
def test_a_measurement_that_fails_says_why():
    with pytest.raises(MeshError, match="KeyError: 'juggling'"):
        measure("bench.peers.floor", "juggling", 1, 1)


def test_the_last_words_of_a_process_are_one_line_and_of_tracebacks_the_errors_alone():
    frames = 'Traceback (most recent call last):\n  File "a.py", line 1, in main\n    get()\n    ^^^^^\n'
    assert last_words(f"{frames}mesh.errors.Overloaded: not accepted: 5 bytes are free\n") == (
        "Overloaded: not accepted: 5 bytes are free"
    )
    assert last_words(f"warning: slow\n\n{frames}KeyError: 'juggling'\n") == "warning: slow KeyError: 'juggling'"
    assert last_words("") == ""


def test_a_mesh_whose_disk_has_no_room_is_not_started(full_disk, tmp_path):
    with (
        pytest.raises(StoreFull, match=rf"MiB of disk are free in {tmp_path}.* TMPDIR"),
        running_mesh(tmp_path, level="disk", concurrency=1),
    ):
        pass


def test_nothing_is_measured_where_the_disk_has_no_room(full_disk, tmp_path):
    with pytest.raises(StoreFull, match="TMPDIR"):
        measure("bench.peers.mesh", "probe", 1, environ=mesh_environment(tmp_path, "process"))


def test_a_router_that_keeps_all_in_memory_needs_no_disk(full_disk, tmp_path):
    check_room(mesh_environment(tmp_path, "memory"))


def test_a_disk_without_any_room_is_told_as_such():
    with pytest.raises(StoreFull, match="TMPDIR"), scratch_directory():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="Permission"), scratch_directory():
        raise OSError(errno.EACCES, "Permission denied")


@pytest.mark.processes
def test_a_disk_that_fills_up_meanwhile_ends_the_measurement(tmp_path):
    environ = mesh_environment(tmp_path, "disk")
    with talking("bench.clients.waiting", environ=environ) as talk:
        talk.answer()
        talk.say()  # there is no router that could answer
        environ |= FULL
        with pytest.raises(StoreFull, match="TMPDIR"):
            talk.answer()


@pytest.mark.processes
def test_a_mesh_that_runs_already_and_accepts_nothing_is_not_measured(tmp_path, monkeypatch):
    with running_mesh(tmp_path, level="disk", concurrency=1, slowness=()) as mesh:
        for name in ("MESH_RUNTIME_DIR", "MESH_KEY"):
            monkeypatch.setenv(name, mesh.environ[name])
        mesh.stop()
        mesh.nodes["router"] = start("nodes", ["router"], tmp_path / "full.log", mesh.environ | FULL)
        mesh.wait_for_router()
        with pytest.raises(Overloaded, match=r"free_bytes_min.*disk of its router"):
            Running(mesh.environ["MESH_NAME"]).mesh(tmp_path)


@pytest.mark.processes
def test_a_mesh_runs_tasks_and_leaves_no_process_behind(tmp_path):
    with running_mesh(tmp_path, level="memory", concurrency=1) as mesh:
        pids = [pid for role in mesh.pids.values() for pid in role]
        assert len(pids) == 3
        assert measure("bench.peers.mesh", "tasks", 100, environ=mesh.environ)["per_s"] > 0
        assert measure("bench.peers.mesh", "mapped", 100, environ=mesh.environ)["per_s"] > 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.processes
def test_a_mesh_that_has_lost_its_workers_is_not_waited_for(tmp_path):
    with running_mesh(tmp_path, level="memory", concurrency=1) as mesh:
        mesh.nodes["worker1"].kill()
        with pytest.raises(MeshError, match="no worker is left in this mesh: start one with `mesh worker`"):
            measure("bench.peers.mesh", "latency", 10, environ=mesh.environ)


@pytest.mark.processes
@pytest.mark.parametrize("ships", [True, False])
def test_a_mesh_that_runs_already_keeps_no_result_of_what_was_measured(ships, tmp_path):
    with running_mesh(tmp_path, level="process", concurrency=1) as mesh:
        environ = mesh.environ | ({SHIP: "1"} if ships else {})
        for what in ("tasks", "latency", "mixed"):
            measure("bench.peers.mesh", what, 10, environ=environ)
        with talking("bench.clients.load", 100, environ=environ) as load:
            load.answer()
            load.say("stop")
            load.answer()
    store = open_store(mesh.environ["MESH_STORE"], settings=Settings())
    left = store.prune(float(1 << 40), 1 << 20)
    store.close()
    before = 1  # the mesh was looked at when it was ready
    assert left == before if ships else left > before + 30


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
