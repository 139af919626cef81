"""From values to places on an axis, and the values that are written beside it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

LOGARITHMIC_FROM = 60.0
"""When the largest value is so many times the smallest, the smallest cannot be seen on a linear axis."""


@dataclass(frozen=True)
class Scale:
    """``place`` gives 0 to 1."""

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = log10(low), log10(high), log10(max(value, self.low))
        return min(1.0, max(0.0, (value - low) / (high - low)))


def linear(most: float) -> Scale:
    """From zero to a round number that is not less than ``most``."""
    if most <= 0:
        return Scale(0.0, 1.0, False, (0.0, 1.0))
    step = _round_step(most / 4)
    count = ceil(most / step - 1e-9)
    return Scale(0.0, step * count, False, tuple(step * n for n in range(count + 1)))


def logarithmic(least: float, most: float) -> Scale:
    """From a power of ten, or two or five times it, that is not more than ``least``, to one not less than ``most``."""
    low, high = _below(least), _above(most)
    if low == high:
        high = _above(high * 1.01)
    decades = [10.0**n for n in range(ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9) + 1)]
    if len(decades) < 2:
        decades = [low, high]
    return Scale(low, high, True, tuple(decades))


def fitting(values: Sequence[float]) -> Scale:
    """Logarithmic where a linear one would hide the small ones."""
    positive = [value for value in values if value > 0]
    if len(positive) == len(values) and max(positive) > LOGARITHMIC_FROM * min(positive):
        return logarithmic(min(positive), max(positive))
    return linear(max(values, default=1.0))


def _round_step(step: float) -> float:
    power = 10.0 ** floor(log10(step))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step * (1 - 1e-9))


def _below(value: float) -> float:
    power = 10.0 ** floor(log10(value))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= value * (1 + 1e-9))


def _above(value: float) -> float:
    power = 10.0 ** floor(log10(value))
    return min(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * (1 - 1e-9))
