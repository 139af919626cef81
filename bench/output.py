"""Where a finished report goes: to the terminal or standard output, into a page, into the history."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from bench.history import check_recordable, record
from bench.html.page import page
from bench.report import Report
from mesh.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

REPORT, RECORD = "bench.report", "bench.record"


class Directory(click.Path):
    """A directory with a name: of an empty one, as an unset variable of a shell is, the current one would be made."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("name a directory; the current one is .", param, ctx)
        return super().convert(value, param, ctx)


def output_options(function: F) -> F:
    """``--report`` and ``--record``. They are kept in the context, so that no scenario need pass them on."""
    report = click.option(
        "--report", type=Directory(), metavar="DIR", expose_value=False,
        callback=_writable, help="Also write a page with charts into DIR, and the figures as JSON.",
    )  # fmt: skip
    recorded = click.option(
        "--record",
        is_flag=True,
        expose_value=False,
        callback=_recordable,
        help="Also add a line to the history.",
    )
    return report(recorded(function))


def _recordable(context: click.Context, parameter: click.Parameter, wanted: bool) -> bool:
    if wanted:
        check_recordable()
    context.meta[RECORD] = wanted
    return wanted


def _writable(context: click.Context, parameter: click.Parameter, directory: Path | None) -> Path | None:
    """Look before the measurement, which takes minutes, whether there is a place for the page."""
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{directory} cannot be written: {error}") from None
        if not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(f"{directory} cannot be written")
    context.meta[REPORT] = directory
    return directory


def deliver(report: Report, as_json: bool) -> None:
    """Print what was found, and keep it where ``--report`` and ``--record`` say. Raises ``ConfigError``."""
    if as_json:
        click.echo(report.to_json())
    else:
        report.show(Console())
    keep([report], report.scenario, report.to_json())


def keep(reports: Sequence[Report], name: str, text: str) -> None:
    """What ``--report`` and ``--record`` ask for; ``text`` is the JSON of all of it. Raises ``ConfigError``."""
    meta = click.get_current_context().meta
    if (directory := meta.get(REPORT)) and reports:
        click.echo(f"written: {write_page(directory, name, reports, text)}", err=True)
    if meta.get(RECORD):
        for report in reports:
            click.echo(f"recorded: {record(report, now())}", err=True)


def write_page(directory: Path, name: str, reports: Sequence[Report], text: str) -> Path:
    """A page and its JSON, of one name, in ``directory``. Raises ``ConfigError`` where they cannot be written."""
    path = directory / f"{name}.html"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(page(reports, now()))
        path.with_suffix(".json").write_text(text + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    return path


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
