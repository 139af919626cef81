"""Periodic tasks of real processes: leaders and routers that are killed and stopped, and each due time is one task."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec
import pytest

from mesh import Mesh
from mesh.entries import Entry, Firing, Position, firing_id
from mesh.errors import MeshError
from mesh.messages import AskLease, Entries, Fire, Fired, Leased, Message, Welcome
from mesh.model import Role
from mesh.net.keys import load
from mesh.net.runtime_dir import RuntimeDir
from mesh.schedules import dues_between, microseconds, next_due
from tests.cluster import Cluster, Node, wait_until
from tests.raw_peer import RawPeer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]

APP = "tests.periodic_tasks"
TTL = 0.5


def node(cluster: Cluster, name: str, *flags: str, verb: str = "worker") -> Node:
    """Start a node that loads the app and wait until it is in the mesh."""
    work = ("-c", "1") if verb == "worker" else ()
    started = cluster.start(name, verb, "-A", APP, "-n", name, "-l", "info", *work, *flags)
    cluster.wait_welcomed(started)
    return started


def router_says(app: Mesh) -> dict[str, Any]:
    try:
        found: dict[str, Any] = app.status(timeout=2.0)["router"]
    except MeshError:
        return {"leader": "", "counters": {"firings": 0, "firings_stale": 0}}
    return found


def wait_leader(app: Mesh, is_it: Callable[[str], bool]) -> str:
    """The name of the leader, before its @, once it is one of these."""

    def leader() -> str:
        name = str(router_says(app)["leader"]).partition("@")[0]
        return name if name and is_it(name) else ""

    return wait_until(leader, 10.0, "somebody leads")


def wait_fired(app: Mesh, more: int) -> None:
    """Wait until so many more due times are fired."""
    before = int(router_says(app)["counters"]["firings"])
    wait_until(lambda: router_says(app)["counters"]["firings"] >= before + more, 15.0, "due times are fired")


def stored(cluster: Cluster) -> dict[str, tuple[Entry, Position]]:
    """The entries as they are in the store."""
    with closing(sqlite3.connect(f"file:{cluster.store}?mode=ro", uri=True, timeout=10)) as connection:
        rows = connection.execute("SELECT s.raw, p.raw FROM schedules s JOIN positions p USING (name)").fetchall()
    entries = [(msgspec.msgpack.decode(e, type=Entry), msgspec.msgpack.decode(p, type=Position)) for e, p in rows]
    return {entry.name: (entry, position) for entry, position in entries}


def check(cluster: Cluster, app: Mesh) -> None:
    """Each due time since the entries came is one task, which ends, and there are no others."""
    found = stored(cluster)
    assert sorted(found) == ["fast", "slow"]
    expected: dict[str, set[str]] = {}
    for name, (entry, position) in found.items():
        dues = dues_between(entry.schedule, entry.revised_at, position.last_due_us / 1e6, 100_000)
        expected[name] = {firing_id(name, microseconds(due)) for due in dues}
        assert (position.fired, position.skipped) == (len(dues), 0), f"{name}: {len(dues)} were due, {position}"
    all_expected = set.union(*expected.values())
    assert len(all_expected) > 20
    wait_until(lambda: all_expected <= {i for i, _ in cluster.outcomes()}, 15.0, "each of them ends")
    ends = cluster.outcomes()
    assert len(ends) == len(set(ends)) and {state for _, state in ends} == {"succeeded"}
    later = stored(cluster)
    for name, (entry, position) in later.items():
        dues = dues_between(entry.schedule, entry.revised_at, position.last_due_us / 1e6 + 10.0, 100_000)
        expected[name] = {firing_id(name, microseconds(due)) for due in dues}
    ran = {run.id for run in cluster.runs()}
    assert {i for i, _ in ends} | ran <= set.union(*expected.values()), "a task of no due time"


def test_another_leads_when_the_leader_is_killed_and_each_due_time_is_one_task(cluster: Cluster) -> None:
    cluster.router(schedule_lease_ttl_s=TTL)
    nodes = {name: node(cluster, name) for name in ("one", "two")}
    app = cluster.client()
    first = wait_leader(app, lambda name: True)
    wait_fired(app, 15)
    nodes[first].kill()
    second = wait_leader(app, lambda name: name != first)
    wait_fired(app, 15)
    nodes[first] = cluster.again(nodes[first])
    cluster.wait_welcomed(nodes[first])
    nodes[second].kill()
    wait_leader(app, lambda name: name == first)
    wait_fired(app, 15)
    check(cluster, app)


def test_a_leader_that_is_stopped_past_its_time_and_goes_on_fires_nothing_a_second_time(cluster: Cluster) -> None:
    cluster.router(schedule_lease_ttl_s=TTL)
    node(cluster, "w", "--no-scheduler")
    nodes = {name: node(cluster, name, verb="scheduler") for name in ("one", "two")}
    app = cluster.client()
    for _ in range(3):
        leader = wait_leader(app, lambda name: True)
        wait_fired(app, 10)
        nodes[leader].stop()
        stopped_at = time.monotonic()
        wait_leader(app, lambda name: name != leader)  # noqa: B023
        wait_until(lambda: time.monotonic() > stopped_at + 5 * TTL, 10.0, "it is stopped for long")  # noqa: B023
        nodes[leader].go_on()
        wait_fired(app, 10)
    check(cluster, app)
    print("stale:", router_says(app)["counters"]["firings_stale"])


def test_a_router_that_is_killed_goes_on_where_it_was(cluster: Cluster) -> None:
    router = cluster.router(schedule_lease_ttl_s=TTL)
    node(cluster, "one")
    app = cluster.client()
    for _ in range(2):
        wait_fired(app, 15)
        router.kill()
        router = cluster.again(router)
        cluster.wait_up(router)
        wait_leader(app, lambda name: True)
    wait_fired(app, 15)
    check(cluster, app)


class Leader:
    """A leader whose every message is said by hand, so that it can be stopped between any two of them."""

    def __init__(self) -> None:
        entry = load("t", os.environ).entry(Role.WORKER)
        (record,) = RuntimeDir(os.environ).routers("t")
        self.peer = RawPeer(str(record.tcp), entry.own, entry.router)
        assert isinstance(self.peer.greet(Role.WORKER), Welcome)

    def hear(self, kind: type[Message]) -> Any:
        """The next message of this kind."""
        return wait_until(lambda: message if isinstance(message := self.peer.hear(), kind) else None, 10.0, str(kind))


def test_what_a_leader_fires_after_its_time_is_refused_and_counted(cluster: Cluster) -> None:
    cluster.router("--listen", "127.0.0.1:*", schedule_lease_ttl_s=TTL)
    app = cluster.client()
    leader = Leader()
    with closing(leader.peer):
        leader.peer.say(AskLease(), answered=False)
        leased = leader.hear(Leased)
        assert leased.term and leased.ttl_s == TTL
        told = wait_until_entries(cluster, leader)
        (entry, after_us), *_ = [one for one in told if one[0].name == "fast"]
        due = next_due(entry.schedule, after_us / 1e6)
        assert due is not None
        wait_leader(app, lambda name: name == "one")
        firing = Firing("fast", microseconds(due), revised_at=entry.revised_at)
        leader.peer.say(Fire(leased.term, 1, [firing]), answered=False)
        assert leader.hear(Fired).stale
        assert router_says(app)["counters"]["firings_stale"] == 1
        wait_fired(app, 15)
        check(cluster, app)


def wait_until_entries(cluster: Cluster, leader: Leader) -> list[tuple[Entry, int]]:
    """Start a node that declares the entries while this leader leads; what it is told of them."""
    leader.peer.say(AskLease(), answered=False)
    cluster.start("one", "worker", "-A", APP, "-n", "one", "-l", "info", "-c", "1")

    def entries() -> list[tuple[Entry, int]]:
        leader.peer.say(AskLease(), answered=False)
        message = leader.peer.hear(200)
        return message.entries if isinstance(message, Entries) else []

    return wait_until(entries, 20.0, "the leader is told of the entries")
