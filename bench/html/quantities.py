"""Measured values, and names of figures, as people read them. Pure."""

from __future__ import annotations

import re

TITLES = {
    "us": "Time", "ms": "Time", "s": "Time", "us/task": "Time per task", "tasks/s": "Tasks per second",
    "MiB/s": "MiB per second", "MB/s": "MB per second", "MiB": "Memory in MiB", "bytes": "Bytes", "tasks": "Tasks",
    "bytes/task": "Bytes per task", "%": "Per cent", "x": "Ratio", "x ideal": "Against the ideal",
}  # fmt: skip
"""What a chart is called that shows figures of this unit."""

POINTLESS = re.compile(r"\.0+(?= |$)|(?<=\.\d)0+(?= |$)")
"""Zeros behind the point that say nothing where a value is round."""

SECONDS = {"us": 1e-6, "us/task": 1e-6, "ms": 1e-3, "s": 1.0}
UNIT_TAILS = ("_tasks_per_s", "_mib_per_s", "_mb_per_s", "_per_s", "_us", "_ms", "_s", "_bytes", "_mib", "_percent")


def tick(value: float, unit: str) -> str:
    """A round value beside an axis, where only times need their unit at each place."""
    if value == 0:
        return "0"
    if unit in SECONDS:
        return POINTLESS.sub("", quantity(value, unit).removesuffix("/task"))
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * factor or value == factor == 1e6:
            return POINTLESS.sub("", digits(value / factor)) + letter
    return POINTLESS.sub("", digits(value))


def quantity(value: float, unit: str) -> str:
    """Three digits and a unit that suits the size."""
    if unit in SECONDS:
        return duration(value * SECONDS[unit]) + ("/task" if unit.endswith("/task") else "")
    if unit in ("x", "x ideal"):
        return f"{value:.2f} {unit}"
    return f"{digits(value)} {unit}"


def duration(seconds: float) -> str:
    """As microseconds, milliseconds or seconds."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= factor * 0.9995:
            return f"{digits(seconds / factor)} {unit}"
    return f"{digits(seconds / 1e-6)} µs"


def digits(value: float) -> str:
    """Three digits that count, or all of those before the point."""
    size = abs(value)
    if size >= 99.95 or value == 0:
        return f"{value:,.0f}"
    if size < 0.1:
        return f"{value:.2g}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def readable_name(name: str) -> str:
    """A figure's name as words, without the unit at its end."""
    for tail in UNIT_TAILS:
        if name.endswith(tail) and name != tail.lstrip("_"):
            name = name.removesuffix(tail)
            break
    return name.replace("_", " ")
