"""A mesh whose journal is on a Redis server, while that is killed, held up and started again: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.errors import Overloaded, TimeoutError, UnknownTask
from nodes.cli.main import main
from tests.chaos.nemesis import Load, kill_router, pause
from tests.chaos.test_kill import new_seed
from tests.cluster import APP, Cluster, send, wait_until
from tests.redis_server import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

ROUNDS = int(os.environ.get("MESH_CHAOS_ROUNDS", "8"))


@pytest.fixture
def server(cluster: Cluster, redis: Server) -> Server:
    """Where the routers' stores are."""
    cluster.environ["MESH_STORE"] = redis.url
    return redis


def test_a_redis_that_is_killed_or_hangs_and_a_router_that_is_killed_lose_nothing(
    cluster: Cluster, server: Server
) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    router = cluster.router(store_timeout_s=0.5)
    cluster.worker("w1")
    cluster.worker("w2")
    load = Load(cluster, 2, seed)
    load.wait_running()
    for _ in range(ROUNDS):
        pause(rng, 0.1, 0.6)
        what = rng.random()
        if what < 0.4:
            server.kill()
            pause(rng, 0.0, 1.0)
            server.start()
        elif what < 0.7:
            os.kill(server.running.pid, signal.SIGSTOP)
            pause(rng, 0.1, 1.5)
            os.kill(server.running.pid, signal.SIGCONT)
        else:
            load.faults.append(kill_router(router))
            router = cluster.again(router)
            cluster.wait_up(router)
    verdict = load.finish(cluster.client())
    assert verdict.is_good, verdict


def test_while_redis_is_away_nothing_is_told_and_the_mesh_goes_on_by_itself(cluster: Cluster, server: Server) -> None:
    router = cluster.router(store_timeout_s=0.5)
    cluster.worker("w1")
    app = cluster.client()
    assert send(app, "echo", 3).get(timeout=10) == 3
    os.kill(server.running.pid, signal.SIGSTOP)
    held = send(app, "echo", 7)
    wait_until(lambda: "the store is away" in router.text(), 10.0, "the router says so")
    assert not held.ready()
    os.kill(server.running.pid, signal.SIGCONT)
    assert held.get(timeout=20) == 7
    wait_until(lambda: "the store is back: it was away for" in router.text(), 10.0, "and that it is back")
    assert "commits held back" in router.text() or "1 commit held back" in router.text()
    assert router.is_running


def test_a_login_that_is_changed_at_redis_ends_no_router(cluster: Cluster, server: Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", "u", "on", ">old", "~*", "+@all")
    cluster.environ["MESH_STORE"] = server.url.replace("//", "//u:old@")
    router = cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    assert send(app, "echo", 3).get(timeout=10) == 3
    server.admin.execute_command("ACL", "SETUSER", "u", "resetpass", ">new")
    server.admin.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: "login refused" in router.text(), 10.0, "the router says so")
    server.admin.execute_command("ACL", "SETUSER", "u", ">old")
    wait_until(lambda: "the store is back" in router.text(), 20.0, "it goes on")
    assert send(app, "echo", 7).get(timeout=20) == 7
    assert router.is_running


