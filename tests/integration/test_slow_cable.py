"""A message may be on its way for longer than a node may be silent: what has come of it says that its sender lives."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mesh import AsyncResult, Mesh
from mesh.net.runtime_dir import RuntimeDir
from tests.cluster import Cluster, wait_until
from tests.slow_cable import SlowCable

pytestmark = pytest.mark.processes

MIB = 1 << 20
SIZE = 24 * MIB  # takes 3 s
LIVENESS = {"heartbeat_s": 0.3, "liveness": 3}
WITHIN_S = 30.0


@pytest.fixture
def cable(cluster: Cluster) -> Iterator[SlowCable]:
    """To a router that runs."""
    cluster.router("--listen", "127.0.0.1:*", **LIVENESS)
    (record,) = RuntimeDir(os.environ).routers("t")
    made = SlowCable(int(str(record.tcp).rpartition(":")[2]), 8 * MIB)
    yield made
    made.close()


@pytest.mark.parametrize("way", ["arguments", "result"])
def test_a_client_on_a_slow_cable(cluster: Cluster, cable: SlowCable, way: str) -> None:
    worker = cluster.worker("w1", **LIVENESS)
    app = cluster.client(router=cable.address, **LIVENESS)
    check_it_comes_at_once(app, cable, way)
    assert worker.text().count("welcomed") == 1


@pytest.mark.parametrize("way", ["arguments", "result"])
def test_a_worker_on_a_slow_cable(cluster: Cluster, cable: SlowCable, way: str) -> None:
    worker = cluster.worker("w1", "--router", cable.address, **LIVENESS)
    app = cluster.client(**LIVENESS)
    check_it_comes_at_once(app, cable, way)
    assert worker.text().count("welcomed") == 1, "its session lasts"
    assert app.status()["router"]["counters"]["redelivered"] == 0


def send(app: Mesh, way: str) -> AsyncResult[int]:
    if way == "arguments":
        return app.submit(len, os.urandom(SIZE))
    return app.submit(bytes, SIZE)


def check_it_comes_at_once(app: Mesh, cable: SlowCable, way: str) -> None:
    assert app.submit(len, b"warm").get(timeout=WITHIN_S) == 4
    came = send(app, way).get(timeout=WITHIN_S)
    assert (came if way == "arguments" else len(came)) == SIZE
    assert SIZE < cable.carried < 1.5 * SIZE, "it was sent once"
    assert cable.connections == 1


@pytest.mark.parametrize("way", ["arguments", "result"])
def test_a_cable_that_is_cut_in_the_middle_of_a_message_ends_the_session(
    cluster: Cluster, cable: SlowCable, way: str
) -> None:
    worker = cluster.worker("w1", "--router", cable.address, **LIVENESS)
    app = cluster.client(**LIVENESS)
    assert app.submit(len, b"warm").get(timeout=WITHIN_S) == 4
    held = send(app, way)
    wait_until(lambda: cable.carried > SIZE // 3, WITHIN_S, "it is on its way")
    cable.cut()
    wait_until(lambda: "a router was not heard of for 0.9 s" in worker.text(), 5.0, "the worker misses its router")
    wait_until(lambda: not app.status()["workers"], 5.0, "the router misses its worker")
    held.revoke()
