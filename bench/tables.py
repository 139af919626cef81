"""Differences and history as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.diff import NOISE, RUNS_MIN, Change, Diff, enough
from bench.history import Entry, Trend, sparkline
from bench.report import number

COLOURS = {"better": "green", "worse": "red", "differs": "yellow"}
SHOWN = 24
"""The last so many runs are drawn."""


def show_diff(found: Diff, console: Console) -> None:
    """Figures, ratios, and what else was not the same."""
    console.print(f"{found.scenario}: from the first to the second", highlight=False)
    judged = enough(found.runs)
    table = _table("figure", ("first", "second", "change"), "unit", *(["ranges of the runs"] if judged else []))
    for change in found.changes:
        table.add_row(
            change.name, number(change.before.median), number(change.after.median), signed(change.percent), change.unit,
            *_verdict(change), style=COLOURS.get(change.verdict or ""),
        )  # fmt: skip
    console.print(table)
    if not judged:
        first, second = (str(runs or "unknown") for runs in found.runs)
        why = f"no verdict can be given: runs of the first {first}, of the second {second}; it takes {RUNS_MIN} of each"
        console.print(why, highlight=False, soft_wrap=True, style="yellow")
    if found.ratios:
        ratios = _table("ratio", ("first", "second", "change"))
        for ratio in found.ratios:
            ratios.add_row(ratio.name, f"{ratio.before:.2f} x", f"{ratio.after:.2f} x", signed(ratio.percent))
        console.print()
        console.print(ratios)
    for title, names in (("only in the first", found.only_before), ("only in the second", found.only_after)):
        if names:
            console.print(f"{title}: {', '.join(names)}", highlight=False, soft_wrap=True)
    for name, (before, after) in found.conditions.items():
        console.print(f"not the same: {name}: {before} and {after}", highlight=False, soft_wrap=True, style="yellow")
    for caveat in found.caveats:
        console.print(caveat, highlight=False, markup=False, soft_wrap=True, style="yellow")


def _verdict(change: Change) -> list[str]:
    if change.verdict is None:
        return []
    return ["overlap: noise" if change.verdict == NOISE else f"apart: {change.verdict}"]


def show_history(entries: Sequence[Entry], trends: Sequence[Trend], console: Console) -> None:
    """When was measured, then each figure over these runs."""
    runs = Table(box=None, pad_edge=False)
    for heading in ("date", "commit", "load", "settings"):
        runs.add_column(heading)
    latest = entries[-1]
    for entry in entries[-SHOWN:]:
        settings = ", ".join(f"{name} {value}" for name, value in entry.settings.items() if not isinstance(value, dict))
        alike = None if entry.comparable(latest) else "dim"
        runs.add_row(entry.date, entry.commit, str(entry.machine.get("load_before")), settings, style=alike)
    console.print(runs)
    console.print()
    table = _table("figure", ("earlier", "latest", "change"), "unit", "runs")
    for trend in trends:
        earlier = "-" if trend.earlier is None else number(trend.earlier)
        table.add_row(
            trend.name, earlier, number(trend.values[-1]), signed(trend.percent), trend.unit,
            sparkline(trend.values[-SHOWN:]), style="red" if trend.regressed else None,
        )  # fmt: skip
    console.print(table)
    worse = [trend.name for trend in trends if trend.regressed]
    if worse:
        console.print(f"worse than before: {', '.join(worse)}", highlight=False, soft_wrap=True, style="red")
    if any(not entry.comparable(latest) for entry in entries):
        console.print("runs of another machine, or with other settings, are not counted", highlight=False, style="dim")


def signed(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:+.1f} %"


def _table(first: str, numbers: Sequence[str], *more: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in numbers:
        table.add_column(heading, justify="right")
    for heading in more:
        table.add_column(heading)
    return table
