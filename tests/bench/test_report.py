"""What is printed for programs and for people."""

from __future__ import annotations

import json
from io import StringIO

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.cli import bench
from bench.figures import Figure
from bench.html.page import page
from bench.output import output_options
from bench.progress import Runs
from bench.report import QUICK, Report, number
from bench.saved import parse
from bench.scenarios.plan import Turn, take_turns
from mesh.errors import ConfigError
from nodes.cli.main import main

REPORT = Report(
    "throughput",
    {"level": "disk", "mesh": {"chunk_s": 0.002}},
    {"cpus": 2},
    {"tasks_per_s": Figure(100_000.4, 90_000.0, 110_000.0, "tasks/s")},
    {"to_executor": 9.876},
)


def test_the_json_is_one_object_with_figures_that_name_their_parts():
    assert json.loads(REPORT.to_json()) == {
        "scenario": "throughput",
        "settings": {"level": "disk", "mesh": {"chunk_s": 0.002}},
        "machine": {"cpus": 2},
        "figures": {"tasks_per_s": {"median": 100_000.4, "min": 90_000.0, "max": 110_000.0, "unit": "tasks/s"}},
        "ratios": {"to_executor": 9.876},
    }


def test_the_table_shows_figures_ratios_and_where_they_were_measured():
    text = _shown(REPORT)
    assert "tasks_per_s" in text and "100,000" in text and "90,000" in text
    assert "9.88 x" in text
    assert "settings: level disk, mesh (chunk_s 0.002)" in text
    assert "machine: cpus 2" in text


def test_a_note_is_printed_saved_read_again_and_on_the_page():
    noted = Report("latency", {}, {}, {"p50_us": Figure(1.0, 1.0, 1.0, "us")}, notes=["left out: p99_us"])
    assert "\nleft out: p99_us\n" in _shown(noted)
    assert parse(noted.to_json(), "text") == [noted]
    assert "left out: p99_us" in page([noted], "today")


def test_a_quick_run_says_below_the_text_and_at_the_top_of_the_page_that_it_is_no_measurement():
    quick = REPORT.of_a_run(quick=True)
    assert quick.to_dict()["settings"]["quick"] is True and "quick" not in REPORT.of_a_run(quick=False).settings
    assert _shown(quick).splitlines()[-1] == QUICK
    text = page([quick, quick], "today")
    assert text.count(QUICK) == 1 and text.index(QUICK) < text.index("tasks_per_s")
    assert QUICK not in _shown(REPORT) and QUICK not in page([REPORT], "today")


@pytest.mark.parametrize(("load", "told"), [(0.51, True), (2, True), (0.5, False), (None, False)])
def test_a_machine_that_had_other_work_is_pointed_out(load, told):
    busy = Report("latency", {}, {"load_before": load}, {"p50_us": Figure(1.0, 1.0, 1.0, "us")})
    why = f"the machine had other work: load_before is {load}"
    assert (why in _shown(busy)) == (why in page([busy], "today")) == told


def test_reports_that_are_shown_again_stand_under_their_names(tmp_path):
    file = tmp_path / "all.json"
    file.write_text(json.dumps({"reports": [REPORT.to_dict(), {**REPORT.to_dict(), "scenario": "idle"}]}))
    lines = CliRunner().invoke(bench, ["show", str(file)], catch_exceptions=False).output.splitlines()
    assert [line.split()[0] for line in lines if "──" in line] == ["throughput", "idle"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (3.0, "3"), (200.0, "200"), (1234.5, "1,234"), (1.5, "1.50"), (0.5, "0.500")]
)
def test_whole_numbers_have_no_digits_behind_the_point(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize("command", [["latency"], ["show", __file__]])
def test_a_report_into_a_directory_without_a_name_is_refused(command, capsys):
    assert main(["bench", *command, "--report="]) == 2
    assert "name a directory" in capsys.readouterr().err


def test_without_a_terminal_a_step_is_a_line_and_its_runs_are_none():
    out = StringIO()
    with Runs(Console(file=out, force_terminal=False)) as runs:
        runs.expect(1)
        runs.step("idle")
        runs.add("p50_us", 160.0, "us")
        runs.add("p50_us", 180.0, "us")
    assert out.getvalue().splitlines() == ["[1/1] idle"]
    assert runs.figures == {"p50_us": Figure(170.0, 160.0, 180.0, "us")}


def test_on_a_terminal_the_table_grows():
    out = StringIO()
    with Runs(Console(file=out, force_terminal=True, width=80)) as runs:
        runs.add("p50_us", 160.0, "us")
        runs.add("p99_us", 900.0, "us")
    assert "p99_us" in out.getvalue()


def test_steps_are_counted_against_what_is_expected():
    out = StringIO()
    with Runs(Console(file=out, force_terminal=False)) as runs:
        runs.expect(2)
        runs.step("warming up")
        runs.step("measuring")
    assert out.getvalue().splitlines() == ["[1/2] warming up", "[2/2] measuring"]


def test_entrants_take_turns_after_all_of_them_have_warmed_up():
    out = StringIO()
    done: list[str] = []
    turns = [
        Turn("a", lambda: done.append("A"), warm_up=lambda: done.append("a")),
        Turn("b", lambda: done.append("B"), warm_up=lambda: done.append("b")),
        Turn("c", lambda: done.append("C")),
    ]
    with Runs(Console(file=out, force_terminal=False)) as runs:
        take_turns(turns, 2, runs)
    assert "".join(done) == "abABCABC"
    assert [line.partition("/")[2] for line in out.getvalue().splitlines()] == [
        *("8] warming up a", "8] warming up b"),
        *("8] a", "8] b", "8] c") * 2,
    ]


def test_a_terminal_has_a_bar():
    out = StringIO()
    with Runs(Console(file=out, force_terminal=True, width=80)) as runs:
        runs.expect(2)
        runs.step("warming up")
        runs.add("p50_us", 160.0, "us")
    assert "1/2" in out.getvalue() and "warming up" in out.getvalue()


def test_ratios_are_those_of_the_figures_that_were_measured():
    with Runs(Console(file=StringIO(), force_terminal=False)) as runs:
        for ours, theirs in ((20.0, 10.0), (2.0, 2.0), (30.0, 10.0)):
            runs.add("a", ours, "s")
            runs.add("b", theirs, "s")
    assert runs.ratios({"a_to_b": ("a", "b"), "a_to_c": ("a", "c")}) == {"a_to_b": 2.0}


def _shown(report: Report) -> str:
    out = StringIO()
    report.show(Console(file=out, width=120))
    return out.getvalue()


def test_a_page_that_cannot_be_written_is_noticed_before_the_measurement(tmp_path):
    measured = []

    @click.command()
    @output_options
    def recording():
        measured.append(True)

    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        recording.main(["--report", str(tmp_path / "file" / "pages")], standalone_mode=False)
    assert not measured
    recording.main(["--report", str(tmp_path / "pages")], standalone_mode=False)
    assert measured
