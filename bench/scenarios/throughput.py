"""How many no-op tasks a second, end to end, beside the standard library's executor and the floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.figures import paired_ratio
from bench.machine import describe
from bench.meshes import running_mesh
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan, floor_settings

EXECUTOR_SHARE = 10  # the executor is given this part of the tasks: it takes ten times as long for each

RATIOS = {
    "to_executor": ("tasks_per_s", "executor_tasks_per_s"),
    "to_floor": ("tasks_per_s", "floor_tasks_per_s"),
    "map_to_executor": ("map_tasks_per_s", "executor_map_tasks_per_s"),
}


@dataclass(frozen=True)
class Entrant:
    """One figure, and how to measure it with a number of tasks."""

    figure: str
    tasks: int
    measure: Callable[[int], dict[str, float]]


def run_throughput(plan: Plan, runs: Runs) -> Report:
    """All entrants in turn, as often as the plan says, on one mesh."""
    with scratch_directory() as directory:
        machine = describe(directory)
        with running_mesh(directory, level=plan.level, concurrency=plan.concurrency) as mesh:
            entrants = _entrants(plan, mesh.environ)
            for entrant in entrants:
                runs.note(f"warming up {entrant.figure}")
                entrant.measure(max(1, entrant.tasks // 10))
            for _ in range(plan.runs):
                for entrant in entrants:
                    runs.add(entrant.figure, entrant.measure(entrant.tasks)["per_s"], "tasks/s")
    settings = plan.settings(tasks={e.figure: e.tasks for e in entrants}, floor=floor_settings())
    ratios = {name: paired_ratio(runs.values(ours), runs.values(theirs)) for name, (ours, theirs) in RATIOS.items()}
    return Report("throughput", settings, machine, runs.figures, ratios)


def _entrants(plan: Plan, environ: dict[str, str]) -> list[Entrant]:
    processes = plan.concurrency
    few = max(1, plan.tasks // EXECUTOR_SHARE)

    def of_mesh(what: str) -> Callable[[int], dict[str, float]]:
        return lambda count: measure("bench.peers.mesh", what, count, environ=environ)

    def of(peer: str, what: str) -> Callable[[int], dict[str, float]]:
        return lambda count: measure(f"bench.peers.{peer}", what, count, processes)

    return [
        Entrant("tasks_per_s", plan.tasks, of_mesh("tasks")),
        Entrant("executor_tasks_per_s", few, of("executor", "tasks")),
        Entrant("floor_tasks_per_s", plan.tasks, of("floor", "tasks")),
        Entrant("map_tasks_per_s", plan.tasks, of_mesh("mapped")),
        Entrant("executor_map_tasks_per_s", plan.tasks, of("executor", "mapped")),
    ]
