"""Real client processes: forks, exits, foreign ids, errors, large payloads, long streams."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy
import psutil
import pytest

from mesh import Mesh
from mesh.errors import PayloadTooLarge, TaskFailed, UnknownTask
from mesh.net.runtime_dir import RuntimeDir
from mesh.runtime.depot import MARKER
from tests.cluster import Cluster, send, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]


@pytest.fixture
def app(cluster: Cluster) -> Mesh:
    """A client of a mesh that works."""
    cluster.router()
    cluster.worker("w1", slots=2)
    return cluster.client()


def test_a_forked_child_uses_a_connection_of_its_own(cluster: Cluster, app: Mesh) -> None:
    code = """
import os, sys
assert echo.delay("parent").get(timeout=10) == "parent"
pending = work.delay(1, 0.3)
child = os.fork()
if child == 0:
    assert echo.delay("child").get(timeout=10) == "child"
    assert pending.get(timeout=10) == 1
    app.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert pending.get(timeout=10) == 1
assert echo.delay("parent again").get(timeout=10) == "parent again"
print("fine")
"""
    text, _ = cluster.script(code).communicate(timeout=40.0)
    assert text.strip().endswith("fine"), text


def test_a_pool_of_forked_processes_can_submit(cluster: Cluster, app: Mesh) -> None:
    code = """
import multiprocessing
def ask(number):
    return echo.delay(number).get(timeout=20)
if __name__ == "__main__":
    assert echo.delay(0).get(timeout=10) == 0
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(ask, range(60)) == list(range(60))
    print("fine")
"""
    text, _ = cluster.script(code).communicate(timeout=40.0)
    assert text.strip().endswith("fine"), text


def test_what_is_submitted_when_the_interpreter_exits_is_executed(cluster: Cluster, app: Mesh) -> None:
    script = cluster.script("for i in range(5000): work.delay(i)")
    text, _ = script.communicate(timeout=40.0)
    assert script.returncode == 0 and not text, text
    wait_until(lambda: len(cluster.runs()) >= 10_000, 30.0, "all are executed")
    assert len({run.id for run in cluster.runs()}) == 5000


def test_a_result_can_be_fetched_by_another_process(cluster: Cluster, app: Mesh) -> None:
    result, slow = send(app, "echo", {"a": [1, 2]}), send(app, "work", 3, 0.5)
    assert result.get(timeout=5.0) == {"a": [1, 2]}
    code = f"print(app.AsyncResult({result.id!r}).get(timeout=5), app.AsyncResult({slow.id!r}).get(timeout=5))"
    text, _ = cluster.script(code).communicate(timeout=20.0)
    assert text.strip() == "{'a': [1, 2]} 3"


def test_an_unknown_id_is_said_to_be_unknown(app: Mesh) -> None:
    begun = time.monotonic()
    with pytest.raises(UnknownTask, match="no-such-task"):
        app.AsyncResult("no-such-task").get(timeout=10.0)
    assert time.monotonic() - begun < 5.0


def test_exceptions_arrive_as_they_were_raised_with_the_traceback_of_the_worker(app: Mesh) -> None:
    with pytest.raises(ValueError) as caught:
        send(app, "fail", "value").get(timeout=5.0)
    assert caught.value.args == ("no such value", 7)
    result = send(app, "fail", "key")
    with pytest.raises(KeyError) as missing:
        result.get(timeout=5.0)
    assert "in fail" in str(result.traceback)
    assert "cluster_tasks.py" in "".join(getattr(missing.value, "__notes__", [])) + str(missing.value.__cause__)


def test_an_exception_that_cannot_be_pickled_arrives_in_words(app: Mesh) -> None:
    with pytest.raises(TaskFailed, match="it holds a lock") as caught:
        send(app, "fail", "unpicklable").get(timeout=5.0)
    assert "in fail" in caught.value.remote_traceback


def test_two_meshes_in_one_process_do_not_mix(cluster: Cluster, app: Mesh) -> None:
    other_store = f"sqlite://{cluster.place}/other.db"
    other = cluster.start("other", "router", "--mesh", "u", "--store", other_store)
    cluster.wait_up(other)
    worker = cluster.start("w2", "worker", "-A", "tests.cluster_tasks", "-c", "1", "--mesh", "u")
    cluster.wait_welcomed(worker)
    second = cluster.client(mesh="u")
    pids = {send(app, "executor_pid").get(timeout=5.0) for _ in range(10)}
    other_pids = {send(second, "executor_pid").get(timeout=5.0) for _ in range(10)}
    assert other_pids == set(worker.executors())
    assert not pids & other_pids


def test_a_map_over_a_long_generator_is_ordered_and_needs_little_memory(cluster: Cluster, app: Mesh) -> None:
    code = """
import psutil
produced = 0
def numbers():
    global produced
    for produced in range(500_000):
        yield produced
assert sum(app.map(echo, range(2000))) == sum(range(2000))
memory = psutil.Process().memory_info
before = memory().rss
ahead = total = grown = 0
for number, result in enumerate(app.map(echo, numbers())):
    assert result == number
    ahead = max(ahead, produced - number)
    total += result
    if number % 50_000 == 0:
        grown = max(grown, memory().rss - before)
