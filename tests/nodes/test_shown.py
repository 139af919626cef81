"""What a peer or a store said, on a terminal and in a log: it moves nothing, hides nothing and forges no line."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from io import StringIO

import click
import pytest
from rich.console import Console

from mesh.api.schedules import Overview, seen
from mesh.entries import Entry, Position
from mesh.model import TaskOptions
from mesh.schedules import Every
from nodes.cli import main as command
from nodes.cli.invocation import Invocation
from nodes.cli.schedule_view import entries_table, entry_table, headline
from nodes.logs import configure_logs
from nodes.shown import shown
from nodes.tables import plain, rich

EVIL = "a\nforged\x07\x1b]0;t\x9b2J\u202eb\u2028c\x00"
NOW = datetime(2025, 10, 25, 12, 0, 0, tzinfo=UTC)


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.replace("\u202f", " ").replace("\u2009", " ").split("\n"))


def test_what_is_not_to_be_seen_is_shown_as_its_escape() -> None:
    assert shown(EVIL) == r"a\nforged\x07\x1b]0;t\x9b2J\u202eb\u2028c\x00"
    for fine in ("", "büro 1", "1\u202f000", "日本 \N{SNOWMAN}", "a\u00a0b"):
        assert shown(fine) == fine
    assert shown("\ud800") == r"\ud800"


def test_names_that_a_worker_declared_do_nothing_to_a_terminal() -> None:
    entry = Entry(EVIL, Every(30.0), TaskOptions(EVIL, EVIL), app=EVIL)
    row = seen(entry, Position(EVIL, 5, EVIL, "dead", 1), EVIL, EVIL)
    overview = Overview([row], EVIL, 7)
    lines = plain(entries_table(overview, NOW)).split("\n")
    assert len(lines) == 2 and all(map(str.isprintable, lines))
    assert is_harmless(plain(entry_table(row, NOW))) and headline("m", overview).isprintable()
    drawn = StringIO()
    Console(file=drawn, width=400).print(rich(entries_table(overview, NOW)))
    assert is_harmless(drawn.getvalue()) and "\nforged" not in drawn.getvalue()


def test_an_error_and_a_note_are_one_harmless_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise click.ClickException(EVIL)

    monkeypatch.setattr(command.mesh_command, "main", fail)
    assert command.main([]) == 2
    Invocation().note(EVIL)
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    assert len(lines) == 2 and all(map(str.isprintable, lines))


def test_a_line_of_the_log_that_a_peer_has_a_part_in_forges_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("mesh")
    before = logger.handlers, logger.level, logger.propagate
    try:
        configure_logs("info")
        logger.info("from %s", EVIL)
    finally:
        logger.handlers, logger.level, logger.propagate = before
    first, second = capsys.readouterr().err.rstrip("\n").split("\n")
    assert first.endswith("mesh: from a") and second.startswith("  forged\\x07")
    assert (first + second).isprintable()
