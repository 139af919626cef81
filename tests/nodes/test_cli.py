"""The ``mesh`` command where no node is needed."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from mesh import Mesh
from mesh.errors import (
    ConfigError,
    NoKey,
    Overloaded,
    Refused,
    StoreFull,
    StoreLocked,
    StoreLost,
    StoreUnavailable,
    TaskFailed,
    TimeoutError,
    UnknownTask,
)
from mesh.model import Role
from mesh.net.keys import new_key
from mesh.settings import VARIABLES
from nodes.cli.hostnames import file_name, node_name
from nodes.cli.main import INSTEAD, VERBS, exit_code, main
from nodes.cli.node_files import output_to, pid_file
from nodes.cli.node_options import store_url
from nodes.cli.router import listen_address
from nodes.cli.status_view import (
    Status,
    away,
    duration,
    headline,
    queues_table,
    rates,
    router_rows,
    routers_table,
    workers_table,
)
from nodes.supervisor import how_it_ended
from nodes.tables import Table, plain
from tests.cluster import REPOSITORY

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Take back what a verb changes of this process's logs: its stream ends with the test."""
    logger = logging.getLogger("mesh")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers.copy()
    yield
    logger.setLevel(level)
    logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture
def run(own_logs: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs ``mesh ARGUMENTS`` here, away from this user's own mesh: exit code, output, errors."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESH_NAME", "t")
    monkeypatch.setenv("MESH_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "0.1")
    monkeypatch.setattr("nodes.cli.join.LOOK_S", 0.0)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_every_verb_explains_itself(run: Run) -> None:
    for verb in VERBS:
        code, out, _ = run(verb, "--help")
        assert code == 0, verb
        assert f"Usage: mesh {verb}" in out


def test_a_newcomer_reads_how_to_begin(run: Run) -> None:
    for arguments in (["--help"], ["up", "--help"]):
        assert "mesh up -A tasks\n" in run(*arguments)[1]
    assert "[default: one per CPU]" in " ".join(run("up", "--help")[1].split())


@pytest.mark.processes
def test_the_list_of_verbs_is_shown_without_importing_them(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)
    program = (
        "import sys; from nodes.cli.main import main; main(['--help']); main(['version']);"
        "sys.exit(any(name in sys.modules for name in ('zmq', 'sqlite3', 'rich', 'mesh.api.app', 'bench')))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30).returncode == 0


def test_the_version_is_said_in_both_ways(run: Run) -> None:
    assert run("--version") == run("version")
    assert json.loads(run("version", "--json")[1])["mesh"] in run("version")[1]


MISTAKES = [
    (["stats"], 2, "did you mean 'status'?"),
    (["frobnicate"], 2, "there is no command 'frobnicate'"),
    (["beat"], 2, "mesh scheduler"),
    (["status", "--frob"], 2, "No such option"),
    (["call"], 2, "Missing argument 'NAME'"),
    (["call", "x", "-a", "[1"], 2, "'[1' is not JSON"),
    (["call", "x", "-a", "1"], 2, "expected a JSON list"),
    (["call", "x", "-k", "[]"], 2, "expected a JSON object"),
    (["call", "x", "--eta", "tomorrow"], 2, "'tomorrow' is no date and time"),
    (["call", "x", "--priority", "300"], 2, "300 is not in the range"),
    (["call", "x", "--timeout", "abc"], 2, "'abc' is not a valid number of seconds"),
    (["result", "x", "--timeout", "nan"], 2, "'nan' is not a valid number of seconds"),
    (["call", "x", "--countdown", "inf"], 2, "'inf' is not a valid number of seconds"),
    (["worker", "-c", "many"], 2, "'many' is not a valid whole number"),
    (["bench", "--quick"], 2, "`mesh bench all --quick`"),
    (
        ["--mesh", "a", "bench", "floor"],
        2,
        "a mesh that runs is measured by throughput, latency",
    ),
    (["--mesh", "a", "bench", "all"], 2, "--mesh has no effect here"),
    (["-A", "tasks", "bench", "throughput"], 2, "-A has no effect here"),
    (["bench", "latency", "--runs", "few"], 2, "'few' is not a valid whole number"),
    (["call", "x", "--eta", "2030-01-01", "--countdown", "3"], 2, "choose one"),
    (["status", "--router", "nowhere:"], 2, "router address 'nowhere:'"),
    (["schedule", "add", "e", "tasks.add"], 2, "one of --every, --cron and --at"),
    (["schedule", "add", "e", "tasks.add", "--every", "3", "--cron", "* * * * *"], 2, "choose one"),
    (["schedule", "add", "e", "tasks.add", "--every", "3", "--timezone", "UTC"], 2, "--timezone is for --cron"),
    (["schedule", "add", "e", "tasks.add", "--every", "0"], 2, "0 is not in the range"),
    (["schedule", "add", "e", "tasks.add", "--at", "soon"], 2, "'soon' is no date and time"),
    (["schedule", "add", "e", "tasks.add", "--every", "3", "-a", "1"], 2, "expected a JSON list"),
    (["schedule", "update", "e"], 2, "nothing to change"),
    (["schedule", "delete", "e"], 2, "there is no 'delete': type `mesh schedule remove NAME`"),
    (["schedule", "disable", "e"], 2, "type `mesh schedule pause NAME`"),
    (["schedule", "enable", "e"], 2, "type `mesh schedule resume NAME`"),
    (["schedule", "triger", "e"], 2, "did you mean 'trigger'?"),
    (["schedule", "pause"], 2, "Missing argument 'NAME...'"),
    (["status", "-A", "missing"], 2, "there is no module 'missing'"),
    (["-A", "missing", "status"], 2, "there is no module 'missing'"),
    (["--mesh", "a/b", "status"], 2, "mesh name 'a/b'"),
    (["--workdir", "/does/not/exist", "status"], 2, "--workdir /does/not/exist: No such file or directory"),
    (["up", "--salvage"], 2, "type `mesh router --salvage` with the same --mesh and --store"),
    (["up", "--force"], 2, "type `mesh router --force` with the same --mesh and --store"),
    (["scheduler"], 2, "which app?"),
    (["worker", "-c", "0"], 2, "0 is not in the range"),
    (["worker", "-n", "w%x"], 2, "%x stands for nothing here"),
    (["router", "--store", "mysql://x"], 2, "there is no store of this kind"),
    (["router", "--listen", "nowhere"], 2, "write host:port"),
    (["router", "--port", "7000"], 2, "add --lan"),
    (["up", "--interface", "eth0"], 2, "add --lan"),
    (["up", "--lan", "--advertise", "host"], 2, "no IP address"),
    (["router", "--lan", "--interface", "nosuch0", "--store", "memory://"], 2, "there are: "),
    (["router", "--store", "memory://", "--level", "disk"], 2, "contradicts the store"),
    (["router", "-l", "loud"], 2, "'loud' is not one of"),
    (["router", "-f", "/does/not/exist"], 2, "--logfile /does/not/exist"),
    (["key"], 2, "no key of mesh 't'"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_mistake_is_one_line_and_an_exit_code(run: Run, arguments: list[str], code: int, text: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert err.startswith("mesh: error: ") and err.count("\n") == 1
    assert text in err


def test_that_no_router_is_there_is_said_once(run: Run) -> None:
    run("key", "new")
    _, _, err = run("status")
    for text in ("no router answered", "mesh 't'"):
        assert err.count(text) == 1, err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("add", "did you mean app_h.add?"),
        ("app_h.ad", "did you mean app_h.add?"),
        ("frobnicate", "it has: app_h.add."),
    ],
)
def test_a_task_that_the_app_has_not_is_refused_before_it_waits_for_ever(
    run: Run, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "app_h.py").write_text("from mesh import Mesh\napp = Mesh('app_h')\n@app.task\ndef add(): ...\n")
    code, out, err = run("call", name, "-A", "app_h")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"app_h has no task {name!r}; {text} Without -A" in err


def test_a_task_of_an_included_module_is_one_of_the_app(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app_g.py").write_text("from mesh import Mesh\napp = Mesh('app_g', include=['more_g'])\n")
    (tmp_path / "more_g.py").write_text("from app_g import app\n@app.task\ndef f(): ...\n")
    run("key", "new")
    assert run("call", "more_g.f", "-A", "app_g")[0] == 3
    assert run("call", "f", "-A", "app_g")[0] == 2


def test_a_wrong_setting_in_the_environment_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_HEARTBEAT_S", "often")
    code, _, err = run("status")
    assert (code, err.count("\n")) == (2, 1)
    assert "MESH_HEARTBEAT_S='often': expected a number of seconds, more than 0" in err


def test_a_variable_that_is_no_setting_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_STOR", "memory://")
    monkeypatch.setenv("MESH_WEATHER_FORECAST", "rain")
    notes = [
        "mesh: note: MESH_STOR is no setting; did you mean MESH_STORE?",
        "mesh: note: MESH_WEATHER_FORECAST is no setting",
    ]
    for arguments in (["status"], ["router", "--listen", "nowhere"], ["worker", "-n", "%x"], ["up", "-n", "%x"]):
        assert run(*arguments)[2].splitlines()[:-1] == notes, arguments
    assert len(run("-q", "status")[2].splitlines()) == 1
    parent = str(os.getppid())
    assert len(run("worker", "--supervised-by", parent, "-n", "%x")[2].splitlines()) == 1


def test_every_variable_that_is_read_is_known() -> None:
    sources = [path.read_text() for part in ("mesh", "nodes") for path in (REPOSITORY / part).rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(MESH_[A-Z_]*[A-Z])"', text)}
    assert "MESH_STORE" in read
    assert read <= VARIABLES


@pytest.mark.parametrize(
    ("variable", "text", "wanted"),
    [
        ("MESH_DRAIN_S", "-1", "a number of seconds, 0 or more"),
        ("MESH_CREDIT_MAX", "1.5", "a whole number, more than 0"),
        ("MESH_FREE_BYTES_MIN", "64M", "a whole number of bytes, 0 or more"),
    ],
)
def test_a_setting_says_what_it_may_be(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, wanted: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert f"expected {wanted}\n" in run("status")[2]


def test_a_runtime_directory_that_others_can_read_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    code, _, err = run("status")
    assert (code, err.count("\n")) == (2, 1)
    assert "chmod 700" in err


def test_every_verb_of_celery_that_is_missing_is_answered(run: Run) -> None:
    assert not INSTEAD.keys() & VERBS.keys()
    for verb in INSTEAD:
        assert run(verb, "--anything")[0] == 2


def test_the_secret_is_shown_only_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    assert run("key", "new")[0] == 0
    path = Path(run("key", "path")[1].strip())
    secret = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    for arguments in (["key"], ["key", "show"], ["key", "path"]):
        code, out, err = run(*arguments)
        assert code == 0
        assert secret.split(":")[1] not in out + err
        assert str(path) in out
    assert run("key", "show", "--secret") == (0, secret, "")


def test_a_key_is_replaced_by_force_only(run: Run) -> None:
    run("key", "new")
    before = run("key", "show", "--secret")[1]
    code, _, err = run("key", "new")
    assert code == 2
    assert "--force" in err
    assert run("key", "show", "--secret")[1] == before
    assert run("key", "new", "--force")[0] == 0
    assert run("key", "show", "--secret")[1] != before


def test_a_key_of_the_environment_goes_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setenv("MESH_KEY", key.text)
    assert f"key id  {key.key_id}\nkept in MESH_KEY" in run("key")[1]
    assert run("key", "new")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--router", "127.0.0.1:1"],
        ["call", "x"],
        ["up"],
        ["router", "--listen", "off"],
        ["worker"],
        ["key"],
        ["join", "KEY"],
        ["bench", "throughput", "--mesh", "t"],
    ],
    ids=" ".join,
)
def test_a_key_that_is_none_is_said_at_once_whatever_is_wanted(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("MESH_KEY", "hello")
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "300")
    code, _, err = run(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("mesh: error: MESH_KEY: this is not a mesh key") and "hello" not in err


def test_a_router_that_wants_a_key_is_not_waited_for_without_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "300")
    code, _, err = run("status", "--router", "127.0.0.1:1")
    assert (code, err.count("\n")) == (2, 1)
    assert "no key of mesh 't'" in err
    assert "types `mesh --mesh t key show --secret`" in err and "you `mesh --mesh t join KEY`" in err
    assert "types `mesh key show --secret`" in run("--mesh", "default", "key")[2]


def test_a_key_of_another_machine_is_kept_and_never_replaces_one(run: Run) -> None:
    key, other = new_key(), new_key()
    assert run("join", key.text, "--router", "nowhere:")[0] == 2
    code, out, err = run("join", key.text, "--router", "127.0.0.1:1")
    assert (code, err) == (0, "")
    assert "no router answers yet (given: tcp://127.0.0.1:1)" in out and "kept all the same" in out
    assert key.key_id in out and key.text not in out
    assert run("key", "show", "--secret")[1].strip() == key.text
    assert run("join", key.text)[0] == 0
    code, _, err = run("join", other.text)
    assert (code, err.count("\n")) == (2, 1)
    assert other.text not in err
    assert run("join", key.text[:-3])[0] == 2


def test_joining_by_force_replaces_a_key(run: Run) -> None:
    key, other = new_key(), new_key()
    run("join", key.text)
    assert run("join", other.text)[0] == 2
    assert run("join", "--force", other.text)[0] == 0
    assert run("key", "show", "--secret")[1].strip() == other.text


@pytest.mark.parametrize("role", ["client", "worker"])
def test_a_role_key_is_exported_joined_and_never_shown_unasked(run: Run, role: str, tmp_path: Path) -> None:
    run("key", "new")
    code, exported, err = run("key", "export", "--role", role)
    assert (code, err) == (0, "") and exported.startswith(f"mesh1-{role}:")
    (tmp_path / "config" / "taskmesh" / "t.key").unlink()
    code, out, err = run("join", exported)
    assert (code, err) == (0, "") and f"a {role}'s key" in out
    code, shown, err = run("key")
    assert f"for     {role}s only" in shown
    assert exported.split(":")[1] not in out + shown + err
    assert run("key", "show", "--secret")[1] == exported
    for arguments in (["key", "export", "--role", role], ["router"]):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "takes the whole key of the mesh" in err and exported.split(":")[1] not in err


def test_a_role_key_of_the_environment_counts_and_makes_no_other_role(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_KEY", new_key().export(Role.WORKER).text)
    assert "for     workers only" in run("key")[1]
    code, _, err = run("status", "--router", "127.0.0.1:1")
    assert code == 2 and "has a worker's key, which makes no client" in err
    assert "`mesh --mesh t key export --role client`" in err


@pytest.mark.parametrize(
    ("role", "command", "instead"),
    [(Role.CLIENT, "status --router", ""), (Role.WORKER, "worker -A APP --router", "worker` instead, or ")],
)
def test_who_joins_with_a_role_key_is_told_what_that_key_can_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, role: Role, command: str, instead: str
) -> None:
    monkeypatch.setattr("nodes.cli.join.LOOK_S", 0.0)
    out = run("join", new_key().export(role).text, "--router", "127.0.0.1:1")[1]
    assert "`mesh --mesh t up --lan` where the router is to run" in out and f"here: mesh --mesh t {command} HOST" in out
    code, _, err = run("up", "--lan")
    assert (code, err.count("\n")) == (2, 1)
    assert f"has a {role}'s key, and `mesh --mesh t up --lan` may start a router" in err and instead in err
    assert ("worker`" in err) is (role is Role.WORKER) and "admin" not in err


def test_a_node_is_enrolled_allowed_listed_and_revoked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("key", "new")
    assert "--force" in run("node", "enroll", "w1")[2], "the whole key is not replaced unasked"
    router = run("key", "public")[1].strip()
    home = os.environ["XDG_CONFIG_HOME"]
    monkeypatch.setenv("XDG_CONFIG_HOME", home + "-of-the-node")
    assert "`mesh --mesh t key public`" in run("node", "enroll", "w1")[2]
    code, line, _ = run("node", "enroll", "w1", router)
    secret = run("key", "show", "--secret")[1].split(":")[1]
    assert code == 0 and secret not in line
    assert "for     workers only" in run("key")[1]
    code, other, _ = run("node", "enroll", "w1", "--force", "--role", "client")
    assert code == 0 and other.split()[-1] != line.split()[-1]
    assert run("key", "public")[1].strip() == router

    monkeypatch.setenv("XDG_CONFIG_HOME", home)
    assert run(*line.split()[1:])[0] == 0
    assert "--force" in run(*other.split()[1:])[2]
    assert run(*other.split()[1:], "--force")[0] == 0
    assert [(row["name"], row["role"]) for row in json.loads(run("node", "list", "--json")[1])] == [("w1", "client")]
    assert other.split()[-1] in run("node", "list")[1]
    assert run("node", "revoke", "w1")[0] == 0
    assert run("node", "revoke", "w1")[0] == 2
    assert json.loads(run("node", "list", "--json")[1]) == []


def test_what_is_turned_away_is_told_once_there_is_something() -> None:
    none = {"accepted_per_s": 0.0, "finished_per_s": 0.0}
    assert "turned away" not in headline("default", STATUS, none)
    router = STATUS["router"] | {
        "counters": {"refused": 2, "garbage": 1},
        "transport": {
            "counters": {"greetings_failed": 9, "other_keys": 7, "mute": 1, "revoked": 2},
            "other_keys": {"10.0.0.7": 5, "10.0.0.8": 2},
            "lan": {"announced_left_out": 3, "announced_unproven": 2},
        },
    }
    text = headline("default", STATUS | {"router": router}, none)
    assert text.endswith(
        "turned away since its start: 7 connections with another key (from 10.0.0.7, 10.0.0.8), 2 failed greetings, "
        "1 mute connection, 2 revoked connections, 3 forbidden messages, 5 false announcements"
    )


@pytest.mark.processes
@pytest.mark.parametrize("closed", [False, True])
def test_a_key_that_is_not_typed_is_read_from_a_pipe(run: Run, tmp_path: Path, closed: bool) -> None:
    key = new_key()

    def join(given: str) -> tuple[int, str]:
        shut = "import sys; sys.stdin = None; " if closed else ""
        look = "import nodes.cli.join as join; join.LOOK_S = 0.0; "
        program = f"{shut}{look}from nodes.cli.main import main; raise SystemExit(main(['join']))"
        command = [sys.executable, "-W", "always", "-c", program]
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        return done.returncode, done.stderr

    wrong = (
        2,
        "mesh: error: no key on standard input: give it there, or type `mesh --mesh t join KEY`; "
        "see `mesh join --help`\n",
    )
    assert join("") == wrong
    assert join(f"{key.text}\n") == (wrong if closed else (0, ""))
    assert (run("key", "show", "--secret")[1].strip() == key.text) is not closed


def test_a_key_file_that_others_can_read_is_refused(run: Run) -> None:
    run("key", "new")
    Path(run("key", "path")[1].strip()).chmod(0o644)
    code, _, err = run("key")
    assert (code, err.count("\n")) == (2, 1)
    assert "chmod 600" in err


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(["call", "x"], "mesh --mesh t"), (["status"], "mesh --mesh t"), (["--mesh", "default", "status"], "mesh")],
    ids=str,
)
def test_without_a_key_and_a_router_here_both_are_said_and_what_to_type(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "1")  # half of it is time for a look
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"runs on this machine: is `{command} up` running?" in err
    assert "no key of mesh" in err and f"you `{command} join KEY`" in err


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(["call", "x"], "mesh --mesh t"), (["status"], "mesh --mesh t"), (["--mesh", "default", "status"], "mesh")],
    ids=str,
)
def test_with_a_key_and_no_router_trying_again_may_help(run: Run, arguments: list[str], command: str) -> None:
    run(*arguments[:2] if "--mesh" in arguments else (), "key", "new")
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert f"Is `{command} up` running?" in err


@pytest.mark.parametrize(
    "verb", [["status"], ["call", "a.b"], ["worker"], ["bench", "latency", "--mesh", "t"]], ids=str
)
@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (new_key().text, 0o644, "can be read by others: type `chmod 600"),
        (new_key().text[:-1], 0o600, "the key is incomplete or has a wrong letter"),
        ("hello", 0o600, "this is not a mesh key"),
    ],
    ids=["of others", "mistyped", "none"],
)
def test_a_key_file_of_no_use_is_said_and_not_waited_with(
    run: Run, monkeypatch: pytest.MonkeyPatch, verb: list[str], text: str, mode: int, says: str
) -> None:
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "300")
    path = Path(run("key", "path")[1].strip())
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    code, _, err = run(*verb)
    assert (code, err.count("\n")) == (2, 1)
    assert str(path) in err and says in err and text not in err


