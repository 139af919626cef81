"""What keeps a node out is told at once, by what the sockets say: no limit on waiting is reached in these tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mesh.model import Role
from mesh.net.keys import MeshKey, load, new_key
from mesh.net.runtime_dir import RuntimeDir
from tests.cluster import REPOSITORY, Cluster, wait_until

pytestmark = pytest.mark.processes

AT_ONCE_S = 3.0
LONG = {"MESH_CONNECT_TIMEOUT_S": "300"}


@pytest.fixture
def address(cluster: Cluster) -> str:
    """Of a router that runs."""
    cluster.router()
    return address_here()


def address_here() -> str:
    (record,) = RuntimeDir(os.environ).routers("t")
    return str(record.tcp).removeprefix("tcp://")


def told(cluster: Cluster, address: str, **environ: str) -> tuple[int, str]:
    """How ``mesh status`` ends at this router, and its one line about it."""
    ended = subprocess.run(
        [sys.executable, "-m", "nodes", "status", "--router", address],
        cwd=REPOSITORY,
        env=cluster.environ | LONG | environ,
        capture_output=True,
        text=True,
        timeout=20.0,
    )
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.returncode, ended.stderr


def whole_key() -> MeshKey:
    key = load("t", os.environ)
    assert isinstance(key, MeshKey)
    return key


def test_another_mesh_key(cluster: Cluster, address: str) -> None:
    code, line = told(cluster, address, MESH_KEY=new_key().text)
    assert code == 2
    assert f"the router at tcp://{address} has another mesh key" in line and "compare `mesh --mesh t key`" in line


def test_no_key_on_this_machine(cluster: Cluster, address: str) -> None:
    code, line = told(cluster, address, XDG_CONFIG_HOME=str(cluster.place / "nowhere"))
    assert code == 2
    assert "no key of mesh 't' on this machine" in line and "`mesh --mesh t join KEY`" in line


def test_the_key_of_another_role(cluster: Cluster, address: str) -> None:
    code, line = told(cluster, address, MESH_KEY=whole_key().export(Role.WORKER).text)
    assert code == 2
    assert "this machine has a worker's key, which makes no client" in line


def test_another_protocol(cluster: Cluster) -> None:
    later = "import mesh.core.membership as m; m.PROTOCOL = 2; from nodes.cli.main import main; main(['router'])"
    cluster.script(later)
    wait_until(lambda: RuntimeDir(os.environ).routers("t"), 20.0, "a router of a later version is up")
    code, line = told(cluster, address_here())
    assert code == 2
    assert "protocol 1 here, 2 at the router: install the same version of taskmesh on both" in line


def test_a_worker_with_the_key_of_another_mesh_says_it_and_waits_for_better(cluster: Cluster, address: str) -> None:
    cluster.environ["MESH_KEY"] = new_key().text
    worker = cluster.worker("w", "--router", address, wait=False)
    wait_until(lambda: "starts 1 executor" in worker.text(), 20.0, "it starts")
    wait_until(lambda: "has another mesh key" in worker.text(), AT_ONCE_S)
    assert worker.is_running


def test_a_worker_with_the_key_of_another_role_ends(cluster: Cluster, address: str) -> None:
    cluster.environ["MESH_KEY"] = whole_key().export(Role.CLIENT).text
    worker = cluster.worker("w", "--router", address, wait=False)
    assert worker.wait(20.0) == 2
    assert "has a client's key, which makes no worker" in worker.text()


def test_a_worker_without_a_key_waits_for_a_router_here_and_says_what_it_lacks(cluster: Cluster) -> None:
    worker = cluster.worker("w", wait=False)
    wait_until(lambda: "no router yet: no router of mesh 't' runs on this machine" in worker.text(), 20.0)
    assert "no key of mesh 't' on this machine" in worker.text()
    cluster.router("--listen", "off")
    cluster.wait_welcomed(worker)


def test_nobody_listens_there(cluster: Cluster) -> None:
    cluster.environ["MESH_KEY"] = new_key().text
    worker = cluster.worker("w", "--router", "127.0.0.1:1", wait=False)
    wait_until(lambda: "starts 1 executor" in worker.text(), 20.0, "it starts")
    wait_until(lambda: "nothing listens at tcp://127.0.0.1:1 yet" in worker.text(), AT_ONCE_S)


def test_a_worker_says_that_nobody_has_a_name_and_waits_for_better(cluster: Cluster) -> None:
    cluster.environ["MESH_KEY"] = new_key().text
    worker = cluster.worker("w", "--router", "no..such.host:6374", wait=False)
    wait_until(lambda: "name not known: tcp://no..such.host:6374" in worker.text(), 20.0)
    assert worker.is_running
