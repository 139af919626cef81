"""Due times: they grow, match, and are all there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.schedules import (
    DUE_US_MAX,
    Cron,
    CronLine,
    Every,
    Once,
    as_schedule,
    count_dues,
    crontab,
    dues,
    dues_between,
    latest_due,
    microseconds,
    next_due,
    schedule,
)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
MINUTE = timedelta(minutes=1)
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut"),
    *("Africa/Casablanca", "Europe/Dublin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"),
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def values(low: int, high: int, few: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """A field as text, and what it means."""
    numbers = st.integers(low, high)
    every = st.just(("*", {*range(low, high + 1)}))
    stars = st.integers(1, 30).map(lambda step: (f"*/{step}", {*range(low, high + 1, step)}))
    lists = st.sets(numbers, min_size=1, max_size=few).map(lambda some: (",".join(map(str, some)), some))

    def span(ends: tuple[int, int, int]) -> tuple[str, set[int]]:
        first, last, step = ends
        size = high - low + 1
        around = [low + (first - low + more) % size for more in range((last - first) % size + 1)]
        return f"{first}-{last}/{step}", {*around[::step]}

    return st.one_of(every, stars, lists, st.tuples(numbers, numbers, st.integers(1, 4)).map(span))


FIELDS = st.tuples(values(0, 59, 4), values(0, 23, 4), values(0, 6, 3), values(1, 31, 9), values(1, 12, 6))
ANY_DAY = [("*", {*range(7)}), ("*", {*range(1, 32)}), ("*", {*range(1, 13)})]
# When clocks are set, somewhere, and any other time.
STARTS = st.sampled_from(
    [
        *(at("2026-03-29"), at("2026-10-25"), at("2026-03-08"), at("2026-11-01"), at("2026-04-04T12:00:00")),
        *(at("2026-10-03T12:00:00"), at("2018-11-04"), at("2018-02-17T18:00:00"), at("2022-03-26T18:00:00")),
        *(at("2026-02-15"), at("2026-03-22"), at("2011-12-29T18:00:00"), at("2026-02-28T18:00:00")),
    ]
) | st.integers(0, 4_000_000_000).map(float)


def by_walking(fields: list[set[int]], fixed: bool, zone: str, after: float, minutes: int) -> list[float]:
    """The due times by looking at the clock on the wall each minute."""
    minute, hour, day_of_week, day_of_month, month = fields

    def matches(wall: datetime) -> bool:
        return (
            wall.minute in minute
            and wall.hour in hour
            and wall.isoweekday() % 7 in day_of_week
            and wall.day in day_of_month
            and wall.month in month
        )

    found = []
    here = ZoneInfo(zone)
    now = datetime.fromtimestamp(after // 60 * 60, UTC)
    wall = now.astimezone(here).replace(tzinfo=None)
    for _ in range(minutes):
        now += MINUTE
        local = now.astimezone(here)
        before, wall = wall, local.replace(tzinfo=None, fold=0)
        walls = [wall]
        if fixed:
            walls = [] if local.fold else [wall, *skipped(before, wall)]
        if any(matches(each) for each in walls):
            found.append(now.timestamp())
    return found


def skipped(before: datetime, wall: datetime) -> list[datetime]:
    return [before + MINUTE * more for more in range(1, (wall - before) // MINUTE)]


@given(FIELDS, st.sampled_from(ZONES), STARTS, st.integers(0, 600))
@example([("30", {30}), ("2", {2}), *ANY_DAY], "Europe/Berlin", at("2026-10-25"), 75)  # inside the repeated hour
def test_the_due_times_are_those_of_a_walk_by_the_minute(fields, zone, start, later):
    minute, hour = fields[:2]
    fixed = "*" not in minute[0] + hour[0] and len(minute[1]) < 60 and len(hour[1]) < 24
    after = start + later * 60
    minutes = 1500
    when = Cron(*[text for text, _ in fields], zone)
    found = dues_between(when, after, after // 60 * 60 + minutes * 60, minutes + 1)
    assert found == by_walking([some for _, some in fields], fixed, zone, after, minutes)


@given(FIELDS, st.sampled_from(ZONES), st.floats(0, 4e9))
def test_due_times_grow_and_one_by_one_they_are_the_same(fields, zone, after):
    when = Cron(*[text for text, _ in fields], zone)
    run = list(islice(dues(when, after), 20))
    assert all(a < b for a, b in zip([after, *run], run))
    for due, following in pairwise(run):
        assert next_due(when, due) == following
        assert next_due(when, due - 1e-6) == due


@given(st.integers(1_000, 10**12), st.floats(0, 8e9))
def test_the_times_of_an_interval_lie_on_one_grid(period_us, after):
    when = Every(period_us / 1e6)
    due = next_due(when, after)
    if due is not None:
        assert microseconds(due) % period_us == 0
        assert 0 < microseconds(due) - microseconds(after) <= period_us
        assert next_due(when, due) in (None, (microseconds(due) + period_us) / 1e6)


@given(st.integers(0, DUE_US_MAX))
def test_each_microsecond_is_told_from_the_next(instant):
    assert microseconds(instant / 1e6) == instant


def test_an_interval_does_not_drift():
    when = schedule(0.1)
    run = list(islice(dues(when, NOON), 100_000))
    assert microseconds(run[-1]) - microseconds(NOON) == 100_000 * 100_000


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_line_with_seconds_is_due_by_the_second(zone):
    run = dues_between(as_schedule("*/20 59 23 * * *", zone), at("2026-06-01"), at("2026-06-02"), 10)
    assert [datetime.fromtimestamp(due, ZoneInfo(zone)).strftime("%H:%M:%S") for due in run] == [
        *("23:59:00", "23:59:20", "23:59:40")
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 12 L * *", ["01-31", "02-28", "03-31"]),
        ("0 12 LW * *", ["01-30", "02-27", "03-31"]),
        ("0 12 * * fri#2", ["01-09", "02-13", "03-13"]),
        ("0 12 * * 5L", ["01-30", "02-27", "03-27"]),
        ("0 12 1/15 * *", ["01-01", "01-16", "01-31"]),
    ],
)
def test_a_line_says_what_cron_says_and_last_and_nth_days(line, expected):
    run = islice(dues(as_schedule(line), at("2026-01-01")), 3)
    assert [datetime.fromtimestamp(due, UTC).strftime("%m-%d") for due in run] == expected


def test_once_is_due_once():
    when = Once(NOON)
    assert next_due(when, NOON - 1e-6) == NOON
    assert next_due(when, NOON) is None
    assert dues_between(when, 0.0, NOON, 5) == [NOON]
    assert (count_dues(when, 0.0, NOON), count_dues(when, NOON, 2 * NOON)) == (1, 0)
    assert latest_due(when, 0.0, NOON) == NOON


@pytest.mark.parametrize("when", [schedule(60), crontab(), as_schedule("*/30 * * * * *"), crontab(zone="Asia/Tokyo")])
@pytest.mark.parametrize("after", [-1e12, -1.0, 0.0, DUE_US_MAX / 1e6 - 61, DUE_US_MAX / 1e6, 1e12])
def test_due_times_lie_between_1970_and_the_last_exact_microsecond(when, after):
    due = next_due(when, after)
    assert due is None or max(0.0, after) <= due <= DUE_US_MAX / 1e6
    assert (due is None) == (after >= DUE_US_MAX / 1e6)


def test_a_leap_day_is_waited_for():
    assert next_due(crontab(0, 0, day_of_month=29, month_of_year=2), at("2096-03-01")) == at("2104-02-29")


def test_days_between_are_bounded_and_take_the_first():
    when = crontab()
    assert dues_between(when, NOON, NOON + 600, 3) == [NOON + 60, NOON + 120, NOON + 180]
    assert dues_between(when, NOON, NOON + 60, 3) == [NOON + 60]
    assert dues_between(when, NOON, NOON + 59, 3) == []
    assert dues_between(when, NOON, NOON - 59, 3) == []
    assert dues_between(when, NOON, NOON + 600, 0) == []


SCHEDULES = st.one_of(
    st.integers(1_000, 10**9).map(lambda period: Every(period / 1e6)),
    st.sampled_from(
        [
            *(
                crontab(),
                crontab("*/7", "1-5"),
                crontab(0, 3, zone="Europe/Berlin"),
                crontab("*/20", zone="Asia/Beirut"),
            ),
            *(CronLine("*/10 * * * * *"), Once(NOON), crontab(0, 0, "mon")),
        ]
    ),
)


@given(SCHEDULES, st.floats(-1e5, 1e5), st.floats(-10, 2e5))
def test_counting_and_the_latest_agree_with_all_that_there_are(when, shift, span):
    after, until = NOON + shift, NOON + shift + span
    run = dues_between(when, after, until, 2000)
    if len(run) < 2000:
        assert count_dues(when, after, until) == len(run)
        assert latest_due(when, after, until) == (run[-1] if run else None)


LINES = [
    "* * * * *",
    "*/7 1-5 * * *",
    "30 2 * * *",
    "0,30 0-3 1,15 * 1",
    "15 */10 * * * *",
    "0 12 13 * 5",
    "0 0 29 2 *",
]


@given(
    st.builds(CronLine, st.sampled_from(LINES), st.sampled_from(ZONES)),
    st.datetimes(datetime(2010, 1, 1), datetime(2027, 1, 1)),
    st.floats(-10, 20 * 86_400.0),
)
@example(CronLine("*/7 1-5 * * *", "Pacific/Apia"), datetime(2011, 12, 25), 10 * 86_400.0)
@example(CronLine("30 2 * * *", "Europe/Berlin"), datetime(2026, 3, 20), 20 * 86_400.0)
@example(CronLine("* * * * *", "Australia/Lord_Howe"), datetime(2026, 4, 1), 9 * 86_400.0)
def test_counting_by_days_agrees_with_all_that_there_are_in_any_zone(when, first, span):
    after = first.replace(tzinfo=UTC).timestamp()
    assert count_dues(when, after, after + span) == len(dues_between(when, after, after + span, 1 << 40))


def test_a_long_absence_is_counted_and_its_latest_found():
    long_ago = at("1990-01-01")
    assert count_dues(schedule(0.001), long_ago, NOON) == round(NOON - long_ago) * 1000
    assert count_dues(crontab(), long_ago, NOON) == round(NOON - long_ago) // 60
    assert count_dues(crontab(zone="Asia/Kathmandu"), long_ago, NOON) == round(NOON - long_ago) // 60
    assert latest_due(crontab(), long_ago, NOON + 1) == NOON
    assert latest_due(schedule(0.001), long_ago, NOON + 0.0015) == NOON + 0.001
    assert latest_due(crontab(0, 0, day_of_month=29, month_of_year=2), long_ago, NOON) == at("2024-02-29")


@pytest.mark.deep
def test_each_minute_of_a_year():
    start = at("2026-01-01") - 1
    run = dues_between(crontab(zone="Europe/Berlin"), start, start + 365 * 86400, 10**6)
    assert len(run) == 525_600
    assert run[-1] - run[0] == (525_600 - 1) * 60


@pytest.mark.deep
def test_a_year_of_a_thousand_crontabs():
    start = at("2026-01-01") - 1
    for number in range(1000):
        zone = ZONES[number % 5]
        when = crontab(number % 60, f"*/{number % 11 + 2}" if number % 3 else number % 24, zone=zone)
        run = dues_between(when, start, start + 365 * 86400, 10**6)
        assert all(a < b for a, b in pairwise(run))
        assert abs(len(run) - 365 * (-(-24 // (number % 11 + 2)) if number % 3 else 1)) <= 2
