"""What is written of periodic tasks in the code of an app, and the entries that it makes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mesh import ConfigError, Mesh, crontab
from mesh.api.entries import entries_of
from mesh.entries import Entry
from mesh.model import TaskOptions
from mesh.schedules import Cron, CronLine, Every, Once, schedule
from mesh.wire.payload import decode_call


@pytest.fixture
def app():
    made = Mesh("periodic")

    @made.task(name="add", queue="sums", priority=3, expires=30, time_limit=5, acks_late=False)
    def add(a, b=0):
        return a + b

    made.task(name="plain")(lambda: None)
    made.task(name="big")(lambda text: None)
    return made


def one(app: Mesh, **row) -> Entry:
    app.conf.beat_schedule = {"e": {"task": "plain", "schedule": 30, **row}}
    (entry,) = entries_of(app)
    return entry


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (30, Every(30.0)),
        (0.5, Every(0.5)),
        (timedelta(minutes=5), Every(300.0)),
        (schedule(run_every=7), Every(7.0)),
        (crontab(minute=0, hour="*/2"), Cron("0", "*/2")),
        (crontab(0, 3, zone="Asia/Tokyo"), Cron("0", "3", zone="Asia/Tokyo")),
        ("30 2 * * 1-5", CronLine("30 2 * * 1-5")),
        (datetime(2030, 1, 1, tzinfo=UTC), Once(datetime(2030, 1, 1, tzinfo=UTC).timestamp())),
    ],
)
def test_a_schedule_may_be_written_in_each_of_these_ways(app, written, means):
    assert one(app, schedule=written).schedule == means


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({}, {"name": "e", "app": None, "options": TaskOptions("plain"), "paused": False}),
        ({"options": {"queue": "q", "priority": 7}}, {"options": TaskOptions("plain", "q", 7)}),
        (
            {"options": {"time_limit": 2, "ignore_result": True, "acks_late": False}},
            {"options": TaskOptions("plain", time_limit_s=2.0, ignore_result=True, at_most_once=True)},
        ),
        ({"options": {"expires": 10}}, {"expires_s": 10.0}),
        ({"options": {"expires": timedelta(minutes=1), "retry": False, "retry_policy": {}}}, {"expires_s": 60.0}),
        ({"relative": True}, {"schedule": Every(30.0)}),
        ({"task": "add", "args": (1,)}, {"options": TaskOptions("add", "sums", 3, None, None, 5.0, False, True)}),
        ({"task": "add", "args": [1], "options": {"queue": "q"}}, {"expires_s": 30.0}),
        ({"task": "add", "args": (1,), "options": {"expires": 5}}, {"expires_s": 5.0}),
        ({"task": "of.another.app", "args": (1,)}, {"options": TaskOptions("of.another.app")}),
        ({"catchup": "all", "catchup_max": 5}, {"catchup": "all", "catchup_max": 5}),
        ({"catchup_window": timedelta(hours=2), "overlap": "skip"}, {"catchup_window_s": 7200.0, "overlap": "skip"}),
        ({"jitter": 2, "enabled": False}, {"jitter_s": 2.0, "paused": True}),
        ({"schedule": "0 3 * * *", "timezone": "Asia/Tokyo"}, {"schedule": CronLine("0 3 * * *", "Asia/Tokyo")}),
        (
            {"schedule": crontab(0, 3), "timezone": ZoneInfo("Asia/Tokyo")},
            {"schedule": Cron("0", "3", zone="Asia/Tokyo")},
        ),
    ],
)
def test_an_entry_of_beat_schedule_says_all_this(app, row, fields):
    entry = one(app, **row)
    assert {name: getattr(entry, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"schedule": None}, "run_every=None: expected seconds"),
        ({"schedule": timedelta(seconds=-1)}, "seconds=-1.0: expected 0.001 to"),
        ({"schedule": "a b"}, "a b"),
        ({"schedule": datetime(2030, 1, 1)}, "needs a zone"),
        ({"task": None}, "task=None: expected a task or the name of one"),
        ({"queue": "q"}, "queue belongs into its options: 'options': {'queue': ...}"),
        ({"retry": False}, "retry belongs into its options: 'options': {'retry': ...}"),
        ({"options": {"overlap": "skip"}}, "overlap belongs beside its options, not into them: 'overlap': ..."),
        ({"options": {"queue": "q", "jitter": 2}}, "jitter belongs beside its options, not into them: 'jitter': ..."),
        ({"options": {"args": (1,)}}, "args belongs beside its options, not into them: 'args': ..."),
        ({"cathcup": "all"}, "unknown option cathcup; known: task schedule args.*; cathcup: did you mean catchup"),
        ({"options": {"countdown": 3}}, "countdown: a periodic task has its times from its schedule"),
        ({"options": {"link": None}}, "unknown option link; known: .*; link: not there yet"),
        ({"options": {"priority": 999}}, "priority=999"),
        ({"options": {"expires": datetime(2030, 1, 1, tzinfo=UTC)}}, "counted from each due time"),
        ({"options": 1}, "options=1: expected a dict"),
        ({"catchup": "some"}, "catchup='some': expected 'latest', 'all', 'skip'"),
        ({"catchup_max": 0}, "catchup_max=0: expected a whole number from 1 to 10000"),
        ({"catchup_window": -1}, "catchup_window=-1: expected 0 to 1000000000 seconds"),
        ({"options": {"expires": 0}}, "expires=0: it would never run; expected seconds above 0, after each due time"),
        ({"options": {"expires": timedelta(-1)}}, "expires=datetime.timedelta(days=-1): it would never run"),
        ({"overlap": True}, "overlap=True: expected 'allow', 'skip', 'queue_one'"),
        ({"jitter": timedelta(-1)}, "jitter=datetime.timedelta(days=-1): expected 0 to 1000000000 seconds"),
        ({"jitter": "1"}, "jitter='1': expected seconds"),
        ({"enabled": "no"}, "enabled='no': expected True or False"),
        ({"timezone": "Europe/Pariss", "schedule": "0 3 * * *"}, "zone='Europe/Pariss' is not known"),
        ({"args": 1}, "args must be a tuple or list"),
        ({"task": "add", "args": (1, 2, 3)}, "add"),
        ({"task": "elsewhere", "args": (iter(range(3)), (n for n in ()))}, "generator"),
        ({"task": "big", "args": ("x" * 20_000,)}, "arguments of a periodic task: 16 KiB at most"),
    ],
)
def test_what_is_no_entry_is_refused_by_its_name(app, row, says):
    with pytest.raises(ConfigError, match=rf"^entry 'e'(?!.*entry 'e').*{says if '.*' in says else re.escape(says)}"):
        one(app, **row)


@pytest.mark.parametrize("row", [{"task": "plain"}, {"schedule": 1}, "plain"])
def test_an_entry_needs_a_task_and_a_schedule(app, row):
    app.conf.beat_schedule = {"e": row}
    with pytest.raises(ConfigError, match=r"^entry 'e'.* (has no|expected a dict)"):
        entries_of(app)


def test_the_zone_of_the_app_counts_for_what_names_none(app):
    app.conf.update(timezone="Europe/Paris", enable_utc=False)
    assert one(app, schedule=crontab(0, 3)).schedule == Cron("0", "3", zone="Europe/Paris")
    assert one(app, schedule=crontab(0, 3, zone="UTC")).schedule == Cron("0", "3", zone="UTC")
    assert one(app, schedule=5).schedule == Every(5.0)
    app.conf.timezone = None
    assert one(app, schedule=5).schedule == Every(5.0)
    with pytest.raises(ConfigError, match="entry 'e': enable_utc=False needs a timezone"):
        one(app, schedule="0 3 * * *")
    with pytest.raises(ConfigError, match="timezone: zone='Mars' is not known"):
        app.conf.timezone = "Mars"
    with pytest.raises(ConfigError, match=r"beat_schedule=\[\]: expected a dictionary of entries by name"):
        app.conf.beat_schedule = []


def test_the_queue_of_the_app_is_that_of_what_names_none(app):
    app.conf.task_default_queue = "rest"
    assert one(app, task="of.another.app").options.queue == "rest"


def test_add_periodic_task_takes_tasks_and_names(app):
    add = app.tasks["add"]
    assert app.add_periodic_task(10, add, (1,), name="first") == "first"
    assert app.add_periodic_task(crontab(0), "add", (1,), {"b": 2}, queue="q", overlap="skip") == "add(1, b=2)"
    first, second = entries_of(app)
    assert (first.name, first.schedule, first.options.queue) == ("first", Every(10.0), "sums")
    assert (second.options.queue, second.overlap, decode_call(second.payload)) == ("q", "skip", ((1,), {"b": 2}))


def test_add_periodic_task_has_no_options_of_its_own_for_options(app):
    with pytest.raises(ConfigError, match=re.escape("entry 'e': options: what stands there in beat_schedule is given")):
        app.add_periodic_task(10, "plain", name="e", options={"queue": "q"})


def test_what_is_defined_and_set_later_counts_for_what_was_added(app):
    app.add_periodic_task(crontab(0, 3), "late", name="e")
    app.task(name="late", queue="q")(print)
    app.conf.timezone = "Asia/Tokyo"
    (entry,) = entries_of(app)
    assert (entry.options.queue, entry.schedule) == ("q", Cron("0", "3", zone="Asia/Tokyo"))


def test_a_name_is_needed_where_the_arguments_give_none(app):
    for args in ((object(),), ("x" * 300,), ([{"a": {"b", "c"}}],)):
        with pytest.raises(ConfigError, match=r"the periodic task plain\(.* needs a name"):
            app.add_periodic_task(10, "plain", args)


def test_two_entries_of_one_name_are_refused(app):
    app.add_periodic_task(10, "plain")
    with pytest.raises(ConfigError, match=re.escape("entry 'plain()' is there already: give each")):
        app.add_periodic_task(20, "plain")
    app.conf.beat_schedule = {"plain()": {"task": "plain", "schedule": 1}}
    with pytest.raises(ConfigError, match=re.escape("entry 'plain()' is in beat_schedule and was added")):
        entries_of(app)


def test_a_task_of_a_script_cannot_be_periodic():
    app = Mesh("periodic")

    def report():
        return None

    report.__module__ = "__main__"
    app.add_periodic_task(1, app.task(report), name="r")  # whoever runs the app's file as a script does this
    with pytest.raises(ConfigError, match=r"entry 'r': task __main__.*report is of a script"):
        entries_of(app)
    with pytest.raises(ConfigError, match=r"entry 'r': task __main__.*report is of a script"):
        app.schedules.add("r", 1, report.__module__ + ".report")


def test_a_task_of_the_apps_file_run_as_a_script_is_that_of_its_module():
    app = Mesh("tasks")

    def report():
        return None

    report.__module__ = "__main__"
    app.add_periodic_task(1, app.task(name="tasks.report")(report), name="r")
    assert [entry.options for entry in entries_of(app)] == [TaskOptions("tasks.report")]


def test_a_time_that_all_calls_of_a_task_share_is_none_for_a_periodic_one(app):
    app.task(name="until", expires=datetime(2030, 1, 1, tzinfo=UTC))(print)
    with pytest.raises(ConfigError, match=r"entry 'e': expires=.*counted from each due time"):
        one(app, task="until")
    assert one(app, task="until", options={"expires": 3}).expires_s == 3.0


def test_the_dict_of_the_app_may_be_filled_later(app):
    rows = {}
    app.conf.beat_schedule = rows
    rows["e"] = {"task": "plain", "schedule": 1}
    app.conf.beat_schedule["f"] = {"task": "plain", "schedule": 1}
    assert [entry.name for entry in entries_of(app)] == ["e", "f"]


def test_a_time_that_is_past_when_it_is_loaded_is_told(app, caplog):
    past, future = (datetime(year, 1, 1, tzinfo=UTC) for year in (2001, 2201))
    for name, when in (("past", past), ("future", future)):
        app.add_periodic_task(when, "plain", name=name)
    app.periodic.entries()
    (said,) = (record.getMessage() for record in caplog.records)
    assert "entry 'past': once, at 2001-01-01 00:00:00 UTC: that is past" in said


def test_a_name_that_is_nearly_one_of_the_apps_is_told(app, caplog):
    assert one(app, task="plian").options.name == "plian"
    assert "entry 'e': this app has no task 'plian'; is 'plain' meant?" in caplog.text


def test_handlers_add_entries_once(app):
    called = []

    @app.on_after_configure.connect
    def setup(sender, **kwargs):
        called.append(sender)
        sender.add_periodic_task(10, "plain", name="configured")

    @app.on_after_finalize.connect()
    def later(sender):
        sender.add_periodic_task(10, "plain", name="finalized")

    assert [entry.name for entry in entries_of(app)] == ["configured", "finalized"]
    assert [entry.name for entry in entries_of(app)] == ["configured", "finalized"]
    assert called == [app]


def test_a_handler_that_fails_is_named(app):
    @app.on_after_finalize.connect
    def setup(sender, **kwargs):
        raise KeyError("no such setting")

    here = r"\S*test_entries\.py:\d+: "
    with pytest.raises(ConfigError, match=rf"on_after_finalize: {here}.*setup: KeyError: 'no such setting'"):
        entries_of(app)
    app.on_after_configure.connect(lambda sender: sender.add_periodic_task(-1, "plain", name="e"))
    with pytest.raises(ConfigError, match=rf"on_after_configure: {here}.*lambda.*: entry 'e': .*-1"):
        entries_of(app)
