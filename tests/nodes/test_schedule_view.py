"""What ``mesh schedule`` shows: times by the clock of a zone, what is late, and who leads."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from rich.console import Console

from mesh.api.schedules import Overview, PeriodicTask, seen
from mesh.entries import Entry, Position
from mesh.model import TaskOptions
from mesh.schedules import Cron, CronLine, Every, Once, microseconds
from mesh.wire import pickled
from mesh.wire.payload import encode_call
from nodes.cli.schedule_view import as_json, at, entries_table, entry_table, headline
from nodes.tables import plain, rich

NOW = datetime(2025, 10, 25, 12, 0, 0, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")
ENTRY = Entry("e", Every(30.0), TaskOptions("tasks.add"), app="tasks")


def row(
    entry: Entry = ENTRY, last: datetime = NOW, parked: str = "", rival: str = "", **position: object
) -> PeriodicTask:
    found = Position(entry.name, microseconds(last.timestamp()), **position)  # type: ignore[arg-type]
    return seen(entry, found, parked, rival)


def cells(found: PeriodicTask) -> dict[str, str]:
    table = entries_table(Overview([found], "w@h", (2 << 32) + 7), NOW, PARIS)
    return dict(zip((name.removesuffix(" CEST") for name in table.names()), table.rows[0]))


def test_a_list_that_is_piped_says_by_which_clock_its_times_are() -> None:
    head = plain(entries_table(Overview([row()], "w@h", (2 << 32) + 7), NOW, PARIS)).splitlines()[0]
    assert "NEXT DUE CEST" in head
    assert "LAST DUE CEST" in head


def test_an_entry_that_was_never_due_says_when_it_will_be() -> None:
    assert cells(row()) == {
        "entry": "e",
        "schedule": "every 30 seconds",
        "next due": "14:00:30",
        "last due": "",
        "outcome": "",
        "late": "",
        "origin": "tasks",
        "note": "",
    }


class Trap:
    """Runs what it likes where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("it was unpickled",)


def test_looking_at_an_entry_unpickles_nothing() -> None:
    plainly = encode_call((1, "x"), {"size": 2}, key="k", inline_max=1_000, total_max=1_000).payload
    trap = pickled.PICKLED + pickle.dumps((Trap(),))
    for payload, said in ((plainly, "1, 'x', size=2"), (trap, f"pickled, {len(trap)} bytes")):
        found = row(replace(ENTRY, payload=payload))
        assert as_json(found)["arguments"] == said
        assert dict(entry_table(found, NOW, PARIS).rows)["task"] == f"tasks.add({said})"  # type: ignore[arg-type]
    assert row(replace(ENTRY, payload=plainly)).arguments() == ((1, "x"), {"size": 2})


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (row(fired=1, last_task="a"), {"last due": "14:00:00", "outcome": "unfinished"}),
        (row(fired=1, last_task="a", last_state="dead"), {"outcome": "FAILURE"}),
        (row(fired=1, last_task="a", lateness_s=75.0), {"late": "1 min 15 s", "note": ""}),
        (row(fired=1, last_task="a", lateness_s=0.0042), {"late": "4 ms"}),
        (row(fired=1, last_task="a", lateness_s=-0.1), {"late": "0 ms"}),
        (row(skipped=1, parked="no worker has this task"), {"note": "1 skipped, no worker has this task"}),
        (row(rival="b"), {"note": "that of app b is not taken"}),
        (row(skipped=2_000), {"last due": "14:00:00", "note": "2 000 skipped"}),
        (row(replace(ENTRY, paused=True, app=None)), {"next due": "", "note": "paused", "origin": "run time"}),
        (row(last=NOW - timedelta(minutes=5)), {"next due": "13:55:30", "note": "OVERDUE"}),
        (row(replace(ENTRY, schedule=CronLine("30 9 * * *", "Europe/Paris"))), {"next due": "2025-10-26 09:30 CET"}),
        (row(replace(ENTRY, schedule=Cron(zone="No/Where"))), {"next due": ""}),
        (row(replace(ENTRY, schedule=Once(NOW.timestamp())), fired=1), {"next due": "", "note": "done"}),
        (row(replace(ENTRY, schedule=Once(NOW.timestamp()))), {"last due": "", "note": "past, never fired"}),
    ],
)
def test_what_is_odd_is_said(found: PeriodicTask, shown: dict[str, str]) -> None:
    assert {name: cells(found)[name] for name in shown} == shown


