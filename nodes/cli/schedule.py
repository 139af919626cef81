"""``mesh schedule``: the periodic tasks of the mesh, looked at and changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console, Group

from mesh.api.schedules import PARKED_ADVICE, PeriodicTask
from mesh.schedules import CronLine, Every, Schedule
from nodes.cli.arguments import check_task, instant, json_list, json_object
from nodes.cli.client import client
from nodes.cli.guided import GuidedGroup
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.numbers import Count, Seconds
from nodes.cli.schedule_view import as_json as row_as_json
from nodes.cli.schedule_view import entries_table, entry_table, headline, when_due
from nodes.shown import shown
from nodes.tables import plain, rich

F = TypeVar("F", bound=Callable[..., Any])

names_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True)


def entry_options(function: F) -> F:
    """What may be said of an entry, to make one and to change one."""
    options = [
        click.option("--every", type=Seconds(min=0.001), metavar="S", help="Due at each multiple of so many seconds."),
        click.option("--cron", metavar="LINE", help="Due by the clock on the wall: '30 2 * * 1-5'."),
        click.option(
            "--timezone", metavar="ZONE", help="Of the clock that --cron means.  [default: the entry's, the app's]"
        ),
        click.option("--at", callback=instant, metavar="TIME", help="Due once, ISO 8601; local without a zone."),
        click.option("-a", "--args", callback=json_list, metavar="JSON", help="Positional arguments: '[1, 2]'."),
        click.option(
            "-k", "--kwargs", callback=json_object, metavar="JSON", help="Named arguments: '{\"size\": 256}'."
        ),
        click.option(
            "--catchup",
            type=click.Choice(["latest", "all", "skip"]),
            help="Which due times that nobody fired are made good.  [default: latest]",
        ),
        click.option("--catchup-max", type=Count(1, 10_000), metavar="N", help="Of all, the newest N.  [default: 100]"),
        click.option(
            "--catchup-window", type=Seconds(min=0), metavar="S", help="Not those older than that.  [default: 3600]"
        ),
        click.option(
            "--overlap",
            type=click.Choice(["allow", "skip", "queue_one"]),
            help="When the task before is not finished.  [default: allow]",
        ),
        click.option("--jitter", type=Seconds(min=0), metavar="S", help="Put each off by up to so many seconds."),
        click.option(
            "--expires",
            type=Seconds(min=0),
            metavar="S",
            help="Not started later than that after it is due, or put off to.",
        ),
        click.option("--queue", metavar="NAME", help="The queue (else the task's own, else 'default')."),
        click.option("--priority", type=Count(0, 255), metavar="N", help="Higher goes first, 0 to 255."),
        click.option("--time-limit", type=Seconds(min=0), metavar="S", help="Seconds it may run."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


INSTEAD = {
    "delete": "type `mesh schedule remove NAME`",
    "enable": "type `mesh schedule resume NAME`",
    "disable": "type `mesh schedule pause NAME`",
    "run": "type `mesh schedule trigger NAME`",
}


@click.group(cls=GuidedGroup, instead=INSTEAD, invoke_without_command=True)
@shared_options
@click.pass_context
def schedule(ctx: click.Context) -> None:
    """Show or change the periodic tasks of the mesh: those in the code of apps, and those added here."""
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(Invocation), (), as_json=False)


@schedule.command("list")
@shared_options
@router_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@pass_invocation
def list_entries(invocation: Invocation, routers: tuple[str, ...], as_json: bool) -> None:
    """Show all entries: when each is due, what became of the last, and who leads."""
    _list(invocation, routers, as_json)


def _list(invocation: Invocation, routers: tuple[str, ...], as_json: bool) -> None:
    with client(invocation, routers) as app:
        overview, mesh_name = app.schedules.overview(), app.settings.mesh
    if as_json:
        entries = [row_as_json(row) for row in overview.entries]
        found = {
            "mesh": mesh_name,
            "leader": overview.leader or None,
            "term": overview.term,
            "store_full": overview.full or None,
            "entries": entries,
        }
        click.echo(json.dumps(found))
        return
    head, table = headline(mesh_name, overview), entries_table(overview, datetime.now(UTC))
    if not table.rows:
        click.echo(head)
    elif sys.stdout.isatty():
        console = Console(no_color=invocation.no_color or None)
        console.print(Group(head, "", rich(table, console.width)))
    else:
        click.echo(f"{head}\n\n{plain(table)}")


@schedule.command()
@shared_options
@router_option
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@pass_invocation
def show(invocation: Invocation, routers: tuple[str, ...], name: str, as_json: bool) -> None:
    """Show all of one entry."""
    with client(invocation, routers) as app:
        row = app.schedules.get(name)
    if as_json:
        click.echo(json.dumps(row_as_json(row)))
    else:
        click.echo(plain(entry_table(row, datetime.now(UTC))))


@schedule.command()
@shared_options
@router_option
@click.argument("name")
@click.argument("task")
@entry_options
@click.option("--paused", is_flag=True, help="Not due until it is resumed.")
@pass_invocation
def add(
    invocation: Invocation, /, routers: tuple[str, ...], name: str, task: str, paused: bool, **options: Any
) -> None:
    """Have the mesh run TASK by a schedule, under a NAME of its own: --every, --cron or --at."""
    when, given = _read(options)
    if when is None:
        raise click.UsageError("when? give one of --every, --cron and --at")
    with client(invocation, routers) as app:
        if invocation.app is not None:
            check_task(task, invocation.app)
        app.schedules.add(name, when, task, **given, **({"enabled": False} if paused else {}))
        row = app.schedules.get(name)
        click.echo(f"{name} added, {when_due(row, datetime.now(UTC))}")
        _note_parked(invocation, row)


@schedule.command()
@shared_options
@router_option
@click.argument("name")
@click.option("--task", metavar="TASK", help="Another task.")
@entry_options
@pass_invocation
def update(invocation: Invocation, /, routers: tuple[str, ...], name: str, task: str | None, **options: Any) -> None:
    """Change an entry: what is given, and nothing else. It goes on from where it was.

    The next worker that loads an entry's own code changes it back.
    """
    when, changes = _read(options)
    changes |= {key: value for key, value in (("schedule", when), ("task", task)) if value is not None}
    if not changes:
        raise click.UsageError("nothing to change: give an option")
    with client(invocation, routers) as app:
        if task is not None and invocation.app is not None:
            check_task(task, invocation.app)
        app.schedules.update(name, **changes)
        row = app.schedules.get(name)
        click.echo(f"{name} changed, {when_due(row, datetime.now(UTC))}")
        _note_code(invocation, row)
        _note_parked(invocation, row)


def _read(options: dict[str, Any]) -> tuple[Schedule | datetime | None, dict[str, Any]]:
    """The schedule, where one is given, and all else that is."""
    given = {key: value for key, value in options.items() if value is not None}
    whens = [key for key in ("every", "cron", "at") if key in given]
    if len(whens) > 1:
        raise click.UsageError(f"--{whens[0]} and --{whens[1]} are both given: choose one")
    if not whens:
        return None, given
    value = given.pop(whens[0])
    if whens[0] != "cron" and "timezone" in given:
        raise click.UsageError(f"--timezone is for --cron, not for --{whens[0]}")
    return Every(value) if whens[0] == "every" else CronLine(value) if whens[0] == "cron" else value, given


def _note_code(invocation: Invocation, row: PeriodicTask) -> None:
    if row.app is not None:
        invocation.note(
            f"entry {row.name!r} is in the code of app {row.app}, which counts again once a worker loads it"
        )


def _note_parked(invocation: Invocation, row: PeriodicTask) -> None:
    if row.parked:
        invocation.note(f"entry {row.name!r}: {row.parked}: {PARKED_ADVICE}")


def _verb(name: str, help: str) -> None:
    @schedule.command(name, help=help)
    @shared_options
    @router_option
    @names_argument
    @pass_invocation
    def change(invocation: Invocation, routers: tuple[str, ...], names: tuple[str, ...]) -> None:
        with client(invocation, routers) as app:
            rows = {row.name: row for row in app.schedules.list()} if name == "remove" else {}
            getattr(app.schedules, name)(*names)
            for each in dict.fromkeys(names):
                due = f", {when_due(app.schedules.get(each), datetime.now(UTC))}" if name == "resume" else ""
                click.echo(f"{each} {name.removesuffix('e')}ed{due}")
                if each in rows:
                    _note_code(invocation, rows[each])


_verb("pause", "Have entries not be due until they are resumed.")
_verb("resume", "Have entries be due again; what was due meanwhile is not made good.")
_verb("remove", "Forget entries. One in the code of an app is back when a node loads that.")


@schedule.command()
@shared_options
@router_option
@click.argument("name")
@pass_invocation
def trigger(invocation: Invocation, routers: tuple[str, ...], name: str) -> None:
    """Run the task of an entry now, beside its schedule, and print its id."""
    with client(invocation, routers) as app:
        click.echo(shown(app.schedules.trigger(name).id))
        if parked := app.schedules.get(name).parked:
            invocation.note(f"entry {name!r}: {parked}: the task waits until one comes that can run it")
