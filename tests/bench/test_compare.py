"""The comparison of entrants: who takes part, what is stated, and nothing is left behind."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

import bench.peers.compared
from bench import cli
from bench.cli import bench as command
from bench.comparison import MEASURES, absent, key_of, rows
from bench.figures import figure
from bench.peers import catalog, running
from bench.peers.catalog import ENTRANTS, PEERS, REQUIREMENTS, Entrant
from bench.peers.compared.work import LONG, LONG_S, SHORT, SHORT_S, mixed_load
from bench.peers.running import running_entrant, spent_s
from bench.redis_server import PERSISTENCE, find_server, running_redis
from bench.scenarios.compare import PARTS, how_many
from mesh.errors import MeshError, StoreFull
from tests.bench.reports import comparison

ADAPTERS = Path(bench.peers.compared.__file__).parent
OURS = ("bench", "mesh")


def test_each_peer_has_an_adapter_and_requirements_with_a_cap():
    for peer in PEERS:
        assert (ADAPTERS / f"{peer}.py").exists()
        for line in (REQUIREMENTS / f"{peer}.txt").read_text().split():
            assert ">=" in line and "<" in line, line


def test_an_adapter_needs_nothing_of_ours_that_its_environment_has_not():
    pure = {"bench.distribution", "bench.figures"}
    for module in (*PEERS, "adapter", "command", "work"):
        tree = ast.parse((ADAPTERS / f"{module}.py").read_text())
        named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in named if name.split(".")[0] in OURS}
        assert all(name in pure or name.startswith("bench.peers.compared") for name in ours), (module, ours)


def test_a_table_has_a_row_for_each_with_its_settings_and_says_who_is_missing():
    report = comparison()
    found = {row.name: row for row in rows(report.figures, report.settings)}
    assert [*found] == ["mesh", "rq-fork", "dask"]
    assert not any(found["dask"].cells), "it failed"
    assert set(absent(report.settings)) == {"ray", "dask"}
    out = StringIO()
    report.show(Console(file=out, width=120))
    text = out.getvalue()
    assert "rq 3.0, redis-server 7" in text and "workers: forks" in text and "9,000" in text
    assert "ray: not installed: `make bench-peers PEERS=ray`" in text


def test_a_dash_has_a_reason():
    report = comparison()
    facts = report.settings["entrants"]["rq-fork"]
    facts["tasks"]["bulk"] = 0
    facts["settings"]["in bulk"] = "it knows one [call] at a time"
    assert absent(report.settings)["rq-fork, in bulk"] == "it knows one [call] at a time"
    report.settings["failed"]["rq-fork"] = "it ended"
    assert absent(report.settings)["rq-fork"] == "failed: it ended"
    assert not any(cell for row in rows(report.figures, report.settings) for cell in row.cells if row.name != "mesh")


def test_a_comparison_fits_into_a_hundred_columns():
    report = comparison()
    entrants = report.settings["entrants"]
    for name in ENTRANTS:
        entrants[name] = {"settings": {"workers": "as many as there are " * 9}, "versions": {"it": "1.0"}, "tasks": {}}
        for measure in MEASURES:
            report.figures[f"{key_of(name)}_{measure.suffix}"] = figure([123_456.0], measure.unit)
            if measure.ratio:
                report.ratios[f"{measure.ratio}_{key_of(name)}"] = 0.00123
    out = StringIO()
    report.show(Console(file=out, width=100))
    table, against = out.getvalue().split("\n\n")[:2]
    assert len(table.splitlines()) == len(ENTRANTS) + 2 + len({"rq-fork", "dask"} - {*ENTRANTS})
    assert all(len(line) <= 100 and "…" not in line for line in f"{table}\n{against}".splitlines())
    assert table.count("123,456") >= len(MEASURES) * (len(ENTRANTS) - 1) and "0.001 x" in against


def test_a_figure_of_rq_fork_is_none_of_rq():
    report = comparison()
    report.settings["entrants"]["rq"] = {}
    assert "rq" not in [row.name for row in rows(report.figures, report.settings)]


def test_who_is_not_installed_is_named_with_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "ENVIRONMENTS", tmp_path)
    assert not ENTRANTS["celery"].installed
    done = CliRunner().invoke(command, ["compare", "ray"], standalone_mode=False)
    assert f"ray: not installed in {tmp_path}: `make bench-peers PEERS=ray`" in done.output
    assert str(done.exception) == f"peers are not installed in {tmp_path}: `make bench-peers`"


def test_an_installed_package_says_that_peers_need_the_checkout(monkeypatch):
    monkeypatch.setattr(catalog, "is_checkout", lambda: False)
    assert "type `make bench-peers PEERS=rq` in a checkout of the project" in catalog.not_installed("rq")


@pytest.mark.processes
def test_who_is_not_asked_for_by_name_is_named_too_and_who_cannot_be_started_fails_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "ENVIRONMENTS", tmp_path)
    broken = tmp_path / "parsl" / ".installed"  # without a python
    broken.parent.mkdir()
    broken.touch()
    options = ["--only", "tasks", "--json", "--runs", "1", "--seconds", "0.1"]
    done = CliRunner().invoke(command, ["compare", *options], catch_exceptions=False)
    settings = json.loads(done.stdout)["settings"]
    assert set(settings["entrants"]) == {"mesh", "executor"}
    assert set(settings["not_installed"]) == {*ENTRANTS} - {"mesh", "executor", "parsl"}
    assert "No such file" in settings["failed"]["parsl"]
    assert done.exit_code == 0, "nobody has asked for this one"


@pytest.mark.processes
@pytest.mark.parametrize("named", [["parsl", "executor"], []])
def test_a_comparison_without_one_that_was_asked_for_or_without_any_has_failed(named, monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(cli, "ENTRANTS", {"parsl": ENTRANTS["parsl"]})  # who takes part if nobody is named
    broken = tmp_path / "parsl" / ".installed"  # without a python
    broken.parent.mkdir()
    broken.touch()
    options = ["--only", "tasks", "--json", "--runs", "1", "--seconds", "0.1", "--report", str(tmp_path)]
    done = CliRunner().invoke(command, ["compare", *named, *options], catch_exceptions=False)
    assert done.exit_code == 1
    assert set(json.loads(done.stdout)["settings"]["failed"]) == {"parsl"}
    assert (tmp_path / "compare.json").exists(), "what was found is kept"


def test_the_mixed_load_is_the_same_each_time():
    assert mixed_load() == mixed_load()
    assert sorted(mixed_load()) == [SHORT_S] * SHORT + [LONG_S] * LONG


def test_processor_time_is_that_between_two_looks_whoever_comes_and_goes():
    parent, worker, new = 1, 2, 3
    before = {parent: (1.0, 0.0), worker: (5.0, 0.0)}
    assert spent_s(before, {parent: (1.5, 0.0), worker: (6.0, 0.0), new: (0.25, 0.0)}) == 1.75
    assert spent_s(before, {parent: (1.5, 5.5)}) == 1.0, "the worker has ended, and used half a second before"
    assert spent_s(before, {parent: (1.5, 0.0)}) == 0.5, "nobody has waited for the worker"


def test_tries_grow_until_one_lasts_long_enough_to_tell_how_many_are_wanted():
    part, tried = PARTS["tasks"], []

    def measure(what: str, count: int) -> dict[str, float]:
        tried.append(count)
        return {"per_s": count / (0.5 + count / 1_000)}  # half a second passes before the first result

    assert how_many(part, 4.0, measure) == 2_783
    assert tried == [200, 1_143]
    assert how_many(part, 4.0, lambda what, count: {}) == 0
    assert how_many(part, 4.0, lambda what, count: {"per_s": 1e9}) == part.most
    assert how_many(part, 4.0, lambda what, count: {"per_s": 1.0}) == part.least


@pytest.mark.processes
def test_entrants_take_turns_and_are_compared():
    options = ["--json", "--runs", "1", "--seconds", "0.1", "--level", "memory"]
    done = CliRunner().invoke(command, ["compare", "mesh", "executor", *options], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["scenario"] == "compare" and set(report["settings"]["entrants"]) == {"mesh", "executor"}
    left_out = {name for note in report.get("notes", []) for name in note.partition(": ")[2].split(", ")}
    assert set(report["figures"]) | left_out == {f"{who}_{m.suffix}" for who in ("mesh", "executor") for m in MEASURES}
    assert left_out <= {"mesh_p99_us", "executor_p99_us"}
    assert report["ratios"]["to_executor"] > 0 and report["settings"]["failed"] == {}
    assert sum(report["distributions"]["mesh"]["counts"].values()) >= 200


@pytest.mark.processes
def test_workers_that_do_not_start_are_reported_with_their_last_words(tmp_path):
    broken = Entrant("broken", "work", ours=True)
    with (
        pytest.raises(MeshError, match="workers of broken did not start"),
        running_entrant(broken, tmp_path, workers=1, level="memory", redis_level="memory"),
    ):
        pass


@pytest.mark.processes
def test_a_network_of_its_own_has_the_loopback_interface_alone():
    asked = "import socket; from bench.peers.compared.apart import leave_network; leave_network(); "
    asked += "print(*(name for _, name in socket.if_nameindex()))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, cwd=catalog.ROOT)
    if "OSError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("this system gives no network of its own to this user")
    assert done.stdout.strip() == "lo"


@pytest.mark.processes
def test_an_entrant_leaves_no_process_behind(tmp_path):
    with running_entrant(ENTRANTS["executor"], tmp_path, workers=2, level="memory", redis_level="memory") as running:
        assert running.measure("tasks", 50)["per_s"] > 0
        pid = running.keeper.pid
        with pytest.raises(MeshError, match="KeyError: 'juggling'"):
            running.measure("juggling", 1)
    assert not psutil.pid_exists(pid)


@pytest.mark.processes
@pytest.mark.skipif(find_server() is None, reason="no Redis server is installed")
@pytest.mark.parametrize("level", PERSISTENCE)
def test_the_redis_server_is_our_own_and_is_ended(tmp_path, level):
    with running_redis(tmp_path, level) as server:
        assert server.url.startswith("redis://127.0.0.1:") and "--appendonly" in server.command
        assert psutil.pid_exists(server.pid)
    assert not psutil.pid_exists(server.pid)


@pytest.mark.processes
def test_a_worker_that_ends_is_noticed_and_no_process_that_was_to_end_before(tmp_path):
    (tmp_path / "some.py").write_text(SOME)
    command = [sys.executable, "some.py", "serve", "1"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **streams) as keeper:
        assert keeper.stderr.read().strip() == "a worker ended with 4"


SOME = """
from contextlib import contextmanager
from bench.peers.compared.adapter import Adapter, Workers
from bench.peers.compared.command import run, running

