"""Routers that are killed while work is out, whose disk is full, or whose store is damaged."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mesh import AsyncResult
from mesh.errors import MeshError, Overloaded, Unavailable
from mesh.wire.codec import decode_body
from tests.cluster import Cluster, Node, send, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]


@pytest.mark.parametrize("away_s", [0.0, 2.0])
def test_what_is_out_when_the_router_is_killed_is_not_run_again(cluster: Cluster, away_s: float) -> None:
    router = cluster.router()
    cluster.worker("w1", slots=2)
    app = cluster.client()
    for result in [send(app, "echo", i) for i in range(3000)]:  # quick ones, so that the worker takes many
        result.get(timeout=20.0)
    results = [send(app, "work", i, 0.01) for i in range(500)]
    app.flush(timeout=10.0)
    wait_until(lambda: len(cluster.runs()) >= 2, 10.0, "they run")
    held = app.status()["workers"][0]["held"]
    print(f"{held} of 500 are out")
    assert held > 20, "more than what runs, or the test shows nothing"
    router.kill()
    time.sleep(away_s)  # how long it is away is what is tested
    cluster.wait_up(cluster.again(router))
    assert [result.get(timeout=30.0) for result in results] == list(range(500))
    runs = Counter(run.id for run in cluster.runs() if run.what == "start")
    assert set(runs.values()) == {1}, f"{sum(runs.values()) - 500} ran again"


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Path]:
    """A file system of 48 MB that holds the store."""
    path = cluster.place / "disk"
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mount.returncode != 0:
        reason = f"cannot mount a tmpfs here: {mount.stderr.strip()}"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    cluster.store = path / "store.db"
    cluster.environ["MESH_STORE"] = f"sqlite://{cluster.store}"
    try:
        yield path
    finally:
        cluster.close()
        subprocess.run(["umount", str(path)], check=True)


def test_a_large_result_without_room_waits_at_its_worker_and_holds_up_nobody(
    cluster: Cluster, small_disk: Path
) -> None:
    router = cluster.router(free_bytes_min=0)
    cluster.worker("w1", slots=2)
    app = cluster.client()
    assert send(app, "work", 1).get(timeout=10.0) == 1
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - (4 << 20)))
    large = app.submit(lambda: b"x" * (8 << 20))
    wait_until(lambda: "a Settled waits at its node" in router.text(), 10.0, "there is no room for it")
    assert [send(app, "work", n).get(timeout=10.0) for n in range(50)] == list(range(50))
    assert not large.ready()
    filler.unlink()
    assert large.get(timeout=10.0) == b"x" * (8 << 20)


@pytest.mark.parametrize("free_bytes_min", [0, 4 << 20])
def test_a_full_disk_stops_submits_and_loses_nothing(cluster: Cluster, small_disk: Path, free_bytes_min: int) -> None:
    cluster.router(free_bytes_min=free_bytes_min)
    cluster.worker("w1", slots=2)
    app = cluster.client(submit_timeout_s=0.5)
    accepted: list[AsyncResult[int]] = []
    last: list[AsyncResult[int]] = []

    def submit(within_s: float) -> bool:
        last[:] = [send(app, "work", i) for i in range(50)]
        try:
            app.flush(timeout=within_s)
        except Unavailable:  # what the router took just before the disk was full waits there, neither told nor lost
            return False
        accepted.extend(last)
        return True

    for _ in range(20):
        assert submit(10.0)
    filler = small_disk / "filler"
    deadline = time.monotonic() + 20.0
    refused = 0
    while refused < 3:  # in a row: at first the store gives up its reserve
        fill(filler)
        refused = 0 if submit(1.0) else refused + 1
        assert time.monotonic() < deadline, "the disk was never full"
    for result in last:
        with pytest.raises(Overloaded, match="disk"):
            result.get(timeout=2.0)
    filler.unlink()
    begun = time.monotonic()
    while not submit(1.0):
        assert time.monotonic() < begun + 10.0, "service did not resume"
    print(f"service resumed after {time.monotonic() - begun:.1f} s; {len(accepted)} accepted")
    assert [result.get(timeout=20.0) for result in accepted] == list(range(50)) * (len(accepted) // 50)
    wait_until(lambda: cluster.tasks_left(app) == 0, 10.0, "all is done")
    stored = Counter(task_id for task_id, _ in cluster.outcomes())
    assert set(stored.values()) == {1}
    assert {result.id for result in accepted} <= set(stored)


def fill(path: Path) -> None:
    """Leave no byte free."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


MARKER = "marked-argument-" * 4


