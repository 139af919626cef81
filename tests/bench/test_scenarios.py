"""Every scenario, as small as it can be: it finds figures, they are in the docs, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import replace
from io import StringIO
from pathlib import Path

import click
import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.cli import bench
from bench.directions import better
from bench.machine import describe
from bench.meshes import RunningMesh, mesh_environment
from bench.progress import Runs
from bench.report import Report
from bench.scenarios import everything, payload
from bench.scenarios.catalog import CATALOG, Scenario
from bench.scenarios.plan import Plan
from mesh.errors import StoreFull, Unavailable
from mesh.net.keys import new_key
from mesh.net.runtime_dir import RouterRecord, RuntimeDir
from nodes.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "BENCH.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))

TINY = {
    "throughput": ["--tasks", "200", "--profile"],
    "latency": ["--tasks", "20"],
    "payload": ["--tasks", "1"],
    "backlog": ["--tasks", "10001"],
    "balance": ["--tasks", "20"],
    "start": [],
    "idle": [],
    "recovery": [],
    "scaling": ["--tasks", "200"],
    "schedules": ["--tasks", "20"],
    "redis": ["--tasks", "200"],
    "floor": ["--tasks", "200"],
}

RATIOS = {
    "throughput": {"to_executor", "to_floor", "map_to_executor", "cpu_to_floor", "curve_to_ipc", "curve_cpu_to_ipc"},
    "latency": {"p50_to_floor", "p50_to_executor"},
    "payload": {f"{kind}_{size}_to_executor" for kind in ("bytes", "numpy") for size in ("1kib", "1mib", "10mib")}
    | {f"{kind}_{size}_streamed_to_floor" for kind in ("bytes", "numpy") for size in ("1mib", "10mib")},
    "backlog": {"drain_10001_to_10k", "accept_10001_to_10k"},
    "balance": {"to_ideal", "executor_to_ideal", "slow_node_to_ideal", "to_executor"},
    "scaling": {"nodes_2_to_1", "cost_100_to_2"},
    "redis": {"to_sqlite", "cpu_to_sqlite", "routers_2_to_1"},
}

FIRST = {
    "throughput": "tasks_per_s",
    "latency": "p50_us",
    "start": "first_result_s",
    "idle": "all_cpu_percent",
    "schedules": "spread_accept_p50_ms",
    "redis": "tasks_per_s",
}


def run(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(bench, [*words, "--json"], catch_exceptions=False)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def undocumented(scenario: str, names: object) -> list[str]:
    """The figures and ratios that the scenario's section does not name; ``<words>`` there stand for anything."""
    assert isinstance(names, dict)
    told = [re.sub(r"<\w+>", r"\\w+", name) for name in re.findall(r"`([\w<>]+)`", SECTIONS[scenario])]
    return [name for name in names if not any(re.fullmatch(pattern, name) for pattern in told)]


def directions(scenario: str) -> dict[str, str]:
    """Each ratio that the scenario's section names, as a pattern, with which is better."""
    found = {}
    for text, side in re.findall(r"(.*?)\((more|less) is\s+better\)", SECTIONS[scenario], re.DOTALL):
        for name in re.findall(r"`((?:[\w<>]+_)?to_\w+)`", text):
            found[re.sub(r"<\w+>", r"\\w+", name)] = side
    return found


@pytest.mark.parametrize("scenario", RATIOS)
def test_the_docs_say_of_each_ratio_what_is_better_and_so_do_text_and_page(scenario: str):
    told = directions(scenario)
    for ratio in RATIOS[scenario]:
        (side,) = {side for pattern, side in told.items() if re.fullmatch(pattern, ratio)}
        assert better(scenario, ratio) == side, ratio


def test_every_scenario_is_in_the_docs_and_here():
    assert [scenario.name for scenario in CATALOG] == [*TINY]
    assert TINY.keys() <= SECTIONS.keys()
    for name in (*TINY, "all"):
        assert f"mesh bench {name} " in PAGE


