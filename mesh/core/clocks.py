"""Instants that their sender reckoned from now, put right for a clock that differs from the receiver's.

A node counts seconds from its own now, and what it sends says so, with its clock when it was sent. The receiver knows
from all that came lately how that clock differs from its own: what was on its way for long is not taken for a clock
that is behind. An instant that a user named means the same everywhere, and is let be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from operator import attrgetter

from msgspec.structs import replace

from mesh.clock import Now
from mesh.messages import Deliver, Settled, Submit
from mesh.model import INSTANT_MAX, Delivery, Settlement, TaskExtra, TaskSpec

WINDOW_S = 30.0  # clocks drift, and jump

_NOTHING = TaskExtra()
_extra, _retry = attrgetter("extra"), attrgetter("retry")


class ClockDifference:
    """How far another node's clock is behind ours, by what its messages say of the time when they were sent.

    The way takes time, too, so the least that was seen lately is nearest. More than the longest way explains is a jump.
    """

    __slots__ = ("_before", "_least", "_until")

    def __init__(self) -> None:
        self._before = inf  # the least of the window before
        self._least = inf  # and of this one
        self._until = -inf  # monotonic

    def take(self, at: float, now: Now, longest_s: float = inf) -> float:
        """Seconds to add to its instants, after a message that was sent ``at`` and came ``longest_s`` later at most."""
        seen = now.wall - at
        if now.mono >= self._until:
            self._before = self._least if now.mono < self._until + WINDOW_S else inf
            self._least, self._until = inf, now.mono + WINDOW_S
        if seen > min(self._before, self._least) + longest_s:
            self._before = self._least = inf
        self._least = min(self._least, seen)
        return min(self._before, self._least)


def any_from_now(tasks: Iterable[TaskSpec]) -> bool:
    """Whether a message with these tasks must say what the time is. Most have nothing extra: that costs them little."""
    return any(extra.eta_from_now or extra.expires_from_now for extra in filter(None, map(_extra, tasks)))


def any_retry_from_now(settlements: Iterable[Settlement]) -> bool:
    """Whether a message with these must say what the time is."""
    return any(retry.from_now for retry in filter(None, map(_retry, settlements)))


def submitted(submit: Submit, raw: bytes | None, later: float) -> tuple[Submit, bytes | None]:
    """A batch as it is by our clock, which is ``later`` than its sender's, and its bytes where they say the same."""
    if not submit.at:
        return submit, raw
    return replace(submit, tasks=[_named(task) for task in moved(submit.tasks, later)], at=0.0), None


def settled(message: Settled, later: float) -> Sequence[Settlement]:
    """What is settled, as it is by our clock, which is ``later`` than its sender's."""
    if not message.at:
        return message.settlements
    return [_settlement(one, later) for one in message.settlements]


def delivered(message: Deliver, later: float) -> list[Delivery]:
    """Deliveries as they are by our clock, ``later`` than the router's: its instants are all its own."""
    if not message.at:
        return message.tasks
    return [
        one if one.expires_at is None else replace(one, expires_at=_moved(one.expires_at, later))
        for one in message.tasks
    ]


def moved(tasks: Iterable[TaskSpec], later: float) -> list[TaskSpec]:
    """Tasks whose sender's clock was put ``later`` since they were made; they still count from now."""
    return [_task(task, later) for task in tasks]


def _task(task: TaskSpec, later: float) -> TaskSpec:
    extra = task.extra
    if extra is None or not (extra.eta_from_now or extra.expires_from_now):
        return task
    eta, expires_at = task.eta, task.expires_at
    if extra.eta_from_now and eta is not None:
        eta = _moved(eta, later)
    if extra.expires_from_now and expires_at is not None:
        expires_at = _moved(expires_at, later)
    return replace(task, eta=eta, expires_at=expires_at)


def _named(task: TaskSpec) -> TaskSpec:
    """By the router's clock now, which nobody need put right again."""
    extra = task.extra
    if extra is None or not (extra.eta_from_now or extra.expires_from_now):
        return task
    rest = replace(extra, eta_from_now=False, expires_from_now=False)
    return replace(task, extra=None if rest == _NOTHING else rest)


def _settlement(one: Settlement, later: float) -> Settlement:
    retry = one.retry
    if retry is None or not retry.from_now:
        return one
    return replace(one, retry=replace(retry, eta=_moved(retry.eta, later), from_now=False))


def _moved(at: float, later: float) -> float:
    return min(max(0.0, at + later), INSTANT_MAX)
