"""Every scenario of ``mesh bench``: what it is called, how much it does, and what it can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.progress import Runs
from bench.report import Report
from bench.scenarios.floor import run_floor
from bench.scenarios.latency import run_latency
from bench.scenarios.plan import Plan
from bench.scenarios.throughput import run_throughput


@dataclass(frozen=True)
class Scenario:
    """``tasks``, ``quick``: the size of a run, in full and with ``--quick``; ``size`` says what it counts.

    ``level``: what accepted tasks survive where nothing else is asked for; None where there is no store.
    ``concurrency``: executors, None for one per CPU. ``joins``: a mesh that runs already can be measured.
    """

    name: str
    help: str
    run: Callable[[Plan, Runs], Report]
    tasks: int
    quick: int
    size: str = "Tasks in a run of the mesh."
    level: str | None = "disk"
    concurrency: int | None = None
    joins: bool = False
    profiles: bool = False


CATALOG = (
    Scenario(
        "throughput", "No-op tasks per second, end to end.", run_throughput, 200_000, 20_000, joins=True, profiles=True
    ),
    Scenario(
        "latency",
        "One task there and back, on an idle mesh and on a busy one.",
        run_latency,
        5_000,
        500,
        "Round trips in a run.",
        joins=True,
    ),
    Scenario(
        "floor",
        "Bare ZeroMQ over the same hops: what could be reached at best.",
        run_floor,
        200_000,
        20_000,
        level=None,
    ),
)
