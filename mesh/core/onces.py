"""When is an entry to be looked at again that is due only once: some time after that it goes, for else they pile up."""

from __future__ import annotations

import heapq
from math import inf


class Onces:
    """The entries of one router that are due once and go by themselves. Instants are UTC seconds."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # with some that are looked at earlier by now, or no more

    def watch(self, name: str, at: float) -> None:
        """Look at it then, or earlier where that was said before."""
        if at < self._at.get(name, inf):
            self._at[name] = at
            heapq.heappush(self._heap, (at, name))

    def forget(self, name: str) -> None:
        """It is gone."""
        self._at.pop(name, None)

    def take(self, now: float) -> list[str]:
        """Those to be looked at now."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, name = heapq.heappop(self._heap)
            if self._at.get(name) == at:
                del self._at[name]
                found.append(name)
        return found