@pytest.mark.parametrize("name", ["throughput", "micro"])
def test_the_docs_say_how_many_runs_there_are_where_none_are_asked_for(name: str):
    (told,) = re.findall(r"`--runs N` \| measured runs .*?\((\d+); (\d+) of `micro`\)", PAGE)
    shown = CliRunner().invoke(bench, [name, "--help"]).output
    (default,) = re.findall(r"Measured runs of each.*?\[default:\s+(\d+)", shown, re.DOTALL)
    assert default == dict(zip(("throughput", "micro"), told))[name]


ABSENT = {scenario.name: scenario.missing() for scenario in CATALOG}


def runnable(*names: str) -> list[object]:
    """These scenarios, with why those that need what is not here are skipped."""
    return [
        pytest.param(name, marks=pytest.mark.skipif(bool(ABSENT[name]), reason=str(ABSENT[name]))) for name in names
    ]


@pytest.mark.processes
@pytest.mark.parametrize("name", runnable(*TINY))
def test_a_scenario_prints_one_object_and_leaves_nothing_behind(name: str, place: Path):
    level = [] if name == "floor" else ["--level", "memory" if name != "recovery" else "process"]
    report = run(name, "--quick", "--runs", "1", "-c", "1", *level, *TINY[name])
    assert report["scenario"] == name
    assert set(report["ratios"]) == RATIOS.get(name, set())  # type: ignore[call-overload]
    assert report["settings"]["quick"] is True  # type: ignore[index]
    assert report["settings"]["executors"] == 1  # type: ignore[index]
    assert report["machine"]["cpus"] and report["machine"]["fdatasync_us"] > 0  # type: ignore[index]
    figures = report["figures"]
    assert figures and all(found["min"] <= found["median"] <= found["max"] for found in figures.values())  # type: ignore[attr-defined]
    first = next(iter(figures))  # type: ignore[call-overload]
    assert first == FIRST.get(name, first), "what a page shows first"
    assert undocumented(name, figures) == [] == undocumented(name, report["ratios"])
    assert psutil.Process().children(recursive=True) == []
    assert [*place.iterdir()] == []
    if name == "latency":
        assert "p50_us" in figures and "p95_us" not in figures  # type: ignore[operator]
        (left_out,) = [note for note in report["notes"] if "left out" in note]  # type: ignore[attr-defined]
        assert all(f"{of}p95_us" in left_out.split(": ")[1].split(", ") for of in ("", "floor_", "executor_"))
    if name == "recovery":
        assert all(figures[f"{victim}_lost"]["max"] == 0 for victim in ("executor", "worker", "router"))  # type: ignore[index]
    if name == "schedules":
        told = "\n".join(report["notes"])  # type: ignore[arg-type]
        for of in ("spread", "burst", "kill", "stop"):
            assert figures[f"{of}_lost"]["max"] == figures[f"{of}_doubled"]["max"] == 0  # type: ignore[index]
            assert f"{of}_lost is 0, asked for less than 1: met" in told
    if name == "throughput":
        parts = [f"profile_{part}_us" for part in ("client", "wire", "router", "journal", "agent", "executor")]
        assert all(figures[part]["median"] > 0 for part in parts)  # type: ignore[index]


@pytest.mark.processes
def test_a_mesh_that_runs_already_is_measured_and_left_as_it_is(place: Path, monkeypatch: pytest.MonkeyPatch):
    """Its workers have no app: what they are to run comes with its code."""
    mesh = RunningMesh(place, mesh_environment(place, "memory"))
    try:
        mesh.start("router", "router", "-l", "warning")
        mesh.start("alice", "worker", "-c", "1", "-n", "alice", "-l", "warning")
        mesh.start("bob", "worker", "-c", "1", "-n", "bob", "-l", "warning")
        mesh.environ["BENCH_SHIP"] = "1"
        mesh.wait_until_ready(2)
        for name in ("MESH_RUNTIME_DIR", "MESH_KEY"):
            monkeypatch.setenv(name, mesh.environ[name])
        there = ["--mesh", mesh.environ["MESH_NAME"]]
        address = ["--router", str(mesh.wait_for_router().tcp)]
        for name, where in (("throughput", there), ("balance", address), ("latency", there)):
            tiny = [word for word in TINY[name] if word != "--profile"]
            report = run(name, "--quick", "--runs", "1", *tiny, *where)
            shares = {key: found for key, found in report["figures"].items() if key.startswith("share_")}  # type: ignore[attr-defined]
            assert len(shares) == 2 and sum(found["median"] for found in shares.values()) == pytest.approx(100)
            assert any("keeps the results of app.map" in note for note in report.get("notes", ())) == (
                name == "throughput"
            )  # type: ignore[attr-defined]
            settings = {"against": where[1], "level": "memory", "executors": 2}
            assert report["settings"].items() >= settings.items()  # type: ignore[attr-defined]
        assert {role: len(pids) for role, pids in mesh.pids.items()} == {"router": 1, "worker": 2, "executors": 2}
    finally:
        mesh.stop()


