"""How well work of very different length is spread: the time until all is done, against the least that is possible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from bench.joined import add_shares
from bench.machine import describe
from bench.meshes import RunningMesh, running_mesh
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan
from bench.workloads import LONG_S, LONG_SHARE, SHORT_S, ideal_makespan, mixed

SLOWNESS = 4.0  # of one of two worker nodes


def run_balance(plan: Plan, runs: Runs) -> Report:
    """The same tasks on even slots, on the standard library's executor, and on two nodes of which one is slow."""
    with scratch_directory() as directory, ExitStack() as meshes:
        machine = describe(directory)
        mesh = meshes.enter_context(plan.mesh(directory))
        plan = plan.beside(mesh)
        even = [1.0] * plan.concurrency
        entrants: dict[str, tuple[list[float], Callable[[], dict[str, float]]]] = {
            "": (even, lambda: _of_mesh(plan, mesh)),
            "executor_": ([1.0] * plan.concurrency, lambda: _of_executor(plan)),
        }
        if mesh.is_ours:
            (directory / "slow").mkdir()
            each = max(1, plan.concurrency // 2)
            slow = meshes.enter_context(
                running_mesh(directory / "slow", level=plan.level, concurrency=each, slowness=(1.0, SLOWNESS))
            )
            entrants["slow_node_"] = ([1.0] * each + [1 / SLOWNESS] * each, lambda: _of_mesh(plan, slow))
        runs.expect(len(entrants) * plan.runs)

        def measured() -> None:
            for _ in range(plan.runs):
                for prefix, (speeds, measure_one) in entrants.items():
                    runs.step(f"{prefix or 'even_'}makespan_s")
                    runs.add(f"{prefix}makespan_s", measure_one()["makespan_s"], "s")
                    runs.add(f"{prefix}ideal_s", ideal_makespan(mixed(plan.tasks), speeds), "s")

        add_shares(mesh, runs, measured)
    pairs = {f"{prefix}to_ideal": (f"{prefix}makespan_s", f"{prefix}ideal_s") for prefix in entrants}
    pairs["to_executor"] = ("makespan_s", "executor_makespan_s")
    settings = plan.settings(tasks=plan.tasks, short_s=SHORT_S, long_s=LONG_S, long_share=LONG_SHARE, slowness=SLOWNESS)
    return Report("balance", settings, machine, runs.figures, runs.ratios(pairs))


def _of_mesh(plan: Plan, mesh: RunningMesh) -> dict[str, float]:
    return measure("bench.peers.mesh", "mixed", plan.tasks, environ=mesh.environ)


def _of_executor(plan: Plan) -> dict[str, float]:
    return measure("bench.peers.executor", "mixed", plan.tasks, plan.concurrency)
