"""``mesh result``: how a task ended."""

from __future__ import annotations

import click

from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.numbers import Seconds
from nodes.cli.outcome import show_outcome


@click.command()
@shared_options
@router_option
@click.argument("task_id", metavar="ID")
@click.option("--traceback", "with_traceback", is_flag=True, help="Where it failed, also where in the worker.")
@click.option("--timeout", type=Seconds(min=0), metavar="S", help="Wait no longer.  [default: for ever]")
@click.option("--json", "as_json", is_flag=True, help="For scripts: with state, worker, times and error.")
@pass_invocation
def result(
    invocation: Invocation,
    routers: tuple[str, ...],
    task_id: str,
    with_traceback: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Wait until task ID is finished, and print its result.

    Exit code 1 when it failed or nobody knows it, 3 when it is not finished in time. With -A,
    results of the app's own classes can be read.
    """
    with client(invocation, routers) as app:
        return show_outcome(invocation, app, task_id, timeout, as_json=as_json, with_traceback=with_traceback)
