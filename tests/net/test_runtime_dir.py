from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest

from mesh.errors import ConfigError
from mesh.net.runtime_dir import RouterRecord, RuntimeDir


def _record(mesh="lab", router_id="r1", **values):
    defaults = dict(pid=os.getpid(), ipc="ipc:///x", tcp=None, key_id=None, started_at=1.0)
    return RouterRecord(mesh=mesh, router_id=router_id, **(defaults | values))


@pytest.fixture
def directory(place):
    return RuntimeDir({"MESH_RUNTIME_DIR": str(place / "run")})


def test_the_directory_is_made_private(place):
    for environ, path in [
        ({"MESH_RUNTIME_DIR": str(place / "mine")}, place / "mine"),
        ({"XDG_RUNTIME_DIR": str(place)}, place / "taskmesh"),
    ]:
        assert RuntimeDir(environ).path == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_directory_open_to_others_is_refused_with_the_command_that_helps(place):
    place.chmod(0o750)
    with pytest.raises(ConfigError, match=f"chmod 700 {place}"):
        RuntimeDir({"MESH_RUNTIME_DIR": str(place)})


def test_a_link_in_place_of_the_directory_is_refused(place):
    (place / "real").mkdir(mode=0o700)
    (place / "link").symlink_to(place / "real")
    with pytest.raises(ConfigError, match="not a directory of user"):
        RuntimeDir({"MESH_RUNTIME_DIR": str(place / "link")})


def test_a_directory_of_another_user_is_refused(place, monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 4242)
    with pytest.raises(ConfigError, match="not a directory of user"):
        RuntimeDir({"MESH_RUNTIME_DIR": str(place)})


def test_a_published_router_is_found_until_it_withdraws(directory):
    older, newer = _record(router_id="r2"), _record(router_id="r1", started_at=2.0)
    files = [directory.publish(r) for r in (newer, older, _record(mesh="other"))]
    assert directory.routers("lab") == [older, newer]
    files[0].withdraw()
    files[0].withdraw()
    assert directory.routers("lab") == [older]
    for file in files:
        file.withdraw()
    assert list(directory.path.iterdir()) == []


@pytest.fixture
def usual(place, monkeypatch):
    """Environments of one user: of a session, and of cron, where a variable is missing."""
    monkeypatch.setattr("mesh.net.runtime_dir.RUN", place / "run")
    monkeypatch.setattr("mesh.net.runtime_dir.TMP", place)
    session = place / "run" / str(os.getuid())
    session.mkdir(parents=True, mode=0o700)
    return {"XDG_RUNTIME_DIR": str(session)}, {}


@pytest.mark.parametrize("is_session", [True, False])
def test_a_router_of_a_session_is_found_by_cron_and_the_other_way_round(usual, is_session):
    one, other = usual if is_session else reversed(usual)
    record = _record()
    assert RuntimeDir(one).path != RuntimeDir(other).path
    file = RuntimeDir(one).publish(record)
    assert RuntimeDir(other).routers("lab") == RuntimeDir(one).routers("lab") == [record]
    file.withdraw()


def test_a_directory_of_the_usual_name_that_is_open_to_others_is_passed_over(usual):
    session, cron = usual
    directory = RuntimeDir(session)
    file = directory.publish(_record())
    directory.path.chmod(0o755)
    assert RuntimeDir(cron).routers("lab") == []
    file.withdraw()


def test_a_directory_that_was_chosen_is_the_only_one(usual, place):
    session, _ = usual
    file = RuntimeDir(session).publish(_record())
    for environ in ({"MESH_RUNTIME_DIR": str(place / "own")}, {"XDG_RUNTIME_DIR": str(place)}):
        assert RuntimeDir(environ).routers("lab") == []
    file.withdraw()


def test_a_file_of_another_version_is_passed_over(directory):
    file = directory.publish(_record())
    path = next(directory.path.glob("lab.*"))
    path.write_text('{"surprise": 1}')
    assert directory.routers("lab") == []
    file.withdraw()


def test_a_long_directory_still_gives_an_address_that_fits(place):
    long = RuntimeDir({"MESH_RUNTIME_DIR": str(place / ("x" * 120))})
    endpoint = long.ipc_endpoint("lab", "r1")
    assert len(endpoint.removeprefix("ipc://")) <= 107
    assert endpoint == long.ipc_endpoint("lab", "r1") != long.ipc_endpoint("lab", "r2")


@pytest.mark.processes
def test_a_killed_router_is_not_found_and_its_file_is_removed(directory):
    code = (
        "import os, sys, time\n"
        "from mesh.net.runtime_dir import RouterRecord, RuntimeDir\n"
        "file = RuntimeDir({'MESH_RUNTIME_DIR': sys.argv[1]}).publish(RouterRecord(mesh='lab', router_id='r1',"
        " pid=os.getpid(), ipc=None, tcp=None, key_id=None, started_at=1.0))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(directory.path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    assert [r.pid for r in directory.routers("lab")] == [process.pid]
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert directory.routers("lab") == []
    assert list(directory.path.iterdir()) == []
