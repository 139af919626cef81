"""Which figures belong into one chart, from their names and units alone. Pure.

Scenarios need not be known here: ``nodes_1_tasks_per_s``, ``nodes_2_tasks_per_s`` ... are a line over the number,
``p50_us``, ``p95_us`` ... are percentiles, and what is left is set side by side, unit by unit.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log

from bench.figures import Figure
from bench.html.lines import Series
from bench.html.quantities import TITLES, readable_name

LEAST_POINTS = 3
OURS = "mesh"
WIDE = 8.0
"""When the last number is so many times the first, steps are drawn alike that multiply alike."""

COUNTED = re.compile(r"(?<![a-z0-9])([a-z]*?)(\d+)(k|m|b|kb|mb|gb|kib|mib|gib)?(?![a-z0-9])")
PERCENTILE = re.compile(r"(?<![a-z0-9])p(\d{2})(?:_?(\d))?(?![0-9a-z])")
FACTORS = {
    None: 1, "b": 1, "k": 1e3, "m": 1e6, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """What one chart shows: ``series`` over something, or else ``figures`` side by side."""

    title: str
    series: tuple[Series, ...] = ()
    figures: Mapping[str, Figure] | None = None


@dataclass(frozen=True)
class Point:
    template: str
    number: float
    written: str


def groups(figures: Mapping[str, Figure]) -> list[Group]:
    """All figures, each in one chart."""
    counted = _lines(figures, counted_point, even=False)
    left = {name: figure for name, figure in figures.items() if name not in counted[1]}
    percentiles = _lines(left, percentile_point, even=True)
    left = {name: figure for name, figure in left.items() if name not in percentiles[1]}
    return [*counted[0], *percentiles[0], *_by_unit(left)]


def counted_point(name: str) -> Point | None:
    """Where a figure with a number in its name stands on the axis."""
    if PERCENTILE.search(name) or not (found := COUNTED.search(name)):
        return None
    prefix, number, unit = found.groups()
    template = f"{name[: found.start()]}{prefix}#{name[found.end() :]}"
    return Point(template, float(number) * FACTORS[unit], f"{number}{' ' if unit else ''}{_unit_written(unit)}")


def percentile_point(name: str) -> Point | None:
    """The same of ``p50``, ``p99_9`` and ``p999``."""
    found = PERCENTILE.search(name)
    if not found:
        return None
    whole, tenth = found.groups()
    number = float(f"{whole}.{tenth or 0}")
    return Point(f"{name[: found.start()]}#{name[found.end() :]}", number, f"p{number:g}")


def _unit_written(unit: str | None) -> str:
    return {"kib": "KiB", "mib": "MiB", "gib": "GiB", "kb": "kB", "mb": "MB", "gb": "GB", "m": "M"}.get(
        unit or "", unit or ""
    )


def _lines(
    figures: Mapping[str, Figure], point_of: Callable[[str], Point | None], *, even: bool
) -> tuple[list[Group], set[str]]:
    """Charts of the figures that ``point_of`` finds a place for, and the names of those."""
    families: defaultdict[tuple[str, str], list[tuple[Point, Figure, str]]] = defaultdict(list)
    for name, figure in figures.items():
        if (point := point_of(name)) is not None:
            families[point.template, figure.unit].append((point, figure, name))
    least = 2 if even else LEAST_POINTS
    families = defaultdict(list, {key: found for key, found in families.items() if len(found) >= least})
    by_axis: defaultdict[tuple[str, tuple[float, ...]], list[str]] = defaultdict(list)
    for (template, unit), found in families.items():
        by_axis[unit, tuple(sorted(point.number for point, _, _ in found))].append(template)
    charts = []
    for (unit, numbers), templates in by_axis.items():
        places = _places(numbers, even)
        series = []
        for template in templates:
            members = sorted(families[template, unit], key=lambda member: member[0].number)
            points = [(places[point.number], point.written, figure) for point, figure, _ in members]
            series.append(Series(_series_name(template), points))
        title = TITLES.get(unit, unit)
        what = [series[0].name] if len(series) == 1 and not (even and series[0].name == OURS) else []
        what += ["percentiles of each run"] if even else []
        charts.append(Group(f"{title}: {' '.join(what)}" if what else title, tuple(series)))
    return charts, {name for found in families.values() for _, _, name in found}


def _places(numbers: Iterable[float], even: bool) -> dict[float, float]:
    ordered = list(dict.fromkeys(numbers))
    if even or len(ordered) < 2:
        return {number: index / max(1, len(ordered) - 1) for index, number in enumerate(ordered)}
    first, last = ordered[0], ordered[-1]
    if first > 0 and last / first >= WIDE:
        return {number: log(number / first) / log(last / first) for number in ordered}
    return {number: (number - first) / (last - first) for number in ordered}


def _series_name(template: str) -> str:
    return " ".join(readable_name(template).replace("#", "").split()) or OURS


def _by_unit(figures: Mapping[str, Figure]) -> list[Group]:
    units: defaultdict[str, dict[str, Figure]] = defaultdict(dict)
    for name, figure in figures.items():
        units[figure.unit][name] = figure
    return [Group(TITLES.get(unit, unit), figures=found) for unit, found in units.items()]
