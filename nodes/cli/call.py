"""``mesh call``: submit a task by its name."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

import click

from mesh.errors import NoKey, Unavailable
from mesh.settings import command_of
from nodes.cli.arguments import check_task, instant, json_list, json_object, seconds_or_instant
from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.numbers import Count, Seconds
from nodes.cli.outcome import show_outcome

LAST_ANSWER_S = 2.0  # beyond submit_timeout_s: what a router refuses until then is given up with its reason


@click.command()
@shared_options
@router_option
@click.argument("name")
@click.option("-a", "--args", default="[]", callback=json_list, metavar="JSON", help="Positional arguments: '[1, 2]'.")
@click.option(
    "-k", "--kwargs", default="{}", callback=json_object, metavar="JSON", help="Named arguments: '{\"size\": 256}'."
)
@click.option("--eta", callback=instant, metavar="TIME", help="Not before this time, ISO 8601; local without a zone.")
@click.option("--countdown", type=Seconds(min=0), metavar="S", help="Not before so many seconds from now.")
@click.option(
    "--expires", callback=seconds_or_instant, metavar="S|TIME", help="Not after so many seconds, or this time."
)
@click.option("--queue", metavar="NAME", help="The queue (else the task's own, else 'default').")
@click.option("--priority", type=Count(0, 255), default=0, metavar="N", help="Higher goes first, 0 to 255.")
@click.option("--task-id", metavar="ID", help="An id of your own; a router stores an id once.")
@click.option("--wait/--no-wait", default=False, help="Wait for the result, and print it instead of the id.")
@click.option("--timeout", type=Seconds(min=0), metavar="S", help="Wait no longer, in all.  [default: for ever]")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@pass_invocation
def call(
    invocation: Invocation,
    /,
    routers: tuple[str, ...],
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit a call of task NAME, and print its id once a router has accepted it.

    With -A the app must have the task, and the task's own options count; without -A the name is enough.
    """
    began = monotonic()
    with client(invocation, routers) as app:
        if invocation.app is not None:
            check_task(name, invocation.app)
        try:
            result = app.send_task(name, args, kwargs, **options)
        except TypeError as error:  # the task's own signature, where -A makes it known
            raise click.UsageError(f"{name}: {error}") from None
        try:
            accept_s = app.settings.submit_timeout_s + LAST_ANSWER_S
            try:
                app.flush(accept_s if timeout is None else min(accept_s, timeout))
            except NoKey:  # nobody was met, so nobody has it
                raise
            except Unavailable as error:
                fate = "it will not run" if result.is_settled() else "it may be accepted, and run, all the same"
                raise type(error)(f"task {result.id}: {error}; {fate}") from None
            if wait:
                spent_s = monotonic() - began
                return show_outcome(
                    invocation, app, result.id, timeout, spent_s=spent_s, as_json=as_json, with_traceback=False
                )
        except KeyboardInterrupt:
            command = command_of(app.settings.mesh)
            invocation.note(
                f"task {result.id} is not cancelled: `{command} result {result.id}`, `{command} cancel {result.id}`"
            )
            raise
        click.echo(json.dumps({"id": result.id}) if as_json else result.id)
        return 0
