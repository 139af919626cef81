"""The fields of ``crontab``: what Celery's users write, and what it means there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mesh.errors import ConfigError
from mesh.schedules import Cron, as_schedule, crontab, dues_between

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp() - 1  # a Thursday
DAY = 86400
YEAR = 365 * DAY


def days(schedule: Cron) -> list[datetime]:
    return [datetime.fromtimestamp(due, UTC) for due in dues_between(schedule, START, START + YEAR, 400)]


@pytest.mark.parametrize(
    ("minute", "expected"),
    [
        (7, [7]),
        ("7", [7]),
        (" 7 ", [7]),
        ([30, 0], [0, 30]),
        ({0, 15, 30}, [0, 15, 30]),
        ((10, "20-22"), [10, 20, 21, 22]),
        (range(0, 60, 20), [0, 20, 40]),
        ((minute for minute in (1, 2)), [1, 2]),
        ("*", [*range(60)]),
        ("*/15", [0, 15, 30, 45]),
        ("*/25", [0, 25, 50]),
        ("*/100", [0]),
        ("3-5", [3, 4, 5]),
        ("3-3", [3]),
        ("10-30/10", [10, 20, 30]),
        ("58-1", [0, 1, 58, 59]),
        ("50-10/10", [0, 10, 50]),  # in steps through the wrapped range, not from the least
        ("1,13,30-33,50-59/4", [1, 13, 30, 31, 32, 33, 50, 54, 58]),
        ("1, 2", [1, 2]),
        ("*/30,58-0", [0, 30, 58, 59]),
    ],
)
def test_minutes(minute, expected):
    found = dues_between(crontab(minute=minute, hour=0, day_of_month=1, month_of_year=1), START, START + DAY, 100)
    assert [datetime.fromtimestamp(due, UTC).minute for due in found] == expected


@pytest.mark.parametrize(
    ("hour", "expected"),
    [("22-3", [0, 1, 2, 3, 22, 23]), ("*/5", [0, 5, 10, 15, 20]), ("0,8-17/3", [0, 8, 11, 14, 17]), (23, [23])],
)
def test_hours(hour, expected):
    found = dues_between(crontab(minute=0, hour=hour), START, START + DAY, 100)
    assert [datetime.fromtimestamp(due, UTC).hour for due in found] == expected


@pytest.mark.parametrize(
    ("day_of_week", "expected"),  # as in cron: Sunday is 0
    [
        (0, {0}),
        (7, {0}),
        ("sun", {0}),
        ("Sunday", {0}),
        ("tues,thurs", {2, 4}),
        ("mon-fri", {1, 2, 3, 4, 5}),
        ("fri-mon", {5, 6, 0, 1}),
        ("fri-mon/2", {5, 0}),
        ("fri-sun", {5, 6, 0}),
        ("5-7", {5, 6, 0}),
        ("7-2", {0, 1, 2}),
        ("7-7", {0}),
        ("sat-7", {6, 0}),
        ("0-7", {0, 1, 2, 3, 4, 5, 6}),
        ("*/2", {0, 2, 4, 6}),
        ("*/3", {0, 3, 6}),
        (["sat", 0], {6, 0}),
        ({1, 3}, {1, 3}),
    ],
)
def test_days_of_the_week(day_of_week, expected):
    found = days(crontab(0, 0, day_of_week=day_of_week))
    assert {day.isoweekday() % 7 for day in found} == expected
    assert len(found) in (52 * len(expected), 52 * len(expected) + 1)


@pytest.mark.parametrize(
    ("day_of_month", "expected"),
    [
        (31, {31}),
        ("*/10", {1, 11, 21, 31}),  # from the least value of the field, which is 1
        ("2-30/9", {2, 11, 20, 29}),
        ("30-2", {30, 31, 1, 2}),
        ("1-7,15-16", {1, 2, 3, 4, 5, 6, 7, 15, 16}),
    ],
)
def test_days_of_the_month(day_of_month, expected):
    assert {day.day for day in days(crontab(0, 0, day_of_month=day_of_month))} == expected


@pytest.mark.parametrize(
    ("month_of_year", "expected"),
    [
        ("*/3", {1, 4, 7, 10}),
        ("2-12/5", {2, 7, 12}),
        ("jan,Sept,december", {1, 9, 12}),
        ("nov-feb", {11, 12, 1, 2}),
        ([6, 7], {6, 7}),
    ],
)
def test_months(month_of_year, expected):
    assert {day.month for day in days(crontab(0, 0, day_of_month=1, month_of_year=month_of_year))} == expected


def test_a_day_must_match_all_its_fields_as_in_celery_and_one_of_two_in_a_line_of_cron():
    both = days(crontab(0, 0, day_of_week="fri", day_of_month=13))
    assert [(day.month, day.day) for day in both] == [(2, 13), (3, 13), (11, 13)]
    either = days(as_schedule("0 0 13 * fri"))
    assert len(either) == 52 + 12 - 3
    starred = days(as_schedule("0 0 */2 * fri"))
    assert {(day.isoweekday(), day.day % 2) for day in starred} == {(5, 1)}


def test_the_order_of_arguments_is_that_of_celery():
    assert crontab(1, 2, 3, 4, 5) == Cron("1", "2", "3", "4", "5")
    assert crontab() == Cron("*", "*", "*", "*", "*")


def test_the_same_values_make_the_same_schedule():
    assert crontab(minute={30, 0, 5}) == crontab(minute=[5, 0, 30]) == crontab(minute="0,5,30")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("minute", 60),
        ("minute", -1),
        ("minute", "-1"),
        ("minute", "1,,2"),
        ("minute", ""),
        ("minute", "*/0"),
        ("minute", "*/"),
        ("minute", "*/x"),
        ("minute", "5/10"),
        ("minute", "1-2-3"),
        ("minute", "1-"),
        ("minute", "mon"),
        ("minute", "٣"),
        ("minute", "9" * 900),
        ("minute", True),
        ("minute", 1.5),
        ("minute", None),
        ("minute", []),
        ("minute", [1, None]),
        ("minute", ["1", 60]),
        ("hour", 24),
        ("day_of_week", 8),
        ("day_of_week", "mo"),
        ("day_of_week", "monk"),
        ("day_of_week", "jan"),
        ("day_of_month", 0),
        ("day_of_month", 32),
        ("month_of_year", 0),
        ("month_of_year", 13),
        ("month_of_year", "*" * 2000),
    ],
)
def test_what_is_no_value_of_a_field_is_refused_by_its_name(field, value):
    with pytest.raises(ConfigError, match=field):
        crontab(**{field: value})


def test_the_message_says_which_part_and_what_is_allowed():
    expected = "day_of_week: 'fir' in 'mon,fir' is not understood; allowed are 0 to 7, sun to sat, .* a-b, "
    with pytest.raises(ConfigError, match=expected):
        crontab(day_of_week="mon,fir")


def test_a_day_that_no_year_has_is_refused():
    with pytest.raises(ConfigError, match="no month has it"):
        crontab(0, 0, day_of_month=31, month_of_year="apr,jun")
    with pytest.raises(ConfigError, match="no year has such a day"):
        crontab(0, 0, day_of_week="mon", day_of_month=30, month_of_year=2)
    assert crontab(0, 0, day_of_week="mon", day_of_month=29, month_of_year=2)