@pytest.mark.parametrize("damage", ["", "hello", new_key().text[:-1]], ids=["empty", "none", "cut"])
def test_whoever_joins_is_told_that_it_is_the_file_that_is_damaged_and_how_it_is_replaced(
    run: Run, damage: str
) -> None:
    key = new_key()
    path = Path(run("key", "path")[1].strip())
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    path.chmod(0o600)
    code, _, err = run("join", key.text)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{path} is damaged: " in err and "`mesh --mesh t join --force` replaces" in err
    assert run("join", "--force", key.text)[0] == 0
    assert run("key", "show", "--secret")[1].strip() == key.text


def test_joining_quietly_prints_nothing(run: Run) -> None:
    assert run("join", "-q", new_key().text) == (0, "", "")


def test_a_script_that_waits_is_told_of_the_key(run: Run) -> None:
    with (
        Mesh("script", connect_timeout_s=1.0, exit_flush_s=0.0) as app,
        pytest.raises(NoKey, match="no key of mesh 't'"),
    ):
        app.submit(len, "abc").get()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (StoreLocked("x"), 2),
        (StoreUnavailable("x"), 3),
        (StoreFull("x"), 3),
        (StoreLost("x"), 3),
        (Overloaded("x"), 3),
        (TimeoutError("x"), 3),
        (Refused("x"), 2),
        (UnknownTask("x"), 1),
        (TaskFailed("x"), 1),
    ],
)
def test_exit_codes_tell_what_may_help(error: Exception, code: int) -> None:
    assert exit_code(error) == code  # type: ignore[arg-type]


