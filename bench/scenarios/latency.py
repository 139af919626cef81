"""How long one task takes, there and back, on a mesh that does nothing else, beside the floor's round trip."""

from __future__ import annotations

from bench.figures import paired_ratio
from bench.machine import describe, fdatasync_us
from bench.meshes import running_mesh
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan

PERCENTILES = (50, 95, 99)


def run_latency(plan: Plan, runs: Runs) -> Report:
    """Round trips on the mesh and on the floor in turn."""
    with scratch_directory() as directory:
        machine = describe(directory)
        with running_mesh(directory, level=plan.level, concurrency=plan.concurrency) as mesh:
            for _ in range(plan.runs):
                ours = measure("bench.peers.mesh", "latency", plan.tasks, environ=mesh.environ)
                floor = measure("bench.peers.floor", "latency", plan.tasks, plan.concurrency)
                for percent in PERCENTILES:
                    runs.add(f"p{percent}_us", ours[f"p{percent}_us"], "us")
                    runs.add(f"floor_p{percent}_us", floor[f"p{percent}_us"], "us")
                for found in fdatasync_us(directory):
                    runs.add("fdatasync_us", found, "us")
    ratios = {f"p{p}_to_floor": paired_ratio(runs.values(f"p{p}_us"), runs.values(f"floor_p{p}_us")) for p in (50, 99)}
    return Report("latency", plan.settings(round_trips=plan.tasks), machine, runs.figures, ratios)
