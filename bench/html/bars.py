"""Figures side by side: bars on a linear scale, dots on a logarithmic one, each with the range of its runs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Figure
from bench.html.markup import chart, hint, label, line, percent, tag
from bench.html.quantities import quantity, tick
from bench.html.scales import Scale, fitting

ROW = 42
BAR_Y = 20
BAR = 10
AXIS = 22


@dataclass(frozen=True)
class Bar:
    """``ours``: drawn in the colour that stands for this mesh."""

    name: str
    figure: Figure
    ours: bool = False


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """One row for each."""
    scale = fitting([value for bar in bars for value in (bar.figure.min, bar.figure.max)])
    rows = [_row(bar, index * ROW, scale) for index, bar in enumerate(bars)]
    height = ROW * len(bars)
    if not scale.logarithmic:
        return chart(height, title, *rows)
    unit = bars[0].figure.unit
    return chart(height + AXIS, title, _axis(scale, height, unit), *rows)


def _row(bar: Bar, top: float, scale: Scale) -> str:
    found = bar.figure
    colour = "ours" if bar.ours else "theirs"
    middle = top + BAR_Y + BAR / 2
    low, mid, high = (scale.place(value) for value in (found.min, found.median, found.max))
    if scale.logarithmic:
        marks = [
            line(percent(low), middle, percent(high), middle, f"range {colour}"),
            tag("circle", cx=percent(mid), cy=middle, r=5.5, class_=f"dot {colour}"),
        ]
    else:
        marks = [
            tag("rect", x=0, y=top + BAR_Y, width="100%", height=BAR, rx=3, class_="track"),
            tag("rect", x=0, y=top + BAR_Y, width=percent(mid), height=BAR, rx=3, class_=f"bar {colour}"),
            line(percent(low), middle, percent(high), middle, "whisker"),
        ]
    said = f"{bar.name}: {quantity(found.median, found.unit)}"
    spread = f" ({quantity(found.min, found.unit)} to {quantity(found.max, found.unit)})"
    strong = " strong" if bar.ours else ""
    return tag(
        "g",
        hint(said + spread),
        label(bar.name, "0", top + 13, class_=f"name{strong}"),
        label(quantity(found.median, found.unit), "100%", top + 13, anchor="end", class_=f"value{strong}"),
        *marks,
    )


def _axis(scale: Scale, height: float, unit: str) -> str:
    parts = []
    for value in scale.ticks:
        place = scale.place(value)
        parts.append(line(percent(place), BAR_Y - 4, percent(place), height, "grid"))
        parts.append(label(tick(value, unit), percent(place), height + 16, anchor=anchor(place), class_="tick"))
    return "".join(parts)


def anchor(place: float) -> str:
    """So that what is written at an edge stays inside."""
    return "start" if place < 0.04 else "end" if place > 0.96 else "middle"
