"""How long one task takes, there and back: on a mesh that does nothing else, and on one at half its throughput."""

from __future__ import annotations

from bench.figures import PERCENTILES, left_out, percentile_name
from bench.joined import add_shares
from bench.machine import describe, fdatasync_us
from bench.meshes import RunningMesh
from bench.peers.measured import measure
from bench.processes import talking
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan

LOAD = 0.5  # of the throughput that was measured just before
LOAD_TASKS = 20  # times the round trips are submitted to find out the throughput
LOADED_SHARE = 5  # this part of the round trips is made under load

IDLE = tuple(map(percentile_name, PERCENTILES))
LOADED = {percentile_name(percent): f"loaded_p{percent}_ms" for percent in (50, 99)}
"""Under load, times are given in milliseconds."""

PAIRS = {
    "p50_to_floor": ("p50_us", "floor_p50_us"),
    "p99_to_floor": ("p99_us", "floor_p99_us"),
    "p50_to_executor": ("p50_us", "executor_p50_us"),
}


def run_latency(plan: Plan, runs: Runs) -> Report:
    """Round trips on the mesh, the floor and the executor in turn, then on the mesh under load."""
    runs.expect(4 * plan.runs)
    with scratch_directory() as directory:
        machine = describe(directory)
        with plan.mesh(directory) as mesh:
            plan = plan.beside(mesh)

            def measured() -> None:
                for _ in range(plan.runs):
                    _idle(plan, mesh, runs)
                    if mesh.is_ours:
                        for found in fdatasync_us(directory):
                            runs.add("fdatasync_us", found, "us")
                    _loaded(plan, mesh, runs)

            add_shares(mesh, runs, measured)
    settings = plan.settings(round_trips=plan.tasks, loaded_round_trips=_loaded_trips(plan), load=LOAD)
    wanted = [f"{of}{name}" for of in ("", "floor_", "executor_") for name in IDLE] + [*LOADED.values()]
    notes = left_out(wanted, runs.figures)
    return Report("latency", settings, machine, runs.figures, runs.ratios(PAIRS), runs.distributions, notes)


def _idle(plan: Plan, mesh: RunningMesh, runs: Runs) -> None:
    runs.step("round trips on the idle mesh")
    ours = measure("bench.peers.mesh", "latency", plan.tasks, environ=mesh.environ)
    runs.step("round trips on the floor")
    floor = measure("bench.peers.floor", "latency", plan.tasks, plan.concurrency)
    runs.step("round trips on the executor")
    executor = measure("bench.peers.executor", "latency", plan.tasks, plan.concurrency)
    for name in IDLE:
        if name in ours:  # they make as many round trips, and have the same percentiles
            runs.add(name, ours[name], "us")
            runs.add(f"floor_{name}", floor[name], "us")
            runs.add(f"executor_{name}", executor[name], "us")
    runs.add_distribution("round_trip", ours["histogram"], "us")
    runs.add_distribution("floor", floor["histogram"], "us")
    runs.add_distribution("executor", executor["histogram"], "us")


def _loaded(plan: Plan, mesh: RunningMesh, runs: Runs) -> None:
    """The load comes from a process of its own, as it would."""
    runs.step("round trips under load")
    most = measure("bench.peers.mesh", "tasks", LOAD_TASKS * plan.tasks, environ=mesh.environ)["per_s"]
    with talking("bench.clients.load", most * LOAD, environ=mesh.environ) as load:
        load.answer()
        found = measure("bench.peers.mesh", "latency", _loaded_trips(plan), environ=mesh.environ)
        load.say("stop")
        loaded = load.answer()
    runs.add_distribution("loaded_round_trip", found["histogram"], "us")
    runs.add("most_tasks_per_s", most, "tasks/s")
    runs.add("load_tasks_per_s", loaded["per_s"], "tasks/s")
    for name, figure in LOADED.items():
        if name in found:
            runs.add(figure, found[name] / 1e3, "ms")


def _loaded_trips(plan: Plan) -> int:
    return max(20, plan.tasks // LOADED_SHARE)
