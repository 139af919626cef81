"""The page of a comparison: a chart for each measure, rows side by side, and what everybody was set to. Pure."""

from __future__ import annotations

from bench.comparison import MEASURES, Measure, Row, absent, key_of, rows
from bench.html.bars import Bar, bar_chart
from bench.html.markup import tag, text
from bench.html.quantities import digits
from bench.html.tables import card, folded, heading, table
from bench.report import Report

OURS = "mesh"


def comparison(report: Report) -> list[str]:
    """The parts of the page that are of comparisons alone."""
    found = rows(report.figures, report.settings)
    charts = [_chart(index, measure, found) for index, measure in enumerate(MEASURES)]
    parts = [card("Side by side", _side_by_side(found)), tag("div", *charts, class_="cards")]
    if ratios := _ratios(report, found):
        parts.append(card("This mesh against each of them", ratios))
    parts.append(folded("What everybody was set to", _settings(found)))
    if missing := absent(report.settings):
        items = [tag("li", tag("b", text(name)), text(f": {why[:300]}")) for name, why in missing.items()]
        parts.append(card("Not in the comparison", tag("ul", *items, class_="plain")))
    return parts


def _chart(index: int, measure: Measure, found: list[Row]) -> str:
    bars = [Bar(row.name, cell, row.name == OURS) for row in found if (cell := row.cells[index])]
    if not bars:
        return ""
    bars.sort(key=lambda bar: bar.figure.median, reverse=measure.more_is_better)
    better = "more is better" if measure.more_is_better else "less is better"
    return card(measure.title, bar_chart(measure.title, bars), tag("p", text(better), class_="note"))


def _side_by_side(found: list[Row]) -> str:
    headings = [heading("entrant"), *(heading(measure.heading, measure.unit) for measure in MEASURES)]
    best = [_best(index, found) for index in range(len(MEASURES))]
    written = []
    for row in found:
        cells = [tag("td", text(row.name))]
        for index, cell in enumerate(row.cells):
            spread = f"{digits(cell.min)} to {digits(cell.max)}" if cell else ""
            content = [tag("span", text(digits(cell.median))), tag("small", text(spread))] if cell else [text("-")]
            cells.append(tag("td", *content, class_="best" if cell and cell.median == best[index] else ""))
        written.append(tag("tr", *cells, class_="ours" if row.name == OURS else ""))
    note = "Medians, with the least and the most of the runs below; a dot stands beside the best of a column."
    return table(headings, written) + tag("p", text(note), class_="note")


def _best(index: int, found: list[Row]) -> float | None:
    values = [cell.median for row in found if (cell := row.cells[index])]
    if not values:
        return None
    return max(values) if MEASURES[index].more_is_better else min(values)


def _ratios(report: Report, found: list[Row]) -> str:
    measures = [measure for measure in MEASURES if measure.ratio]
    written = []
    for row in found:
        name = key_of(row.name)
        values = [report.ratios.get(f"{measure.ratio}_{name}") for measure in measures]
        if any(value is not None for value in values):
            cells = [tag("td", text("-" if value is None else f"{digits(value)} x")) for value in values]
            written.append(tag("tr", tag("td", text(row.name)), *cells))
    headings = [heading("to"), *(heading(measure.heading, _better(measure)) for measure in measures)]
    return table(headings, written) if written else ""


def _better(measure: Measure) -> str:
    return "more is better" if measure.more_is_better else "less is better"


def _settings(found: list[Row]) -> str:
    written = []
    for row in found:
        lines = [tag("li", text(one)) for one in row.lines() if one]
        written.append(
            tag("tr", tag("td", text(row.name)), tag("td", tag("ul", *lines, class_="plain"), class_="words"))
        )
    words = tag("th", text("versions and settings"), class_="words")
    return table([heading("entrant"), words], written)