@pytest.mark.parametrize("there", [["--mesh", "nowhere"], ["--router", "127.0.0.1:1"]])
@pytest.mark.parametrize(("given", "told"), [(["--level", "disk"], "--level"), (["-c", "1"], "--concurrency")])
def test_what_a_mesh_that_runs_already_has_of_its_own_is_not_to_be_asked_for(
    given: list[str], told: str, there: list[str]
):
    with pytest.raises(click.UsageError, match=f"{told} is for a mesh that the bench starts"):
        CliRunner().invoke(bench, ["latency", *there, *given], standalone_mode=False, catch_exceptions=False)


def test_a_mesh_that_is_not_there_is_told_in_one_line(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MESH_RUNTIME_DIR", str(place / "run"))
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "0.1")
    monkeypatch.setenv("MESH_KEY", new_key().text)
    # What was tried is told where there was time for a look, and with two busy processors there may be none.
    with pytest.raises(Unavailable, match=r"\Ano router answered \(mesh 'nowhere'.*\Z"):
        run("throughput", "--mesh", "nowhere")


def test_where_another_mesh_runs_than_was_named_those_that_run_here_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MESH_RUNTIME_DIR", str(place / "run"))
    monkeypatch.setenv("MESH_CONNECT_TIMEOUT_S", "0.1")
    record = RouterRecord(mesh="b", router_id="r", pid=1, ipc=None, tcp=None, key_id=None, started_at=0.0)
    directory = RuntimeDir(os.environ)
    running = [directory.publish(replace(record, mesh=mesh)) for mesh in ("default", "another", "gone")]
    running.pop().withdraw()
    (place / "run" / "not a mesh.json").touch()
    with pytest.raises(Unavailable, match=r" Meshes that run here: another, default$"):
        run("throughput", "--mesh", "nowhere")


