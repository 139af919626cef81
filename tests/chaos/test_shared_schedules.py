"""Periodic tasks of routers that have one Redis and cannot hear each other: a due time is one task, none is lost."""

from __future__ import annotations

import socket
import time
from collections import defaultdict

import pytest

from mesh.entries import firing_id
from mesh.schedules import Every, dues_between, microseconds
from tests.cluster import Cluster, Node, wait_until
from tests.redis_server import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

INTERVALS = {"fast": 0.1, "slow": 0.15}


class Parted:
    """Routers that are not looked for by any, each with a worker of its own: each would fire all."""

    def __init__(self, cluster: Cluster, redis: Server) -> None:
        self.cluster = cluster
        self.redis = redis
        self.began = time.time()
        self.routers: dict[str, Node] = {}
        self.workers: dict[str, Node] = {}
        for name in ("one", "two"):
            port = free_port()
            flags = ("-l", "info", "--store", f"{redis.url}?router={name}", "--listen", f"127.0.0.1:{port}")
            where = cluster.place / name[0]  # of its own, as for another user: those of one find each other
            where.mkdir(mode=0o700)
            self.routers[name] = cluster.start(name, "router", *flags, runtime_dir=where)
            self.wait_up(name)
            app = ("-A", "tests.periodic_tasks", "-c", "1", "-l", "info", "--router", f"127.0.0.1:{port}")
            self.workers[name] = cluster.start(f"w-{name}", "worker", *app)
            cluster.wait_welcomed(self.workers[name])

    def wait_up(self, name: str) -> None:
        """Wait until this router, which was started just now, is up."""
        router = self.routers[name]
        wait_until(lambda: f" {router.pid} mesh.router: router " in router.text(), 20.0, f"{name} is up")

    def wait_fire(self, *names: str) -> None:
        """Wait until each of these routers has had its worker run some more."""
        before = len(self.cluster.runs())

        def all_did() -> bool:
            runs = self.cluster.runs()[before:]
            return all(sum(run.pid in self.workers[name].executors() for run in runs) >= 5 for name in names)

        wait_until(all_did, 30.0, f"{names} fire")

    def check(self, killed: list[float]) -> None:
        """All due times are fired and run once; what was out at a router that was killed (monotonic) may run again."""
        for worker in self.workers.values():
            worker.terminate()
            worker.wait(20.0)
        for name, worker in self.workers.items():  # what was fired when they ended is still to be run
            self.cluster.start(f"end-{name}", *worker.arguments, "--no-scheduler")
        wait_until(lambda: not self.redis.admin.keys("taskmesh:{t}:r:*:journal"), 30.0, "all ends")
        ended = {task_id for task_id, _ in self.cluster.outcomes()}
        runs: dict[str, list[float]] = defaultdict(list)
        for run in self.cluster.runs():
            runs[run.id].append(run.at)
        assert set(runs) == ended
        for name, every in INTERVALS.items():
            dues = dues_between(Every(every), self.began, time.time(), 100_000)
            ids = {firing_id(name, microseconds(due)): due for due in dues}
            seen = [due for task_id, due in ids.items() if task_id in ended]
            assert len(seen) >= 10
            lost = [due for task_id, due in ids.items() if seen[0] <= due <= seen[-1] and task_id not in ended]
            assert not lost, f"{name}: {len(lost)} of {len(seen)} were never fired"
            again = [runs[task_id] for task_id in ids if len(runs[task_id]) > 1]
            odd = [times for times in again if not any(at - 2.0 < min(times) < at + 1.0 for at in killed)]
            assert not odd, f"{name} ran twice at {odd}; killed at {killed}"
            ended -= ids.keys()
        assert not ended, "a task of no due time"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_routers_that_cannot_hear_each_other_fire_each_due_time_once(cluster: Cluster, redis: Server) -> None:
    mesh = Parted(cluster, redis)
    for _ in range(3):
        mesh.wait_fire("one", "two")
    mesh.check([])


def test_one_that_is_killed_loses_nothing_and_nothing_is_fired_twice(cluster: Cluster, redis: Server) -> None:
    mesh = Parted(cluster, redis)
    killed = []
    for victim, other in (("one", "two"), ("two", "one"), ("one", "two")):
        mesh.wait_fire("one", "two")
        killed.append(time.monotonic())
        mesh.routers[victim].kill()
        mesh.wait_fire(other)
        mesh.routers[victim] = cluster.again(mesh.routers[victim])
        mesh.wait_up(victim)
    mesh.wait_fire("one", "two")
    mesh.check(killed)


def test_what_was_added_at_a_router_that_is_gone_for_good_is_fired_by_one_that_starts_later(
    cluster: Cluster, redis: Server
) -> None:
    def start(name: str) -> Node:
        router = cluster.start(name, "router", "-l", "info", "--store", f"{redis.url}?router={name}")
        cluster.wait_up(router)
        return router

    first = start("one")
    app = cluster.client()
    app.schedules.add("added", 0.1, "tests.cluster_tasks.echo", (1,), catchup="all", catchup_max=10_000, timeout=10.0)
    cluster.worker("w1")
    cluster.start("s1", "scheduler", "-A", "tests.cluster_tasks", "-l", "info")
    wait_until(lambda: len(cluster.outcomes()) > 5, 20.0, "it is fired")
    first.kill()
    fired = app.schedules
    start("two")
    before = len(cluster.outcomes())
    wait_until(lambda: len(cluster.outcomes()) > before + 20, 40.0, "it goes on")
    row = wait_until(lambda: fired.get("added"), 20.0)
    dues = dues_between(Every(0.1), row.entry.revised_at, row.last_due.timestamp(), 100_000)
    ids = {firing_id("added", microseconds(due)) for due in dues}
    wait_until(lambda: ids <= {task_id for task_id, _ in cluster.outcomes()}, 20.0, "none is lost")
    assert row.fired == len(dues)
