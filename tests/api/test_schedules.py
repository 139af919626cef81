"""``app.schedules`` against a router in this process, where nobody leads: so nothing is due by itself."""

from __future__ import annotations

import asyncio
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from mesh import ConfigError, EntryExists, Mesh, Overloaded, Unavailable, UnknownEntry, crontab
from mesh.api import schedules
from mesh.api.entry import changed_entry, new_entry
from mesh.core import entry_operations
from mesh.entries import Entry
from mesh.schedules import Cron, CronLine, Every
from mesh.testing import local_mesh
from mesh.wire import pickled
from mesh.wire.payload import decode_call


@pytest.fixture
def app():
    made = Mesh("runtime", submit_timeout_s=0.2)

    @made.task(name="add", queue="default")
    def add(a, b=0):
        return a + b

    with local_mesh(made):
        yield made


def test_an_entry_that_is_added_is_there(app):
    app.schedules.add(
        "nightly", "30 2 * * *", app.tasks["add"], (1,), {"b": 2}, timezone="Europe/Paris", overlap="skip"
    )
    before = datetime.now(UTC) - timedelta(seconds=5)
    (row,) = app.schedules.list()
    assert (row.name, row.task, row.app, row.paused) == ("nightly", "add", None, False)
    assert row.schedule == CronLine("30 2 * * *", "Europe/Paris")
    assert row.describe() == "At 02:30 every day, Europe/Paris"
    assert (row.last_due, row.last_task, row.last_state, row.fired) == (None, "", "", 0)
    assert before < row.next_due < before + timedelta(hours=26)
    assert row.entry.overlap == "skip" and decode_call(row.entry.payload) == ((1,), {"b": 2})
    assert app.schedules.get("nightly") == row
    assert repr(row) == f"<PeriodicTask 'nightly': add, next due {row.next_due}>"


def test_a_task_that_no_worker_has_is_told_when_it_is_added_and_in_the_list(app, caplog):
    app.schedules.add("e", 30, "add", (1,))
    assert not caplog.records
    app.schedules.add("typo", 30, "ad", (1,))
    app.schedules.update("e", queue="slow")
    typo, slow = (record.getMessage() for record in caplog.records)
    assert typo.startswith("entry 'typo': no worker has this task: start one that has it, or look at the names; ")
    assert slow.startswith("entry 'e': no worker serves its queue: start one that has it")
    expected = {"e": "no worker serves its queue", "typo": "no worker has this task"}
    assert {row.name: row.parked for row in app.schedules.list()} == expected


def test_a_name_is_taken_once(app):
    app.schedules.add("e", 30, "add", (1,))
    with pytest.raises(EntryExists, match="already: e"):
        app.schedules.add("e", 60, "add", (1,))
    assert app.schedules.get("e").schedule == Every(30.0)


@pytest.mark.parametrize("ask", ["get", "pause", "resume", "remove", "trigger", "update"])
def test_an_entry_nobody_knows_is_said_to_be_unknown(app, ask):
    with pytest.raises(UnknownEntry, match="no entry of this name: e"):
        getattr(app.schedules, ask)("e")


def test_what_is_no_entry_is_not_sent(app):
    with pytest.raises(ConfigError, match="entry 'e': catchup='no'"):
        app.schedules.add("e", 30, "add", (1,), catchup="no")
    with pytest.raises(ConfigError, match=r"entry 'e': .*missing 1 required positional argument: 'a'"):
        app.schedules.add("e", 30, "add")
    with pytest.raises(ConfigError, match="entry 'e': once, at 2020-01-01 00:00:00 UTC: that is past"):
        app.schedules.add("e", datetime(2020, 1, 1, tzinfo=UTC), "add", (1,))
    with pytest.raises(ConfigError, match="name=''"):
        app.schedules.pause("")
    app.schedules.add("e", 30, "add", (1,))
    with pytest.raises(ConfigError, match="entry 'e': unknown option every; known: schedule task"):
        app.schedules.update("e", every=3)
    assert [row.name for row in app.schedules.list()] == ["e"]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"schedule": 7}, {"schedule": Every(7.0)}),
        ({"schedule": crontab(0, 3)}, {"schedule": Cron("0", "3")}),
        ({"timezone": "Asia/Tokyo"}, {"schedule": CronLine("0 3 * * *", "Asia/Tokyo")}),
        ({"expires": 5, "jitter": 2}, {"expires_s": 5.0, "jitter_s": 2.0}),
        ({"expires": None}, {"expires_s": None}),
        ({"overlap": "queue_one", "catchup": "all"}, {"overlap": "queue_one", "catchup": "all"}),
        ({"enabled": False}, {"paused": True}),
    ],
)
def test_an_update_changes_what_it_names_and_nothing_else(app, changes, fields):
    app.schedules.add("e", "0 3 * * *", "add", (1,), expires=9, queue="q", time_limit=3)
    before = app.schedules.get("e").entry
    app.schedules.update("e", **changes)
    after = app.schedules.get("e").entry
    assert {name: getattr(after, name) for name in fields} == fields
    times = ("revised_at", "written_at")
    rest = [name for name in Entry.__struct_fields__ if name not in fields and name not in times]
    assert [getattr(after, name) for name in rest] == [getattr(before, name) for name in rest]
    assert after.revised_at > before.revised_at