def test_a_damaged_store_says_which_command_salvages_it(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "a b.db"
    store.write_bytes(b"no database " * 1000)
    url = f"sqlite://{quote(str(store))}?level=process"
    code, _, err = run("router", "--mesh", "q", "--store", url)
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith(f"start once with salvage: mesh router --salvage --mesh q --store '{url}'\n")
    store.unlink()
    own = tmp_path / "state" / "taskmesh" / "q.db"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"no database " * 1000)
    assert f"mesh router --salvage --mesh q --store sqlite://{own}\n" in run("router", "--mesh", "q")[2]


def test_celerys_flags_are_taken_and_explained(run: Run) -> None:
    flags = ["-P", "prefork", "-E", "-O", "fair", "--without-gossip", "--prefetch-multiplier", "4"]
    code, _, err = run("worker", *flags, "--level-is-no-option")
    assert code == 2  # so that no worker is started here
    notes = run("worker", *flags, "-n", "%x")[2].splitlines()
    assert sum(line.startswith("mesh: note: --") and "has no effect" in line for line in notes) == 5
    assert "No such option" in err
    assert len(run("-q", "worker", *flags, "-n", "%x")[2].splitlines()) == 1


def test_celerys_flags_of_beat_are_taken_and_explained(run: Run) -> None:
    beat = ["-s", "/var/lib/beat", "-S", "django_celery_beat.schedulers:DatabaseScheduler", "--max-interval", "5"]
    for arguments in (["worker", "-B", "--schedule", "beat.db"], ["scheduler", *beat], ["worker", "-s", "beat.db"]):
        code, _, err = run(*arguments, "-n", "%x")
        assert code == 2  # so that nothing is started here
        notes = err.splitlines()[:-1]
        assert len(notes) == sum(one.startswith("-") for one in arguments)
        assert all("has no effect: " in note for note in notes)
    assert "mesh scheduler -A APP" in run("-A", "tasks", "beat", "-l", "info")[2]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("w1", "w1@box.example.org"),
        ("w1@%h", "w1@box.example.org"),
        ("w1@%n", "w1@box"),
        ("%n@%d", "box@example.org"),
        ("100%%@x", "100%@x"),
    ],
)
def test_names_of_nodes_take_celerys_letters(template: str, name: str) -> None:
    assert node_name(template, host="box.example.org") == name


