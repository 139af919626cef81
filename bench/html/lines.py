"""How figures change with something that is counted: nodes, bytes, percentiles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Figure
from bench.html.bars import anchor
from bench.html.markup import chart, hint, label, line, percent, tag, text
from bench.html.quantities import quantity, tick
from bench.html.scales import Scale, fitting

TOP, PLOT, AXIS = 16, 210, 26
LEFT, RIGHT = 0.16, 0.93
"""Where the first and the last point stand: with room for what is written beside the grid, and below them."""

COLOURS = 6


@dataclass(frozen=True)
class Series:
    """``points``: where on the axis, from 0 to 1, what is written there, and the figure."""

    name: str
    points: Sequence[tuple[float, str, Figure]]


def line_chart(title: str, series: Sequence[Series]) -> str:
    """One line for each series, with the range of the runs at each point."""
    figures = [figure for one in series for _, _, figure in one.points]
    scale = fitting([value for figure in figures for value in (figure.min, figure.max)])
    unit = figures[0].unit
    drawn = [_series(one, index, scale) for index, one in enumerate(series)]
    svg = chart(TOP + PLOT + AXIS, title, _grid(scale, unit), _names(series), *drawn)
    return _legend(series) + svg if len(series) > 1 else svg


def _series(series: Series, index: int, scale: Scale) -> str:
    colour = f"s{index % COLOURS}"
    places = [(_across(x), figure) for x, _, figure in series.points]
    corners = " ".join(f"{1000 * x:.1f},{_y(figure.median, scale) - TOP:.1f}" for x, figure in places)
    curve = tag("polyline", points=corners, class_=f"curve {colour}")
    # Stretched to the width of the page, the stroke apart; points and text are not stretched.
    stretched = tag(
        "svg", curve, y=TOP, width="100%", height=PLOT, viewBox=f"0 0 1000 {PLOT}", preserveAspectRatio="none",
        class_="stretched",
    )  # fmt: skip
    marks = [
        tag(
            "g",
            hint(f"{series.name} {written}: {quantity(figure.median, figure.unit)}"),
            line(percent(x), _y(figure.min, scale), percent(x), _y(figure.max, scale), f"spread {colour}"),
            tag("circle", cx=percent(x), cy=_y(figure.median, scale), r=4, class_=f"point {colour}"),
        )
        for (x, figure), (_, written, _) in zip(places, series.points)
    ]
    return stretched + "".join(marks)


def _across(x: float) -> float:
    return LEFT + (RIGHT - LEFT) * x


def _y(value: float, scale: Scale) -> float:
    return TOP + PLOT * (1 - scale.place(value))


def _grid(scale: Scale, unit: str) -> str:
    return "".join(
        line("0", _y(value, scale), "100%", _y(value, scale), "grid")
        + label(tick(value, unit), "0", _y(value, scale) - 4, class_="tick")
        for value in scale.ticks
    )


def _names(series: Sequence[Series]) -> str:
    """What is written under the plot, each place once."""
    places = {_across(x): written for one in series for x, written, _ in one.points}
    return "".join(
        label(written, percent(x), TOP + PLOT + 18, anchor=anchor(x), class_="tick") for x, written in places.items()
    )


def _legend(series: Sequence[Series]) -> str:
    items = (
        tag("span", tag("i", class_=f"swatch s{index % COLOURS}"), text(one.name)) for index, one in enumerate(series)
    )
    return tag("p", *items, class_="legend")
