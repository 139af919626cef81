"""Shows what is measured: a table of figures that grows and a bar on a terminal, elsewhere a line for each step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.distribution import Counts, merged
from bench.figures import Figure, figure, paired_ratio
from bench.report import Distribution, figures_table


class Runs:
    """The values of each figure so far, in the order of the runs. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._units: dict[str, str] = {}
        self._distributions: dict[str, Distribution] = {}
        self.notes: list[str] = []
        # Drawn when there is news and not by the clock: what is measured shares the machine with it.
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("", total=None)

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
        self._draw()

    def expect(self, steps: int) -> None:
        """There will be so many steps more."""
        self._bar.update(self._task, total=(self._bar.tasks[0].total or 0) + steps)

    def step(self, text: str) -> None:
        """One more step has begun, and this is what it does."""
        self._bar.update(self._task, advance=1, description=text)
        if self._live is None:
            bar = self._bar.tasks[0]
            self._console.print(f"[{bar.completed:.0f}/{bar.total or 0:.0f}] {text}", highlight=False, markup=False)
        self._draw()

    def add_distribution(self, name: str, counts: Mapping[str, int], unit: str) -> None:
        """One more run's histogram of ``name``; runs are added up."""
        before: Counts = self._distributions[name].counts if name in self._distributions else {}
        self._distributions[name] = Distribution(unit, merged(before, counts))

    def note(self, text: str) -> None:
        """Something to know besides the figures, for the report too."""
        self.notes.append(text)
        self.tell(text)

    def tell(self, text: str) -> None:
        """Something that the report says in a place of its own."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> None:
        if self._live is not None:
            # The bar is first: a table that is longer than the screen is cut at its end.
            self._live.update(Group(self._bar, figures_table(self.figures)), refresh=True)

    def ratios(self, pairs: Mapping[str, tuple[str, str]]) -> dict[str, float]:
        """By name: the ratio of two figures, taken run by run; of those pairs that were measured."""
        measured = {name: pair for name, pair in pairs.items() if all(figure in self._values for figure in pair)}
        return {name: paired_ratio(self._values[ours], self._values[them]) for name, (ours, them) in measured.items()}

    def pairs(self, ratio: str, ours: str, theirs: str) -> list[str]:
        """A line for the report on what a ratio is the median of: it need not be the quotient of the two medians."""
        found = [our / their for our, their in zip(self.values(ours), self.values(theirs))]
        told = ", ".join(f"{one:.2f}" for one in found)
        return [f"{ratio} is the median of its pairs, in which one ran after the other: {told}"] if found else []

    def values(self, name: str) -> list[float]:
        return self._values.get(name, [])

    @property
    def distributions(self) -> dict[str, Distribution]:
        """All distributions so far."""
        return self._distributions

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures so far."""
        return {name: figure(values, self._units[name]) for name, values in self._values.items()}