def test_names_of_files_take_parts_of_the_nodes_name() -> None:
    assert file_name("/var/log/%n.log", "w1@box.example.org") == "/var/log/w1.log"
    assert file_name("%p-%h-%d", "w1@box.example.org") == "w1@box.example.org-box.example.org-example.org"


@pytest.mark.parametrize(
    ("store", "level", "variable", "url"),
    [
        (None, None, None, None),
        (None, None, "sqlite:///x.db", None),
        ("sqlite:///a.db", None, None, "sqlite:///a.db"),
        (None, "memory", None, "memory://"),
        (None, "process", None, "sqlite://?level=process"),
        (None, "process", "sqlite:///x.db", "sqlite:///x.db?level=process"),
        ("sqlite:///a.db", "process", None, "sqlite:///a.db?level=process"),
        ("sqlite:///a.db?level=process", "process", None, "sqlite:///a.db?level=process"),
        ("memory://", "memory", None, "memory://"),
    ],
)
def test_store_and_level_make_one_address(
    store: str | None, level: str | None, variable: str | None, url: str | None
) -> None:
    assert store_url(store, level, {"MESH_STORE": variable} if variable else {}) == url


@pytest.mark.parametrize(
    ("store", "level"), [("sqlite:///a.db", "memory"), ("sqlite:///a?level=disk", "process"), ("memory://", "disk")]
)
def test_store_and_level_may_not_contradict_each_other(store: str, level: str) -> None:
    with pytest.raises(ConfigError, match="contradicts"):
        store_url(store, level, {})


