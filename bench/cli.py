"""``mesh bench``: what this machine can do, next to what it could do at best."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console

from bench.joined import Running
from bench.meshes import LEVELS
from bench.output import deliver, keep, output_options
from bench.peers.catalog import ENTRANTS
from bench.progress import Runs
from bench.reading import diff_command, history, show
from bench.report import Report
from bench.scenarios.catalog import CATALOG, QUICK_RUNS, RUNS, Scenario
from bench.scenarios.compare import PARTS, Comparison, run_compare
from bench.scenarios.everything import run_all
from bench.scenarios.micro import profile, run_micro
from nodes.cli.invocation import Invocation
from nodes.cli.numbers import Count, Seconds

F = TypeVar("F", bound=Callable[..., Any])


def _say_where(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        raise click.UsageError("--quick stands after what is to be measured: `mesh bench all --quick`")


@click.group()
@click.option("--quick", is_flag=True, hidden=True, expose_value=False, callback=_say_where)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure what this machine can do. The mesh under test is started, and ended, by the measurement."""
    invocation = ctx.find_object(Invocation)
    if invocation is None:
        return
    if invocation.app is not None:
        raise click.UsageError("-A has no effect here: the bench brings its own tasks")
    joining = [scenario.name for scenario in CATALOG if scenario.joins]
    if invocation.mesh is not None and ctx.invoked_subcommand not in joining:
        raise click.UsageError(f"--mesh has no effect here: a mesh that runs is measured by {', '.join(joining)}")


for reader in (show, diff_command, history):
    bench.add_command(reader)


def _options(scenario: Scenario) -> Callable[[F], F]:
    """The options of a scenario: those that all have, and what it can be asked for besides."""
    options = [
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object; progress goes to standard error."),
        click.option("--quick", is_flag=True, help="Fewer and shorter runs: a hint, not a measurement."),
        click.option("--runs", type=Count(1), metavar="N", help=f"Measured runs of each.  [default: {RUNS}]"),
        click.option(
            "-c", "--concurrency", type=Count(1), metavar="N", default=scenario.executors,
            show_default=True, help="Executor processes, of every entrant.",
        ),
    ]  # fmt: skip
    if scenario.size is not None:
        options.append(
            click.option("--tasks", type=Count(1), metavar="N", help=f"{scenario.size}  [default: {scenario.tasks}]")
        )
    if scenario.level is not None:
        options.append(
            click.option(
                "--level", type=click.Choice(LEVELS), default=scenario.level, show_default=True,
                help="What accepted tasks survive.",
            )
        )  # fmt: skip
    if scenario.joins:
        options += [
            click.option("--mesh", "name", metavar="NAME", help="Measure this mesh, which runs already; start none."),
            click.option("--router", "routers", multiple=True, metavar="ADDR", help="The same, by a router's address."),
        ]
    if scenario.profiles:
        options.append(click.option("--profile", "profiled", is_flag=True, help="Split where the time goes, too."))

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return output_options(function)

    return add