assert total == sum(range(500_000))
print("fine", ahead, grown)
"""
    text, _ = cluster.script(code).communicate(timeout=80.0)
    word, ahead, grown = text.split()
    print(text)
    assert word == "fine" and int(ahead) < 260_000 and int(grown) < 60 << 20, text


def test_large_arrays_travel_both_ways(app: Mesh) -> None:
    array = numpy.arange(50_000_000 // 8, dtype=numpy.int64)
    begun = time.monotonic()
    back = send(app, "echo", array).get(timeout=30.0)
    print(f"50 MB echo in {time.monotonic() - begun:.2f} s")
    assert back.dtype == array.dtype and (back == array).all()


def test_large_payloads_pass_the_router_as_files_and_leave_none_behind(cluster: Cluster, app: Mesh) -> None:
    depot = Path(f"{cluster.store}.blobs")
    (router,) = (node for node in cluster.nodes if node.name == "router")
    send(app, "echo", b"x" * (1 << 20)).get(timeout=10.0)
    before = psutil.Process(router.pid).memory_info().rss
    results = [send(app, "echo", bytes([n]) * (16 << 20)) for n in range(8)]
    assert [result.get(timeout=30.0)[:1] for result in results] == [bytes([n]) for n in range(8)]
    assert psutil.Process(router.pid).memory_info().rss - before < 32 << 20, "128 MiB went both ways"
    assert not [name for name in os.listdir(depot) if "." in name]
    for result in results:
        result.forget()
    wait_until(lambda: len([n for n in os.listdir(depot) if not n.startswith(MARKER)]) <= 1, 5.0, "forgotten is gone")
    assert results[3].get() == b"\x03" * (16 << 20), "who has it keeps it"


@pytest.mark.parametrize("far", [False, True])
def test_what_is_done_to_one_value_is_not_seen_in_the_next(cluster: Cluster, app: Mesh, far: bool) -> None:
    (record,) = RuntimeDir(os.environ).routers("t")
    client = cluster.client(router=str(record.tcp).removeprefix("tcp://")) if far else app
    for size in (100_000, 3 << 20):
        result = send(client, "echo", numpy.zeros(size, dtype=numpy.uint8))
        first = result.get(timeout=10.0)
        first[:] = 1
        result.forget()  # its file is gone
        assert not result.get(timeout=10.0).any()


def test_large_payloads_travel_over_the_network_too(cluster: Cluster, app: Mesh) -> None:
    (record,) = RuntimeDir(os.environ).routers("t")
    far = cluster.client(router=str(record.tcp).removeprefix("tcp://"))
    data = os.urandom(3 << 20)
    assert send(far, "echo", data).get(timeout=10.0) == data


def test_a_payload_over_the_limit_is_refused_before_it_is_sent(cluster: Cluster, app: Mesh) -> None:
    small = cluster.client(payload_bytes_max=1 << 20)
    with pytest.raises(PayloadTooLarge):
        send(small, "echo", b"x" * (2 << 20))
    assert app.status()["router"]["accepted"] == 0
    assert send(small, "echo", b"x" * 1000).get(timeout=5.0) == b"x" * 1000


def test_a_result_over_the_limit_fails_its_task_in_words(cluster: Cluster) -> None:
    cluster.router()
    cluster.worker("w1", payload_bytes_max=1 << 20)
    with pytest.raises(PayloadTooLarge):
        send(cluster.client(), "echo", b"x" * (2 << 20)).get(timeout=5.0)


def test_many_threads_may_share_an_app(app: Mesh) -> None:
    wrong: list[object] = []

    def ask(base: int) -> None:
        results = [send(app, "echo", base + i) for i in range(300)]
        wrong.extend(r for i, r in enumerate(results) if r.get(timeout=20.0) != base + i)

    threads = [threading.Thread(target=ask, args=(1000 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_a_shipped_function_needs_nothing_on_the_worker(app: Mesh) -> None:
    factor = 3
    results = [app.submit(lambda n: n * factor, i) for i in range(100)]
    assert [result.get(timeout=10.0) for result in results] == [3 * i for i in range(100)]


def test_nobody_leaks_file_descriptors_or_threads_over_many_clients(cluster: Cluster, app: Mesh) -> None:
    (router, *_) = cluster.nodes
    assert send(app, "echo", 1).get(timeout=5.0) == 1
    ours, theirs = psutil.Process(os.getpid()), psutil.Process(router.pid)

    def once() -> None:
        with Mesh("x") as one:
            assert send(one, "echo", 1).get(timeout=5.0) == 1

    once()
    wait_until(lambda: app.status()["router"]["clients"] == 1, 5.0, "the router has let go")
    before = ours.num_fds(), ours.num_threads(), theirs.num_fds()
    for _ in range(20):
        once()
    wait_until(lambda: app.status()["router"]["clients"] == 1, 5.0, "the router has let go")
    wait_until(lambda: ours.num_threads() <= before[1] + 1, 5.0, "the threads have ended")
    assert ours.num_fds() <= before[0] + 2
    assert theirs.num_fds() <= before[2] + 2


def test_the_status_is_plain_data(app: Mesh) -> None:
    send(app, "echo", 1).get(timeout=5.0)
    status = app.status()
    assert json.loads(json.dumps(status)) == status
    assert [worker["name"].split("@")[0] for worker in status["workers"]] == ["w1"]
