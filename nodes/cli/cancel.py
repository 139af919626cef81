"""``mesh cancel`` and ``mesh purge``: change the fate of tasks."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

import click

from mesh.errors import TaskExpired, TimeoutError, Unavailable
from mesh.model import ErrorInfo
from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.node_options import comma_separated
from nodes.cli.standard_input import read_line
from nodes.counts import count_of

CONFIRM_S = 2.0  # how long to wait for the word that tasks are cancelled: a worker may have them
UNFINISHED = ("PENDING", "RECEIVED")
EXPIRED = f"{TaskExpired.__module__}.{TaskExpired.__qualname__}"


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

    Exit code 1 when one of them could not be cancelled, or nobody knows it.
    """
    with client(invocation, routers) as app:
        results = [app.AsyncResult(task_id) for task_id in dict.fromkeys(task_ids)]
        states = {result.id: str(result.state) for result in results}
        unfinished = [result for result in results if states[result.id] in UNFINISHED]
        if unfinished:
            app.control.revoke([result.id for result in unfinished], terminate, signal)
            _wait_for_word(unfinished)
            states |= _states_now(unfinished)
        words = {result.id: _in_words(states[result.id], result, terminate) for result in results}
    if as_json:
        click.echo(json.dumps(states))
    else:
        for task_id, state in states.items():
            click.echo(f"{task_id} {words[task_id]}", err=state != "REVOKED")
    return 0 if all(state == "REVOKED" for state in states.values()) else 1


def _wait_for_word(results: Sequence[Any]) -> None:
    deadline = time.monotonic() + CONFIRM_S
    for result in results:
        with contextlib.suppress(TimeoutError):
            result.get(max(0.0, deadline - time.monotonic()), propagate=False)


def _states_now(results: Sequence[Any]) -> dict[str, str]:
    """What is known of them; ``PENDING`` from the first on of which nobody says anything."""
    states = {result.id: "PENDING" for result in results}
    with contextlib.suppress(Unavailable):
        for result in results:
            states[result.id] = str(result.state)
    return states


def _in_words(state: str, result: Any, terminate: bool) -> str:
    if state == "REVOKED":
        error: ErrorInfo | None = result.error  # of another the mesh would be asked
        expired = error is not None and error.type == EXPIRED
        return "was not started in time: it has expired" if expired else "cancelled"
    if state == "RECEIVED":
        return (
            "is with a worker that has not confirmed its end yet; try again"
            if terminate
            else "runs already: it is left alone without --terminate"
        )
    if state == "PENDING":
        return "may be cancelled by now or later, but nobody has said so yet: `mesh result ID` shows it, or try again"
    if state == "UNKNOWN":
        return "is known to nobody: it was never accepted, or its result is kept no longer"
    return f"is finished already: {state}"


@click.command()
@shared_options
@router_option
@click.option(
    "-Q",
    "--queues",
    multiple=True,
    callback=comma_separated,
    metavar="NAMES",
    help="Only these, comma-separated; else all.",
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For scripts; implies --force.")
@pass_invocation
def purge(invocation: Invocation, routers: tuple[str, ...], queues: tuple[str, ...], force: bool, as_json: bool) -> int:
    """Cancel all tasks that wait in queues to be run; those that run, or have a time to come, are left alone."""
    with client(invocation, routers) as app:
        if not force and not as_json:
            waiting = sum(q["ready"] + q["parked"] for q in app.status()["queues"] if not queues or q["name"] in queues)
            where = f"queue {', '.join(queues)}" if queues else "all queues"
            _confirm(f"Cancel {count_of(waiting, 'task')} waiting in {where}? [y/N]: ")
        purged = app.purge(*queues)
    click.echo(json.dumps({"purged": purged}) if as_json else f"{count_of(purged, 'task')} cancelled")
    return 0


def _confirm(question: str) -> None:
    """Ask on standard error. Raises ``Abort`` for any answer but yes, ``UsageError`` where nobody answers."""
    click.echo(question, nl=False, err=True)
    answer = read_line()
    if not answer:
        click.echo(err=True)
        raise click.UsageError("nobody answers on standard input: use --force, which does not ask")
    if answer.strip().lower() not in ("y", "yes"):
        raise click.Abort
