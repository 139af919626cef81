"""``mesh status``: the routers, and of one of them workers, queues and rates."""

from __future__ import annotations

import json
import sys
import time

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live

from mesh import Mesh
from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.numbers import Seconds
from nodes.cli.status_view import Answer, Status, away, headline, rates, router_rows, tables, totals
from nodes.tables import plain, rich

RATE_S = 0.5  # between the two looks that give a rate
ANSWER_S = 1.0  # for which one of several routers may keep the others' answers from being shown


@click.command()
@shared_options
@router_option
@click.option("--watch", "-w", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--interval", type=Seconds(0.1, 3600), default=1.0, show_default=True, metavar="S", help="For --watch.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a look, on one line.")
@pass_invocation
def status(invocation: Invocation, routers: tuple[str, ...], watch: bool, interval: float, as_json: bool) -> None:
    """Show the router, its workers, its queues with what is parked and why, and tasks per second.

    Where the mesh has several routers, a line for each of them.
    """
    named = bool(routers)
    with client(invocation, routers) as app:
        mesh_name = app.settings.mesh
        before: Status = app.status()
        time.sleep(RATE_S)
        after = _look(app, before, named)
        if not watch:
            _print(mesh_name, before, after, as_json, invocation)
        elif as_json or not sys.stdout.isatty():
            while True:
                _print(mesh_name, before, after, as_json, invocation)
                time.sleep(interval)
                before, after = after, _look(app, after, named)
        else:
            _watch(app, named, before, after, interval, invocation)


def _look(app: Mesh, before: Status, named: bool) -> Status:
    """What the router says that was looked at ``before``, else another, and beside it what each of them is like."""
    found: list[Answer] = [
        (one.id, one.endpoint, None if body is None else json.loads(body))
        for one, body in app.connection.questions.query_each("status", ANSWER_S, named=named)
    ]
    said = [status for _, _, status in found if status is not None]
    if not named:
        found += away(found)
    same = (status for status in said if status["router"]["id"] == before["router"]["id"])
    shown = next(same, None) or next(iter(said), None) or app.status()
    return {**shown, "routers": router_rows(found), "totals": totals(found)}


def _watch(app: Mesh, named: bool, before: Status, after: Status, interval: float, invocation: Invocation) -> None:
    mesh_name = app.settings.mesh
    console = Console(no_color=invocation.no_color or None)
    try:
        with Live(_drawn(mesh_name, before, after), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                before, after = after, _look(app, after, named)
                live.update(_drawn(mesh_name, before, after), refresh=True)
    except KeyboardInterrupt:
        console.print(_drawn(mesh_name, before, after))


def _print(mesh_name: str, before: Status, after: Status, as_json: bool, invocation: Invocation) -> None:
    if as_json:
        click.echo(json.dumps({"mesh": mesh_name, **after, "rates": rates(before, after)}))
    elif sys.stdout.isatty():
        Console(no_color=invocation.no_color or None).print(_drawn(mesh_name, before, after))
    else:
        parts = [
            headline(mesh_name, after, rates(before, after)),
            *map(plain, tables(after)),
        ]
        click.echo("\n\n".join(parts) + "\n")


def _drawn(mesh_name: str, before: Status, after: Status) -> RenderableType:
    return Group(
        headline(mesh_name, after, rates(before, after)),
        "",
        *map(rich, tables(after)),
    )
