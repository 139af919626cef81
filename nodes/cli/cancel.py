"""``mesh cancel`` and ``mesh purge``: change the fate of tasks."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from mesh.errors import TimeoutError
from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options

CONFIRM_S = 2.0  # how long to wait for the word that a task is cancelled: a worker may have it


@click.command()
@shared_options
@router_option
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--terminate", is_flag=True, help="Also those that run: their executor process is killed.")
@click.option("--signal", default="SIGKILL", show_default=True, metavar="NAME", help="What to kill it with.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the state of each id.")
@pass_invocation
def cancel(
    invocation: Invocation,
    routers: tuple[str, ...],
    task_ids: tuple[str, ...],
    terminate: bool,
    signal: str,
    as_json: bool,
) -> int:
    """Cancel tasks that have not started; with --terminate also those that run.

    Exit code 1 when one of them could not be cancelled.
    """
    with client(invocation, routers) as app:
        results = [app.AsyncResult(task_id) for task_id in task_ids]
        app.control.revoke([r.id for r in results if r.state != "UNKNOWN"], terminate, signal)
        states = {r.id: _state(r) for r in results}
    if as_json:
        click.echo(json.dumps(states))
    else:
        for task_id, state in states.items():
            done = state == "REVOKED"
            click.echo(f"{task_id} {_in_words(state)}", err=not done)
    return 0 if all(state == "REVOKED" for state in states.values()) else 1


def _state(result: Any) -> str:
    if result.state in ("PENDING", "RECEIVED"):
        with contextlib.suppress(TimeoutError):
            result.get(CONFIRM_S, propagate=False)
    return str(result.state)


def _in_words(state: str) -> str:
    return {
        "REVOKED": "cancelled",
        "RECEIVED": "runs already: it is left alone without --terminate",
        "PENDING": "is still waiting; try again",
        "UNKNOWN": "is not known to the mesh",
    }.get(state, f"is finished already: {state}")


@click.command()
@shared_options
@router_option
@click.option("-Q", "--queues", multiple=True, metavar="NAMES", help="Only these, comma-separated; else all.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For scripts; implies --force.")
@pass_invocation
def purge(invocation: Invocation, routers: tuple[str, ...], queues: tuple[str, ...], force: bool, as_json: bool) -> int:
    """Cancel all tasks that wait in queues to be run; those that run, or have a time to come, are left alone."""
    names = [name.strip() for value in queues for name in value.split(",") if name.strip()]
    with client(invocation, routers) as app:
        if not force and not as_json:
            waiting = sum(q["ready"] + q["parked"] for q in app.status()["queues"] if not names or q["name"] in names)
            where = f"queue {', '.join(names)}" if names else "all queues"
            click.confirm(f"Cancel {waiting} tasks that wait in {where}?", abort=True, err=True)
        purged = app.purge(*names)
    click.echo(json.dumps({"purged": purged}) if as_json else f"{purged} tasks cancelled")
    return 0
