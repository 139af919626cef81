"""How well work of very different length is spread: the time until all is done, against the least that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from bench.joined import add_shares
from bench.machine import describe
from bench.meshes import RunningMesh
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan, Turn, take_turns
from bench.workloads import LONG_S, LONG_SHARE, SHORT_S, ideal_makespan, mixed

SLOWNESS = 4.0  # of one of two worker nodes

RATIO_TASKS_MIN = round(1 / LONG_SHARE)
"""Of fewer, more are long than is told, and the time of a single task is all that is compared."""


def run_balance(plan: Plan, runs: Runs) -> Report:
    """The same tasks on even slots, on the standard library's executor, and on two nodes of which one is slow."""
    with scratch_directory() as directory, ExitStack() as meshes:
        machine = describe(directory)
        mesh = meshes.enter_context(plan.mesh(directory))
        plan = plan.beside(mesh)
        even = [1.0] * plan.concurrency
        entrants = {
            "": (even, lambda: _of_mesh(plan, mesh)),
            "executor_": (even, lambda: measure("bench.peers.executor", "mixed", plan.tasks, plan.concurrency)),
        }
        if mesh.is_ours:
            half = replace(plan, concurrency=max(1, plan.concurrency // 2))
            slow = meshes.enter_context(half.one_more(directory / "slow", slowness=(1.0, SLOWNESS)))
            speeds = [1.0] * half.concurrency + [1 / SLOWNESS] * half.concurrency
            entrants["slow_node_"] = (speeds, lambda: _of_mesh(plan, slow))
        turns = [_turn(prefix, *entrant, plan, runs) for prefix, entrant in entrants.items()]
        add_shares(mesh, runs, lambda: take_turns(turns, plan.runs, runs))
    pairs = {f"{prefix}to_ideal": (f"{prefix}makespan_s", f"{prefix}ideal_s") for prefix in entrants}
    pairs["to_executor"] = ("makespan_s", "executor_makespan_s")
    if plan.tasks < RATIO_TASKS_MIN:
        pairs = {}
    settings = plan.settings(tasks=plan.tasks, short_s=SHORT_S, long_s=LONG_S, long_share=LONG_SHARE, slowness=SLOWNESS)
    return Report("balance", settings, machine, runs.figures, runs.ratios(pairs))


def _turn(
    prefix: str, speeds: Sequence[float], measured: Callable[[], dict[str, float]], plan: Plan, runs: Runs
) -> Turn:
    def take() -> None:
        runs.add(f"{prefix}makespan_s", measured()["makespan_s"], "s")
        runs.add(f"{prefix}ideal_s", ideal_makespan(mixed(plan.tasks), speeds), "s")

    return Turn(f"{prefix or 'even_'}makespan_s", take)


def _of_mesh(plan: Plan, mesh: RunningMesh) -> dict[str, float]:
    return measure("bench.peers.mesh", "mixed", plan.tasks, environ=mesh.environ)
