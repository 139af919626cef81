"""Which worker gets how many of a lane's ready tasks: least loaded first, never beyond credit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Holder(Protocol):
    """A worker as far as placing is concerned."""

    @property
    def slots(self) -> int: ...
    @property
    def credit(self) -> int: ...
    @property
    def held(self) -> int: ...


def shares(count: int, holders: Sequence[Holder]) -> list[int]:
    """How many of ``count`` tasks each holder gets; sums to ``count`` or to all the credit there is.

    Water-filling: those least loaded for their slots are raised to one level, as many of them as that level is above;
    those at the limit of their credit stay there, and the rest is shared again among the others.
    """
    given = [0] * len(holders)
    left = min(count, sum(holder.credit for holder in holders))
    open_ = [i for i, holder in enumerate(holders) if holder.credit > 0]
    while left > 0:
        open_.sort(key=lambda i: ((holders[i].held + given[i]) / holders[i].slots, i))
        below, level = _level(left, [(holders[i].held + given[i], holders[i].slots) for i in open_])
        progress = 0
        for i in open_[:below]:
            holder = holders[i]
            room = holder.credit - given[i]
            wanted = min(int(level * holder.slots) - holder.held - given[i], room, left - progress)
            if wanted > 0:
                given[i] += wanted
                progress += wanted
        if progress == 0:  # less than one each is left: the least loaded first
            for i in open_[: min(left, below)]:
                given[i] += 1
                progress += 1
        left -= progress
        open_ = [i for i in open_ if given[i] < holders[i].credit]
    return given


def _level(left: int, loads: Sequence[tuple[int, int]]) -> tuple[int, float]:
    """How many of these (held, slots), least loaded first, ``left`` tasks raise, and to how many per slot."""
    held_sum, slots_sum = loads[0]
    for below, (held, slots) in enumerate(loads[1:], 1):
        if held * slots_sum >= (left + held_sum) * slots:
            return below, (left + held_sum) / slots_sum
        held_sum += held
        slots_sum += slots
    return len(loads), (left + held_sum) / slots_sum


def deal(tasks: Sequence[T], counts: Sequence[int]) -> list[list[T]]:
    """Split ``tasks`` (in order) so that hand ``i`` gets ``counts[i]`` of them, dealt in turn.

    Dealt and not cut, so that what was accepted first starts first on every worker.
    """
    hands: list[list[T]] = [[] for _ in counts]
    start = 0
    open_ = [i for i, count in enumerate(counts) if count]
    while open_:
        rounds = min(counts[i] - len(hands[i]) for i in open_)
        width = len(open_)
        part = tasks[start : start + rounds * width]
        for place, i in enumerate(open_):
            hands[i].extend(part[place::width])
        start += rounds * width
        open_ = [i for i in open_ if len(hands[i]) < counts[i]]
    return hands