def _measure(scenario: Callable[[Runs], Report], *, quick: bool, as_json: bool) -> Report:
    with _ending_on_sigterm():
        try:
            with Runs(Console(stderr=as_json)) as runs:
                report = scenario(runs).of_a_run(quick)
        except (KeyboardInterrupt, SystemExit):
            click.echo(f"{click.get_current_context().info_name} was broken off: nothing of it is kept", err=True)
            raise
    deliver(report, as_json)
    return report


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """As on Ctrl-C: whatever was started is ended, and directories are removed."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _asked_for(ctx: click.Context, name: str | None, routers: tuple[str, ...]) -> Running | None:
    """The mesh to measure where one was named, also before the verb: ``mesh --mesh NAME bench ...``.

    Raises ``UsageError`` where something is asked for that such a mesh has of its own.
    """
    invocation = ctx.find_object(Invocation)
    name = name or (invocation.mesh if invocation is not None else None)
    if not (name or routers):
        return None
    for option in ("concurrency", "level"):
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} is for a mesh that the bench starts: leave it out, or name no mesh")
    return Running(name, routers)


def _command(scenario: Scenario) -> click.Command:
    """The command of one scenario."""

    @_options(scenario)
    @click.pass_context
    def command(
        ctx: click.Context,
        as_json: bool,
        quick: bool,
        runs: int | None,
        concurrency: int,
        tasks: int | None = None,
        level: str | None = None,
        name: str | None = None,
        routers: tuple[str, ...] = (),
        profiled: bool = False,
    ) -> None:
        plan = scenario.plan(
            quick=quick,
            runs=runs,
            tasks=tasks,
            concurrency=concurrency,
            level=level,
            running=_asked_for(ctx, name, routers) if scenario.joins else None,
            profile=profiled,
        )
        _measure(lambda found: scenario.run(plan, found), quick=quick, as_json=as_json)

    return click.command(scenario.name, help=scenario.help)(command)


for _scenario in CATALOG:
    bench.add_command(_command(_scenario))


@bench.command(name="all")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; progress goes to standard error.")
@click.option("--quick", is_flag=True, help="Everything within two minutes on an idle machine: a hint.")
@output_options
@click.pass_context
def everything(ctx: click.Context, as_json: bool, quick: bool) -> None:
    """Every scenario, one after the other, on meshes of its own."""
    with _ending_on_sigterm():
        found = run_all(quick, Console(stderr=as_json))
    if as_json:
        click.echo(found.to_json())
        click.echo(found.took(), err=True)
    else:
        found.show(Console())
    keep(found.reports, "all", found.to_json())
    if found.interruption is not None:
        click.echo(found.what_was_kept(), err=True)
        raise found.interruption
    if found.failed:
        ctx.exit(1)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; progress goes to standard error.")
@click.option("--quick", is_flag=True, help="Fewer and shorter runs: a hint, not a measurement.")
@click.option("--runs", type=Count(1), metavar="N", default=3, show_default=True, help="Measured runs of each part.")
@click.option("--tasks", type=Count(1_000), metavar="N", help="Tasks in a run.  [default: 100000]")
@click.option("--profile", "profiled", is_flag=True, help="Instead, show the hottest functions of each part.")
@output_options
def micro(as_json: bool, quick: bool, runs: int, tasks: int | None, profiled: bool) -> None:
    """What a task costs each part alone: no sockets, no other processes."""
    count = tasks or (20_000 if quick else 100_000)
    if profiled:
        for name, text in profile(count).items():
            click.echo(f"== {name}\n{text}\n")
        return
    queued = 100_000 if quick else 1_000_000
    _measure(lambda found: run_micro(count, runs, queued, found), quick=quick, as_json=as_json)


@bench.command()
@click.argument("entrants", nargs=-1, type=click.Choice(list(ENTRANTS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; progress goes to standard error.")
@click.option("--quick", is_flag=True, help="Fewer and shorter runs: a hint, not a measurement.")
@click.option("--runs", type=Count(1), metavar="N", help=f"Turns of each.  [default: {RUNS}]")
@click.option("--seconds", type=Seconds(0.1), metavar="S", help="About how long each measurement lasts.  [default: 3]")
@click.option(
    "-c", "--concurrency", type=Count(1), metavar="N", default=2, show_default=True, help="Worker processes of each."
)
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="What is measured.  [default: all of it]")
@click.option(
    "--level", type=click.Choice(LEVELS), default="disk", show_default=True, help="What accepted tasks of ours survive."
)
@click.option(
    "--redis-level", type=click.Choice(LEVELS), default="memory", show_default=True, help="What those in Redis survive."
)
@output_options
@click.pass_context
def compare(
    ctx: click.Context, entrants: tuple[str, ...], as_json: bool, quick: bool, runs: int | None, seconds: float | None,
    concurrency: int, only: tuple[str, ...], level: str, redis_level: str,
) -> None:  # fmt: skip
    """Entrants beside each other, peers each in its own environment: all of them, if none are named."""
    plan = Comparison(
        entrants or tuple(ENTRANTS), runs or (QUICK_RUNS if quick else RUNS), seconds or (1.0 if quick else 3.0),
        concurrency, level, redis_level, only or tuple(PARTS),
    )  # fmt: skip
    settings = _measure(lambda found: run_compare(plan, found), quick=quick, as_json=as_json).settings
    failed = settings["failed"].keys()
    if failed & set(entrants) or settings["entrants"].keys() <= failed:
        ctx.exit(1)
