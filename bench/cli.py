"""``mesh bench``: what this machine can do, next to what it could do at best."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console

from bench.meshes import LEVELS
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.floor import run_floor
from bench.scenarios.latency import run_latency
from bench.scenarios.micro import profile, run_micro
from bench.scenarios.plan import Plan
from bench.scenarios.throughput import run_throughput

F = TypeVar("F", bound=Callable[..., Any])

RUNS = 5
QUICK_RUNS = 3  # the least that has a median worth the name
QUICK = 10  # a quick run has this part of the tasks


@click.group()
def bench() -> None:
    """Measure what this machine can do. The mesh under test is started, and ended, by the measurement."""


def _options(tasks: int, *, level: bool = True) -> Callable[[F], F]:
    """The options all scenarios have; ``tasks`` is the default of theirs."""
    options = [
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object; progress goes to standard error."),
        click.option("--quick", is_flag=True, help="Fewer and shorter runs: a hint, not a measurement."),
        click.option("--runs", type=click.IntRange(1), help=f"Measured runs of each.  [default: {RUNS}]"),
        click.option("--tasks", type=click.IntRange(1), help=f"Tasks in a run of the mesh.  [default: {tasks}]"),
        click.option(
            "-c", "--concurrency", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True,
            help="Executor processes, of every competitor.",
        ),
    ]  # fmt: skip
    if level:
        durability = click.option(
            "--level", type=click.Choice(LEVELS), default="disk", show_default=True, help="What accepted tasks survive."
        )
        options.append(durability)

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _plan(default_tasks: int, quick: bool, runs: int | None, tasks: int | None, concurrency: int, level: str) -> Plan:
    default_runs = QUICK_RUNS if quick else RUNS
    return Plan(level, concurrency, runs or default_runs, tasks or (default_tasks // QUICK if quick else default_tasks))


def _measure(scenario: Callable[[Runs], Report], as_json: bool) -> None:
    with Runs(Console(stderr=as_json)) as runs:
        report = scenario(runs)
    if as_json:
        click.echo(report.to_json())
    else:
        report.show(Console())


@bench.command()
@_options(200_000)
def throughput(as_json: bool, quick: bool, runs: int | None, tasks: int | None, concurrency: int, level: str) -> None:
    """No-op tasks per second, end to end."""
    plan = _plan(200_000, quick, runs, tasks, concurrency, level)
    _measure(lambda found: run_throughput(plan, found), as_json)


@bench.command()
@_options(5_000)
def latency(as_json: bool, quick: bool, runs: int | None, tasks: int | None, concurrency: int, level: str) -> None:
    """One task there and back, on an idle mesh."""
    plan = _plan(5_000, quick, runs, tasks, concurrency, level)
    _measure(lambda found: run_latency(plan, found), as_json)


@bench.command()
@_options(200_000, level=False)
def floor(as_json: bool, quick: bool, runs: int | None, tasks: int | None, concurrency: int) -> None:
    """Bare ZeroMQ over the same hops: what could be reached at best."""
    plan = _plan(200_000, quick, runs, tasks, concurrency, "memory")
    _measure(lambda found: run_floor(plan, found), as_json)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; progress goes to standard error.")
@click.option("--quick", is_flag=True, help="Fewer and shorter runs: a hint, not a measurement.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Measured runs of each part.")
@click.option("--tasks", type=click.IntRange(1_000), help="Tasks in a run.  [default: 100000]")
@click.option("--profile", "profiled", is_flag=True, help="Instead, show the hottest functions of each part.")
def micro(as_json: bool, quick: bool, runs: int, tasks: int | None, profiled: bool) -> None:
    """What a task costs each part alone: no sockets, no other processes."""
    count = tasks or (20_000 if quick else 100_000)
    if profiled:
        for name, text in profile(count).items():
            click.echo(f"== {name}\n{text}\n")
        return
    _measure(lambda found: run_micro(count, runs, 100_000 if quick else 1_000_000, found), as_json)
