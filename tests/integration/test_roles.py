"""What a key allows at a real router, asked over TCP by a peer that sends what it likes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from mesh.messages import Credit, Query, Refuse, Reply, Submit, Welcome
from mesh.model import Role, TaskOptions
from mesh.net.keys import MeshKey, load
from mesh.net.runtime_dir import RuntimeDir
from tests.cluster import Cluster
from tests.raw_peer import RawPeer

pytestmark = pytest.mark.processes

PeerMaker = Callable[[Role], RawPeer]


@pytest.fixture
def peer(cluster: Cluster) -> Iterator[PeerMaker]:
    """Makes peers with the key of a role, at a router that runs."""
    cluster.router()
    (record,) = RuntimeDir(os.environ).routers("t")
    made: list[RawPeer] = []

    def make(role: Role) -> RawPeer:
        key = load("t", os.environ)
        made.append(RawPeer(str(record.tcp), key.role(role), key.role(Role.ROUTER).public))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_exported_keys_run_tasks_and_do_no_more(cluster: Cluster) -> None:
    cluster.router()
    (record,) = RuntimeDir(os.environ).routers("t")
    key = load("t", os.environ)
    assert isinstance(key, MeshKey)
    address = str(record.tcp).removeprefix("tcp://")
    cluster.environ["MESH_KEY"] = key.export(Role.WORKER).text
    cluster.worker("w", "--router", address)
    cluster.environ["MESH_KEY"] = key.export(Role.CLIENT).text
    code = f"""
from mesh.errors import Refused
app = Mesh("tests.cluster_tasks", router={address!r})
print(app.send_task("tests.cluster_tasks.echo", (7,)).get(timeout=10))
try:
    app.purge()
except Refused as error:
    print(error)
"""
    said, _ = cluster.script(code).communicate(timeout=30.0)
    assert said.splitlines()[-2:] == ["7", "a client key may not purge: that takes the whole key of the mesh"]


def refused(cluster: Cluster) -> int:
    return int(cluster.client().status()["router"]["counters"]["refused"])


def test_a_client_key_makes_no_worker_and_a_worker_key_no_client(cluster: Cluster, peer: PeerMaker) -> None:
    assert peer(Role.CLIENT).greet(Role.WORKER) == Refuse("role", "a client key does not make a worker")
    assert peer(Role.CLIENT).greet(Role.ADMIN) == Refuse("role", "a client key does not make a admin")
    assert peer(Role.WORKER).greet(Role.CLIENT) == Refuse("role", "a worker key does not make a client")
    assert refused(cluster) == 3


def test_a_session_sends_the_verbs_of_its_role_only(cluster: Cluster, peer: PeerMaker) -> None:
    client, worker = peer(Role.CLIENT), peer(Role.WORKER)
    assert isinstance(client.greet(Role.CLIENT), Welcome)
    assert client.say(Credit(1000)) == Refuse("role", "a client may not send Credit")
    assert isinstance(worker.greet(Role.WORKER), Welcome)
    for message in (Submit(1, [TaskOptions("x")], []), Query(1, "purge"), Query(2, "status")):
        assert worker.say(message) == Refuse("role", f"a worker may not send {type(message).__name__}")
    assert refused(cluster) == 4


def test_a_client_key_asks_and_does_not_purge(cluster: Cluster, peer: PeerMaker) -> None:
    client, admin = peer(Role.CLIENT), peer(Role.ADMIN)
    for one, answer in ((client, "error"), (admin, "purged")):
        assert isinstance(one.greet(Role.CLIENT), Welcome)
        reply = one.say(Query(1, "purge"))
        assert isinstance(reply, Reply) and list(json.loads(reply.body)) == [answer]
    assert isinstance(client.say(Query(2, "status")), Reply)
    assert refused(cluster) == 1
