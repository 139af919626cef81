"""Periodic tasks as users have them: in the code of an app, and at run time; router, worker and command are real."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from mesh import Mesh, UnknownEntry
from mesh.api.schedules import PeriodicTask
from mesh.net.runtime_dir import RuntimeDir
from nodes.cli.main import main
from tests.cluster import Cluster, Node, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

HEAD = """
from mesh import Mesh, crontab
app = Mesh("jobs")

@app.task
def give(value):
    return value

@app.on_after_configure.connect
def setup(sender, **kwargs):
    late = sender.task(name="late")(lambda value: value)
    sender.add_periodic_task(0.2, late, ("added",), name="added")
"""
OFTEN = """
app.conf.beat_schedule = {
    "often": {"task": "jobs.give", "schedule": 0.1, "args": ("often",)},
    "yearly": {"task": "jobs.give", "schedule": crontab(0, 0, day_of_month=1, month_of_year=1), "args": (1,)},
}
"""


def worker(cluster: Cluster, code: str, name: str = "w", app: str = "jobs") -> Node:
    """Start a worker that loads this code as an app of that name."""
    place = cluster.place / "code"
    place.mkdir(exist_ok=True)
    (place / f"{app}.py").write_text((HEAD + code).replace("jobs", app))
    return cluster.start(name, "worker", "--workdir", str(place), "-A", app, "-n", name, "-c", "1", "-l", "info")


def row(app: Mesh, name: str) -> PeriodicTask | None:
    """An entry, where there is one."""
    try:
        return app.schedules.get(name)
    except UnknownEntry:
        return None


def wait_row(app: Mesh, name: str, is_so: Callable[[PeriodicTask], bool]) -> PeriodicTask:
    """The entry, once it is there and so."""

    def look() -> PeriodicTask | None:
        found = row(app, name)
        return found if found is not None and is_so(found) else None

    found = wait_until(look, 20.0, f"entry {name} is so")
    assert found is not None
    return found


def wait_fired(app: Mesh, name: str, more: int = 3) -> PeriodicTask:
    """The entry, once so many more of its due times were fired."""
    before = wait_row(app, name, lambda _: True).fired
    return wait_row(app, name, lambda found: found.fired >= before + more)


def test_what_the_code_says_is_run(cluster: Cluster) -> None:
    cluster.router()
    worker(cluster, OFTEN)
    app = cluster.client()
    for name, task in (("often", "jobs.give"), ("added", "late")):
        found = wait_row(app, name, lambda found: found.last_state == "SUCCESS")
        assert app.AsyncResult(found.last_task).get(timeout=10) == name
        assert (found.app, found.task, found.skipped) == ("jobs", task, 0)
    yearly = app.schedules.get("yearly")
    assert (yearly.fired, yearly.last_due, yearly.next_due) == (
        0,
        None,
        datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC),
    )
    assert app.schedules.overview().leader.startswith("w@")


def test_what_is_added_at_run_time_is_run_until_it_is_paused_or_removed(cluster: Cluster) -> None:
    router = cluster.router()
    worker(cluster, OFTEN)
    app = cluster.client()
    app.schedules.add("mine", 0.1, "jobs.give", ("mine",), overlap="skip")
    found = wait_row(app, "mine", lambda found: found.last_state == "SUCCESS")
    assert app.AsyncResult(found.last_task).get(timeout=10) == "mine"
    app.schedules.pause("mine")
    paused = app.schedules.get("mine")
    wait_fired(app, "often")
    assert app.schedules.get("mine").fired == paused.fired
    assert app.schedules.trigger("mine").get(timeout=10) == "mine"
    app.schedules.resume("mine")
    wait_fired(app, "mine")
    app.schedules.remove("mine")
    wait_fired(app, "often")
    assert row(app, "mine") is None
    said = router.text()
    assert "INFO" in said and "entries of app jobs: 3 added, by worker w@" in said
    assert "periodic tasks: add of mine, by client" in said and "periodic tasks: remove of mine, by client" in said
    assert "worker w@" in said and "leads (term 1.1)" in said


def test_a_change_keeps_the_position_and_fires_nothing(cluster: Cluster) -> None:
    cluster.router()
    worker(cluster, OFTEN)
    app = cluster.client()
    app.schedules.add("mine", 0.1, "jobs.give", ("mine",), catchup="all")
    wait_fired(app, "mine")
    app.schedules.update("mine", schedule=timedelta(days=365), args=("changed",))
    changed = app.schedules.get("mine")
    assert changed.fired >= 3 and changed.last_due is not None
    wait_fired(app, "often")
    later = app.schedules.get("mine")
    assert (later.fired, later.last_due) == (changed.fired, changed.last_due)
    assert later.next_due is not None and later.next_due > datetime.now(UTC)
    app.schedules.update("mine", schedule=0.1)
    found = wait_row(app, "mine", lambda found: found.fired > changed.fired and found.last_state == "SUCCESS")
    assert app.AsyncResult(found.last_task).get(timeout=10) == "changed"


def test_newer_code_takes_its_entries_along_and_leaves_those_of_run_time(cluster: Cluster) -> None:
    cluster.router()
    old = worker(cluster, OFTEN)
    app = cluster.client()
    app.schedules.add("mine", 0.1, "jobs.give", ("mine",))
    wait_fired(app, "mine")
    fired = wait_fired(app, "often").fired
    app.schedules.pause("yearly")
    old.terminate()
    assert old.wait(20.0) == 0
    worker(cluster, OFTEN.replace('"yearly"', '"each year"'), "w2")
    wait_row(app, "each year", lambda _: True)
    assert sorted(found.name for found in app.schedules.list()) == ["added", "each year", "mine", "often"]
    assert wait_fired(app, "often").fired > fired
    wait_fired(app, "mine")


def test_an_entry_that_cannot_be_ends_the_worker_with_its_name(cluster: Cluster) -> None:
    cluster.router()
    node = worker(cluster, 'app.conf.beat_schedule = {"bad": {"task": "jobs.give", "schedule": "61 * * * *"}}')
    assert node.wait(20.0) == 2
    assert "entry 'bad': " in node.text()


def test_the_command_shows_and_changes_them(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["schedule", *arguments])
        captured = capfd.readouterr()
        return code, captured.out.strip(), captured.err.strip()

    cluster.router()
    nobody = "NOBODY LEADS: nothing is fired until a worker with -A and without --no-scheduler is there"
    assert run("list")[1] == f"mesh t: 0 periodic tasks, {nobody}"
    add = ("add", "mine", "jobs.give", "-a", '["x"]')
    assert run(*add, "--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--overlap", "skip", "--paused") == (
        0,
        "mine added, paused",
        "",
    )
    code, out, err = run(*add, "--every", "3")
    assert (code, out) == (1, "") and "already: mine" in err
    code, out, err = run("resume", "mine")
    assert (code, err) == (0, "") and re.fullmatch(r"mine resumed, next due [-\d: ]+ \w+", out)
    code, out, err = run("update", "mine", "--jitter", "2", "--queue", "q")
    assert (code, err) == (0, "") and re.fullmatch(r"mine changed, next due [-\d: ]+ \w+", out)
    code, out, err = run("pause", "mine", "nope")
    assert (code, out) == (1, "") and err.endswith("there is no entry of this name: nope; nothing is changed")
    assert run("pause", "mine") == (0, "mine paused", "")
    assert run("resume", "mine")[0] == 0
    (found,) = json.loads(run("list", "--json")[1])["entries"]
    expected = {"name": "mine", "arguments": "'x'", "overlap": "skip", "jitter_s": 2.0, "queue": "q", "app": None}
    assert {key: found[key] for key in expected} == expected
    code, out, _ = run("list")
    assert code == 0 and "At 02:30 every day, Europe/Paris" in out and "run time" in out
    assert "jobs.give('x')" in run("show", "mine")[1]
    assert run("trigger", "mine")[1].startswith("due@")
    assert run("remove", "mine") == (0, "mine removed", "")
    worker(cluster, OFTEN)
    wait_row(cluster.client(), "often", lambda _: True)
    code, out, err = run("add", "typo", "jobs.gvie", "--every", "3600")
    assert code == 0 and out.startswith("typo added, next due ")
    assert err.startswith("mesh: note: entry 'typo': no worker has this task: start one")
    assert run("trigger", "typo")[2] == (
        "mesh: note: entry 'typo': no worker has this task: the task waits until one comes that can run it"
    )
    assert "no worker has this task" in run("list")[1]
    node = worker(cluster, OFTEN, "w2", app="others")
    told = "entry 'often' of app others is not taken: app jobs has one of this name"
    wait_until(lambda: told in node.text(), 20.0, "the worker says that a name is taken")
    assert "that of app others is not taken" in run("list")[1]
    note = "mesh: note: entry 'often' is in the code of app jobs, which counts again once a worker loads it"
    code, out, err = run("update", "often", "--every", "7")
    assert (code, err) == (0, note) and out.startswith("often changed, next due ")
    assert run("remove", "often") == (0, "often removed", note)
    code, out, err = run("show", "mine")
    assert (code, out) == (1, "") and "no entry of this name: mine" in err


def test_routers_of_one_user_on_one_machine_share_what_is_due(cluster: Cluster) -> None:
    many = "app.conf.beat_schedule |= {f'e{n}': {'task': 'late', 'schedule': 0.1, 'args': (n,)} for n in range(8)}"
    settings = {"schedule_settle_s": 0.5}
    first = cluster.router(**settings)
    worker(cluster, many)
    mesh = cluster.client().settings.mesh
    found = RuntimeDir(cluster.environ).routers(mesh)
    clients = [cluster.client(router=[str(one.ipc)]) for one in found]
    wait_fired(clients[0], "e0")
    second = cluster.start(
        "second", "router", "-l", "info", "--store", f"sqlite://{cluster.place / 'second.db'}", **settings
    )
    cluster.wait_up(second)
    (at,) = {str(one.ipc) for one in RuntimeDir(cluster.environ).routers(mesh)} - {str(one.ipc) for one in found}
    clients.append(cluster.client(router=[at]))

    def fired() -> list[int]:
        return [client.status(timeout=5.0)["router"]["counters"]["firings"] for client in clients]

    wait_until(lambda: fired()[1] > 20, 30.0, "the second has a share")
    names = [found.name for found in clients[0].schedules.list()]
    clients[1].schedules.pause(*names)

    def seen() -> list[list[tuple[str, bool, int]]]:
        return [[(row.name, row.paused, row.fired) for row in client.schedules.list()] for client in clients]

    wait_until(lambda: seen()[0] == seen()[1] and all(paused for _, paused, _ in seen()[0]), 20.0, "both have heard")
    assert sum(fired()) == sum(fired for _, _, fired in seen()[0]), "each due time was fired by one of them"
    assert first.is_running and second.is_running
