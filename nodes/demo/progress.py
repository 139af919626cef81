"""How far the demo is: a bar on a terminal, a line each second elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_S = 1.0
WINDOW_S = 1.0  # over which tasks/s are measured


class Rate:
    """Events per second over the last ``WINDOW_S`` seconds."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._count = 0
        self.per_s = 0.0

    def count(self) -> None:
        """One more."""
        self._count += 1
        seconds = time.monotonic() - self._begun
        if seconds >= WINDOW_S or (self.per_s == 0.0 and seconds > 0.2):
            self.per_s = self._count / seconds
            self._begun, self._count = time.monotonic(), 0


class LiveProgress:
    """A bar."""

    def __init__(self, console: Console, total: int) -> None:
        self._rate = Rate()
        self._bar = Progress(
            TextColumn("  analysing"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>5.0f} tasks/s"),
            TextColumn("{task.fields[workers]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total, rate=0.0, workers="")

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()
        self._bar.console.print()

    def advance(self) -> None:
        """One more is done."""
        self._rate.count()
        self._bar.update(self._task, advance=1, rate=self._rate.per_s)

    def workers(self, nodes: int, slots: int) -> None:
        """So many worker nodes with so many executors are there."""
        self._bar.update(self._task, workers=f"{slots} executors" if nodes else "[red]no worker[/]")

    def say(self, text: str) -> None:
        """Tell of something that happened."""
        self._bar.console.print(f"  [bold red]>[/] {text}", highlight=False)


class PlainProgress:
    """Lines."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._rate = Rate()
        self._done = 0
        self._workers = ""
        self._next_line = time.monotonic() + LINE_S

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        self._line()
        self._console.print()

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        self._rate.count()
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_S
            self._line()

    def workers(self, nodes: int, slots: int) -> None:
        """So many worker nodes with so many executors are there."""
        self._workers = f", {slots} executors" if nodes else ", no worker"

    def say(self, text: str) -> None:
        """Tell of something that happened."""
        self._console.print(f"  > {text}", highlight=False)

    def _line(self) -> None:
        text = f"  {self._done}/{self._total} files, {self._rate.per_s:.0f} tasks/s{self._workers}"
        self._console.print(text, highlight=False)
