"""What is typed of a task and its call, read and checked."""

from __future__ import annotations

import difflib
import json
from datetime import datetime
from typing import Any

import click

from mesh.errors import ConfigError
from nodes.loader import load_functions

NAMES_MAX = 20  # of an app's tasks that are listed to who names none of them


def json_list(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[Any] | None:
    """Positional arguments of a task."""
    if text is None:
        return None
    value = _parsed(text)
    if not isinstance(value, list):
        raise click.BadParameter(f"expected a JSON list such as '[1, \"a\"]', got {text!r}")
    return value


def json_object(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    """Named arguments of a task."""
    if text is None:
        return None
    value = _parsed(text)
    if not isinstance(value, dict):
        raise click.BadParameter(f"expected a JSON object such as '{{\"size\": 256}}', got {text!r}")
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}") from None


def instant(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """A time; local without a zone."""
    return None if text is None else _datetime(text)


def seconds_or_instant(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | datetime | None:
    """Seconds from now, or a time."""
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


def check_task(name: str, app: str) -> None:
    """Raise ``ConfigError`` where the app has no such task: what nobody knows would wait for ever."""
    known = load_functions(app, ())
    if name in known:
        return
    same = [full for full in known if full.rpartition(".")[2] == name]
    near = same or difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join([*known][:NAMES_MAX]) or 'none'}."
    raise ConfigError(f"{app} has no task {name!r}; {hint} Without -A a task is submitted by its name alone")
