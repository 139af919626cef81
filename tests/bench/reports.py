"""Reports for tests, as scenarios make them."""

from __future__ import annotations

from bench.figures import Figure
from bench.report import Distribution, Report

MACHINE = {"cpu": "Some CPU", "cpus": 2, "python": "3.11.7", "load_before": 0.1, "packages": {"pyzmq": "27"}}


def report(scenario: str = "throughput", settings: dict | None = None, ratios: dict | None = None, **medians: float):
    """Figures with a range of 10 % to both sides; the unit is what their names end with."""
    units = {"per_s": "tasks/s", "us": "us", "bytes": "bytes"}
    figures = {
        name: Figure(value, value * 0.9, value * 1.1, next(unit for tail, unit in units.items() if name.endswith(tail)))
        for name, value in medians.items()
    }
    return Report(
        scenario, settings or {"level": "disk", "executors": 2, "runs": 5}, dict(MACHINE), figures, ratios or {}
    )


def comparison() -> Report:
    """Two entrants, one of them ours, and two that are not there."""
    entrants = {
        "mesh": {"settings": {"workers": "one node"}, "versions": {"taskmesh": "0.1"}, "tasks": {"tasks": 9000}},
        "rq-fork": {
            "settings": {"workers": "forks"},
            "versions": {"rq": "3.0"},
            "redis": "redis-server 7",
            "tasks": {},
        },
    }
    settings = {
        "workers": 2,
        "entrants": entrants,
        "not_installed": {"ray": "not installed: `make bench-peers PEERS=ray`"},
        "failed": {"dask": "it ended <suddenly>"},
    }
    found = report(
        "compare",
        settings,
        {"to_rq_fork": 90.0, "p50_to_rq_fork": 0.1},
        mesh_tasks_per_s=9_000.0,
        rq_fork_tasks_per_s=100.0,
        mesh_p50_us=900.0,
        rq_fork_p50_us=9_000.0,
    )
    found.distributions = {"mesh": Distribution("us", {"73": 9, "75": 1}), "rq_fork": Distribution("us", {"98": 10})}
    return found
