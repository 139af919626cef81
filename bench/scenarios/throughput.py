"""How many no-op tasks a second, end to end, beside the standard library's executor and the floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import cpu
from bench.figures import paired_ratio
from bench.machine import describe
from bench.meshes import RunningMesh, running_mesh
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
    "cpu_to_floor": ("cpu_us", "floor_cpu_us"),
}


@dataclass(frozen=True)
class Entrant:
    """One figure, and how to measure it with a number of tasks: tasks per second, and processor time by role."""

    figure: str
    tasks: int
    measure: Callable[[int], dict[str, float]]


def run_throughput(plan: Plan, runs: Runs) -> Report:
    """All entrants in turn, as often as the plan says, on one mesh."""
    with scratch_directory() as directory:
        machine = describe(directory)
        with running_mesh(directory, level=plan.level, concurrency=plan.concurrency) as mesh:
            entrants = _entrants(plan, mesh)
            for entrant in entrants:
                runs.note(f"warming up {entrant.figure}")
                entrant.measure(max(1, entrant.tasks // 10))
            for _ in range(plan.runs):
                for entrant in entrants:
                    _run(entrant, runs)
    settings = plan.settings(tasks={e.figure: e.tasks for e in entrants}, floor=floor_settings())
    ratios = {name: paired_ratio(runs.values(ours), runs.values(theirs)) for name, (ours, theirs) in RATIOS.items()}
    return Report("throughput", settings, machine, runs.figures, ratios)


def _run(entrant: Entrant, runs: Runs) -> None:
    found = entrant.measure(entrant.tasks)
    runs.add(entrant.figure, found.pop("per_s"), "tasks/s")
    prefix = entrant.figure.removesuffix("tasks_per_s")
    for name, value in found.items():
        runs.add(prefix + name, value, "us/task")


def _entrants(plan: Plan, mesh: RunningMesh) -> list[Entrant]:
    processes = plan.concurrency
    few = max(1, plan.tasks // EXECUTOR_SHARE)

    def of(peer: str, what: str) -> Callable[[int], dict[str, float]]:
        return lambda count: measure(f"bench.peers.{peer}", what, count, processes)

    return [
        Entrant("tasks_per_s", plan.tasks, lambda count: _of_mesh(mesh, "tasks", count)),
        Entrant("executor_tasks_per_s", few, of("executor", "tasks")),
        Entrant("floor_tasks_per_s", plan.tasks, of("floor", "tasks")),
        Entrant("map_tasks_per_s", plan.tasks, lambda count: _of_mesh(mesh, "mapped", count)),
        Entrant("executor_map_tasks_per_s", plan.tasks, of("executor", "mapped")),
    ]


def _of_mesh(mesh: RunningMesh, what: str, count: int) -> dict[str, float]:
    """What the client measured, and the processor time per task of each role, the client's among them."""
    before = cpu.seconds(mesh.pids)
    found = measure("bench.peers.mesh", what, count, environ=mesh.environ)
    after = cpu.seconds(mesh.pids)
    by_role = {f"cpu_{role}_us": (after[role] - before[role]) / count * 1e6 for role in mesh.pids}
    client_us = found["cpu_us"]
    return {
        "per_s": found["per_s"],
        "cpu_us": client_us + sum(by_role.values()),
        "cpu_client_us": client_us,
        **by_role,
    }
