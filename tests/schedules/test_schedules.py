"""Schedules as data: what makes them, what they allow, what they say to people, and their bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import requires
from itertools import islice
from zoneinfo import ZoneInfo

import msgspec
import pytest

import mesh
from mesh.errors import ConfigError
from mesh.schedules import (
    Cron,
    CronLine,
    Every,
    Once,
    Schedule,
    as_schedule,
    check,
    crontab,
    describe,
    dues,
    in_zone,
    microseconds,
    next_due,
    schedule,
)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (30, Every(30.0)),
        (0.25, Every(0.25)),
        (timedelta(minutes=5), Every(300.0)),
        (schedule(10), Every(10.0)),
        (schedule(run_every=timedelta(days=1)), Every(86400.0)),
        ("*/5 * * * *", CronLine("*/5 * * * *", "Europe/Paris")),
        ("0 */5 * * * *", CronLine("0 */5 * * * *", "Europe/Paris")),
        (CronLine("0 1 * * *", "UTC"), CronLine("0 1 * * *", "UTC")),
        (crontab(minute=5), Cron("5", zone="Europe/Paris")),
        (crontab(minute=5, zone="Asia/Tokyo"), Cron("5", zone="Asia/Tokyo")),
        (NOON, Once(NOON.timestamp())),
        (NOON.astimezone(ZoneInfo("Asia/Tokyo")), Once(NOON.timestamp())),
    ],
)
def test_what_stands_for_a_schedule(when, expected):
    assert as_schedule(when, "Europe/Paris") == expected


@pytest.mark.parametrize("zone", ["Asia/Tokyo", ZoneInfo("Asia/Tokyo")])
def test_a_zone_is_a_name_or_a_zoneinfo(zone):
    assert crontab(zone=zone).zone == "Asia/Tokyo"
    assert in_zone(crontab(), zone).zone == "Asia/Tokyo"
    assert in_zone(schedule(5), zone) == Every(5.0)


def test_utc_of_the_standard_library_is_a_zone_and_an_offset_is_none():
    assert crontab(zone=UTC).zone == "UTC"
    with pytest.raises(ConfigError, match="Europe/Paris"):
        crontab(zone=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    "zone",
    ["Europe/Berln", "Europe", "../../etc/passwd", "/etc/localtime", "localtime", "right/Europe/Berlin", "x" * 65],
)
def test_an_unknown_zone_is_refused_by_its_name(zone):
    with pytest.raises(ConfigError, match="zone="):
        crontab(zone=zone)
    with pytest.raises(ConfigError, match="zone="):
        as_schedule("* * * * *", zone)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/paris", "did you mean Europe/Paris?"),
        ("paris", "did you mean Europe/Paris?"),
        ("America/New York", "did you mean America/New_York?"),
        ("utc", "did you mean UTC?"),
        ("posix/Europe/Paris", "did you mean Europe/Paris?"),
        ("localtime", "that is another zone on each machine: write the name of yours, as in Europe/Paris, or UTC"),
        ("local", "that is another zone on each machine: write the name of yours, as in Europe/Paris, or UTC"),
        ("UTC+2", "a zone is a place, as in Europe/Paris, or UTC; Etc/GMT-2 is always 2 h ahead of UTC"),
        ("-05:00", "a zone is a place, as in Europe/Paris, or UTC; Etc/GMT+5 is always 5 h behind UTC"),
        ("PST", "a zone is a place, as in Europe/Paris, or UTC"),
        ("+99", "a zone is a place, as in Europe/Paris, or UTC"),
        ("x" * 65, "expected text of at most 64 characters"),
    ],
)
def test_the_error_for_an_unknown_zone_says_what_to_write(zone, hint):
    with pytest.raises(ConfigError) as caught:
        crontab(zone=zone)
    assert str(caught.value).endswith(f": {hint}")
    assert zone not in hint


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("61 * * * *", "minute '61'"),
        ("* 24 * * *", "hour '24'"),
        ("* * * * fri-mon", "day_of_week 'fri-mon'"),
        ("60 * * * * *", "second '60'"),
        ("* 60 * * * *", "minute '60'"),
        ("0 0 30 2 *", "day_of_month '30' is not understood, or no month has it"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@reboot", "of those with @ there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"),
        ("", "line"),
        (" ", "0 fields"),
        (0, "seconds=0"),
        (-5, "seconds=-5"),
        (1e-6, "seconds=1e-06"),
        (1e10, "seconds=1"),
        (float("nan"), "seconds=nan"),
        (float("inf"), "seconds=inf"),
        (timedelta(seconds=-1), "^seconds=-1.0: expected 0.001 to 1000000000 seconds$"),
        ("", "^line='': expected text of 1 to 1000 characters$"),
        (True, "run_every=True"),
        (None, "run_every=None"),
        ([5], "run_every="),
        (datetime(2026, 1, 1), "needs a zone"),
        (datetime(2300, 1, 1, tzinfo=UTC), "at="),
        (datetime(1969, 1, 1, tzinfo=UTC), "at=.*: expected an instant from 1970 to 2242$"),
    ],
)
def test_what_is_no_schedule_is_refused(when, expected):
    with pytest.raises(ConfigError, match=expected):
        as_schedule(when)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0 31 * *", "At 00:00 on the 31st day of every month, UTC"),
        (
            "0 0 1,2,3,10,11,12,13,20,21,22,23,30,31 * *",
            "At 00:00 on the first, the second, the third, the 10th, the 11th, the 12th, the 13th, the 20th, the 21st, "
            "the 22nd, the 23rd, the 30th, and the 31st day of month, UTC",
        ),
        ("*/22 * * * *", "Every 22nd minute of every hour, UTC"),
    ],
)
def test_days_are_counted_as_people_count_them(line, words):
    assert describe(as_schedule(line)) == words


EXAMPLES = [
    (Every(90.0), "every 90 seconds"),
    (Every(1.0), "every second"),
    (Every(0.5), "every 0.5 seconds"),
    (Every(300.0), "every 5 minutes"),
    (Every(3600.0), "every hour"),
    (Every(172800.0), "every 2 days"),
    (crontab(30, 2, zone="Europe/Berlin"), "At 02:30 every day, Europe/Berlin"),
    (crontab("*/5"), "Every fifth minute of every hour, UTC"),
    (crontab(0, 0, "fri", "13"), "At 00:00 on the 13th day of month and on Friday (only on days that are both), UTC"),
    (as_schedule("0 0 13 * 5"), "At 00:00 on the 13th day of month and on Friday, UTC"),
    (Once(NOON.timestamp()), "once, at 2026-11-27 12:00:00 UTC"),
]


@pytest.mark.parametrize(("when", "expected"), EXAMPLES)
def test_people_are_told_in_words(when, expected):
    assert describe(when) == expected


@pytest.mark.parametrize("when", [when for when, _ in EXAMPLES])
def test_a_schedule_crosses_the_wire(when):
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(when), type=Schedule) == when


def test_the_bytes_of_a_schedule_stay_as_they_are():
    assert msgspec.json.encode([Every(5.0), crontab(1, zone="UTC"), as_schedule("* * * * *"), Once(1.5)]) == (
        b'[["every",5.0],["cron","1","*","*","*","*","UTC"],["line","* * * * *",""],["once",1.5]]'
    )


@pytest.mark.parametrize(
    "body",
    [b'["every",0]', b'["every",1e10]', b'["cron",""]', b'["line"]', b'["once",-1]', b'["once",1e11]', b'["never"]'],
)
def test_what_is_out_of_bounds_is_not_read_from_the_wire(body):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=Schedule)


def test_what_a_peer_may_send_and_is_no_cron_is_found_by_a_check():
    sent = msgspec.json.decode(b'["cron","61","*","*","*","*","Mars/Olympus"]', type=Schedule)
    for use in (check, describe, lambda when: next_due(when, 0.0)):
        with pytest.raises(ConfigError, match="minute"):
            use(sent)


def test_the_names_of_celery_are_where_its_users_look():
    assert mesh.crontab is crontab
    from mesh.schedules import crontab as a, schedule as b  # noqa: PLC0415, I001

    assert (a, b) == (crontab, schedule)


def test_an_instant_is_named_by_its_microseconds():
    assert microseconds(1_764_244_800.000001) == 1_764_244_800_000_001


@pytest.mark.processes
def test_each_node_knows_the_zones_although_its_machine_has_none():
    """Else a leader on a bare image, or on Windows, would keep the lease and fire nothing that has a zone."""
    assert "tzdata" in {
        re.split(r"[<>=!~; ]", line)[0] for line in requires("taskmesh") or () if "extra ==" not in line
    }
    program = "from mesh.schedules import crontab, next_due; print(next_due(crontab(30, 2, zone='Europe/Berlin'), 0))"
    environ = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert float(done.stdout) == next_due(crontab(30, 2, zone="Europe/Berlin"), 0)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_a_line_may_be_one_of_the_names_that_cron_has(name, line):
    named, written = (as_schedule(text, "Europe/Berlin") for text in (name, line))
    assert list(islice(dues(named, 1.7e9), 5)) == list(islice(dues(written, 1.7e9), 5))
    assert describe(named) == describe(written)


def test_an_import_of_what_celery_has_there_says_what_to_use():
    with pytest.raises(ImportError, match=r"'solar' from 'mesh\.schedules': use crontab"):
        exec("from mesh.schedules import solar")
