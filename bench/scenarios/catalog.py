"""Every scenario of ``mesh bench``: what it is called, how much it does, and what it can be asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from bench.joined import Running
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.backlog import run_backlog
from bench.scenarios.balance import run_balance
from bench.scenarios.floor import run_floor
from bench.scenarios.idle import run_idle
from bench.scenarios.latency import run_latency
from bench.scenarios.payload import run_payload
from bench.scenarios.plan import Plan
from bench.scenarios.recovery import run_recovery
from bench.scenarios.redis import missing as missing_redis
from bench.scenarios.redis import run_redis
from bench.scenarios.scaling import run_scaling
from bench.scenarios.schedules import run_schedules
from bench.scenarios.start import run_start
from bench.scenarios.throughput import run_throughput
from bench.workloads import BULK_BYTES

RUNS = 5
QUICK_RUNS = 3  # the least that has a median worth the name


@dataclass(frozen=True)
class Scenario:
    """``tasks``, ``quick``: the size of a run, in full and with ``--quick``; ``size`` says what it counts, if anything.

    ``level``: what accepted tasks survive where nothing else is asked for; None where there is no store.
    ``concurrency``: executors, None for one per CPU. ``joins``: a mesh that runs already can be measured.
    ``missing``: what it needs and is not on this machine, as a line for people.
    """

    name: str
    help: str
    run: Callable[[Plan, Runs], Report]
    tasks: int = 1
    quick: int = 1
    size: str | None = "Tasks in a run of the mesh."
    level: str | None = "disk"
    concurrency: int | None = None
    joins: bool = False
    profiles: bool = False
    missing: Callable[[], str | None] = lambda: None

    def plan(
        self,
        *,
        quick: bool,
        runs: int | None = None,
        tasks: int | None = None,
        concurrency: int | None = None,
        level: str | None = None,
        running: Running | None = None,
        profile: bool = False,
    ) -> Plan:
        """How to run it: what was asked for, else what is its own."""
        return Plan(
            level or self.level or "memory",
            concurrency or self.executors,
            runs or (QUICK_RUNS if quick else RUNS),
            tasks or (self.quick if quick else self.tasks),
            quick,
            running,
            profile,
        )

    @property
    def executors(self) -> int:
        """Executor processes, of every entrant."""
        return self.concurrency or os.cpu_count() or 1


CATALOG = (
    Scenario(
        "throughput", "No-op tasks per second, end to end.", run_throughput, 200_000, 10_000, joins=True, profiles=True
    ),
    Scenario(
        "latency",
        "One task there and back, on an idle mesh and on a busy one.",
        run_latency,
        10_000,
        300,
        "Round trips in a run.",
        joins=True,
    ),
    Scenario(
        "payload",
        "Payloads there and back, 1 KiB to 100 MiB, and what the router keeps of them.",
        run_payload,
        BULK_BYTES,
        BULK_BYTES // 32,
        "Bytes of one size in a run; a payload that is larger goes once.",
        level="process",
        joins=True,
    ),
    Scenario(
        "backlog",
        "A queue that nobody works on: its price, and how fast it drains.",
        run_backlog,
        1_000_000,
        20_000,
        "Tasks in the longest queue; shorter ones have 10,000, 100,000 and so on.",
    ),
    Scenario(
        "balance",
        "Short tasks and long ones, on even nodes and on uneven ones: makespan against the ideal.",
        run_balance,
        1_000,
        100,
        joins=True,
    ),
    Scenario(
        "start",
        "From mesh up to the first result.",
        run_start,
        size=None,
    ),
    Scenario(
        "idle",
        "Processor time and memory of a mesh that nobody uses.",
        run_idle,
        10,
        10,
        "Tasks before it is left alone.",
    ),
    Scenario(
        "recovery",
        "kill -9 of an executor, the worker and the router of a busy mesh.",
        run_recovery,
        size=None,
    ),
    Scenario(
        "scaling",
        "More worker nodes: what they bring, and what a thousand cost the router.",
        run_scaling,
        100_000,
        5_000,
        concurrency=1,
    ),
    Scenario(
        "schedules",
        "Periodic tasks: how late they are, what entries cost, and how soon another leads.",
        run_schedules,
        1_000,
        1_000,
        "Entries, each of them due every second.",
    ),
    Scenario(
        "redis",
        "A store on a Redis server of its own, beside the SQLite file, and two routers that share it.",
        run_redis,
        100_000,
        5_000,
        level="process",
        missing=missing_redis,
    ),
    Scenario(
        "floor",
        "Bare ZeroMQ over the same hops: what could be reached at best.",
        run_floor,
        200_000,
        10_000,
        level=None,
    ),
)
