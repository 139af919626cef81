"""Instants that their sender reckoned from now, put right for a clock that differs from the receiver's.

A node counts seconds from its own now, and what it sends says so, with its clock when it was sent: that clock and the
receiver's are compared once, at the receiver. An instant that a user named means the same everywhere, and is let be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from mesh.messages import Deliver, Settled, Submit
from mesh.model import INSTANT_MAX, Delivery, Settlement, TaskExtra, TaskSpec

_NOTHING = TaskExtra()


def any_from_now(tasks: Iterable[TaskSpec]) -> bool:
    """Whether a message with these tasks must say what the time is."""
    return any(task.extra is not None and (task.extra.eta_from_now or task.extra.expires_from_now) for task in tasks)


def any_retry_from_now(settlements: Iterable[Settlement]) -> bool:
    """Whether a message with these must say what the time is."""
    return any(one.retry is not None and one.retry.from_now for one in settlements)


def submitted(submit: Submit, raw: bytes | None, wall: float) -> tuple[Submit, bytes | None]:
    """A batch as it is by the clock that shows ``wall``, and its bytes where they say the same."""
    if not submit.at:
        return submit, raw
    later = wall - submit.at
    return replace(submit, tasks=[_task(task, later) for task in submit.tasks], at=0.0), None


def settled(message: Settled, wall: float) -> Sequence[Settlement]:
    """What is settled, as it is by the clock that shows ``wall``."""
    if not message.at:
        return message.settlements
    return [_settlement(one, wall - message.at) for one in message.settlements]


def delivered(message: Deliver, wall: float) -> list[Delivery]:
    """Deliveries as they are by the clock that shows ``wall``: a router's instants are all its own."""
    if not message.at:
        return message.tasks
    later = wall - message.at
    return [
        one if one.expires_at is None else replace(one, expires_at=_moved(one.expires_at, later))
        for one in message.tasks
    ]


def _task(task: TaskSpec, later: float) -> TaskSpec:
    extra = task.extra
    if extra is None or not (extra.eta_from_now or extra.expires_from_now):
        return task
    eta, expires_at = task.eta, task.expires_at
    if extra.eta_from_now and eta is not None:
        eta = _moved(eta, later)
    if extra.expires_from_now and expires_at is not None:
        expires_at = _moved(expires_at, later)
    rest = replace(extra, eta_from_now=False, expires_from_now=False)
    return replace(task, eta=eta, expires_at=expires_at, extra=None if rest == _NOTHING else rest)


def _settlement(one: Settlement, later: float) -> Settlement:
    retry = one.retry
    if retry is None or not retry.from_now:
        return one
    return replace(one, retry=replace(retry, eta=_moved(retry.eta, later), from_now=False))


def _moved(at: float, later: float) -> float:
    return min(max(0.0, at + later), INSTANT_MAX)
