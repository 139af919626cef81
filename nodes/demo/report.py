"""What the demo found, and what happened meanwhile."""

from __future__ import annotations

import sysconfig
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console

from nodes.tables import Table, plain, rich

if TYPE_CHECKING:
    from nodes.demo.run import Story

TOP = 10
TESTS = {"test", "tests", "idle_test"}


def print_report(story: Story, console: Console) -> None:
    """Print both."""
    for table in (longest_functions(story), totals(story), events(story)):
        if console.is_terminal:
            console.print(rich(table))
        else:
            print(f"{table.title}\n{plain(table)}\n")
    for failure in story.failed[:3]:
        console.print(f"  failed: {failure}", highlight=False, markup=False)
    if story.went_well:
        console.print(
            "  Nothing was lost: every task has one outcome, by the client's count and by the router's.", soft_wrap=True
        )
    else:
        console.print(
            f"  SOMETHING WENT WRONG: {len(story.lost)} lost, {len(story.failed)} failed, "
            f"{story.counted} outcomes for {story.files} tasks by the router's count."
        )


def longest_functions(story: Story) -> Table:
    """The longest functions, at most one of each file."""
    root = sysconfig.get_path("stdlib") + "/"
    table = Table(f"The {TOP} longest functions, tests left aside", ["function", "file", ">lines", ">complexity"])
    found = [report["longest"] for report in story.reports if not TESTS & {*report["path"].split("/")}]
    for one in sorted((f for f in found if f is not None), key=lambda f: (-f["lines"], f["path"]))[:TOP]:
        numbers = [f"{one['lines']}", f"{one['complexity']}"]
        table.rows.append([one["name"], one["path"].removeprefix(root), *numbers])
    return table


def totals(story: Story) -> Table:
    """Sums over all files."""
    reports = story.reports
    imports = Counter(name for report in reports for name in report["imports"])
    functions = sum(report["functions"] for report in reports)
    complexity = sum(report["complexity"] for report in reports)
    unreadable = sum(report["unreadable"] is not None for report in reports)
    table = Table("What was found", ["", ""])
    table.rows += [
        ["files", f"{len(reports):,}"],
        ["of them no valid Python (test data)", f"{unreadable:,}"],
        ["lines", f"{sum(report['lines'] for report in reports):,}"],
        ["functions", f"{functions:,}"],
        ["classes", f"{sum(report['classes'] for report in reports):,}"],
        ["mean complexity of a function", f"{complexity / max(1, functions):.1f}"],
        ["imported most", ", ".join(name for name, _ in imports.most_common(3))],
    ]
    return table


def events(story: Story) -> Table:
    """What the mesh did."""
    alone_s = story.alone_s * story.total_bytes / max(1, story.alone_bytes)
    table = Table("What happened", ["", ""])
    table.rows += [
        ["tasks", f"{story.files:,}"],
        ["killed with SIGKILL", ", ".join(story.killed) or "nothing"],
        ["delivered again", f"{story.redelivered:,}"],
        ["lost", f"{len(story.lost):,}"],
        ["time on the mesh, deaths included", f"{story.mesh_s:.1f} s, {story.files / story.mesh_s:,.0f} tasks/s"],
        ["time of one process alone, by its sample", f"{alone_s:.1f} s"],
        ["the mesh was", f"{alone_s / story.mesh_s:.1f} times as fast"],
    ]
    return table
