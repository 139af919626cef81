"""What a mesh costs that nobody uses: processor time and memory of each of its processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from bench import cpu
from bench.machine import describe
from bench.meshes import mesh_environment, supervised_mesh
from bench.processes import talking
from bench.progress import Runs
from bench.report import Report
from bench.rss import MIB, resident_bytes
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan

WINDOW_S = 10.0
QUICK_WINDOW_S = 1.0
SETTLE_S = 0.5  # after the last task


def run_idle(plan: Plan, runs: Runs) -> Report:
    """``mesh up`` and a connected client, after ``plan.tasks`` tasks; one window of time for each run."""
    window_s = QUICK_WINDOW_S if plan.quick else WINDOW_S
    runs.expect(plan.runs)
    with scratch_directory() as directory:
        machine = describe(directory)
        environ = mesh_environment(directory, plan.level)
        with supervised_mesh(directory, environ, plan.concurrency) as mesh:
            mesh.wait_for_router()
            with talking("bench.clients.waiting", environ=environ) as client:
                client.answer()
                for _ in range(plan.tasks):
                    client.say()
                    client.answer()
                time.sleep(SETTLE_S)
                for _ in range(plan.runs):
                    runs.step(f"{window_s:g} s without work")
                    _look(mesh.pids | {"client": [client.pid]}, window_s, runs)
    return Report("idle", plan.settings(tasks=plan.tasks, window_s=window_s), machine, runs.figures)


def _look(pids: Mapping[str, Sequence[int]], window_s: float, runs: Runs) -> None:
    before = cpu.seconds(pids)
    time.sleep(window_s)
    after = cpu.seconds(pids)
    resident = {role: sum(map(resident_bytes, some)) / MIB for role, some in pids.items()}
    runs.add("all_cpu_percent", 100 * (sum(after.values()) - sum(before.values())) / window_s, "%")
    runs.add("all_rss_mib", sum(resident.values()), "MiB")
    for role in sorted(pids):
        runs.add(f"{role}_cpu_percent", 100 * (after[role] - before[role]) / window_s, "%")
        runs.add(f"{role}_rss_mib", resident[role], "MiB")