@pytest.mark.processes
@pytest.mark.parametrize("name", runnable(*(name for name in TINY if name != "floor")))
def test_a_scenario_says_at_once_that_the_disk_is_full(name: str, place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MESH_FREE_BYTES_MIN", str(1 << 60))
    with pytest.raises(StoreFull, match=f"disk are free in {place}"):
        run(name, "--quick", "--level", "disk")
    assert psutil.Process().children(recursive=True) == []


def test_a_scenario_that_fails_does_not_keep_the_others_from_being_run(monkeypatch: pytest.MonkeyPatch):
    def fail(plan: object, runs: object) -> Report:
        raise Unavailable("no router here")

    catalog = (
        Scenario("broken", "", fail, 1, 1),
        Scenario("sound", "", lambda plan, runs: Report("sound", {"tasks": plan.tasks}, {}), 10, 1),
    )
    monkeypatch.setattr(everything, "CATALOG", catalog)
    found = everything.run_all(True, Console(file=StringIO()))
    content = json.loads(found.to_json())
    assert content["failed"] == {"broken": "no router here"}
    assert [report["scenario"] for report in content["reports"]] == ["sound"]
    assert content["reports"][0]["settings"] == {"quick": True, "tasks": 1}, "a quick run is a small one"
    out = StringIO()
    found.show(Console(file=out, width=100))
    assert "broken failed: no router here" in out.getvalue() and "sound" in out.getvalue()


def test_a_scenario_that_needs_what_is_not_here_is_left_out_of_all_and_says_why_by_itself(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("PATH", "/nowhere")
    (redis,) = (scenario for scenario in CATALOG if scenario.name == "redis")
    monkeypatch.setattr(
        everything, "CATALOG", (redis, Scenario("sound", "", lambda plan, runs: Report("sound", {}, {})))
    )
    done = CliRunner().invoke(bench, ["all", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [report["scenario"] for report in found["reports"]] == ["sound"] and found["failed"] == {}
    assert "no Redis server is installed" in found["left_out"]["redis"]
    with pytest.raises(Unavailable, match="no Redis server is installed"):
        run("redis")


def test_the_load_of_a_scenario_among_all_is_not_what_the_one_before_it_left(monkeypatch: pytest.MonkeyPatch):
    loads = iter((0.1, 1.8, 1.9))
    monkeypatch.setattr("os.getloadavg", lambda: (next(loads), 0.0, 0.0))

    def measured(plan: Plan, runs: Runs) -> Report:
        return Report("some", {}, describe(Path(tempfile.gettempdir())))

    monkeypatch.setattr(everything, "CATALOG", (Scenario("a", "", measured), Scenario("b", "", measured)))
    found = json.loads(everything.run_all(True, Console(file=StringIO())).to_json())
    assert [one["machine"]["load_before"] for one in (found, *found["reports"])] == [0.1, 0.1, 0.1]


@pytest.mark.processes
def test_a_report_without_numpy_says_so(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payload, "find_spec", lambda name: None)
    report = run("payload", "--quick", "--runs", "1", "-c", "1", "--level", "memory", *TINY["payload"])
    (note,) = report["notes"]  # type: ignore[misc]
    assert "numpy is not installed" in note
    assert report["settings"]["kinds"] == ["bytes"]  # type: ignore[index]


@pytest.mark.processes
def test_queues_too_short_to_be_timed_have_no_ratio(place: Path):
    report = run("backlog", "--quick", "--runs", "1", "-c", "1", "--level", "memory", "--tasks", "200")
    assert report["ratios"] == {} and "drain_200_per_s" in report["figures"]  # type: ignore[operator]


def test_of_all_scenarios_it_is_said_how_long_each_took(monkeypatch: pytest.MonkeyPatch):
    sound = Scenario("sound", "", lambda plan, runs: Report("sound", {}, {}))
    monkeypatch.setattr(everything, "CATALOG", (sound,))
    done = CliRunner().invoke(bench, ["all", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["settings"]["seconds"] == {"sound": 0.0}
    assert done.stderr.splitlines()[-1] == "0 s in all: sound 0"


@pytest.mark.processes
def test_so_few_tasks_that_one_of_them_is_all_are_not_compared(place: Path):
    report = run("balance", "--quick", "--runs", "1", "-c", "1", "--level", "memory", "--tasks", "19")
    assert report["ratios"] == {} and "makespan_s" in report["figures"]  # type: ignore[operator]


def broken_off(plan: object, runs: object) -> Report:
    raise KeyboardInterrupt


def test_all_keeps_what_was_finished_before_it_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    sound = Scenario("sound", "", lambda plan, runs: Report("sound", {}, {}))
    never = Scenario("never", "", lambda plan, runs: pytest.fail("it goes on"))
    monkeypatch.setattr(everything, "CATALOG", (sound, Scenario("slow", "", broken_off), never))
    assert main(["bench", "all", "--json", "--report", str(tmp_path)]) == 130
    said = capsys.readouterr()
    assert "slow was broken off, and what was to follow left out; kept: sound" in said.err.splitlines()
    for text in (said.out, (tmp_path / "all.json").read_text()):
        found = json.loads(text)
        assert [report["scenario"] for report in found["reports"]] == ["sound"]
        assert found["failed"] == {"slow": "broken off"}


def test_a_scenario_that_is_broken_off_says_that_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("bench.cli.run_micro", lambda *_: broken_off(None, None))
    assert main(["bench", "micro"]) == 130
    assert capsys.readouterr().err.strip() == "micro was broken off: nothing of it is kept"
