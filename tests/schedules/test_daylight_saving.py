"""What is due on the days on which a clock is set. ``MESH_WRITE_DOCS=1`` writes the table into docs/SCHEDULES.md."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from mesh.schedules import Schedule, as_schedule, crontab, dues_between, next_due, schedule

PAGE = Path(__file__).parents[2] / "docs" / "SCHEDULES.md"
BEGIN, END = "<!-- made by tests/schedules/test_daylight_saving.py -->\n", "<!-- end -->\n"
NEAR = 2 * 3600  # seconds to each side of the moment at which the clock is set


class Shift(NamedTuple):
    zone: str
    instant: str  # UTC
    clock: str
    due: dict[str, str]  # what a line of cron is due at, as the clock of the zone reads, with its offset


SHIFTS = (
    Shift(
        "Europe/Berlin",
        "2025-03-30T01:00",
        "02:00 to 03:00",
        {
            "30 2 * * *": "03:00+02",
            "0,20,40 2 * * *": "03:00+02",
            "30 2,3 * * *": "03:00+02, 03:30+02",
            "0 2,3 * * *": "03:00+02",
            "0 * * * *": "00:00+01, 01:00+01, 03:00+02, 04:00+02, 05:00+02",
            "*/30 1-3 * * *": "01:00+01, 01:30+01, 03:00+02, 03:30+02",
            "*/30 2 * * *": "",
            "0 */2 * * *": "00:00+01, 04:00+02",
            "0 30 2 * * *": "03:00+02",
        },
    ),
    Shift(
        "Europe/Berlin",
        "2025-10-26T01:00",
        "03:00 to 02:00",
        {
            "30 2 * * *": "02:30+02",
            "0,30 2,3 * * *": "02:00+02, 02:30+02, 03:00+01, 03:30+01",
            "0 * * * *": "01:00+02, 02:00+02, 02:00+01, 03:00+01, 04:00+01",
            "*/30 2 * * *": "02:00+02, 02:30+02, 02:00+01, 02:30+01",
            "0 */2 * * *": "02:00+02, 02:00+01, 04:00+01",
            "0 30 2 * * *": "02:30+02",
        },
    ),
    Shift(
        "America/New_York",
        "2025-03-09T07:00",
        "02:00 to 03:00",
        {"15 2 * * *": "03:00-04", "*/30 1-3 * * *": "01:00-05, 01:30-05, 03:00-04, 03:30-04"},
    ),
    Shift(
        "America/New_York",
        "2025-11-02T06:00",
        "02:00 to 01:00",
        {"30 1 * * *": "01:30-04", "*/30 1 * * *": "01:00-04, 01:30-04, 01:00-05, 01:30-05"},
    ),
    Shift(
        "Australia/Lord_Howe",
        "2025-10-04T15:30",
        "02:00 to 02:30",
        {
            "15 2 * * *": "02:30+11",
            "15,45 2 * * *": "02:30+11, 02:45+11",
            "0 * * * *": "00:00+10:30, 01:00+10:30, 03:00+11, 04:00+11",
            "*/20 2-3 * * *": "02:40+11, 03:00+11, 03:20+11, 03:40+11",
        },
    ),
    Shift(
        "Australia/Lord_Howe",
        "2025-04-05T15:00",
        "02:00 to 01:30",
        {
            "45 1 * * *": "01:45+11",
            "0 2 * * *": "02:00+10:30",
            "0 * * * *": "00:00+11, 01:00+11, 02:00+10:30, 03:00+10:30",
            "*/20 1 * * *": "01:00+11, 01:20+11, 01:40+11, 01:40+10:30",
        },
    ),
    Shift(
        "America/Sao_Paulo",
        "2018-11-04T03:00",
        "00:00 to 01:00",
        {"0 0 * * *": "01:00-02", "30 0 4 11 *": "01:00-02", "*/30 0-1 * * *": "01:00-02, 01:30-02"},
    ),
    Shift(
        "America/Sao_Paulo",
        "2018-02-18T02:00",
        "00:00 to 23:00",
        {
            "0 0 * * *": "00:00-03",
            "30 23 * * *": "23:30-02",
            "*/30 23 * * *": "23:00-02, 23:30-02, 23:00-03, 23:30-03",
            "*/30 0 18 2 *": "00:00-03, 00:30-03",
        },
    ),
    Shift(
        "Asia/Beirut",
        "2025-03-29T22:00",
        "00:00 to 01:00",
        {"0 0 * * *": "01:00+03", "*/30 * 30 3 *": "01:00+03, 01:30+03, 02:00+03, 02:30+03, 03:00+03"},
    ),
    Shift(
        "Asia/Beirut",
        "2025-10-25T21:00",
        "00:00 to 23:00",
        {"0 0 * * *": "00:00+02", "30 23 * * *": "23:30+03", "*/30 23 * * *": "23:00+03, 23:30+03, 23:00+02, 23:30+02"},
    ),
    Shift(
        "Africa/Casablanca",
        "2025-02-23T02:00",
        "03:00 to 02:00",
        {"30 2 * * *": "02:30+01", "*/30 2 * * *": "02:00+01, 02:30+01, 02:00+00, 02:30+00"},
    ),
    Shift(
        "Africa/Casablanca",
        "2025-04-06T02:00",
        "02:00 to 03:00",
        {"30 2 * * *": "03:00+01", "*/30 2 * * *": ""},
    ),
    Shift(
        "Europe/Dublin",
        "2025-03-30T01:00",
        "01:00 to 02:00",
        {"30 1 * * *": "02:00+01", "*/30 1-2 * * *": "02:00+01, 02:30+01"},
    ),
    Shift(
        "Europe/Dublin",
        "2025-10-26T01:00",
        "02:00 to 01:00",
        {"30 1 * * *": "01:30+01", "*/30 1 * * *": "01:00+01, 01:30+01, 01:00+00, 01:30+00"},
    ),
    Shift("UTC", "2025-03-30T01:00", "is never set", {"30 1 * * *": "01:30+00", "*/30 1 * * *": "01:00+00, 01:30+00"}),
)
CASES = [(shift, line) for shift in SHIFTS for line in shift.due]


def instant(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def read(zone: str, dues: list[float]) -> str:
    """What the clock of the zone reads."""
    return ", ".join(
        f"{local:%H:%M}{local.isoformat()[19:].removesuffix(':00')}"
        for local in (datetime.fromtimestamp(due, ZoneInfo(zone)) for due in dues)
    )


@pytest.mark.parametrize(
    ("shift", "line"), CASES, ids=[f"{shift.zone} {shift.instant} {line}" for shift, line in CASES]
)
def test_what_is_due_when_the_clock_is_set(shift: Shift, line: str) -> None:
    middle = instant(shift.instant)
    begin, end = middle - NEAR - 1, middle + NEAR
    when = as_schedule(line, shift.zone)
    run = dues_between(when, begin, end, 100)
    assert read(shift.zone, run) == shift.due[line]
    one_by_one = []
    for now in range(round(begin), round(end), 300):  # from wherever a node begins, in the repeated hour too
        due = next_due(when, now)
        assert due is not None
        assert due == next((some for some in run if some > now), due)
        one_by_one += [due] if due <= end and due not in one_by_one else []
    assert one_by_one == run


@pytest.mark.parametrize("zone", sorted({shift.zone for shift in SHIFTS}))
@pytest.mark.parametrize("minute", [0, 30, 59])
def test_a_time_of_the_day_comes_once_each_day(zone: str, minute: int) -> None:
    begin = datetime(2024, 6, 15, 12, tzinfo=ZoneInfo(zone))
    end = begin.replace(year=2025)
    for hour in (0, 1, 2, 3, 23):
        when = crontab(minute, hour, zone=zone)
        assert len(dues_between(when, begin.timestamp(), end.timestamp(), 400)) == 365


@pytest.mark.parametrize(
    ("minute", "hour"), [("*", 2), ("*/5", 2), ("0", "*"), ("0-59", 2), (range(60), 2), ("0", "0-23"), ("0,*/7", 2)]
)
def test_what_has_a_star_or_all_values_runs_through(minute: object, hour: object) -> None:
    assert times_at_two(crontab(minute, hour, zone="Europe/Berlin")) == {"+01", "+02"}


@pytest.mark.parametrize(("minute", "hour"), [("0-58", 2), (range(0, 60, 5), "2"), ("0-59/5", [2, 3])])
def test_what_names_its_times_does_not(minute: object, hour: object) -> None:
    assert times_at_two(crontab(minute, hour, zone="Europe/Berlin")) == {"+02"}


def times_at_two(when: Schedule) -> set[str]:
    """The offsets of what is due between 2 and 3 in the night in which Berlin has that hour twice."""
    begin = instant("2025-10-26T00:00") - 1
    run = dues_between(when, begin, begin + 2 * 3600, 200)
    return {text.strip()[5:] for text in read("Europe/Berlin", run).split(",")}


def test_intervals_do_not_look_at_clocks() -> None:
    begin = instant("2025-10-26T00:00")
    run = dues_between(as_schedule(schedule(1800), "Europe/Berlin"), begin, begin + 7200, 9)
    assert run == [begin + 1800 * number for number in range(1, 5)]


def table() -> str:
    rows = ["| zone, day | its clock is set from | schedule | due, by that clock |", "|---|---|---|---|"]
    for shift in SHIFTS:
        day = datetime.fromtimestamp(instant(shift.instant) - 1, ZoneInfo(shift.zone)).date()
        where = f"{shift.zone}, {day}"
        for line, due in shift.due.items():
            rows.append(f"| {where} | {shift.clock} | `{line}` | {due or 'not at all'} |")
    return "\n".join(rows) + "\n"


def test_the_table_in_the_docs_is_what_is_tested_here() -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    expected = before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]
    if os.environ.get("MESH_WRITE_DOCS"):
        PAGE.write_text(expected)
    assert PAGE.read_text() == expected, "run this test with MESH_WRITE_DOCS=1"
