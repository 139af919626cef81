"""Periodic tasks of routers on several hosts: each due time is one task in the whole mesh, whoever fires it, and two
only where a router was killed before it could tell, or where routers were parted."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from mesh.entries import firing_id
from mesh.schedules import Every, dues_between, microseconds
from tests.cluster import wait_until
from tests.lan.hosts import Lan, Process
from tests.lan.meshes import Mesh, wait_served

pytestmark = pytest.mark.lan

INTERVALS = {f"e{number}": 0.2 + 0.05 * number for number in range(6)}
APP = f"""
from mesh import Mesh
app = Mesh("periodic")
app.conf.beat_schedule = {{
    name: {{"task": "periodic.tick", "schedule": every, "args": (name,), "catchup": "all", "catchup_max": 1000}}
    for name, every in {INTERVALS!r}.items()
}}

@app.task
def tick(name): return name
"""
SOON = {
    "MESH_HEARTBEAT_S": "0.5",
    "MESH_SCHEDULE_SETTLE_S": "2",
    "MESH_SCHEDULE_TAKEOVER_S": "1",
    "MESH_SCHEDULE_LEASE_TTL_S": "2",
}


class Periodic(Mesh):
    """Routers on ``a`` and ``b``, or these, workers on ``c`` and ``d``."""

    def __init__(self, lan: Lan, routers: str = "ab", **settings: str) -> None:
        super().__init__(lan, *routers, "c", "d")
        self.began = time.time()
        self.stores = routers
        for name in routers:
            self.router(name, **SOON, **settings)
        for name in ("c", "d"):
            (self[name].home / "periodic.py").write_text(APP)
            command = ["mesh", "worker", "-A", "periodic", "-c", "1", "-l", "info"]
            self.nodes[name].append(self[name].start(command, **SOON))
        for name in ("c", "d"):
            wait_served(self.nodes[name][0], len(routers))

    def query(self, name: str, sql: str) -> list[tuple[object, ...]]:
        """Ask the store of the router on this host."""
        path = self[name].home / ".local/state/taskmesh/default.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    def fired(self, name: str) -> set[str]:
        """The tasks that this router took in, and that ended."""
        return {str(task_id) for (task_id,) in self.query(name, "SELECT id FROM results")}

    def dues(self, entry: str) -> dict[str, float]:
        """The due times of an entry since the test began, by the id of their tasks."""
        dues = dues_between(Every(INTERVALS[entry]), self.began, time.time(), 1 << 30)
        return {firing_id(entry, microseconds(due)): due for due in dues}

    def fires(self, name: str, since: float) -> set[str]:
        """The entries that this router fired for due times after ``since``."""
        there = self.fired(name)
        return {entry for entry in INTERVALS if any(due > since and i in there for i, due in self.dues(entry).items())}

    def wait_fired(self, *names: str) -> None:
        """Wait until all entries are fired, for due times from now on, by the routers of these hosts together."""
        now = time.time()

        def all_are() -> bool:
            found = [self.fires(name, now) for name in names]
            return all(found) and set.union(*found) == set(INTERVALS)

        wait_until(all_are, 30.0, f"the routers of {names} fire all")

    def check(self, *, doubled: list[tuple[float, float]], missed: Sequence[tuple[float, float]] = ()) -> None:
        """What two fired was due within one of the first spans, what none fired within one of the others."""
        journals = "SELECT seq FROM journal"
        wait_until(lambda: not any(self.query(name, journals) for name in self.stores), 10.0, "all ends")
        fired = Counter(task_id for name in self.stores for task_id in self.fired(name))
        either, both = set(fired), {task_id for task_id, times in fired.items() if times > 1}
        count = 0
        for entry in INTERVALS:
            dues = self.dues(entry)
            seen = [due for task_id, due in dues.items() if task_id in either]
            span = {task_id for task_id, due in dues.items() if seen[0] <= due <= seen[-1]}
            lost = [dues[task_id] for task_id in span - either]
            unasked = [due for due in lost if not any(since <= due <= until for since, until in missed)]
            assert len(seen) > 10 and not unasked, f"{entry}: {len(unasked)} of {len(span)} were never fired"
            for task_id in both & span:
                assert any(since <= dues[task_id] <= until for since, until in doubled), f"{entry}: fired at both"
                count += 1
        print(f"\n{len(either)} fired, {count} of them at both routers")

    def paused(self, name: str) -> set[str]:
        """The entries that are paused, by the router on this host."""
        rows = json.loads(self[name].run(["mesh", "schedule", "list", "--json"]).stdout)["entries"]
        assert {row["name"] for row in rows} == set(INTERVALS)
        return {row["name"] for row in rows if row["paused"]}


def test_each_router_fires_its_own_and_one_that_is_killed_is_replaced(lan: Lan) -> None:
    mesh = Periodic(lan)
    mesh.wait_fired("a", "b")
    spans = []
    for victim, other in (("a", "b"), ("b", "a")):
        router: Process = mesh.nodes[victim][-1]
        killed_at = time.time()
        router.kill()
        spans.append((killed_at - 1.0, killed_at))
        mesh.wait_fired(other)
        mesh.router(victim, **SOON)
        mesh.wait_fired("a", "b")
    for name in ("c", "d"):
        mesh.nodes[name][0].end()
    mesh["a"].run(["mesh", "schedule", "pause", "e5"])
    wait_until(lambda: "e5" in mesh.paused("b"), 10.0, "the other router is told")
    assert mesh.paused("a") == mesh.paused("b") == {"e5"}
    mesh.check(doubled=spans)


def test_parted_routers_fire_all_and_agree_when_they_hear_each_other_again(lan: Lan) -> None:
    mesh = Periodic(lan)
    mesh.wait_fired("a", "b")
    parted_at = time.time()
    lan.divide(mesh["b"], mesh["d"])
    for name in ("a", "b"):
        mesh.wait_fired(name)
    lan.unite()
    united_at = time.time()

    def is_shared() -> bool:
        now = time.time()
        mesh.wait_fired("a", "b")
        return not mesh.fires("a", now) & mesh.fires("b", now)

    wait_until(is_shared, 30.0, "each is fired by one again")
    agreed_at = time.time()
    mesh.wait_fired("a", "b")
    for name in ("c", "d"):
        mesh.nodes[name][0].end()
    mesh.check(doubled=[(parted_at - 1.0, agreed_at)])
    print(f"parted for {united_at - parted_at:.1f} s; each was fired by one {agreed_at - united_at:.1f} s later")


def test_by_majority_the_router_that_is_cut_off_fires_nothing_and_nothing_is_fired_twice(lan: Lan) -> None:
    mesh = Periodic(lan, "abe", MESH_SCHEDULE_PARTITION="majority", MESH_SCHEDULE_ROUTERS="3")
    mesh.wait_fired("a", "b", "e")
    parted_at = time.time()
    lan.divide(mesh["b"], mesh["d"])
    mesh.wait_fired("a", "e")
    since = time.time()
    mesh.wait_fired("a", "e")
    assert not mesh.fires("b", since)
    lan.unite()
    united_at = time.time()
    mesh.wait_fired("a", "b", "e")
    for name in ("c", "d"):
        mesh.nodes[name][0].end()
    spans = [(at - 0.5, at + 1.0) for at in (parted_at, united_at)]
    mesh.check(doubled=[], missed=spans)


def test_three_machines_whose_routers_mesh_up_counts_fire_by_majority_and_the_one_cut_off_does_not(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    environ = SOON | {"MESH_SCHEDULE_PARTITION": "majority"}
    up = ["mesh", "up", "--lan", "--routers", "3", "-A", "periodic", "-c", "1", "-l", "info"]

    def seen(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(mesh[name].run(["mesh", "status", "--json"]).stdout)
        return found

    for name in "abc":
        (mesh[name].home / "periodic.py").write_text(APP)
        process = mesh[name].start(up, **environ)
        if name == "a":
            process.wait_said("is up")
            lan.share_key(mesh["a"])
    wait_until(lambda: seen("a")["totals"]["answering"] == 3, 30.0, "each machine has a router")

    def own(name: str) -> dict[str, Any]:
        """What the router of this machine says of itself."""
        found: dict[str, Any] = seen(name)["router"]
        return found

    ids = {name: own(name)["id"] for name in "abc"}
    wait_until(lambda: all(len(own(name)["fires"]) == 3 for name in "abc"), 30.0, "all three fire")
    before = own("c")["counters"]["firings"]
    wait_until(lambda: own("c")["counters"]["firings"] > before, 20.0, "the third fires its own")
    lan.divide(mesh["c"])
    wait_until(lambda: own("c")["id"] == ids["c"] and ids["c"] not in own("c")["fires"], 20.0, "it hears too few")
    stopped = own("c")["counters"]["firings"]
    before = own("a")["counters"]["firings"]
    wait_until(lambda: ids["c"] not in own("a")["fires"], 20.0, "the others have its entries")
    wait_until(lambda: own("a")["counters"]["firings"] > before + 10, 20.0, "the others fire")
    assert own("c")["counters"]["firings"] == stopped
    lan.unite()
    wait_until(lambda: all(len(own(name)["fires"]) == 3 for name in "abc"), 30.0, "all three fire again")
