"""What a scenario found, as one JSON object or as a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.comparison import MEASURES, absent, is_comparison, key_of
from bench.comparison import rows as comparison_rows
from bench.directions import better
from bench.distribution import PER_DECADE, Counts
from bench.figures import Figure


class Distribution(NamedTuple):
    """How long it took how often, over all runs; see ``bench.distribution``."""

    unit: str
    counts: Counts
    per_decade: int = PER_DECADE


QUICK = "a quick run: a hint, not a measurement"

LOAD_MAX = 0.5
"""A machine that is busier than this before the bench begins has other work."""


@dataclass
class Report:
    """One scenario's result; see docs/BENCH.md for the names."""

    scenario: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    figures: dict[str, Figure] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    distributions: dict[str, Distribution] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What to know besides the figures, each in a line."""

    @property
    def caveats(self) -> list[str]:
        """Why its figures are to be taken with care, each in a line."""
        found = [QUICK] if self.settings.get("quick") else []
        load = self.machine.get("load_before")
        if isinstance(load, int | float) and load > LOAD_MAX:
            found.append(
                f"the machine had other work: load_before is {load:g}, and the figures are those of a busy machine"
            )
        return found

    def of_a_run(self, quick: bool) -> Report:
        """This report; where the run was quick, its settings say so."""
        return replace(self, settings={"quick": True, **self.settings}) if quick else self

    def to_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints; ``distributions`` and ``notes`` only where there are some."""
        content = {
            "scenario": self.scenario,
            "settings": self.settings,
            "machine": self.machine,
            "figures": {name: found._asdict() for name, found in self.figures.items()},
            "ratios": self.ratios,
        }
        if self.distributions:
            content["distributions"] = {name: found._asdict() for name, found in self.distributions.items()}
        if self.notes:
            content["notes"] = self.notes
        return content

    def to_json(self) -> str:
        """The same, as text."""
        return json.dumps(self.to_dict(), indent=2)

    def show(self, console: Console) -> None:
        """Print the table, then where it was measured."""
        compared = is_comparison(self.figures, self.settings)
        if compared:
            show_comparison(self.figures, self.settings, self.ratios, console)
        else:
            console.print(figures_table(self.figures))
        for note in self.notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        if self.ratios and not compared:
            console.print()
            console.print(ratios_table(self.ratios, self.scenario))
        console.print()
        stated = {name: value for name, value in self.settings.items() if name not in SHOWN_APART}
        console.print(_in_one_line("settings", stated), highlight=False, soft_wrap=True)
        console.print(_in_one_line("machine", self.machine), highlight=False, soft_wrap=True)
        for caveat in self.caveats:
            console.print(caveat, highlight=False, markup=False, soft_wrap=True, style="yellow")


def show_all(reports: Iterable[Report], console: Console) -> None:
    """The tables of each under the name of its scenario."""
    for report in reports:
        console.rule(report.scenario, align="left")
        report.show(console)
        console.print()


SHOWN_APART = ("entrants", "not_installed", "failed")


def show_comparison(
    figures: Mapping[str, Figure], settings: Mapping[str, Any], ratios: Mapping[str, float], console: Console
) -> None:
    """A row for each entrant, then ours against each, then what each of them was set to, then who is missing."""
    found = comparison_rows(figures, settings)
    measured = [index for index in range(len(MEASURES)) if any(row.cells[index] for row in found)]
    table = _side_by_side("entrant", [(MEASURES[index].heading, MEASURES[index].unit) for index in measured])
    for row in found:
        cells = (row.cells[index] for index in measured)
        table.add_row(row.name, *(number(cell.median) if cell else "-" for cell in cells))
    console.print(table)
    compared = [MEASURES[index] for index in measured if MEASURES[index].ratio]
    against = _side_by_side("ours to", [(one.heading, "more" if one.more_is_better else "less") for one in compared])
    for row in found:
        name = key_of(row.name)
        values = [ratios.get(f"{measure.ratio}_{name}") for measure in compared]
        if any(value is not None for value in values):
            against.add_row(row.name, *("-" if value is None else f"{number(value)} x" for value in values))
    if against.row_count:
        console.print()
        console.print(against)
        console.print("a median of pairs; more, less: which is better", highlight=False, style="dim")
    console.print()
    stated = Table(box=None, pad_edge=False)
    stated.add_column("entrant")
    stated.add_column("versions and settings", overflow="fold")
    for row in found:
        stated.add_row(row.name, "\n".join(row.lines()))
    console.print(stated)
    console.print()
    for name, why in absent(settings).items():
        console.print(f"{name}: {why}", highlight=False, markup=False, soft_wrap=True)


def _side_by_side(first: str, headings: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column("\n".join(heading), justify="right", no_wrap=True)
    return table


def ratios_table(ratios: Mapping[str, float], scenario: str) -> Table:
    """Each ratio by its name."""
    table = Table(box=None, pad_edge=False)
    table.add_column("ratio")
    table.add_column("median of pairs", justify="right")
    table.add_column("better")
    for name, ratio in ratios.items():
        table.add_row(name, f"{ratio:.2f} x", better(scenario, name))
    return table


def figures_table(figures: Mapping[str, Figure]) -> Table:
    """Median, min and max of each figure."""
    table = Table(box=None, pad_edge=False)
    table.add_column("figure")
    for heading in ("median", "min", "max"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for name, found in figures.items():
        table.add_row(name, *(number(value) for value in found[:3]), found.unit)
    return table


def number(value: float) -> str:
    """As many digits as are worth reading."""
    if abs(value) >= 100 or value % 1 == 0:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _in_one_line(title: str, facts: Mapping[str, Any]) -> str:
    return f"{title}: " + ", ".join(f"{name} {_plain(value)}" for name, value in facts.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_plain(part)}" for name, part in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
