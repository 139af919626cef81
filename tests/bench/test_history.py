"""Recorded runs, and how a regression is seen in them."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from bench import history
from bench.history import check_recordable, entry, path_of, read, record, sparkline, trends
from bench.scenarios.catalog import Scenario
from bench.tables import show_history
from mesh.errors import ConfigError
from nodes.cli.main import main
from tests.bench.reports import report


def entries(*medians: float, **more):
    return [entry(report(tasks_per_s=value, **more), f"day {day}", "abc") for day, value in enumerate(medians)]


def test_a_line_has_what_is_needed_to_compare_and_no_more(tmp_path):
    record(
        report(settings={"level": "disk", "executors": 2, "mesh": {"chunk_s": 1}}, tasks_per_s=5.0), "today", tmp_path
    )
    record(report(tasks_per_s=6.0, ratios={"to_floor": 0.2}), "tomorrow", tmp_path)
    first, second = (json.loads(line) for line in path_of("throughput", tmp_path).read_text().splitlines())
    assert first["settings"] == {"level": "disk", "executors": 2}
    assert first["figures"] == {"tasks_per_s": [5.0, "tasks/s"]} and first["date"] == "today" and first["commit"]
    assert second["ratios"] == {"to_floor": 0.2}
    assert [found.figures["tasks_per_s"][0] for found in read("throughput", tmp_path)] == [5.0, 6.0]


def test_the_latest_is_held_against_the_median_of_those_before():
    [trend] = trends(entries(100.0, 300.0, 120.0, 90.0))
    assert trend.earlier == 120.0 and trend.percent == pytest.approx(-25.0) and trend.regressed


def test_what_was_as_bad_before_is_no_regression():
    assert not trends(entries(80.0, 120.0, 120.0, 90.0))[0].regressed


def test_a_small_change_and_one_for_the_better_are_no_regressions():
    assert not trends(entries(100.0, 95.0))[0].regressed
    assert not trends(entries(100.0, 200.0))[0].regressed


def test_one_earlier_run_is_too_few_to_call_a_run_worse():
    assert not trends(entries(100.0, 50.0))[0].regressed


def test_the_first_run_has_nothing_to_be_held_against():
    [trend] = trends(entries(100.0))
    assert trend.earlier is None and trend.percent is None and not trend.regressed


def test_runs_with_other_settings_or_of_another_machine_are_not_counted():
    found = entries(900.0, settings={"level": "memory"}) + entries(100.0, 100.0)
    elsewhere = entries(5.0)
    elsewhere[0].machine["cpu"] = "Another"
    [trend] = trends(elsewhere + found)
    assert trend.values == [100.0, 100.0]


def test_a_regression_is_named():
    found = entries(100.0, 100.0, 50.0)
    out = StringIO()
    show_history(found, trends(found), Console(file=out, width=120))
    assert "-50.0 %" in out.getvalue() and "worse than before: tasks_per_s" in out.getvalue()


def test_what_is_not_recorded_or_damaged_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="--record"):
        read("latency", tmp_path)
    path_of("latency", tmp_path).write_text('{"date": 1}\n')
    with pytest.raises(ConfigError, match=r"latency\.jsonl:1 is not a recorded run"):
        read("latency", tmp_path)


def test_what_cannot_be_recorded_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    check_recordable(tmp_path)
    with pytest.raises(ConfigError, match="missing cannot be written"):
        check_recordable(tmp_path / "missing")
    monkeypatch.setattr(history, "is_checkout", lambda: False)
    monkeypatch.setattr(Scenario, "plan", lambda *_, **__: pytest.fail("it is measured"))
    assert main(["bench", "floor", "--record"]) == 2
    assert "in a checkout of the project, and this is an installed package" in capsys.readouterr().err


def test_a_sparkline_goes_from_the_least_to_the_most():
    drawn = sparkline([1, 2, 3])
    assert drawn[0] == "▁" and drawn[-1] == "█" and len(drawn) == 3
    assert sparkline([5, 5]) == "▄▄"