def test_a_router_listens_where_it_is_told_to() -> None:
    assert listen_address("127.0.0.1:*") == "tcp://127.0.0.1:*"
    assert listen_address("tcp://0.0.0.0:7000") == "tcp://0.0.0.0:7000"
    assert listen_address("off") is None


def test_a_pid_file_stands_while_the_node_lives(tmp_path: Path) -> None:
    path = tmp_path / "w.pid"
    path.write_text("999999999\n")  # left over
    with pid_file(str(path)):
        assert path.read_text().strip().isdecimal()
    assert not path.exists()


def test_a_pid_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.pid"
    path.write_text("1\n")
    with pytest.raises(ConfigError, match="process 1 is running"), pid_file(str(path)):
        pass
    assert path.read_text() == "1\n"


@pytest.mark.processes
def test_a_log_file_gets_the_output_of_child_processes_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.log"
    with output_to(str(path)):
        subprocess.run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], check=True)
    assert sorted(path.read_text().split()) == ["err", "out"]
    assert capfd.readouterr() == ("", "")


STATUS = {
    "router": {
        "name": "router@box",
        "boot": 3,
        "uptime_s": 100.0,
        "durability": "disk",
        "store_full": False,
        "tasks": 12,
        "accepted": 1_000,
        "finished": {"succeeded": 980, "failed": 8},
        "clients": 1,
    },
    "workers": [
        {
            "name": "w1@box",
            "queues": ["default", "images"],
            "slots": 4,
            "credit": 9,
            "held": 3,
            "running": 2,
            "settled": 988,
            "draining": True,
            "silent_s": 4.2,
        }
    ],
    "queues": [
        {"name": "default", "ready": 7, "running": 2, "scheduled": 1, "parked": 0, "parked_why": []},
        {"name": "gpu", "ready": 0, "running": 0, "scheduled": 0, "parked": 2, "parked_why": ["no worker serves it"]},
    ],
}


