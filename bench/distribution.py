"""How often a measured thing took how long: counts in buckets of equal width on a logarithmic scale. Pure.

A hundred thousand round trips become some fifty numbers, runs can be added up, and the shape stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import floor, log10

PER_DECADE = 25
"""Buckets from one power of ten to the next: each is 10 % wider than the one before."""

Counts = dict[str, int]
"""How many values in which bucket; the names of buckets are text, since JSON knows no other."""


def histogram(values: Iterable[float]) -> Counts:
    """Counts of positive ``values``."""
    found = Counter(floor(log10(value) * PER_DECADE) for value in values if value > 0)
    return {str(bucket): found[bucket] for bucket in sorted(found)}


def merged(*histograms: Mapping[str, int]) -> Counts:
    """All counts together."""
    total: Counter[int] = Counter()
    for counts in histograms:
        total.update({int(bucket): count for bucket, count in counts.items()})
    return {str(bucket): total[bucket] for bucket in sorted(total)}


def low_of(bucket: int) -> float:
    """The least value in a bucket; the next one begins where it ends."""
    return float(10 ** (bucket / PER_DECADE))


def quantile(counts: Mapping[str, int], percent: float) -> float:
    """Where about ``percent`` per cent of the values lie below: the middle of a bucket, so 5 % off at most."""
    if not counts:
        raise ValueError(f"percentile {percent} of no values")
    buckets = sorted((int(bucket), count) for bucket, count in counts.items())
    left = percent / 100 * sum(count for _, count in buckets)
    reached = 0
    for bucket, count in buckets:
        reached, left = bucket, left - count
        if left <= 0:
            break
    return low_of(reached) * float(10 ** (0.5 / PER_DECADE))