class Some(Adapter):
    @contextmanager
    def workers(self, count):
        with running(["python", "-c", "exit(3)"]) as prepared:
            prepared[0].wait()
        with running(["python", "-c", "exit(4)"]) as processes:
            yield Workers({}, processes)

    def client(self):
        raise NotImplementedError

run(Some())
"""


@pytest.fixture
def leaver(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "ROOT", tmp_path)
    module = tmp_path / "bench" / "peers" / "compared"
    module.mkdir(parents=True)
    (module / "leaver.py").write_text(LEAVER)
    return Entrant("leaver", "leaver", ours=True)


@pytest.mark.processes
def test_what_has_left_its_parent_counts_and_is_ended_too(leaver, tmp_path):
    with running_entrant(leaver, tmp_path, workers=1, level="memory", redis_level="memory") as entrant:
        assert entrant.measure("tasks", 1)["cpu_us"] > 5e4, "it was busy meanwhile"
    assert not psutil.pid_exists(int((tmp_path / "left.pid").read_text()))


@pytest.mark.processes
def test_an_entrant_whose_router_has_no_room_is_not_waited_for(leaver, tmp_path, monkeypatch):
    monkeypatch.setenv("MESH_STORE", "sqlite:///nowhere/users.db")
    with running_entrant(leaver, tmp_path, workers=1, level="disk", redis_level="memory") as entrant:
        assert "MESH_STORE" not in entrant.environ
        entrant.environ |= {"MESH_STORE": f"sqlite://{tmp_path}/mesh.db", "MESH_FREE_BYTES_MIN": str(1 << 60)}
        with pytest.raises(StoreFull, match="TMPDIR"):
            entrant.measure("waiting", 1)


LEAVER = """
import json, os, subprocess, sys

def say(what):
    print(json.dumps(what), flush=True)

BUSY = "import time; [None for _ in iter(lambda: time.process_time() < 0.1, False)]; print(flush=True); time.sleep(600)"
LEAVE = "{python} -c '{busy}' >&{writing} & echo $! >left.pid"
if sys.argv[1] == "serve":
    say({"environ": {}, "settings": {}, "versions": {}})
    sys.stdin.readline()
elif sys.argv[2] == "probe":
    say({})
    sys.stdin.readline()
    say({})
elif sys.argv[2] == "waiting":
    say({})
    sys.stdin.read()
else:
    say({})
    sys.stdin.readline()
    reading, writing = os.pipe()
    shell = LEAVE.format(python=sys.executable, busy=BUSY, writing=writing)
    subprocess.run(["sh", "-c", shell], pass_fds=[writing], check=True)
    os.read(reading, 1)
    say({"per_s": 1.0})
    sys.stdin.readline()
    os._exit(0)
"""
