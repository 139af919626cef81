"""Flags of ``celery worker`` that mean nothing here: taken, and answered with what happens instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from nodes.cli.invocation import Invocation

F = TypeVar("F", bound=Callable[..., Any])

_VALUES = {
    ("-P", "--pool"): "tasks always run in executor processes of their own",
    ("-O", "--optimization"): "work always goes to the worker that has room for it",
    ("--prefetch-multiplier",): "a worker asks for as much work as it needs at hand, by how long its tasks take",
    ("-b", "--broker"): "there is no broker: routers are found by themselves, or given with --router",
    ("--result-backend",): "routers keep the results",
}
_SWITCHES = {
    ("-E", "--task-events"): "`mesh status` needs nothing switched on",
    ("--without-gossip",): "workers do not gossip: routers know them all",
    ("--without-mingle",): "workers do not wait for one another at their start",
    ("--without-heartbeat",): "heartbeats stay on: without them a lost machine is not noticed",
    ("-B", "--beat"): "one of the workers says what is due, whoever is there",
    ("--disable-prefetch",): "a worker asks for as much work as it needs at hand, by how long its tasks take",
}


def celery_flags(function: F) -> F:
    """Add the flags; they are left out of --help."""
    for names, text in _VALUES.items():
        function = click.option(*names, hidden=True, expose_value=False, callback=_explain(names[-1], text))(function)
    for names, text in _SWITCHES.items():
        function = click.option(
            *names, is_flag=True, hidden=True, expose_value=False, callback=_explain(names[-1], text)
        )(function)
    return function


def _explain(flag: str, text: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def explain(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            ctx.ensure_object(Invocation).note(f"{flag} has no effect: {text}")

    return explain
