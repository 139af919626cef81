"""Many measurements of one thing, as the few numbers that are reported. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from math import ceil
from statistics import median
from typing import NamedTuple

PERCENTILES = (50, 95, 99, 99.9)

BEYOND_MIN = 10
"""So many values must lie beyond a percentile: of fewer, the next run has others."""


class Figure(NamedTuple):
    """One measured thing over several runs."""

    median: float
    min: float
    max: float
    unit: str


def figure(values: Sequence[float], unit: str) -> Figure:
    """Median, least and most of ``values``. Raises ``ValueError`` where there are none."""
    if not values:
        raise ValueError(f"no measurements to make a figure of, in {unit}")
    return Figure(median(values), min(values), max(values), unit)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that ``percent`` per cent of them do not exceed (nearest rank, no interpolation)."""
    if not values or not 0 < percent <= 100:
        raise ValueError(f"percentile {percent} of {len(values)} values: give 0 < percent <= 100 and some values")
    ordered = sorted(values)
    rank = ceil(percent * len(ordered) / 100 - 1e-9)  # 99.9 is a little more than it says
    return ordered[max(1, rank) - 1]


def says_something(percent: float, count: int) -> bool:
    """Whether enough of ``count`` values lie beyond this percentile."""
    return count * (100 - percent) / 100 >= BEYOND_MIN - 1e-9


def percentiles_us(microseconds: Sequence[float]) -> dict[str, float]:
    """Those of the percentiles that say something, by the names of their figures: ``p50_us`` ... ``p999_us``."""
    return {
        percentile_name(percent): percentile(microseconds, percent)
        for percent in PERCENTILES
        if says_something(percent, len(microseconds))
    }


def left_out(wanted: Iterable[str], found: Container[str]) -> list[str]:
    """A line for the report on the percentiles that are not in it, where there are such."""
    names = ", ".join(name for name in wanted if name not in found)
    return [f"left out, for fewer than {BEYOND_MIN} values of a run lie beyond: {names}"] if names else []


def percentile_name(percent: float) -> str:
    """``p999_us`` for 99.9."""
    return f"p{percent:g}_us".replace(".", "")


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours / theirs, pair by pair: the two of a pair ran one after the other, under the same load."""
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} runs of ours, {len(theirs)} of theirs: not pairs")
    return median(our / their for our, their in zip(ours, theirs))