def leave_a_journal(cluster: Cluster) -> tuple[Node, list[str]]:
    """A router with tasks that nobody has run."""
    router = cluster.router()
    app = cluster.client()
    ids = []
    for _ in range(4):
        ids += [send(app, "echo", f"{MARKER}{i}").id for i in range(20)]
        app.flush(timeout=10.0)
    return router, ids


def refusal(cluster: Cluster, router: Node) -> str:
    """What a router says that will not start."""
    before = len(router.text())
    again = cluster.again(router)
    assert again.wait(10.0) == 2
    return again.text()[before:]


def salvage(cluster: Cluster) -> tuple[str, int]:
    """Start with ``--salvage``; what it says, and how many tasks then succeed."""
    router = cluster.router("--salvage")
    cluster.worker("w1")
    app = cluster.client()
    wait_until(lambda: cluster.tasks_left(app) == 0, 20.0, "what was saved is done")
    assert send(app, "echo", 1).get(timeout=5.0) == 1
    return router.text(), len(cluster.outcomes()) - 1


def test_a_flipped_byte_in_the_file_is_found_and_named(cluster: Cluster) -> None:
    router, ids = leave_a_journal(cluster)
    router.terminate()
    assert router.wait(10.0) == 0
    with closing(sqlite3.connect(cluster.store)) as connection:
        (raw,) = connection.execute("SELECT raw FROM journal WHERE seq = 2").fetchone()
    content = cluster.store.read_bytes()
    unique = raw[-200:]
    assert unique in content
    cluster.store.write_bytes(content.replace(unique, unique.swapcase()))
    said = refusal(cluster, router)
    assert "journal rows changed since they were written" in said and "salvage" in said, said
    said, done = salvage(cluster)
    assert "salvaged:" in said
    assert done == len(ids) - len(decode_body(raw).tasks), "only the batch that was changed is given up"


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_log_is_found_and_named(cluster: Cluster, damage: str) -> None:
    router, ids = leave_a_journal(cluster)
    router.kill()
    log = Path(f"{cluster.store}-wal")
    content = bytearray(log.read_bytes())
    if damage == "cut":
        log.write_bytes(content[: len(content) * 2 // 3])
    else:
        place = content.rindex(MARKER.encode())
        content[place] ^= 0x40
        log.write_bytes(content)
    said = refusal(cluster, router)
    assert "missing" in said and "salvage" in said, said
    said, done = salvage(cluster)
    assert "salvaged:" in said
    assert 0 <= done < len(ids)


def test_a_router_that_hangs_is_left_for_another(cluster: Cluster) -> None:
    router = cluster.router(heartbeat_s=0.3)
    cluster.worker("w1", heartbeat_s=0.3)
    app = cluster.client(heartbeat_s=0.3)
    assert send(app, "echo", 1).get(timeout=10.0) == 1
    os.kill(router.pid, signal.SIGSTOP)
    try:
        other = cluster.start("other", "router", "--store", "memory://", heartbeat_s=0.3)
        cluster.wait_up(other)
        assert send(app, "echo", 2).get(timeout=15.0) == 2
    finally:
        os.kill(router.pid, signal.SIGCONT)


def test_a_router_whose_store_is_taken_away_ends_and_goes_on_when_it_is_back(cluster: Cluster) -> None:
    router = cluster.router()
    cluster.worker("w1")
    app = cluster.client()
    result = send(app, "echo", 1)
    assert result.get(timeout=10.0) == 1
    parts = [path for path in cluster.store.parent.glob(f"{cluster.store.name}*") if path.is_file()]
    for path in parts:
        path.rename(path.with_name(f"away-{path.name}"))
    assert router.wait(10.0) == 1, "a supervisor starts it again"
    assert "removed or replaced while it was in use" in router.text()
    for path in parts:
        path.with_name(f"away-{path.name}").replace(path)
    cluster.wait_up(cluster.again(router))
    assert app.AsyncResult(result.id).get(timeout=10.0) == 1
    assert send(app, "echo", 2).get(timeout=10.0) == 2


def test_a_second_router_on_the_same_store_is_refused_with_the_name_of_the_first(cluster: Cluster) -> None:
    router = cluster.router()
    second = cluster.start("second", "router")
    assert second.wait(10.0) == 2
    assert str(router.pid) in second.text()
    assert router.is_running


def test_a_client_without_a_router_says_what_it_tried_and_works_once_there_is_one(cluster: Cluster) -> None:
    app = cluster.client(connect_timeout_s=0.5)
    result = send(app, "echo", 5)
    with pytest.raises(Unavailable, match="no router of mesh 't' runs on this machine"):
        result.get(timeout=5.0)
    with pytest.raises(MeshError):
        app.status()
    cluster.worker("w1", wait=False)
    cluster.router()
    assert result.get(timeout=10.0) == 5
