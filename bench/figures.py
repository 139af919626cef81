"""Many measurements of one thing, as the few numbers that are reported. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import NamedTuple

PERCENTILES = (50, 95, 99, 99.9)


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


def percentiles_us(microseconds: Sequence[float]) -> dict[str, float]:
    """The percentiles that are reported, by the names of their figures: ``p50_us`` ... ``p999_us``."""
    return {percentile_name(percent): percentile(microseconds, percent) for percent in PERCENTILES}


def percentile_name(percent: float) -> str:
    """``p999_us`` for 99.9."""
    return f"p{percent:g}_us".replace(".", "")


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours / theirs, pair by pair: the two of a pair ran one after the other, under the same load."""
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} runs of ours, {len(theirs)} of theirs: not pairs")
    return median(our / their for our, their in zip(ours, theirs))
