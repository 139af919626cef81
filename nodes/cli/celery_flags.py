"""Flags of ``celery worker`` and ``celery beat`` that mean nothing here: taken, and answered with what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from nodes.cli.invocation import Invocation

F = TypeVar("F", bound=Callable[..., Any])

Flags = dict[tuple[str, ...], str]

_SCHEDULE_FILE: Flags = {
    ("-s", "--schedule-filename", "--schedule"): "routers keep how far each periodic task has come, in their store; "
    "`mesh schedule` shows it",
}
_VALUES: Flags = {
    **_SCHEDULE_FILE,
    ("-P", "--pool"): "tasks always run in executor processes of their own",
    ("-O", "--optimization"): "work always goes to the worker that has room for it",
    ("--prefetch-multiplier",): "a worker asks for as much work as it needs at hand, by how long its tasks take",
    ("-b", "--broker"): "there is no broker: routers are found by themselves, or given with --router",
    ("--result-backend",): "routers keep the results",
}
_SWITCHES: Flags = {
    ("-E", "--task-events"): "`mesh status` needs nothing switched on",
    ("--without-gossip",): "workers do not gossip: routers know them all",
    ("--without-mingle",): "workers do not wait for one another at their start",
    ("--without-heartbeat",): "heartbeats stay on: without them a lost machine is not noticed",
    ("-B", "--beat"): "one of the workers says what is due, whoever is there",
    ("--disable-prefetch",): "a worker asks for as much work as it needs at hand, by how long its tasks take",
}


_VALUES_OF_BEAT: Flags = {
    **_SCHEDULE_FILE,
    ("-S", "--scheduler"): "routers keep the periodic tasks; `mesh schedule` and app.schedules change them",
    ("--max-interval",): "it wakes when the next is due, or when one is changed",
}


def celery_flags(function: F) -> F:
    """Add the flags of a worker; they are left out of --help."""
    return _add(function, _VALUES, _SWITCHES)


def beat_flags(function: F) -> F:
    """Add the flags of beat; they are left out of --help."""
    return _add(function, _VALUES_OF_BEAT, {})


def _add(function: F, values: Flags, switches: Flags) -> F:
    for flags, is_flag in ((values, False), (switches, True)):
        for names, text in flags.items():
            explain = _explain(names[-1], text)
            option = click.option(*names, is_flag=is_flag, hidden=True, expose_value=False, callback=explain)
            function = option(function)
    return function


def _explain(flag: str, text: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def explain(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            ctx.ensure_object(Invocation).note(f"{flag} has no effect: {text}")

    return explain
