"""Several routers on several hosts: workers serve all, and another machine takes the place of one that is gone."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster import wait_until
from tests.lan.hosts import Host, Lan, Process

pytestmark = pytest.mark.lan

TASKS = """
import os, time
from mesh import Mesh
app = Mesh("tasks")

@app.task
def note(text, seconds=0.0):
    time.sleep(seconds)
    with open(os.path.expanduser("~/ran"), "a") as log:
        log.write(text + "\\n")
    return text
"""


class Mesh:
    """Hosts of one mesh, with what each has run."""

    def __init__(self, lan: Lan, *names: str) -> None:
        self.hosts = {name: lan.host(name) for name in names}
        for host in self.hosts.values():
            (host.home / "tasks.py").write_text(TASKS)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def router(self, name: str) -> Process:
        """A router on this host; the first gives the key to all others."""
        host = self[name]
        process = host.start(["mesh", "router", "--lan"])
        process.wait_said("is up")
        key = host.run(["mesh", "key", "show", "--secret"]).stdout.strip()
        for other in self.hosts.values():
            if other is not host and not (other.home / ".config/taskmesh/default.key").exists():
                other.run(["mesh", "join", key])
        return process

    def worker(self, name: str) -> Process:
        process = self[name].start(["mesh", "worker", "-A", "tasks", "-c", "2", "-l", "info"])
        process.wait_said("welcomed by")
        return process

    def ran(self) -> list[str]:
        """All that was run, on all hosts, as often as it was."""
        logs = [host.home / "ran" for host in self.hosts.values()]
        return sorted(line for log in logs if log.exists() for line in log.read_text().splitlines())


def test_a_worker_that_knows_one_router_serves_all(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    lan.block_multicast()
    mesh.router("a")
    b = mesh["b"].start(["mesh", "router", "--lan"], MESH_ROUTERS=f"{mesh['a'].address}:6374")
    b.wait_said("is up")
    worker = mesh["c"].start(
        ["mesh", "worker", "-A", "tasks", "-c", "1", "-l", "info"], MESH_ROUTERS=f"{mesh['a'].address}:6374"
    )
    wait_until(lambda: worker.text().count("welcomed by") == 2, 20.0, "welcomed by both")
    script = "from tasks import note; print(note.delay('at b').get(timeout=20))"
    there = mesh["b"].run(["python", "-c", script]).stdout
    assert there.strip() == "at b"
    assert mesh.ran() == ["at b"]


def test_status_lists_the_routers_of_other_hosts_and_says_which_is_away(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    mesh.router("a")
    mesh.router("b")

    def answers(**environ: str) -> dict[str, bool]:
        status = json.loads(mesh["c"].run(["mesh", "status", "--json"], environ=environ).stdout)
        return {str(row["name"]): row["answers"] for row in status["routers"]}

    both = {"router@a": True, "router@b": True}
    wait_until(lambda: answers() == both, 20.0, "both are heard of")
    lan.block_multicast()
    through_a = {"MESH_ROUTERS": f"{mesh['a'].address}:6374"}
    wait_until(lambda: answers(**through_a) == both, 20.0, "one names the other")
    mesh["b"].link(up=False)
    wait_until(lambda: answers(**through_a) == {"router@a": True, "None": False}, 20.0, "the other is away")


def test_a_worker_that_runs_joins_a_router_that_starts_later(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    mesh.router("a")
    worker = mesh.worker("c")
    mesh.router("b")
    wait_until(lambda: worker.text().count("welcomed by") == 2, 15.0, "it serves the new one, too")


def test_an_address_that_a_router_has_no_more_is_named_to_nobody(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    mesh["a"].ip("addr", "add", "10.77.0.150/24", "dev", "eth0")
    a = mesh.router("a")
    mesh.router("b")

    def named() -> str:
        return mesh["c"].run(["mesh", "doctor", "--router", f"{mesh['b'].address}:6374"], check=False).stdout

    wait_until(lambda: "10.77.0.150:6374" in named(), 15.0, "b names both addresses of a")
    mesh["a"].ip("addr", "del", "10.77.0.150/24", "dev", "eth0")
    a.wait_said("now listens on the LAN")
    wait_until(lambda: "10.77.0.150" not in named(), 15.0, "b names it no more")
    assert f"{mesh['a'].address}:6374" in named()


def test_another_machine_takes_over_when_the_only_router_is_gone_with_its_host(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c", "d")
    up = ["mesh", "up", "--lan", "-A", "tasks", "-c", "1"]
    first = mesh["a"].start(up)
    first.wait_said("is up")
    key = mesh["a"].run(["mesh", "key", "show", "--secret"]).stdout.strip()
    for name in ("b", "c", "d"):
        mesh[name].run(["mesh", "join", key])
    others = [mesh[name].start(up) for name in ("b", "c")]
    for other in others:
        other.wait_said("is up")
    assert not [other for other in others if "starting one here" in other.text()], "the mesh has a router"
    (mesh["d"].home / "client.py").write_text(SUBMITTER)
    client = mesh["d"].start(["python", "client.py"])
    client.wait_said("submitted", 30.0)
    cut_at = time.time()
    mesh["a"].link(up=False)

    def first_new() -> float | None:
        words = [line.split() for line in client.text().splitlines() if line.startswith("submitted")]
        return next((float(done) for _, at, _, done in words if float(at) > cut_at), None)

    done_at = wait_until(first_new, 30.0, "a task that was submitted after it is run")
    print(f"\nnew work was done {done_at - cut_at:.2f} s after the host of the only router was gone")
    assert len([other for other in others if "starting one here" in other.text()]) >= 1
    assert done_at - cut_at < 15.0, "promised are 10 s, on a machine that is not shared"


SUBMITTER = """
import time
from tasks import note
waiting = []
while True:
    waiting.append((time.time(), note.delay("x")))
    for at, result in list(waiting):
        if result.ready():
            waiting.remove((at, result))
            print("submitted", at, "done", time.time(), flush=True)
    time.sleep(0.1)
"""
