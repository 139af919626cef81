"""A mesh gets a new key while it works: nodes with either key run tasks, then the old one goes."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from mesh.net.keys import load
from mesh.net.runtime_dir import RuntimeDir
from tests.cluster import Cluster, Node, send, wait_until
from tests.integration.test_revocation import mesh

pytestmark = pytest.mark.processes


def free_port() -> int:
    """One that is free, and likely the next one, too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def worker_elsewhere(cluster: Cluster, name: str, home: Path, port: int, key: str) -> Node:
    """A worker of another user, who has joined with this key."""
    mesh(cluster, "join", key, XDG_CONFIG_HOME=str(home))
    own = cluster.environ
    cluster.environ = own | {"XDG_CONFIG_HOME": str(home)}
    worker = cluster.worker(name, "--router", f"127.0.0.1:{port}")
    cluster.environ = own
    return worker


def names(cluster: Cluster) -> set[str]:
    return {worker["name"].split("@")[0] for worker in cluster.client().status()["workers"]}


def test_a_key_is_rotated_while_the_mesh_works(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    router = cluster.router("--listen", f"127.0.0.1:{port}")
    old = mesh(cluster, "key", "show", "--secret")
    one = worker_elsewhere(cluster, "one", tmp_path / "one", port, old)

    said = mesh(cluster, "key", "rotate")
    steps = ["t.key.old there, then", "`mesh --mesh t join --force`", "`mesh --mesh t key rotate --finish`"]
    assert sorted(steps, key=said.index) == steps, said
    new = mesh(cluster, "key", "show", "--secret")
    assert new != old
    wait_until(lambda: "is asked for at" in router.text(), 5.0, "the router has seen the new key")
    (record,) = RuntimeDir(os.environ).routers("t")
    assert (record.tcp, record.key_id) == (f"tcp://127.0.0.1:{port + 1}", load("t", os.environ).key_id)
    worker_elsewhere(cluster, "two", tmp_path / "two", port + 1, new)
    assert names(cluster) == {"one", "two"}
    said = wait_until(lambda: mesh(cluster, "status") if "1 connection," in mesh(cluster, "status") else "", 5.0)
    assert f"mesh keys, the newest first: {record.key_id} with 1 connection, " in said
    app = cluster.client()
    assert [send(app, "echo", i).get(timeout=10.0) for i in range(20)] == list(range(20))

    with pytest.raises(subprocess.CalledProcessError) as refused:
        mesh(cluster, "key", "rotate", "--finish")
    said = " of 1 connection to the router at tcp://127.0.0.1:"
    assert said in refused.value.stderr and "(from 127.0.0.1)" in refused.value.stderr, refused.value.stderr
    assert names(cluster) == {"one", "two"}, "nobody was cut off"
    mesh(cluster, "key", "rotate", "--finish", "--force")
    wait_until(lambda: names(cluster) == {"two"}, 5.0, "who has the old key is out")
    wait_until(lambda: "has another mesh key" in one.text(), 5.0, "and is told so")
    mesh(cluster, "join", "--force", new, XDG_CONFIG_HOME=str(tmp_path / "one"))
    wait_until(lambda: names(cluster) == {"one", "two"}, 10.0, "with the new key it is back by itself")
    assert send(app, "echo", 1).get(timeout=10.0) == 1
    assert not (Path(os.environ["XDG_CONFIG_HOME"]) / "taskmesh" / "t.key.old").exists()


def test_a_router_that_starts_amid_a_rotation_lets_in_either(cluster: Cluster, tmp_path: Path) -> None:
    mesh(cluster, "key", "new")
    old = mesh(cluster, "key", "show", "--secret")
    mesh(cluster, "key", "rotate")
    port = free_port()
    cluster.router("--listen", f"127.0.0.1:{port}")
    worker_elsewhere(cluster, "one", tmp_path / "one", port, old)
    worker_elsewhere(cluster, "two", tmp_path / "two", port + 1, mesh(cluster, "key", "show", "--secret"))
    assert names(cluster) == {"one", "two"}