def test_an_update_of_the_schedule_keeps_the_zone_unless_one_is_named(app):
    def updated(**changes):
        app.schedules.update("e", **changes)
        return app.schedules.get("e").entry.schedule

    app.schedules.add("e", "0 3 * * *", "add", (1,), timezone="Asia/Tokyo")
    app.conf.timezone = "Europe/Paris"
    assert updated(schedule="0 8 * * *") == CronLine("0 8 * * *", "Asia/Tokyo")
    assert updated(schedule=crontab(0, 4)) == Cron("0", "4", zone="Asia/Tokyo")
    assert updated(schedule=crontab(0, 4, zone="UTC")) == Cron("0", "4", zone="UTC")
    assert updated(schedule="0 5 * * *", timezone="Asia/Tokyo") == CronLine("0 5 * * *", "Asia/Tokyo")
    assert updated(schedule=7) == Every(7.0)
    assert updated(schedule="0 6 * * *") == CronLine("0 6 * * *", "Europe/Paris")


def test_an_update_changes_options_arguments_and_the_task(app):
    app.schedules.add("e", 30, "add", (1,), {"b": 2}, queue="q", time_limit=3)
    app.schedules.update("e", priority=9, kwargs={"b": 3})
    entry = app.schedules.get("e").entry
    assert (entry.options.queue, entry.options.priority, entry.options.time_limit_s) == ("q", 9, 3.0)
    assert decode_call(entry.payload) == ((1,), {"b": 3})
    app.schedules.update("e", task="elsewhere", args=("x",), kwargs={})
    entry = app.schedules.get("e").entry
    assert (entry.options.name, entry.options.queue, decode_call(entry.payload)) == (
        "elsewhere",
        "default",
        (("x",), {}),
    )


def test_a_change_unpickles_nothing(app):
    trap = pickled.PICKLED + pickle.dumps((Trap(),))
    entry = replace(new_entry(app, "e", 30, "add", (1,), {}, {}), payload=trap)
    assert changed_entry(app, entry, {"task": "other", "schedule": 60}).payload == trap
    with pytest.raises(ConfigError, match="its arguments are pickled, and not read to be changed: give both args and"):
        changed_entry(app, entry, {"args": (1,)})
    assert decode_call(changed_entry(app, entry, {"args": (1,), "kwargs": {}}).payload) == ((1,), {})


class Trap:
    """Runs what it likes where it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_of_two_that_change_an_entry_neither_undoes_the_others_change(app, monkeypatch):
    app.schedules.add("e", 30, "add", (1,))
    look = schedules.Schedules.get
    others = [{"jitter": 1}, {"expires": 2}]

    def get(self, name, **options):
        """Look, and then let another change the entry."""
        found = look(self, name, **options)
        if others:
            changes, rest = others.pop(), others[:]
            others.clear()
            schedules.Schedules(app).update(name, **changes)
            others[:] = rest
        return found

    monkeypatch.setattr(schedules.Schedules, "get", get)
    app.schedules.update("e", overlap="skip")
    entry = app.schedules.get("e").entry
    assert (entry.overlap, entry.jitter_s, entry.expires_s) == ("skip", 1.0, 2.0)
    others[:] = [{"jitter": n} for n in range(2, 2 + schedules.UPDATES_MAX)]
    with pytest.raises(Unavailable, match="was changed by another meanwhile"):
        app.schedules.update("e", overlap="allow")


def test_a_paused_entry_has_no_next_due_time_until_it_is_resumed(app):
    for name in ("a", "b"):
        app.schedules.add(name, 30, "add", (1,))
    app.schedules.pause("a", "b")
    assert [(row.paused, row.next_due) for row in app.schedules.list()] == [(True, None)] * 2
    app.schedules.resume("b")
    assert [row.paused for row in app.schedules.list()] == [True, False]


def test_a_triggered_entry_gives_the_handle_of_its_task(app):
    app.schedules.add("e", 30, "add", (1,), {"b": 2}, enabled=False)
    assert app.schedules.trigger("e").get(timeout=10) == 3
    assert app.schedules.trigger("e").id != app.schedules.trigger("e").id


def test_coroutines_may_ask_at_once_from_threads(app):
    async def ask():
        names = ("a", "b", "c")
        await asyncio.gather(*(asyncio.to_thread(app.schedules.add, name, 30, "add", (1,)) for name in names))
        await asyncio.to_thread(app.schedules.pause, "a", "b")
        return await asyncio.to_thread(app.schedules.list)

    assert [(row.name, row.paused) for row in asyncio.run(ask())] == [("a", True), ("b", True), ("c", False)]


def test_removed_entries_are_gone(app):
    for name in ("a", "b", "c"):
        app.schedules.add(name, 30, "add", (1,))
    app.schedules.remove("a", "c")
    assert [row.name for row in app.schedules.list()] == ["b"]


def test_many_entries_are_listed_in_parts(app, monkeypatch):
    monkeypatch.setattr(entry_operations, "MESSAGE_BYTES_MAX", 1_000)
    names = [f"e{n:02}" for n in range(20)]
    for name in names:
        app.schedules.add(name, 30, "add", (1,))
    assert [row.name for row in app.schedules.list()] == names


def test_a_full_router_says_so():
    app = Mesh("runtime", queued_tasks_max=1, schedule_entries_max=1)
    with local_mesh(app):
        app.schedules.add("e", 30, "nobody.has.it")
        with pytest.raises(Overloaded, match="schedule_entries_max"):
            app.schedules.add("f", 30, "nobody.has.it")
        app.schedules.trigger("e")
        with pytest.raises(Overloaded):
            app.schedules.trigger("e")


def test_an_overview_says_who_leads(app):
    assert (app.schedules.overview().leader, app.schedules.overview().entries) == ("", [])


def test_nobody_there_is_unavailable():
    app = Mesh("alone", connect_timeout_s=0.2)
    app.routers = ["127.0.0.1:1"]
    with app, pytest.raises(Unavailable):
        app.schedules.list(timeout=0.1)
