"""Which due times of an entry are fired now, and how many are left out."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mesh.core.catchup import choose, next_due_us
from mesh.entries import Entry
from mesh.model import TaskOptions
from mesh.schedules import CronLine, Every, Schedule, microseconds
from tests.core.make import WALL


def entry(name: str = "e", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Every(seconds), TaskOptions("work"), **fields)


def chosen(
    seconds: float, outage_s: float, most: int = 1_000, schedule: Schedule | None = None, **fields: Any
) -> tuple[list[tuple[float, bool]], int]:
    """Fired, as seconds before now, and skipped after an outage."""
    now = microseconds(WALL + 5.0 * seconds / 10)
    made, after_us = entry(seconds=seconds, **fields), now - microseconds(outage_s)
    made = replace(made, schedule=schedule or made.schedule)
    due_us = next_due_us(made.schedule, after_us)
    assert due_us is not None
    found = choose(made, after_us, due_us, now, most)
    return [((at_us - now) / 1e6, is_late) for at_us, is_late in found.firings], found.skipped


def test_of_what_was_missed_the_newest_is_fired_or_all_or_none() -> None:
    assert chosen(10.0, 34.0) == ([(-5.0, True)], 2)
    assert chosen(10.0, 34.0, catchup="all") == ([(-25.0, True), (-15.0, True), (-5.0, True)], 0)
    assert chosen(10.0, 34.0, catchup="all", catchup_max=2) == ([(-15.0, True), (-5.0, True)], 1)
    assert chosen(10.0, 34.0, catchup="skip") == ([], 3)


def test_what_is_late_by_less_than_a_second_was_not_missed() -> None:
    assert chosen(0.4, 0.5, catchup="skip") == ([(pytest.approx(-0.2), False)], 0)
    fired, skipped = chosen(0.4, 3.0)
    assert [is_late for _, is_late in fired] == [True, False, False] and skipped == 4


def test_what_is_older_than_the_window_is_skipped() -> None:
    assert chosen(10.0, 1_000.0, catchup="all", catchup_window_s=30.0) == (
        [(-25.0, True), (-15.0, True), (-5.0, True)],
        97,
    )
    assert chosen(10.0, 1_000.0, catchup_window_s=2.0) == ([], 100)


def test_a_long_outage_of_a_frequent_entry_costs_little() -> None:
    fired, skipped = chosen(0.001, 86_400.0 * 365, catchup="all", catchup_max=10, most=5)
    assert len(fired) == 5 and skipped > 30_000_000_000


def test_what_is_left_out_of_a_cron_is_counted_however_long_that_was() -> None:
    minute, day = CronLine("* * * * *"), 86_400.0
    assert chosen(60.0, 2 * day, schedule=minute)[1] == 2 * 1_440 - 1
    everything = {"catchup": "all", "catchup_max": 10_000, "catchup_window_s": 1e9}
    fired, skipped = chosen(60.0, 12 * day, 20_000, schedule=minute, **everything)
    assert (len(fired), skipped) == (10_000, 12 * 1_440 - 10_000)
    fired, skipped = chosen(60.0, 5 * day, 20_000, schedule=minute, **everything)
    assert (len(fired), skipped) == (5 * 1_440, 0)
