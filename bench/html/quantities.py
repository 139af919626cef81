"""Measured values, and names of figures, as people read them. Pure."""

from __future__ import annotations

SECONDS = {"us": 1e-6, "us/task": 1e-6, "ms": 1e-3, "s": 1.0}
UNIT_TAILS = ("_tasks_per_s", "_mib_per_s", "_mb_per_s", "_per_s", "_us", "_ms", "_s", "_bytes", "_mib", "_percent")


def quantity(value: float, unit: str) -> str:
    """Three digits and a unit that suits the size."""
    if unit in SECONDS:
        tail = "/task" if unit.endswith("/task") else ""
        return duration(value * SECONDS[unit]) + tail
    if unit in ("x", "x ideal"):
        return f"{value:.2f} x ideal" if unit.endswith("ideal") else f"{value:.2f} x"
    return f"{digits(value)} {unit}"


def duration(seconds: float) -> str:
    """As microseconds, milliseconds or seconds."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor * 0.9995:
            return f"{digits(seconds / factor)} {unit}"
    return "0 s" if seconds == 0 else f"{digits(seconds / 1e-6)} µs"


def digits(value: float) -> str:
    """At least three digits that count, none that do not."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def readable_name(name: str) -> str:
    """A figure's name as words, without the unit at its end."""
    for tail in UNIT_TAILS:
        if name.endswith(tail) and name != tail.lstrip("_"):
            name = name.removesuffix(tail)
            break
    return name.replace("_", " ")