def test_rates_come_from_two_looks_at_the_same_life_of_a_router() -> None:
    later = {"router": {**STATUS["router"], "uptime_s": 102.0, "accepted": 3_000, "finished": {"succeeded": 1_988}}}  # type: ignore[dict-item]
    assert rates(STATUS, later) == {"accepted_per_s": 1_000.0, "finished_per_s": 500.0}
    later["router"]["boot"] = 4
    assert rates(STATUS, later) == {"accepted_per_s": 0.0, "finished_per_s": 0.0}


def test_the_status_is_readable_without_a_terminal() -> None:
    text = headline("default", STATUS, {"accepted_per_s": 1000.0, "finished_per_s": 0.5})
    assert text == (
        "mesh default: router@box, up 1 min 40 s, level disk, 1 client\n"
        "12 unfinished, 980 succeeded, 8 ended otherwise; now 1 000/s in, 0.5/s done"
    )
    warned = STATUS | {"router": STATUS["router"] | {"store": {"warning": "it forgets"}}}
    text = headline("default", warned, {"accepted_per_s": 1000.0, "finished_per_s": 0.5})
    assert text.splitlines()[1] == "WARNING, the store: it forgets"
    assert plain(workers_table(STATUS)).splitlines()[1].split("  ")[0] == "w1@box"
    assert "draining, silent for 4 s" in plain(workers_table(STATUS))
    assert "no worker serves it" in plain(queues_table(STATUS))


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("the store is away: connection refused", "STORE AWAY"),
        ("the store is full: no room", "STORE FULL"),
        ("the disk has 2 MiB free", "STORE FULL"),
    ],
)
def test_a_store_that_takes_nothing_is_called_away_or_full_as_its_router_says(reason: str, shown: str) -> None:
    status: Status = {"router": {**STATUS["router"], "store_full": reason, "id": "aa"}}  # type: ignore[dict-item]
    status["routers"] = router_rows([("aa", "tcp://a:1", {**STATUS, **status, "left_out": {"workers": 0}})])
    text = headline("default", status, {"accepted_per_s": 0.0, "finished_per_s": 0.0})
    assert f", {shown}: accepts nothing\n" in text
    assert f"shown below, {shown}" in plain(routers_table(status))


