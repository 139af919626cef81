"""What a scenario found, as one JSON object or as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Figure


@dataclass
class Report:
    """One scenario's result; see docs/BENCH.md for the names."""

    scenario: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    figures: dict[str, Figure] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The object that ``--json`` prints."""
        figures = {name: found._asdict() for name, found in self.figures.items()}
        content = {
            "scenario": self.scenario,
            "settings": self.settings,
            "machine": self.machine,
            "figures": figures,
            "ratios": self.ratios,
        }
        return json.dumps(content, indent=2)

    def show(self, console: Console) -> None:
        """Print the table, then where it was measured."""
        console.print(figures_table(self.figures))
        if self.ratios:
            table = Table(box=None, pad_edge=False)
            table.add_column("ratio")
            table.add_column("median of pairs", justify="right")
            for name, ratio in self.ratios.items():
                table.add_row(name, f"{ratio:.2f} x")
            console.print()
            console.print(table)
        console.print()
        console.print(_in_one_line("settings", self.settings), highlight=False, soft_wrap=True)
        console.print(_in_one_line("machine", self.machine), highlight=False, soft_wrap=True)


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
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _in_one_line(title: str, facts: Mapping[str, Any]) -> str:
    return f"{title}: " + ", ".join(f"{name} {_plain(value)}" for name, value in facts.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_plain(part)}" for name, part in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
