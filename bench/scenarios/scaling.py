"""What more nodes bring, and what they cost: real worker nodes on this machine, and many played ones at one router."""

from __future__ import annotations

from contextlib import ExitStack

from bench import cpu
from bench.clients.crowd import NODES_MAX
from bench.machine import describe
from bench.meshes import RunningMesh, running_mesh
from bench.peers.measured import measure
from bench.processes import talking
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan

NODES, QUICK_NODES = (1, 2, 4, 8), (1, 2)
CROWDS, QUICK_CROWDS = (2, 100, 300, 1_000), (2, 100)


def run_scaling(plan: Plan, runs: Runs) -> Report:
    """Each run grows a fresh mesh node by node, then gathers a crowd of played nodes at a fresh router."""
    nodes, crowds = (QUICK_NODES, QUICK_CROWDS) if plan.quick else (NODES, CROWDS)
    runs.expect((len(nodes) + len(crowds)) * plan.runs)
    with scratch_directory() as directory:
        machine = describe(directory)
    for _ in range(plan.runs):
        _grow(plan, runs, nodes)
        _gather(plan, runs, crowds)
    pairs = {f"nodes_{count}_to_1": (f"nodes_{count}_tasks_per_s", "nodes_1_tasks_per_s") for count in nodes[1:]}
    pairs |= {f"cost_{count}_to_2": (f"crowd_{count}_router_us", "crowd_2_router_us") for count in crowds[1:]}
    settings = plan.settings(tasks=plan.tasks, nodes=list(nodes), crowds=list(crowds))
    return Report("scaling", settings, machine, runs.figures, runs.ratios(pairs))


def _grow(plan: Plan, runs: Runs, nodes: tuple[int, ...]) -> None:
    with (
        scratch_directory() as directory,
        running_mesh(directory, level=plan.level, concurrency=plan.concurrency, slowness=()) as mesh,
    ):
        there = 0
        for count in nodes:
            runs.step(f"{count} worker nodes")
            while there < count:
                mesh.start_worker(plan.concurrency)
                there += 1
            mesh.wait_until_ready(count)
            per_s, router_us = _router_us(mesh, plan.tasks)
            runs.add(f"nodes_{count}_tasks_per_s", per_s, "tasks/s")
            runs.add(f"nodes_{count}_router_us", router_us, "us/task")


def _gather(plan: Plan, runs: Runs, crowds: tuple[int, ...]) -> None:
    with (
        scratch_directory() as directory,
        running_mesh(directory, level=plan.level, concurrency=plan.concurrency, slowness=()) as mesh,
        ExitStack() as talks,
    ):
        there = 0
        for count in crowds:
            runs.step(f"{count} played worker nodes")
            joining = []
            while there < count:
                more = min(NODES_MAX, count - there)
                joining.append(talking("bench.clients.crowd", more, f"crowd{there}", environ=mesh.environ))
                there += more
            for talk in [talks.enter_context(part) for part in joining]:
                talk.answer()
            _router_us(mesh, max(1, plan.tasks // 10))  # workers learn how long tasks take, and ask for more
            per_s, router_us = _router_us(mesh, plan.tasks)
            runs.add(f"crowd_{count}_tasks_per_s", per_s, "tasks/s")
            runs.add(f"crowd_{count}_router_us", router_us, "us/task")


def _router_us(mesh: RunningMesh, tasks: int) -> tuple[float, float]:
    """Tasks per second, and the router's processor time for each."""
    router = {"router": mesh.pids["router"]}
    before = cpu.seconds(router)
    found = measure("bench.peers.mesh", "tasks", tasks, environ=mesh.environ)
    return found["per_s"], (cpu.seconds(router)["router"] - before["router"]) / tasks * 1e6