def test_a_router_that_others_miss_is_shown_once_and_one_they_reach_is_left_to_be_found() -> None:
    others = [
        {"id": "aa", "address": "tcp://a:1", "answers": False},
        {"id": "bb", "address": "tcp://b:1", "answers": True},
        {"id": "cc", "address": "tcp://c:1", "answers": False},
    ]
    one: Status = STATUS | {"router": STATUS["router"] | {"others": others}}
    assert away([("aa", "tcp://a:1", one), ("dd", "tcp://d:1", one), ("ee", "tcp://e:1", STATUS)]) == [
        ("cc", "tcp://c:1", None)
    ]


def test_the_status_says_who_leads_where_anything_is_periodic() -> None:
    counters = {"firings": 1_200, "firings_caught_up": 0, "firings_skipped": 3, "firings_stale": 1}
    router = {**STATUS["router"], "entries": 2, "leader": "w1@box", "term": (3 << 32) + 7, "counters": counters}  # type: ignore[dict-item]
    text = headline("default", {"router": router}, {"accepted_per_s": 0.0, "finished_per_s": 0.0})
    line = "2 periodic, leader w1@box (term 3.7), 1 200 fired, 3 skipped, 1 of terms that were over"
    assert text.splitlines()[2] == line
    text = headline("default", {"router": {**router, "leader": ""}}, {"accepted_per_s": 0.0, "finished_per_s": 0.0})
    assert "2 periodic, NO LEADER" in text


def test_plain_tables_align_numbers_to_the_right() -> None:
    table = Table("t", ["name", ">count"], [["a", "1"], ["long", "1000"]])
    assert plain(table) == "NAME  COUNT\na         1\nlong   1000"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (100, "1 min 40 s"), (3_600, "1 h"), (100_000, "1 d 3 h")]
)
def test_durations_show_what_matters(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_end_of_a_child_is_told_in_words() -> None:
    assert how_it_ended(3) == "ended with exit code 3"
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(-99) == "was killed by signal 99"
