"""Routers of one user on one machine that do not listen on the LAN; router, worker and client are real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesh.net.runtime_dir import RouterRecord, RuntimeDir
from tests.cluster import Cluster, Node, send, wait_until
from tests.redis_server import Server

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]


@pytest.fixture
def redis(cluster: Cluster) -> Iterator[Server]:
    directory = cluster.place / "redis"
    directory.mkdir()
    server = Server(directory, "memory")
    yield server
    server.close()


def second(cluster: Cluster, *flags: str) -> Node:
    """Start one more router, with a store of its own where ``flags`` name none."""
    store = () if "--store" in flags else ("--store", f"sqlite://{cluster.place / 'second.db'}")
    node = cluster.start("second", "router", "-l", "info", *store, *flags)
    cluster.wait_up(node)
    return node


def record_of(cluster: Cluster, node: Node) -> RouterRecord:
    """Where a router says that it is."""
    return next(one for one in RuntimeDir(cluster.environ).routers("t") if one.pid == node.pid)


def serves(worker: Node, router: RouterRecord) -> bool:
    return f"(router {router.router_id}" in worker.text()


def test_a_router_that_starts_later_is_named_to_the_workers_that_are_there(cluster: Cluster) -> None:
    cluster.router()
    worker = cluster.worker("w")
    looked = cluster.worker("named", "--router", str(RuntimeDir(cluster.environ).routers("t")[0].tcp))
    later = record_of(cluster, second(cluster))
    wait_until(lambda: serves(worker, later) and serves(looked, later), 30.0, "both workers serve the second router")


def test_a_client_that_names_one_router_waits_at_the_one_that_adopts_what_that_had(
    cluster: Cluster, redis: Server
) -> None:
    first = cluster.router("--store", f"{redis.url}?router=one")
    second(cluster, "--store", f"{redis.url}?router=two")
    cluster.worker("w", slots=2)
    client = cluster.client(router=str(record_of(cluster, first).tcp))
    results = [send(client, "work", number, 0.02) for number in range(100)]
    client.flush(timeout=10.0)
    wait_until(lambda: "2 routers" in client.connection.situation(), 20.0, "the client is told of the other")
    first.kill()
    assert [result.get(timeout=30.0) for result in results] == list(range(100))