def test_while_redis_is_away_callers_are_told_so_and_what_is_in_memory_is_shown(
    cluster: Cluster, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        captured = capfd.readouterr()
        return code, captured.out + captured.err

    cluster.router()
    assert run("schedule", "add", "nightly", "work", "--every", "3600")[0] == 0
    assert run("call", "nobody.has.this", "--task-id", "waiting")[0] == 0
    server.kill()
    app = cluster.client()
    wait_until(lambda: app.status()["router"]["store_full"], 10.0, "the router notices it, whoever asks")
    code, text = run("call", "work", "--timeout", "1", "--task-id", "mine")
    assert code == 3
    assert "task mine: " in text and "it may be accepted, and run, all the same" in text
    assert "the store is away" in text
    assert "see to the store's server" in text
    assert run("schedule", "list")[0] == 0
    code, text = run("schedule", "pause", "nightly")
    assert code == 3
    assert "nothing is changed: the store is away" in text
    code, text = run("purge", "-f")
    assert code == 3
    assert "nothing is purged: the store is away" in text
    assert app.AsyncResult("waiting").state == "PENDING"
    code, text = run("cancel", "waiting")
    assert code == 1, text
    assert "may be cancelled by now or later" in text
    send(app, "echo", 1)
    with pytest.raises(Overloaded, match="the store is away"):
        app.flush(1.5)
    held = app.AsyncResult("an-id-of-another")
    with pytest.raises(TimeoutError, match="the store is away"):
        held.get(timeout=0.5)
    server.start()
    wait_until(lambda: not app.status()["router"]["store_full"], 10.0, "it goes on by itself")
    assert run("schedule", "pause", "nightly") == (0, "nightly paused\n")
    assert app.AsyncResult("waiting").state == "REVOKED"


def test_a_router_that_is_started_before_its_redis_waits_for_it(cluster: Cluster, server: Server) -> None:
    server.kill()
    router = cluster.start("router", "router", "-l", "info")
    wait_until(lambda: "for its store" in router.text(), 10.0, "the router says what it waits for")
    server.start()
    cluster.wait_up(router)


def test_large_payloads_and_shipped_functions_are_kept_in_redis_and_two_routers_share_results(
    cluster: Cluster, server: Server
) -> None:
    cluster.start("first", "router", "-l", "info", "--store", f"{server.url}?router=one")
    cluster.wait_up(cluster.nodes[-1])
    cluster.worker("w1")
    app = cluster.client()
    large = b"x" * 3_000_000
    result = send(app, "echo", large)
    assert result.get(timeout=20) == large
    offset = 5
    assert app.submit(lambda value: value + offset, 3).get(timeout=20) == 8
    assert server.admin.keys("taskmesh:{t}:r:*:b:*"), "the payload is there"
    cluster.nodes[0].kill()
    cluster.start("second", "router", "-l", "info", "--store", f"{server.url}?router=two")
    cluster.wait_up(cluster.nodes[-1])
    assert cluster.client().AsyncResult(result.id).get(timeout=20) == large
    cluster.nodes[-1].kill()
    again = cluster.again(cluster.nodes[0])
    cluster.wait_up(again)
    assert send(app, "echo", large).get(timeout=20) == large


@pytest.fixture
def forgetful(cluster: Cluster) -> Iterator[Server]:
    """A server that keeps nothing but what it is told to save; the routers' stores are there."""
    directory = Path(cluster.place, "redis")
    directory.mkdir()
    server = Server(directory, "memory")
    cluster.environ["MESH_STORE"] = server.url
    yield server
    server.close()


@pytest.mark.parametrize("how", ["emptied", "restarted", "restored"])
def test_a_redis_that_lost_its_data_gets_all_that_is_unfinished_from_the_router(
    cluster: Cluster, forgetful: Server, how: str
) -> None:
    router = cluster.router(store_timeout_s=0.5)
    assert "WARNING" in router.text() and 'save is "": a restart of the server loses all' in router.text()
    cluster.worker("w1", slots=2)
    app = cluster.client()
    assert "save is" in app.status()["router"]["store"]["warning"]
    app.schedules.add("rare", 1e6, f"{APP}.echo", (1,))
    before = send(app, "echo", 3)
    assert before.get(timeout=10) == 3
    results = [send(app, "work", i, 0.02) for i in range(200)]
    app.flush(timeout=10.0)
    if how == "restored":
        forgetful.admin.save()
    wait_until(lambda: len(cluster.runs()) >= 20, 10.0, "they run")
    if how == "emptied":
        forgetful.admin.flushall()
    else:
        forgetful.kill()
        forgetful.start()
    wait_until(lambda: "all that is unfinished is written anew" in router.text(), 10.0, "the router notices")
    router.kill()  # what was written anew is all that is left
    router = cluster.again(router)
    cluster.wait_up(router)
    assert [result.get(timeout=40.0) for result in results] == list(range(200))
    runs = Counter(run.id for run in cluster.runs() if run.what == "start")
    assert set(runs.values()) == {1}, f"{sum(runs.values()) - 200} ran again"
    assert [entry.name for entry in app.schedules.list()] == ["rare"]
    if how != "restored":
        with pytest.raises(UnknownTask):
            cluster.client().AsyncResult(before.id).get(timeout=10)
