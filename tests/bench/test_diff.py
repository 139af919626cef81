"""What changed between two reports."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bench.cli import bench
from bench.diff import diff, pairs
from bench.figures import Figure
from bench.report import Report
from mesh.errors import ConfigError
from nodes.cli.main import main
from tests.bench.reports import report


def test_a_change_within_the_ranges_of_the_runs_is_noise():
    [change] = diff(report(tasks_per_s=100.0), report(tasks_per_s=110.0)).changes
    assert change.percent == pytest.approx(10.0) and change.overlap and change.verdict == "noise"


@pytest.mark.parametrize(
    ("name", "after", "verdict"),
    [
        ("tasks_per_s", 150.0, "better"),
        ("tasks_per_s", 50.0, "worse"),
        ("p50_us", 150.0, "worse"),
        ("p50_us", 50.0, "better"),
    ],
)
def test_more_is_better_of_rates_and_worse_of_times(name, after, verdict):
    [change] = diff(report(**{name: 100.0}), report(**{name: after})).changes
    assert change.verdict == verdict


def test_ranges_that_touch_overlap():
    before = Report("s", {}, {}, {"a": Figure(2, 1, 3, "us")})
    after = Report("s", {}, {}, {"a": Figure(4, 3, 5, "us")})
    assert diff(before, after).changes[0].overlap


@pytest.mark.parametrize("few", [{"runs": 1}, {"runs": 2}, {}])
@pytest.mark.parametrize("swapped", [False, True])
def test_fewer_than_three_runs_on_either_side_allow_no_verdict(files, few, swapped):
    sides = [
        report(settings={"runs": 5}, tasks_per_s=100.0),
        report(settings={"level": "disk"} | few, tasks_per_s=50.0),
    ]
    before, after = reversed(sides) if swapped else sides
    [change] = diff(before, after).changes
    assert change.verdict is None and change.percent
    words = ["diff", files("a.json", before), files("b.json", after)]
    shown = CliRunner().invoke(bench, words).output
    assert "no verdict can be given" in shown and str(few.get("runs", "unknown")) in shown and "it takes 3" in shown
    assert "tasks_per_s" in shown and not any(word in shown for word in ("apart", "overlap", "better", "worse"))
    assert json.loads(CliRunner().invoke(bench, [*words, "--json"]).output)["figures"]["tasks_per_s"]["verdict"] is None


def test_three_runs_allow_a_verdict():
    three = {"runs": 3}
    [change] = diff(report(settings=three, p50_us=100.0), report(settings=three, p50_us=50.0)).changes
    assert change.verdict == "better"


def test_ratios_and_what_only_one_of_them_has_are_named():
    before = report(tasks_per_s=1.0, p50_us=1.0, ratios={"to_floor": 0.2, "to_executor": 9.0})
    after = report(tasks_per_s=1.0, p99_us=1.0, ratios={"to_floor": 0.3})
    found = diff(before, after)
    assert [(ratio.name, ratio.percent) for ratio in found.ratios] == [("to_floor", pytest.approx(50.0))]
    assert found.only_before == ["p50_us", "to_executor"] and found.only_after == ["p99_us"]


def test_other_settings_and_another_machine_are_pointed_out_but_not_how_busy_it_was():
    before, after = report(settings={"level": "disk"}), report(settings={"level": "memory"})
    after.machine |= {"cpu": "Another", "load_before": 9.0}
    assert diff(before, after).conditions == {
        "setting level": ("disk", "memory"),
        "machine cpu": ("Some CPU", "Another"),
    }


@pytest.mark.parametrize("which", ["first", "second"])
def test_it_says_which_of_the_two_was_quick_or_measured_on_a_busy_machine(files, which):
    sides = {"first": report(tasks_per_s=1.0), "second": report(tasks_per_s=1.0)}
    assert diff(*sides.values()).caveats == []
    sides[which].machine["load_before"] = 0.75
    sides[which] = sides[which].of_a_run(quick=True)
    words = ["diff", files("a.json", sides["first"]), files("b.json", sides["second"])]
    shown = CliRunner().invoke(bench, words).output
    assert (
        f"the {which}: a quick run" in shown
        and f"the {which}: the machine had other work: load_before is 0.75" in shown
    )
    assert len(json.loads(CliRunner().invoke(bench, [*words, "--json"]).output)["caveats"]) == 2


def test_a_figure_of_zero_has_no_change_in_percent():
    [change] = diff(report(tasks_per_s=0.0), report(tasks_per_s=1.0)).changes
    assert change.percent is None


def test_lists_are_compared_scenario_by_scenario():
    found = pairs([report("latency"), report("idle")], [report("throughput"), report("latency")])
    assert [one.scenario for one in found] == ["latency"]
    with pytest.raises(ConfigError, match="no scenario is in both"):
        pairs([report("latency"), report("idle")], [report("start")])


@pytest.fixture
def files(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else content.to_json())
        return str(path)

    return write


def test_the_command_prints_changes_and_ends_well_whatever_they_are(files):
    one, other = files("a.json", report(tasks_per_s=100.0)), files("b.json", report(tasks_per_s=50.0))
    done = CliRunner().invoke(bench, ["diff", one, other])
    assert done.exit_code == 0 and "-50.0 %" in done.output and "apart: worse" in done.output


def test_the_command_prints_json(files):
    one, other = files("a.json", report(tasks_per_s=100.0)), files("b.json", report(tasks_per_s=101.0))
    found = json.loads(CliRunner().invoke(bench, ["diff", one, other, "--json"]).output)
    assert found["figures"]["tasks_per_s"]["verdict"] == "noise"
    assert found["figures"]["tasks_per_s"]["percent"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not JSON"),
        ("[]", "has no report in it"),
        ('{"a": 1}', "is not a report"),
        ('{"scenario": "x", "settings": {}, "machine": {}, "figures": {"a": 1}}', "is not a report"),
        (report("latency"), "one is of throughput, the other of latency"),
    ],
)
def test_what_cannot_be_compared_is_an_error_in_one_line(files, capsys, content, message):
    one, other = files("a.json", report("throughput")), files("b.json", content)
    assert main(["bench", "diff", one, other]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1


def test_a_file_that_is_not_there_is_an_error_in_one_line(files, capsys):
    assert main(["bench", "diff", files("a.json", report()), "missing.json"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
