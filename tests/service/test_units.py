"""The units of systemd that `mesh service install` writes."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.errors import ConfigError
from mesh.net.keys import new_key
from nodes.cli.main import main
from nodes.service.files import is_ours, remove, unit_path, write
from nodes.service.unit import MARK, Service, next_steps, notes, text
from tests.cluster import START_S, Cluster, wait_until

Run = Callable[..., tuple[int, str, str]]
ME = pwd.getpwuid(os.getuid()).pw_name
SERVICE = Service(
    mesh="default",
    verb="up",
    command=("/usr/bin/python3", "-P", "-m", "nodes", "up", "--lan"),
    directory="/home/u/my 100% app",
    environment_file="/home/u/.config/taskmesh/default.env",
    drain_s=30.0,
    user="u",
    system=True,
)


def with_(**changes: object) -> Service:
    values = {name: getattr(SERVICE, name) for name in Service.__slots__}
    return Service(**{**values, **changes})


def lines(service: Service) -> list[str]:
    return text(service).splitlines()


def user_unit(tmp_path: Path, name: str = "taskmesh-default") -> Path:
    return tmp_path / "config" / "systemd" / "user" / f"{name}.service"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs ``mesh service ARGUMENTS`` as a user with an empty home: exit code, output, errors."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["service", *arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


# what is in it


def test_a_service_is_started_again_unless_that_would_not_help() -> None:
    assert {"Restart=on-failure", "RestartPreventExitStatus=2", "StartLimitIntervalSec=0"} <= {*lines(SERVICE)}


def test_tasks_have_their_time_to_end_and_one_that_takes_all_memory_ends_alone() -> None:
    assert {"KillMode=mixed", "TimeoutStopSec=50", "OOMPolicy=continue"} <= {*lines(SERVICE)}


def test_what_tasks_may_need_is_left_to_them() -> None:
    options = {line.partition("=")[0] for line in lines(SERVICE)}
    assert not options & {"PrivateTmp", "PrivateDevices", "ProtectClock", "ProtectHome", "MemoryDenyWriteExecute"}


def test_a_service_of_the_machine_runs_as_a_user_and_one_of_a_user_says_nothing_that_takes_root() -> None:
    assert {"User=u", "WantedBy=multi-user.target", "Environment=MESH_RUNTIME_DIR=/run/taskmesh-default"} <= {
        *lines(SERVICE)
    }
    own = lines(with_(system=False))
    assert "WantedBy=default.target" in own
    assert not [line for line in own if line.startswith(("User=", "RuntimeDirectory", "Protect"))]


def test_a_router_and_a_worker_of_one_mesh_are_two_services() -> None:
    assert [with_(verb=verb).name for verb in ("up", "router", "worker")] == [
        "taskmesh-default",
        "taskmesh-default-router",
        "taskmesh-default-worker",
    ]


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("-Q", "-Q"),
        ("a b", '"a b"'),
        ("%h", '"%%h"'),
        ("$HOME", '"$$HOME"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("", '""'),
        (";", '";"'),
    ],
)
def test_arguments_reach_the_command_as_they_are(argument: str, written: str) -> None:
    (line,) = [line for line in lines(with_(command=("/bin/x", argument))) if line.startswith("ExecStart=")]
    assert line == f"ExecStart=/bin/x {written}"


def test_a_percent_sign_in_a_path_is_none_of_systemds() -> None:
    assert "WorkingDirectory=/home/u/my 100%% app" in lines(SERVICE)


def test_a_line_break_cannot_add_options() -> None:
    with pytest.raises(ConfigError, match="line break"):
        text(with_(directory="/x\nUser=root"))


def test_what_is_to_be_typed_is_said() -> None:
    assert next_steps(SERVICE) == [
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now taskmesh-default",
    ]
    assert next_steps(with_(system=False))[1:] == [
        "systemctl --user enable --now taskmesh-default",
        "sudo loginctl enable-linger u",
    ]
    assert "MESH_RUNTIME_DIR=/run/taskmesh-default" in notes(SERVICE, [])[0]
    assert "MESH_DRAIN_S" in notes(with_(system=False), ["MESH_DRAIN_S"])[0]


# files


def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / "taskmesh-default.service"
    path.write_text("[Unit]\n")
    for change in (lambda: write(path, text(SERVICE)), lambda: remove(path)):
        with pytest.raises(ConfigError, match="was not written by"):
            change()
    assert path.read_text() == "[Unit]\n"
    masked = tmp_path / "masked.service"
    masked.symlink_to("/dev/null")
    with pytest.raises(ConfigError, match="was not written by"):
        write(masked, text(SERVICE))


def test_what_we_wrote_is_replaced_and_removed_with_what_enabled_it(tmp_path: Path) -> None:
    path = tmp_path / "units" / "x.service"
    assert not is_ours(path)
    write(path, f"{MARK}\nold")
    write(path, f"{MARK}\nnew")
    assert (path.read_text(), path.stat().st_mode & 0o777) == (f"{MARK}\nnew", 0o644)
    link = path.parent / "default.target.wants" / path.name
    link.parent.mkdir()
    link.symlink_to(path)
    remove(path)
    assert not path.exists() and not link.is_symlink()
    assert [*path.parent.iterdir()] == [link.parent]


def test_units_of_the_machine_are_where_systemd_looks() -> None:
    assert unit_path("x", {}, system=True) == Path("/etc/systemd/system/x.service")


# the command


def test_install_writes_a_unit_and_says_what_to_type(run: Run, tmp_path: Path) -> None:
    code, out, err = run("install", "--user", "--lan", "-A", "tasks", "-c", "4")
    assert (code, err) == (0, f"mesh: note: {note(tmp_path)}\n")
    assert f"wrote {user_unit(tmp_path)}" in out and "systemctl --user enable --now taskmesh-default" in out
    written = user_unit(tmp_path).read_text().splitlines()
    assert f"ExecStart={sys.executable} -P -m nodes up --mesh default -A tasks --lan -c 4" in written
    assert f"WorkingDirectory={tmp_path}" in written
    assert run("install", "--user", "--lan")[0] == 0, "what we wrote is not replaced"


def note(tmp_path: Path) -> str:
    where = tmp_path / "config" / "taskmesh" / "default.env"
    return (
        "set here, and not for the service: XDG_CONFIG_HOME; write them as NAME=value into "
        f"{where}, which its user alone should read"
    )


def test_the_key_of_the_environment_is_never_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_key().text
    monkeypatch.setenv("MESH_KEY", secret)
    code, out, err = run("install", "--user")
    assert code == 0 and "MESH_KEY" in err
    assert secret not in out + err + user_unit(tmp_path).read_text()


def test_print_writes_nothing(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("install", "--system", "--run-as", ME, "--print", "worker", "-Q", "a,b")
    assert code == 0 and out.startswith(MARK) and f"User={ME}" in out and "worker --mesh default -Q a,b" in out
    assert not user_unit(tmp_path).parent.exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["install", "--user", "--lna"], "No such option"),
        (["install", "--user", "worker", "--lan"], "No such option"),
        (["install", "--user", "router", "--salvage"], "for one start"),
        (["install", "--user", "-c", "none"], "none"),
        (["install", "--user", "--run-as", "root"], "--run-as is for --system"),
        (["install", "--system", "--run-as", "no-such-user", "--print"], "no user 'no-such-user'"),
        (["uninstall", "--user"], "is not there"),
        (["uninstall", "--user", "beat"], "beat"),
    ],
)
def test_a_mistake_is_said_and_writes_nothing(run: Run, tmp_path: Path, arguments: list[str], why: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2 and err.startswith("mesh: error: ") and why in err
    assert not user_unit(tmp_path).parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is asked whose service it is to be")
def test_root_says_whose_service_it_is(run: Run) -> None:
    code, _, err = run("install", "--system", "--print")
    assert code == 2 and "--run-as" in err


def test_uninstall_removes_it(run: Run, tmp_path: Path) -> None:
    run("install", "--user", "router", "--lan")
    path = user_unit(tmp_path, "taskmesh-default-router")
    assert path.exists()
    code, out, _ = run("uninstall", "--user", "router")
    assert code == 0 and "systemctl --user daemon-reload" in out and not path.exists()


def test_uninstall_says_where_the_unit_is_that_it_was_not_told_of(run: Run, tmp_path: Path) -> None:
    run("install", "--user", "router", "--lan")
    path = user_unit(tmp_path, "taskmesh-default-router")
    code, _, err = run("uninstall", "--system", "router")
    assert code == 2 and f"{path} is: add --user" in err and path.exists()


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: apt-get install systemd")
@pytest.mark.parametrize("scope", ["--user", "--system"])
def test_systemd_understands_it(run: Run, tmp_path: Path, scope: str) -> None:
    own = () if scope == "--user" else ("--run-as", ME)
    unit = run("install", scope, *own, "--print", "up", "-A", "tasks", "-n", "w 1@%h", "-Q", "a,b")[1]
    path = tmp_path / "taskmesh-default.service"
    path.write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", scope, "verify", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.processes
def test_what_the_unit_starts_is_a_mesh_and_ends_with_sigterm(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["service", "install", "--user", "--print", "up", "-c", "1"]) == 0
    unit = capfd.readouterr().out
    (command,) = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
    python, *arguments = shlex.split(command)
    assert (python, arguments[:3]) == (sys.executable, ["-P", "-m", "nodes"])
    node = cluster.start("service", *arguments[3:])
    wait_until(lambda: "is up" in node.text(), START_S, "the mesh is up")
    node.terminate()
    assert node.wait(START_S) == 0
