"""What is asked of a figure, and whether it was met. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bench.report import number

MISSED = "MISSED"


class Asked(NamedTuple):
    """``below``: less than ``bound`` is asked for, else at least as much. ``cpus``: what a machine must have for it."""

    name: str
    bound: float
    below: bool = False
    cpus: int = 1

    def verdict(self, value: float, cpus: int) -> str:
        """A line for the report. What a small machine misses it may have no CPUs for; what it reaches, it reaches."""
        if value < self.bound if self.below else value >= self.bound:
            found = "met"
        elif cpus < self.cpus:
            found = f"not judged, for it takes {self.cpus} CPUs and there are {cpus}"
        else:
            found = MISSED
        side = "less than" if self.below else "at least"
        told = f"{self.name} is {number(value)}, asked for {side} {number(self.bound)}"
        return f"{MISSED}: {told}" if found == MISSED else f"{told}: {found}"


def verdicts(asked: Iterable[Asked], found: Mapping[str, float], cpus: int) -> list[str]:
    """A line for each that was measured, those that were missed first."""
    told = [one.verdict(found[one.name], cpus) for one in asked if one.name in found]
    return sorted(told, key=lambda line: not line.startswith(MISSED))
