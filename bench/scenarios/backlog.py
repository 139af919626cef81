"""What a queue costs that nobody works on, and whether a long one drains as fast as a short one."""

from __future__ import annotations

from itertools import count, islice, takewhile

from bench.machine import describe
from bench.meshes import running_mesh
from bench.processes import talking
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan

STEP = 10  # from one size to the next
BASE = 10_000
"""The longer queues are held against this one: a shorter one drains before it can be timed."""


def run_backlog(plan: Plan, runs: Runs) -> Report:
    """Fill and drain a fresh mesh for each size; ``plan.tasks`` is the largest."""
    sizes = backlogs(plan.tasks, plan.quick)
    runs.expect(2 * len(sizes) * plan.runs)
    with scratch_directory() as directory:
        machine = describe(directory)
    for _ in range(plan.runs):
        for size in sizes:
            _fill_and_drain(plan, runs, size)
    many, few = short(sizes[-1]), short(BASE)
    compared = ("drain", "accept") if len(sizes) > 1 else ()
    pairs = {f"{what}_{many}_to_{few}": (f"{what}_{many}_per_s", f"{what}_{few}_per_s") for what in compared}
    return Report("backlog", plan.settings(sizes=sizes), machine, runs.figures, runs.ratios(pairs))


def _fill_and_drain(plan: Plan, runs: Runs, size: int) -> None:
    name = short(size)
    runs.step(f"queueing {name} tasks")
    with (
        scratch_directory() as directory,
        running_mesh(directory, level=plan.level, concurrency=plan.concurrency, slowness=()) as mesh,
        talking("bench.clients.backlog", size, mesh.pids["router"][0], environ=mesh.environ) as client,
    ):
        filled = client.answer()
        runs.add(f"accept_{name}_per_s", filled["accept_per_s"], "tasks/s")
        runs.add(f"bytes_per_task_{name}", filled["bytes"], "bytes/task")
        runs.step(f"draining {name} tasks")
        mesh.start_worker(plan.concurrency)
        client.say()
        runs.add(f"drain_{name}_per_s", client.answer()["drain_per_s"], "tasks/s")


def backlogs(most: int, quick: bool) -> list[int]:
    """The sizes, ``most`` last: before it ``BASE`` and, unless it is to be quick, each tenfold of it that is less."""
    shorter = takewhile(lambda size: size < most, (BASE * STEP**power for power in count()))
    return [*islice(shorter, 1 if quick else None), most]


def short(number: int) -> str:
    """1000000 as ``1m``, 10000 as ``10k``: part of the figures' names."""
    for unit, size in (("m", 1_000_000), ("k", 1_000)):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)
