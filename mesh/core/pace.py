"""How long tasks run, and from that how much work to hold and to hand out at once."""

from __future__ import annotations

from mesh.settings import Settings

OVERHEAD_S = 10e-6  # what a task costs a node beside its own run time
NAMES_MAX = 10_000
WEIGHT = 0.2  # of a new measurement against the past


class Pace:
    """Run times by task name, and over all; a moving average, so that it follows a change within a few tasks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_name: dict[str, float] = {}
        self._overall: float | None = None

    def observe(self, name: str, total_s: float, count: int) -> None:
        """``count`` tasks of this name took ``total_s`` seconds together."""
        mean = total_s / count
        weight = 1.0 - (1.0 - WEIGHT) ** min(count, 32)
        before = self._by_name.get(name)
        if before is None and len(self._by_name) >= NAMES_MAX:
            self._by_name.clear()
        self._by_name[name] = mean if before is None else before + weight * (mean - before)
        overall = self._overall
        self._overall = mean if overall is None else overall + weight * (mean - overall)

    def runtime(self, name: str) -> float:
        """How long the next task of this name will probably run; a name never seen counts as a full chunk."""
        return self._by_name.get(name, self._settings.chunk_s)

    def window(self, slots: int) -> int:
        """How many deliveries to hold: ``credit_s`` of work, at least one more than can run at once."""
        least = slots + 1
        if self._overall is None:
            return least
        wanted = int(slots * self._settings.credit_s / (self._overall + OVERHEAD_S))
        return max(least, min(wanted, self._settings.credit_max))
