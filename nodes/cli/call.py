"""``mesh call``: submit a task by its name."""

from __future__ import annotations

import difflib
import json
from datetime import datetime
from typing import Any

import click

from mesh.errors import ConfigError
from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.numbers import Count, Seconds
from nodes.cli.outcome import show_outcome
from nodes.loader import load_functions

LAST_ANSWER_S = 2.0  # beyond submit_timeout_s: what a router refuses until then is given up with its reason
NAMES_MAX = 20  # of an app's tasks that are listed to who names none of them


def _json_list(ctx: click.Context, parameter: click.Parameter, text: str) -> list[Any]:
    value = _parsed(text)
    if not isinstance(value, list):
        raise click.BadParameter(f"expected a JSON list such as '[1, \"a\"]', got {text!r}")
    return value


def _json_object(ctx: click.Context, parameter: click.Parameter, text: str) -> dict[str, Any]:
    value = _parsed(text)
    if not isinstance(value, dict):
        raise click.BadParameter(f"expected a JSON object such as '{{\"size\": 256}}', got {text!r}")
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}") from None


def _instant(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    return None if text is None else _datetime(text)


def _seconds_or_instant(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | datetime | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return _datetime(text)


def _datetime(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no date and time such as 2030-01-31T12:00:00+01:00") from None
    return when.astimezone() if when.tzinfo is None else when


def _check_task(name: str, app: str) -> None:
    """Raise ``ConfigError`` where the app has no such task: what nobody knows would wait for ever."""
    known = load_functions(app, ())
    if name in known:
        return
    same = [full for full in known if full.rpartition(".")[2] == name]
    near = same or difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join([*known][:NAMES_MAX]) or 'none'}."
    raise ConfigError(f"{app} has no task {name!r}; {hint} Without -A a task is submitted by its name alone")


@click.command()
@shared_options
@router_option
@click.argument("name")
@click.option("-a", "--args", default="[]", callback=_json_list, metavar="JSON", help="Positional arguments: '[1, 2]'.")
@click.option(
    "-k", "--kwargs", default="{}", callback=_json_object, metavar="JSON", help="Named arguments: '{\"size\": 256}'."
)
@click.option("--eta", callback=_instant, metavar="TIME", help="Not before this time, ISO 8601; local without a zone.")
@click.option("--countdown", type=Seconds(min=0), metavar="S", help="Not before so many seconds from now.")
@click.option(
    "--expires", callback=_seconds_or_instant, metavar="S|TIME", help="Not after so many seconds, or this time."
)
@click.option("--queue", metavar="NAME", help="The queue (else the task's own, else 'default').")
@click.option("--priority", type=Count(0, 255), default=0, metavar="N", help="Higher goes first, 0 to 255.")
@click.option("--task-id", metavar="ID", help="An id of your own; a router stores an id once.")
@click.option("--wait/--no-wait", default=False, help="Wait for the result, and print it instead of the id.")
@click.option("--timeout", type=Seconds(min=0), metavar="S", help="Wait no longer.  [default: for ever]")
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
    with client(invocation, routers) as app:
        if invocation.app is not None:
            _check_task(name, invocation.app)
        try:
            result = app.send_task(name, args, kwargs, **options)
        except TypeError as error:  # the task's own signature, where -A makes it known
            raise click.UsageError(f"{name}: {error}") from None
        app.flush(app.settings.submit_timeout_s + LAST_ANSWER_S)
        if wait:
            return show_outcome(invocation, app, result.id, timeout, as_json=as_json, with_traceback=False)
        click.echo(json.dumps({"id": result.id}) if as_json else result.id)
        return 0