def test_a_zone_that_is_not_known_here_does_not_hide_the_rest() -> None:
    assert (
        "zone='No/Where' is not known on this machine"
        in cells(row(replace(ENTRY, schedule=Cron(zone="No/Where"))))["schedule"]
    )


def test_times_have_the_day_where_it_is_another_and_the_zone_where_its_name_is() -> None:
    assert at(NOW, NOW, PARIS) == "14:00:00"
    assert at(NOW, NOW, PARIS, named=True) == "14:00:00 CEST"
    assert at(NOW + timedelta(hours=11), NOW, PARIS) == "2025-10-26 01:00"
    assert at(NOW + timedelta(hours=13, seconds=1), NOW, PARIS) == "2025-10-26 02:00:01 CET"


def test_the_headline_says_who_leads() -> None:
    paused = row(replace(ENTRY, paused=True))
    assert headline("m", Overview([row(), paused], "w@h", (2 << 32) + 7)) == (
        "mesh m: 2 periodic tasks, 1 paused, leader w@h, term 2.7"
    )
    assert "NOBODY LEADS" in headline("m", Overview([row()], "", 0))
    full = headline("m", Overview([row()], "w@h", 1, "the store is full: OOM (for 9 s)"))
    assert full.endswith(", NOTHING IS FIRED HERE: the store is full: OOM (for 9 s)")


def test_one_entry_is_shown_with_all_of_it() -> None:
    entry = replace(ENTRY, expires_s=5.0, payload=b"?")
    text = plain(entry_table(row(entry), NOW, PARIS))
    assert "tasks.add(cannot be read here: " in text
    assert "5 s after it is due" in text and "14:00:30 CEST" in text
    assert "late                       none yet" in text
    assert as_json(row(entry))["expires_s"] == 5.0
    put_off = plain(entry_table(row(replace(entry, jitter_s=60.0)), NOW, PARIS))
    assert "5 s after it is put off to" in put_off
    assert "nobody now" in text and as_json(row(entry))["router"] is None
    ours = dataclasses.replace(row(entry), router="abc")
    assert "router abc" in plain(entry_table(ours, NOW, PARIS)) and as_json(ours)["router"] == "abc"


def drawn(width: int) -> list[str]:
    """The list on a terminal of this width, of entries with long names and schedules."""
    long = Cron("7,13,31,44", "0-6,20-23", day_of_month="1,11,21,31")
    rows = [
        row(replace(ENTRY, name="report_of_the_day(kind='long', of='sales')", schedule=long), fired=1, last_task="a"),
        row(parked="no worker has this task"),
    ]
    console = Console(width=width, file=StringIO())
    console.print(rich(entries_table(Overview(rows, "w@h", 1), NOW, PARIS), width))
    lines: str = console.file.getvalue()  # type: ignore[attr-defined]
    return lines.splitlines()


def test_a_narrow_terminal_shows_what_is_due_and_a_wide_one_the_schedule_too() -> None:
    narrow, wide = drawn(80), drawn(220)
    assert max(map(len, narrow)) <= 80
    for shown, rest in ((narrow, False), (wide, True)):
        (head,) = (line for line in shown if "entry" in line)
        assert ("schedule" in head, "origin" in head) == (rest, rest)
        assert all(name in head for name in ("next due CEST", "last due CEST", "outcome", "late", "note"))
    assert len(narrow) < 16, "no column is squeezed to a few letters"
    assert any("At minutes 7, 13, 31, and 44 past every hour from 0 through…" in line for line in wide)


def test_what_parks_or_is_not_taken_is_shown_with_what_to_do() -> None:
    found = row(parked="no worker has this task", rival="b")
    text = plain(entry_table(found, NOW, PARIS))
    assert "no worker has this task: start one that has it" in text
    assert "app b has an entry of this name, too" in text
    assert (as_json(found)["parked"], as_json(found)["rival"]) == ("no worker has this task", "b")
    assert (as_json(row())["parked"], as_json(row())["rival"]) == (None, None)
