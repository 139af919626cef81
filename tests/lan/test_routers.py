"""Several routers on several hosts: workers serve all, and another machine takes the place of one that is gone."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster import wait_until
from tests.lan.hosts import Lan
from tests.lan.meshes import Mesh, wait_served

pytestmark = pytest.mark.lan


def test_a_worker_that_knows_one_router_serves_all(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    lan.block_multicast()
    mesh.router("a")
    through_a = {"MESH_ROUTERS": f"{mesh['a'].address}:6374"}
    mesh.router("b", **through_a)
    wait_served(mesh.worker("c", **through_a), 2)
    script = "from tasks import note; print(note.delay('at-b').get(timeout=20))"
    there = mesh["b"].run(["python", "-c", script]).stdout
    assert there.strip() == "at-b"
    assert {name: len(times) for name, times in mesh.load.runs().items()} == {"at-b": 1}


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
    wait_served(worker, 1)
    mesh.router("b")
    wait_served(worker, 2, 15.0)


# `mesh doctor` looks at each router once, at whichever of its addresses is told first: this prints all that are.
TOLD = """
import os, sys
from mesh.net.find import Found, Source
from nodes.doctor.look import look_at_key
from nodes.doctor.talk import talk, this_host
found = Found((f"tcp://{sys.argv[1]}:6374",), None, "given", Source.NAMED)
print(*talk(found, look_at_key("default", os.environ)[1], this_host("0", 1)).told)
"""


def test_an_address_that_a_router_has_no_more_is_named_to_nobody(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    mesh["a"].ip("addr", "add", "10.77.0.150/24", "dev", "eth0")
    a = mesh.router("a")
    mesh.router("b")

    def named() -> str:
        return mesh["c"].run(["python", "-c", TOLD, mesh["b"].address]).stdout

    wait_until(lambda: "10.77.0.150:6374" in named(), 15.0, "b names both addresses of a")
    mesh["a"].ip("addr", "del", "10.77.0.150/24", "dev", "eth0")
    a.wait_said("now listens on the LAN")

    def only_the_other() -> bool:  # b may have to connect anew before it names any
        told = named()
        return "10.77.0.150" not in told and f"{mesh['a'].address}:6374" in told

    wait_until(only_the_other, 15.0, "b names it no more, and the other one")


def test_another_machine_takes_over_when_the_only_router_is_gone_with_its_host(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c", "d")
    up = ["mesh", "up", "--lan", "-A", "tasks", "-c", "1"]
    first = mesh["a"].start(up)
    first.wait_said("is up")
    lan.share_key(mesh["a"])
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


def test_machines_that_start_at_once_start_routers_one_after_the_other(lan: Lan) -> None:
    mesh = Mesh(lan, "a", "b", "c")
    first = mesh.router("a")
    up = ["mesh", "up", "--lan", "--routers", "2", "-A", "tasks", "-c", "1"]
    others = [mesh[name].start(up) for name in ("b", "c")]

    def answering() -> int:
        done = mesh["a"].run(["mesh", "status", "--json"])
        return sum(1 for row in json.loads(done.stdout)["routers"] if row["answers"])

    wait_until(lambda: answering() >= 2, 20.0, "there are as many as are wanted")
    assert first.is_running
    assert [other for other in others if "starting one here" in other.text()], "none was started before its turn"


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
