"""Decides when this machine starts a router, because the mesh has too few.

Pure: how many routers are seen and the time go in. All machines that were started with ``mesh up --lan`` see the same
gap at the same time, also where all start at once, as after a power cut. So each waits a moment of its own, and the one
whose node id is lowest waits the least: the others mostly see its router before their turn comes. One router too many
is harmless.
"""

from __future__ import annotations

from math import inf

SETTLE_S = 1.5  # a router that is started anew is back sooner
SPREAD_S = 2.0  # over which the machines spread; a router is seen by all within a part of it


class Replenishing:
    """Of one machine. ``wanted``: routers the mesh should have; ``node_id``: hexadecimal, evenly spread."""

    def __init__(self, wanted: int, node_id: str) -> None:
        self._wanted = wanted
        self._patience_s = SETTLE_S + SPREAD_S * (int(node_id[:8], 16) / 0xFFFFFFFF)
        self._due = inf  # when to start one
        self._started = False

    def see(self, routers: int, now: float) -> bool:
        """So many routers answer now (monotonic seconds); whether to start one here. Says so once."""
        if self._started:
            return False
        if routers >= self._wanted:
            self._due = inf
        elif self._due == inf:
            self._due = now + self._patience_s
        self._started = now >= self._due
        return self._started

    def next_deadline(self) -> float:
        """When to look again at the latest; inf: when the number changes."""
        return inf if self._started else self._due
