"""Tables: with lines and colours on a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(slots=True)
class Table:
    """``columns`` whose name begins with ``>`` are aligned to the right; where none has a name there is no head.

    ``whole``: names of columns whose cells stay on one line, however narrow the terminal is.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    whole: Sequence[str] = ()

    def names(self) -> list[str]:
        return [column.lstrip(">") for column in self.columns]

    def is_number(self, index: int) -> bool:
        return self.columns[index].startswith(">")


def plain(table: Table) -> str:
    """The table as text, its columns two spaces apart."""
    names = [name.upper() for name in table.names()]
    widths = [max(map(len, column)) for column in zip(names, *table.rows)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if table.is_number(i) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ).rstrip()

    return "\n".join(map(line, [names, *table.rows] if any(names) else table.rows))


def rich(table: Table) -> RichTable:
    """The table as rich draws it."""
    drawn = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=any(table.names()),
    )
    for i, name in enumerate(table.names()):
        justify: Literal["left", "right"] = "right" if table.is_number(i) else "left"
        drawn.add_column(name, justify=justify, overflow="fold", no_wrap=name in table.whole)
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn
