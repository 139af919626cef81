"""Runs a task in this process, as a worker would: with its request, its retries and its outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mesh.api.result import EagerResult
from mesh.errors import Retry
from mesh.model import Outcome, TaskState
from mesh.runtime.failure import describe
from mesh.runtime.promises import Promise
from mesh.runtime.request import Request, current_request

if TYPE_CHECKING:
    from mesh.api.task import Task


def run_eagerly(
    task: Task[..., Any],
    task_id: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    headers: dict[str, str] | None = None,
    throw: bool = False,
    retries: int = 0,
) -> EagerResult[Any]:
    """Run ``task`` until it succeeds, fails or has used up its retries, which do not wait for their time."""
    parent = current_request.get()
    started_at, began = time.time(), time.perf_counter()
    while True:
        request = Request(
            id=task_id,
            task=task.name,
            args=args,
            kwargs=kwargs,
            retries=retries,
            attempt=retries + 1,
            hostname="eager",
            queue=task.base_options().queue,
            headers=headers,
            parent_id=parent.id if parent is not None and parent.id else None,
            root_id=(parent.root_id or parent.id if parent is not None else "") or task_id,
            is_eager=True,
        )
        token = current_request.set(request)
        try:
            value, error = task.execute(request, args, kwargs), None
        except Retry as retry:
            retries += 1
            args = args if retry.new_args is None else tuple(retry.new_args)
            kwargs = kwargs if retry.new_kwargs is None else dict(retry.new_kwargs)
            continue
        except Exception as raised:
            if throw:
                raise
            value, error = None, raised
        finally:
            current_request.reset(token)
        outcome = _outcome(task, request, started_at, began, error)
        return EagerResult(task_id, task.app, Promise(task_id, outcome), value, error)


def _outcome(
    task: Task[..., Any], request: Request, started_at: float, began: float, error: Exception | None
) -> Outcome:
    return Outcome(
        request.id,
        TaskState.SUCCEEDED if error is None else TaskState.FAILED,
        error=None if error is None else describe(error, request.args, request.kwargs),
        name=task.name,
        queue=request.queue,
        worker=request.hostname,
        attempts=request.attempt,
        retries=request.retries,
        accepted_at=started_at,
        started_at=started_at,
        finished_at=time.time(),
        runtime_s=time.perf_counter() - began,
    )
