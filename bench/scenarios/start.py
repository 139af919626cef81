"""How long it takes from ``mesh up`` to the first result, with nothing there before."""

from __future__ import annotations

import time
from time import monotonic

from bench.machine import describe
from bench.meshes import RunningMesh, mesh_environment, supervised_mesh
from bench.processes import Talk, last_words, talking
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan
from mesh.errors import Unavailable

MESH_UP_S = 30.0  # what is a wait for each elsewhere is one here: supervisor, router, worker, first result
LOOK_S = 0.002
WELCOMED = "welcomed by"  # as the worker logs it


def run_start(plan: Plan, runs: Runs) -> Report:
    """A fresh directory, store and name each time; the client is loaded before, and submits at once."""
    runs.expect(plan.runs)
    with scratch_directory() as directory:
        machine = describe(directory)
    for _ in range(plan.runs):
        runs.step("mesh up")
        with scratch_directory() as directory:
            environ = mesh_environment(directory, plan.level)
            with talking("bench.clients.waiting", environ=environ) as client:
                client.answer()
                began = monotonic()
                with supervised_mesh(directory, environ, plan.concurrency) as mesh:
                    client.say()
                    _measure(mesh, client, began, runs)
    return Report("start", plan.settings(), machine, runs.figures)


def _measure(mesh: RunningMesh, client: Talk, began: float, runs: Runs) -> None:
    mesh.wait_for_router()
    router_s = monotonic() - began
    _wait_for_worker(mesh, began + MESH_UP_S)
    worker_s = monotonic() - began
    result_s = client.answer(MESH_UP_S)["at"] - began
    for name, seconds in (("first_result_s", result_s), ("router_up_s", router_s), ("worker_welcomed_s", worker_s)):
        runs.add(name, seconds, "s")


def _wait_for_worker(mesh: RunningMesh, deadline: float) -> None:
    log = mesh.directory / "up.log"
    while WELCOMED not in log.read_text(errors="replace"):
        if monotonic() > deadline:
            raise Unavailable(
                f"no worker was welcomed in {MESH_UP_S:g} s: {last_words(log.read_text(errors='replace'))}"
            )
        time.sleep(LOOK_S)
