"""Tables: with lines and colours on a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from nodes.shown import shown

FOLDED_MIN = 16  # characters of a column, below which what is in it cannot be read at a glance
GAP = 3  # between two columns, as rich draws them


@dataclass(slots=True)
class Table:
    """``columns`` whose name begins with ``>`` are aligned to the right; where none has a name there is no head.

    ``whole``: names of columns whose cells stay on one line, however narrow the terminal is. ``spare``: those that are
    left out where it is too narrow for all, the first first.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    whole: Sequence[str] = ()
    spare: Sequence[str] = ()

    def names(self) -> list[str]:
        return [column.lstrip(">") for column in self.columns]

    def is_number(self, index: int) -> bool:
        return self.columns[index].startswith(">")


def plain(table: Table) -> str:
    """The table as text, its columns two spaces apart."""
    names = [name.upper() for name in table.names()]
    rows = [list(map(shown, row)) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(names, *rows)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if table.is_number(i) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ).rstrip()

    return "\n".join(map(line, [names, *rows] if any(names) else rows))


def rich(table: Table, width: int | None = None) -> RichTable:
    """The table as rich draws it, for a terminal of ``width`` characters; None: with all its columns."""
    places = range(len(table.columns)) if width is None else _fitting(table, width)
    is_narrow = len(places) < len(table.columns)
    drawn = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=any(table.names()),
        padding=(0, 1, 0, 0) if is_narrow else (0, 1),
        pad_edge=not is_narrow,
    )
    for i in places:
        name = table.names()[i]
        justify: Literal["left", "right"] = "right" if table.is_number(i) else "left"
        drawn.add_column(name, justify=justify, overflow="fold", no_wrap=name in table.whole)
    for row in table.rows:
        drawn.add_row(*(Text(shown(row[i])) for i in places))
    return drawn


def _fitting(table: Table, width: int) -> Sequence[int]:
    """The columns that are shown: all, or so many that those left are not squeezed where one may be left out."""
    names = table.names()
    needs = []
    for name, *column in zip(names, *table.rows):
        need = max(map(len, (name, *column)))
        needs.append(GAP + (need if name in table.whole else min(need, FOLDED_MIN)))
    shown = list(range(len(names)))
    for name in table.spare:
        if sum(needs[i] for i in shown) > width:
            shown.remove(names.index(name))
    return shown
