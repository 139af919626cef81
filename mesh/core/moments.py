"""Names that wait for a moment each, soonest first; what no longer waits costs no memory for long."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

M = TypeVar("M", int, float)
SPARE = 64  # that wait no more and are still kept, besides as many as wait


class Moments(Generic[M]):
    """Whatever the moments are: instants or clock readings, in any unit."""

    def __init__(self) -> None:
        self._at: dict[str, M] = {}
        self._heap: list[tuple[M, str]] = []  # with some that wait no more, or for another moment

    def __len__(self) -> int:
        """How much is kept."""
        return len(self._heap)

    def __iter__(self) -> Iterator[str]:
        """The names that wait."""
        return iter(self._at)

    def put(self, name: str, at: M) -> None:
        """``name`` waits for ``at`` now, and for nothing else."""
        if self._at.get(name) == at:
            return
        self._at[name] = at
        heapq.heappush(self._heap, (at, name))
        if len(self._heap) > 2 * len(self._at) + SPARE:
            self._heap = [(at, name) for name, at in self._at.items()]
            heapq.heapify(self._heap)

    def forget(self, name: str) -> None:
        """It waits for nothing."""
        self._at.pop(name, None)

    def clear(self) -> None:
        """Nothing waits."""
        self._at.clear()
        self._heap.clear()

    def first(self) -> M | None:
        """The soonest moment."""
        while self._heap:
            at, name = self._heap[0]
            if self._at.get(name) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def take(self, until: M) -> str | None:
        """Take out the name whose moment is the soonest, if that is not after ``until``."""
        at = self.first()
        if at is None or at > until:
            return None
        _, name = heapq.heappop(self._heap)
        del self._at[name]
        return name
