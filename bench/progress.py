"""Shows figures while they are measured: a table that grows on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import defaultdict
from types import TracebackType

from rich.console import Console
from rich.live import Live

from bench.figures import Figure, figure
from bench.report import figures_table, number


class Runs:
    """The values of each figure so far, in the order of the runs. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._units: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Runs:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def add(self, name: str, value: float, unit: str) -> None:
        """One more run of ``name``."""
        self._values[name].append(value)
        self._units[name] = unit
        if self._live is not None:
            self._live.update(figures_table(self.figures), refresh=True)
        else:
            self._console.print(f"{name} run {len(self._values[name])}: {number(value)} {unit}", highlight=False)

    def note(self, text: str) -> None:
        """What is being done now."""
        self._console.print(text, highlight=False)

    def values(self, name: str) -> list[float]:
        return self._values[name]

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures so far."""
        return {name: figure(values, self._units[name]) for name, values in self._values.items()}
