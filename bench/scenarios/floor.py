"""The floor alone: what bare ZeroMQ does on this machine over the same hops."""

from __future__ import annotations

from bench.figures import PERCENTILES, left_out, percentile_name
from bench.machine import describe
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan, floor_settings

ROUND_TRIPS = 10_000
TASKS_PER_TRIP = 20  # there are no more round trips than that in a small run


def run_floor(plan: Plan, runs: Runs) -> Report:
    """Throughput and latency in turn."""
    with scratch_directory() as directory:
        machine = describe(directory)
    trips = max(10, min(ROUND_TRIPS, plan.tasks // TASKS_PER_TRIP))
    runs.expect(2 * plan.runs)
    for _ in range(plan.runs):
        runs.step("many at once")
        found = measure("bench.peers.floor", "tasks", plan.tasks, plan.concurrency)
        runs.add("floor_tasks_per_s", found["per_s"], "tasks/s")
        runs.step("one after the other")
        found = measure("bench.peers.floor", "latency", trips, plan.concurrency)
        runs.add_distribution("floor", found.pop("histogram"), "us")
        for name, value in found.items():
            runs.add(f"floor_{name}", value, "us")
    sizes = {"tasks": plan.tasks, "round_trips": trips}
    settings = {"executors": plan.concurrency, "runs": plan.runs, **sizes, "floor": floor_settings()}
    notes = left_out([f"floor_{percentile_name(percent)}" for percent in PERCENTILES], runs.figures)
    return Report("floor", settings, machine, runs.figures, distributions=runs.distributions, notes=notes)
