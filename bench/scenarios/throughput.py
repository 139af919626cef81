"""How many no-op tasks a second, end to end, beside the standard library's executor and the floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import cpu
from bench.joined import add_shares
from bench.machine import describe
from bench.meshes import RunningMesh
from bench.peers.measured import measure
from bench.profiling.counters import COUNTERS, seconds_per_call
from bench.profiling.split import look, split, told
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan, Turn, floor_settings, take_turns
from mesh.errors import ConfigError

EXECUTOR_SHARE = 10  # the executor is given this part of the tasks: it takes ten times as long for each
NOTHING_BESIDE: Mapping[str, list[int]] = {}

RATIOS = {
    "to_executor": ("tasks_per_s", "executor_tasks_per_s"),
    "to_floor": ("tasks_per_s", "floor_tasks_per_s"),
    "map_to_executor": ("map_tasks_per_s", "executor_map_tasks_per_s"),
    "cpu_to_floor": ("cpu_us", "floor_cpu_us"),
    "curve_to_ipc": ("curve_tasks_per_s", "tasks_per_s"),
    "curve_cpu_to_ipc": ("curve_cpu_us", "cpu_us"),
}


@dataclass(frozen=True)
class Measurement:
    """One figure, and how to measure it with a number of tasks: tasks per second, and processor time by role."""

    figure: str
    tasks: int
    measure: Callable[[int], dict[str, float]]


def run_throughput(plan: Plan, runs: Runs) -> Report:
    """All entrants in turn, as often as the plan says, on the same meshes."""
    if plan.profile and plan.running is not None:
        raise ConfigError("--profile needs processes with counters in them, so it is for a mesh that the bench starts")
    with scratch_directory() as directory, ExitStack() as meshes:
        machine = describe(directory)
        mesh = meshes.enter_context(plan.mesh(directory))
        plan = plan.beside(mesh)
        measurements = _measurements(plan, mesh)
        if mesh.is_ours:
            curve = meshes.enter_context(plan.one_more(directory / "curve", tcp=True))
            measurements.append(
                Measurement("curve_tasks_per_s", plan.tasks, lambda count: of_mesh(curve, "tasks", count))
            )
        else:
            runs.note("this mesh keeps the results of app.map for its result_ttl_s; all others are forgotten")
        if plan.profile:
            measurements.append(meshes.enter_context(_profiled(plan, directory / "profiled")))
        turns = [_turn(measured, runs) for measured in measurements]
        add_shares(mesh, runs, lambda: take_turns(turns, plan.runs, runs))
    settings = plan.settings(
        tasks={measured.figure: measured.tasks for measured in measurements}, floor=floor_settings()
    )
    return Report("throughput", settings, machine, runs.figures, runs.ratios(RATIOS), notes=runs.notes)


def _turn(measured: Measurement, runs: Runs) -> Turn:
    few = max(1, measured.tasks // 10)
    return Turn(measured.figure, lambda: _run(measured, runs), warm_up=lambda: measured.measure(few))


def _run(measured: Measurement, runs: Runs) -> None:
    found = measured.measure(measured.tasks)
    runs.add(measured.figure, found.pop("per_s"), "tasks/s")
    prefix = measured.figure.removesuffix("tasks_per_s")
    for name, value in found.items():
        unit = "%" if name.endswith("_percent") else "us/task"
        runs.add(name if name.startswith("profile_") else prefix + name, value, unit)


def _measurements(plan: Plan, mesh: RunningMesh) -> list[Measurement]:
    processes = plan.concurrency
    few = max(1, plan.tasks // EXECUTOR_SHARE)

    def of(entrant: str, what: str) -> Callable[[int], dict[str, float]]:
        return lambda count: measure(f"bench.peers.{entrant}", what, count, processes)

    return [
        Measurement("tasks_per_s", plan.tasks, lambda count: of_mesh(mesh, "tasks", count)),
        Measurement("executor_tasks_per_s", few, of("executor", "tasks")),
        Measurement("floor_tasks_per_s", plan.tasks, of("floor", "tasks")),
        Measurement("map_tasks_per_s", plan.tasks, lambda count: of_mesh(mesh, "mapped", count)),
        Measurement("executor_map_tasks_per_s", plan.tasks, of("executor", "mapped")),
    ]


@contextmanager
def _profiled(plan: Plan, directory: Path) -> Iterator[Measurement]:
    """A mesh whose processes count: it is measured beside the one that does not, so that the price shows."""
    counting = {COUNTERS: str(directory)}
    with plan.one_more(directory, module="bench.profiling.node", environ=counting) as mesh:
        yield Measurement("profiled_tasks_per_s", plan.tasks, lambda count: _split(mesh, count))


def of_mesh(
    mesh: RunningMesh, what: str, count: int, beside: Mapping[str, list[int]] = NOTHING_BESIDE
) -> dict[str, float]:
    """What the client measured, and the processor time per task of each role, the client's among them.

    ``beside``: processes that work for the mesh and are none of it, by role. Of a mesh that runs elsewhere the client's
    alone is known, and no sum.
    """
    before = cpu.seconds({**mesh.pids, **beside})
    found = measure("bench.peers.mesh", what, count, environ=mesh.environ)
    after = cpu.seconds({**mesh.pids, **beside})
    by_role = {f"cpu_{role}_us": (after[role] - before[role]) / count * 1e6 for role in after}
    client_us = found["cpu_us"]
    if not mesh.is_ours:
        return {"per_s": found["per_s"], "cpu_client_us": client_us}
    return {
        "per_s": found["per_s"],
        "cpu_us": client_us + sum(by_role.values()),
        "cpu_client_us": client_us,
        **by_role,
    }


def _split(mesh: RunningMesh, count: int) -> dict[str, float]:
    pids = mesh.pids
    before = {role: look(pids[role], mesh.directory) for role in pids}
    found = measure("bench.peers.mesh", "profiled", count, environ=mesh.environ)
    after = {role: look(pids[role], mesh.directory) for role in pids} | {"client": told(found)}
    used = split(before, after)
    cpu_s = sum(used.parts.values())
    return {
        "per_s": found["per_s"],
        "cpu_us": cpu_s / count * 1e6,
        **{f"profile_{part}_us": seconds / count * 1e6 for part, seconds in used.parts.items()},
        "profile_journal_wait_us": used.journal_wait_s / count * 1e6,
        "profile_cost_percent": 100 * used.calls * seconds_per_call(mesh.directory) / cpu_s,
    }
