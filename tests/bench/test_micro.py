"""The parts do what is timed: each of them checks for itself that all tasks were finished."""

from __future__ import annotations

import gc
from io import StringIO

import pytest
from rich.console import Console

from bench.micro.memory import measure
from bench.micro.stopwatch import Stopwatch
from bench.progress import Runs
from bench.scenarios import micro
from bench.scenarios.micro import PARTS


@pytest.mark.parametrize("part", [name for name in PARTS if name not in ("store_disk", "store_process")])
def test_each_part_times_its_phases(part):
    watch = Stopwatch()
    PARTS[part](2_000, watch)
    assert watch.seconds and all(seconds > 0 for seconds in watch.seconds.values())


@pytest.mark.processes
def test_every_figure_comes_from_the_runs_that_were_asked_for(monkeypatch):
    for name in ("freeze", "set_threshold"):  # they are of the process, so of the other tests too
        monkeypatch.setattr(gc, name, lambda *thresholds: None)
    monkeypatch.setattr(micro, "PARTS", {"router": PARTS["router"]})
    with Runs(Console(file=StringIO())) as runs:
        report = micro.run_micro(1_000, 2, 20_000, runs)
    assert {"router_us", "router_full_bytes_per_task"} <= report.figures.keys()
    assert {name: len(runs.values(name)) for name in report.figures} == dict.fromkeys(report.figures, 2)


def test_a_profile_names_the_hottest_functions():
    watch = Stopwatch(profile=True)
    PARTS["router"](1_000, watch)
    assert "finish" in watch.hottest(5)


def test_a_full_router_is_measured_in_bytes_and_time():
    found = measure(30_000)
    assert found["accept_us_at_last"] > 0 and found["settle_and_deliver_us"] > 0
