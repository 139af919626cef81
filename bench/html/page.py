"""A report, or several, as one page that opens without a network: style and drawings are in it. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from bench.comparison import is_comparison
from bench.directions import FIGURES, better, meanings
from bench.figures import Figure
from bench.html.bars import Bar, bar_chart
from bench.html.compared import comparison
from bench.html.grouping import Group, groups
from bench.html.lines import line_chart
from bench.html.markup import tag, text
from bench.html.quantities import quantity, readable_name
from bench.html.ridges import Ridge, ridge_chart
from bench.html.style import STYLE
from bench.html.tables import card, facts, figures_table, folded, ratios_table
from bench.report import SHOWN_APART, Report

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A browser holds the page to it: nothing is asked for from anywhere."""

NOT_OURS = ("floor", "fdatasync")
"""How figures begin that stand beside those of the mesh."""

EXECUTOR = "executor"
"""The same, where nothing else is in the name, or the mesh has a figure of the rest: it has executors, too."""

OURS = "mesh"
TILES = 8
HEADLINES = 2


def page(reports: Sequence[Report], written: str) -> str:
    """All of it; ``written`` says when."""
    several = len(reports) > 1
    title = "taskmesh bench" if several else f"taskmesh bench: {reports[0].scenario}"
    machine = reports[0].machine
    lead = f"{machine.get('cpu', 'a machine')}, {machine.get('cpus', '?')} CPUs, Python {machine.get('python', '?')}"
    parts = [tag("h1", text(title)), tag("p", text(f"{lead}; {written}"), class_="lead")]
    caveats = dict.fromkeys(caveat for report in reports for caveat in report.caveats)
    parts += [tag("p", text(caveat), class_="caveat") for caveat in caveats]
    if several:
        links = [tag("a", text(report.scenario), href=f"#{report.scenario}") for report in reports]
        parts.append(tag("nav", *links))
    body = [tag("header", *parts)]
    for report in reports:
        if several:
            body.append(tag("h2", text(report.scenario), id=report.scenario))
        body += _parts(report, several)
    if several:
        body += [tag("h2", text("machine")), card("Before the first of them", facts(machine))]
    footer = "Medians over the runs, with the least and the most. No figure means anything without its machine."
    body.append(tag("footer", text(footer)))
    return _document(title, tag("main", *body))


def _document(title: str, body: str) -> str:
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<link rel="icon" href="data:,">',
        tag("title", text(title)),
        f"<style>{STYLE}</style>",
    ]
    return f'<!doctype html>\n<html lang="en"><head>{"".join(head)}</head><body>{body}</body></html>\n'


def _parts(report: Report, one_of_many: bool) -> list[str]:
    """What a report is made of. Of many, the tables are folded and the machine is left to the end of the page."""
    compared = is_comparison(report.figures, report.settings)
    if compared:
        parts = comparison(report)
    else:
        parts = [_tiles(report), _words(report), tag("div", *map(_chart, groups(report.figures)), class_="cards")]
    if report.distributions:
        parts.append(_distributions(report))
    show = folded if one_of_many or compared else card
    parts += [tag("p", text(note), class_="note") for note in report.notes]
    parts.append(show("Figures", figures_table(report.figures)))
    if report.ratios and not compared:
        parts.append(show("Ratios", ratios_table(report.ratios, report.scenario)))
    stated = {name: value for name, value in report.settings.items() if name not in SHOWN_APART}
    if one_of_many:
        return [*parts, folded("Settings", facts(stated))]
    sides = card("Settings", facts(stated)), card("Machine", facts(report.machine))
    return [*parts, tag("div", *sides, class_="cards")]


def _tiles(report: Report) -> str:
    """The first figures of the mesh, or those there are, and the ratios."""
    figures = report.figures
    names = [name for name in figures if is_ours(name, figures)] or list(figures)
    found = [(quantity(figures[name].median, figures[name].unit), readable_name(name)) for name in names[:HEADLINES]]
    found += [(f"{ratio:.2f} x", _ratio_name(report.scenario, name)) for name, ratio in report.ratios.items()]
    tiles = [tag("div", _large(value), tag("span", text(name)), class_="tile") for value, name in found[:TILES]]
    return tag("div", *tiles, class_="tiles")


def _ratio_name(scenario: str, name: str) -> str:
    side = better(scenario, name)
    return name.replace("_", " ") + (f" ({side} is better)" if side else "")


def _words(report: Report) -> str:
    """What is better, and what the names of figures say."""
    return tag("p", text(" ".join([FIGURES, *meanings(report.figures)])), class_="note")


def _large(value: str) -> str:
    number, _, unit = value.partition(" ")
    return tag("b", text(number), tag("small", text(f" {unit}")))


def _chart(group: Group) -> str:
    if group.series:
        return card(group.title, line_chart(group.title, group.series))
    assert group.figures is not None
    return card(group.title, bar_chart(group.title, _bars(group.figures)))


def _bars(figures: Mapping[str, Figure]) -> list[Bar]:
    return [Bar(readable_name(name), figure, is_ours(name, figures)) for name, figure in figures.items()]


def is_ours(name: str, names: Container[str]) -> bool:
    """Whether this one of ``names`` is of the mesh."""
    of, _, what = name.partition("_")
    return not name.startswith(NOT_OURS) and not (of == EXECUTOR and (not what or what in names))


def _distributions(report: Report) -> str:
    compared = is_comparison(report.figures, report.settings)
    ridges = [
        Ridge(
            name.replace("_", " "),
            found.counts,
            found.unit,
            name == OURS if compared else is_ours(name, report.distributions),
        )
        for name, found in report.distributions.items()
        if found.counts
    ]
    note = (
        "How often it took how long; a line at the median of all values, a dashed one at their 99th percentile, where "
        "enough lie beyond. In the figures stands the median of what the percentile is in each run."
    )
    return card(
        "Distribution of all runs together",
        ridge_chart("Distribution of latencies", ridges),
        tag("p", text(note), class_="note"),
    )
