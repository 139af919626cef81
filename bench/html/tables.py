"""Figures, ratios, settings and the machine as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.directions import better
from bench.figures import Figure
from bench.html.markup import tag, text
from bench.html.quantities import quantity


def card(title: str, *children: str) -> str:
    """A part of the page with a title."""
    return tag("section", tag("h3", text(title)), *children, class_="card")


def folded(title: str, *children: str) -> str:
    """The same, to be opened by those who want it."""
    return tag("details", tag("summary", text(title)), *children, class_="card")


def table(headings: Iterable[str], rows: Iterable[str]) -> str:
    """A table that scrolls by itself where the window is narrow; ``headings`` and ``rows`` are markup."""
    head = tag("thead", tag("tr", *headings))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def heading(name: str, small: str = "") -> str:
    return tag("th", text(name), tag("small", text(small)) if small else "")


def figures_table(figures: Mapping[str, Figure]) -> str:
    """Median, least and most."""
    headings = [heading(name) for name in ("figure", "median", "min", "max")]
    rows = []
    for name, found in figures.items():
        cells = [tag("td", text(quantity(value, found.unit))) for value in found[:3]]
        rows.append(tag("tr", tag("td", tag("code", text(name))), *cells))
    return table(headings, rows)


def ratios_table(ratios: Mapping[str, float], scenario: str) -> str:
    """Each ratio, and whether more or less of it is better."""
    rows = [
        tag("tr", *(tag("td", one) for one in (tag("code", text(name)), f"{ratio:.2f} x", better(scenario, name))))
        for name, ratio in ratios.items()
    ]
    return table([heading("ratio"), heading("median of pairs"), heading("better")], rows)


def facts(values: Mapping[str, Any]) -> str:
    """Names and values; what has parts is written in one line."""
    parts = []
    for name, value in values.items():
        parts += [tag("dt", text(name.replace("_", " "))), tag("dd", text(in_words(value)))]
    return tag("dl", *parts)


def in_words(value: Any) -> str:
    """Any value that JSON knows, as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
