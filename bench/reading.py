"""``mesh bench show``, ``diff`` and ``history``: what was measured, read again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from bench.diff import pairs
from bench.history import read, trends
from bench.output import Directory, write_page
from bench.report import show_all
from bench.saved import load
from bench.tables import show_diff, show_history

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--report", type=Directory(), metavar="DIR", help="Write a page into DIR.")
def show(file: Path, report: Path | None) -> None:
    """Show the report in FILE, which ``--json`` has printed, or make a page of it."""
    found = load(file)
    if report is not None:
        name = found[0].scenario if len(found) == 1 else "all"
        click.echo(f"written: {write_page(report, name, found, file.read_text().strip())}", err=True)
        return
    show_all(found, Console())


@click.command("diff")
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, or a list where the files have lists.")
def diff_command(first: Path, second: Path, as_json: bool) -> None:
    """What changed from FIRST to SECOND, two files that ``--json`` has printed."""
    found = pairs(load(first), load(second))
    if as_json:
        content = [one.to_dict() for one in found]
        click.echo(json.dumps(content[0] if len(content) == 1 else content, indent=2))
        return
    for one in found:
        show_diff(one, Console())


@click.command()
@click.argument("scenario")
@click.option("--json", "as_json", is_flag=True, help="Print the recorded runs as a list.")
def history(scenario: str, as_json: bool) -> None:
    """The recorded runs of SCENARIO, and how the latest compares with those before."""
    entries = read(scenario)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    show_history(entries, trends(entries), Console())
