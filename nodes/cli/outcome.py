"""How a task ended, on the terminal or as JSON."""

from __future__ import annotations

import contextlib
import json
from math import inf
from typing import Any

import click

from mesh.api.result import timed_out
from mesh.errors import MeshError, TaskError, TimeoutError, Unavailable, UnknownTask
from mesh.wire.asking import message_of
from nodes.cli.invocation import Invocation
from nodes.shown import shown_lines

PATIENCE_S = 3.0  # a task that is not finished by then may wait for a worker that never comes: say why


def show_outcome(
    invocation: Invocation,
    app: Any,
    task_id: str,
    timeout: float | None,
    *,
    spent_s: float = 0.0,
    as_json: bool,
    with_traceback: bool,
) -> int:
    """Wait for the outcome of a task and print it; the exit code. Raises ``TimeoutError`` and others.

    ``spent_s``: so much of ``timeout`` is over.
    """
    result = app.AsyncResult(task_id)
    value = _value(invocation, result, timeout, spent_s)
    if isinstance(value, UnknownTask) and not result.is_settled():
        raise value
    succeeded = result.successful()
    if as_json:
        click.echo(json.dumps(_as_data(result, value, succeeded), default=repr))
    elif succeeded:
        click.echo(value if isinstance(value, str) else repr(value))
    else:
        if with_traceback and result.traceback:
            click.echo(shown_lines(result.traceback.rstrip()), err=True)
        raise TaskError(_why(result, value))
    return 0 if succeeded else 1


def _value(invocation: Invocation, result: Any, timeout: float | None, spent_s: float) -> Any:
    """The result or the exception: ``UnknownTask`` for an id that nobody knows when the time is over."""
    try:
        return _wait(invocation, result, timeout, spent_s)
    except TimeoutError as error:
        if error.why:  # a router answers
            with contextlib.suppress(Unavailable):
                return result.get(0, propagate=False)
        raise


def _wait(invocation: Invocation, result: Any, timeout: float | None, spent_s: float) -> Any:
    """The result or the exception. A wait that gets long is explained, once."""
    left = inf if timeout is None else max(0.0, timeout - spent_s)
    if left > PATIENCE_S:
        try:
            return result.get(PATIENCE_S, propagate=False)
        except TimeoutError as error:
            left -= PATIENCE_S
            if error.why and result.state == "PENDING":
                invocation.note(f"task {result.id} is not finished yet: {error.why}")
    try:
        return result.get(None if timeout is None else left, propagate=False)
    except TimeoutError as error:
        if left == timeout:
            raise  # it says all there is to say
        why = f": {error.why}" if error.why else f"; {result.situation()}"
        raise timed_out(f"task {result.id} is not finished after {timeout:g} s{why}", error.why) from None


def _why(result: Any, error: Any) -> str:
    if isinstance(error, MeshError) and result.error is None:
        return str(error)
    kind = result.error.type if result.error is not None else type(error).__name__
    message = " ".join(message_of(error).split())
    return message if result.id in message else f"task {result.id} failed: {kind}: {message}"


def _as_data(result: Any, value: Any, succeeded: bool) -> dict[str, Any]:
    error = result.error
    return {
        "id": result.id,
        "state": result.state,
        "name": result.name,
        "queue": result.queue,
        "result": value if succeeded else None,
        "error": None
        if succeeded
        else {
            "type": error.type if error is not None and error.type else type(value).__name__,
            "message": error.message if error is not None else str(value),
            "traceback": result.traceback,
        },
        "worker": result.worker,
        "retries": result.retries,
        "runtime_s": result.runtime_s,
        "date_done": result.date_done.isoformat() if result.date_done is not None else None,
    }
