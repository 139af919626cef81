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
    # Sizes take turns; a quick look grows one mesh once, and measures each size several times while it is there.
    rounds, repeats = (1, plan.runs) if plan.quick else (plan.runs, 1)
    for _ in range(rounds):
        _grow(plan, runs, nodes, repeats)
        _gather(plan, runs, crowds, repeats)
    pairs = {f"nodes_{count}_to_1": (f"nodes_{count}_tasks_per_s", "nodes_1_tasks_per_s") for count in nodes[1:]}
    pairs |= {f"cost_{count}_to_2": (f"crowd_{count}_router_us", "crowd_2_router_us") for count in crowds[1:]}
    settings = plan.settings(tasks=plan.tasks, nodes=list(nodes), crowds=list(crowds))
    return Report("scaling", settings, machine, runs.figures, runs.ratios(pairs))


def _grow(plan: Plan, runs: Runs, nodes: tuple[int, ...], repeats: int) -> None:
    with (
        scratch_directory() as directory,
        running_mesh(directory, level=plan.level, concurrency=plan.concurrency, slowness=()) as mesh,
    ):
        there = 0
        for count in nodes:
            while there < count:
                mesh.start_worker(plan.concurrency)
                there += 1
            mesh.wait_until_ready(count)
            for _ in range(repeats):
                _measure(mesh, plan.tasks, runs, f"nodes_{count}")


def _gather(plan: Plan, runs: Runs, crowds: tuple[int, ...], repeats: int) -> None:
    with (
        scratch_directory() as directory,
        running_mesh(directory, level=plan.level, concurrency=plan.concurrency, slowness=()) as mesh,
        ExitStack() as talks,
    ):
        there = 0
        for count in crowds:
            joining = []
            while there < count:
                more = min(NODES_MAX, count - there)
                joining.append(talking("bench.clients.crowd", more, f"crowd{there}", environ=mesh.environ))
                there += more
            for talk in [talks.enter_context(part) for part in joining]:
                talk.answer()
            # Workers learn how long tasks take, and ask for more.
            measure("bench.peers.mesh", "tasks", max(1, plan.tasks // 10), environ=mesh.environ)
            for _ in range(repeats):
                _measure(mesh, plan.tasks, runs, f"crowd_{count}")


def _measure(mesh: RunningMesh, tasks: int, runs: Runs, name: str) -> None:
    """Tasks per second, and the router's processor time for each."""
    runs.step(f"{name}: {tasks} tasks")
    router = {"router": mesh.pids["router"]}
    before = cpu.seconds(router)
    found = measure("bench.peers.mesh", "tasks", tasks, environ=mesh.environ)
    used_s = cpu.seconds(router)["router"] - before["router"]
    runs.add(f"{name}_tasks_per_s", found["per_s"], "tasks/s")
    runs.add(f"{name}_router_us", used_s / tasks * 1e6, "us/task")
