"""What a killed process costs: kill -9 of an executor, a worker and the router of a busy mesh, one after the other."""

from __future__ import annotations

from bench.clients.recovery import UNDER_WAY
from bench.machine import describe
from bench.meshes import RunningMesh, mesh_environment, supervised_mesh
from bench.processes import talking
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan

VICTIMS = {"executor": "executors", "worker": "worker", "router": "router"}
TASK_S = 0.002
UNITS = {"next_s": "s", "all_s": "s", "lost": "tasks", "redelivered": "tasks"}


def run_recovery(plan: Plan, runs: Runs) -> Report:
    """A fresh ``mesh up`` each time, whose supervisor starts again what was killed."""
    runs.expect((1 + len(VICTIMS)) * plan.runs)
    with scratch_directory() as directory:
        machine = describe(directory)
    for _ in range(plan.runs):
        runs.step("mesh up, and a load")
        with scratch_directory() as directory:
            environ = mesh_environment(directory, plan.level)
            with supervised_mesh(directory, environ, plan.concurrency) as mesh:
                mesh.wait_for_router()
                _kill_each(mesh, runs)
    return Report("recovery", plan.settings(task_s=TASK_S, under_way=UNDER_WAY), machine, runs.figures)


def _kill_each(mesh: RunningMesh, runs: Runs) -> None:
    supervisor = mesh.nodes["up"].pid
    with talking("bench.clients.recovery", supervisor, TASK_S, environ=mesh.environ) as client:
        client.answer()
        for victim, role in VICTIMS.items():
            runs.step(f"kill -9: {victim}")
            client.say(role)
            found = client.answer()
            for name, unit in UNITS.items():
                runs.add(f"{victim}_{name}", found[name], unit)
