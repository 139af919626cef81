"""Faults of hosts and cables under load: nothing is lost, each task ends once, and runs twice only next to a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from tests.cluster import wait_until
from tests.lan.hosts import Lan, Process
from tests.lan.load import Load
from tests.lan.meshes import Mesh, wait_served

pytestmark = [pytest.mark.lan, pytest.mark.timeout(240)]

PAUSE_S = 0.05  # between two tasks of a client
AFTER_S = 4.0  # for which clients go on when the fault is over
GOES_ON_S = 10.0  # promised where there is another router


def finish(load: Load, *clients: Process) -> None:
    for client in clients:
        client.wait_said("ended", 240.0)
    print(f"\n{load.check()}")


@contextmanager
def killed(mesh: Mesh, name: str, *, returns: bool = True) -> Iterator[None]:
    for node in mesh.nodes[name]:
        node.kill()
    yield
    if returns and name in mesh.routers:
        mesh.router(name)
    if returns and name in mesh.workers:
        mesh.worker(name)


@contextmanager
def unplugged(mesh: Mesh, name: str) -> Iterator[None]:
    mesh.hosts[name].link(up=False)
    yield
    mesh.hosts[name].link(up=True)


@contextmanager
def divided(mesh: Mesh, names: str) -> Iterator[None]:
    mesh.lan.divide(*(mesh.hosts[name] for name in names))
    yield
    mesh.lan.unite()


@contextmanager
def moved(mesh: Mesh, name: str, address: str) -> Iterator[None]:
    mesh.hosts[name].change_address(address)
    yield


@contextmanager
def asleep(mesh: Mesh, name: str) -> Iterator[None]:
    mesh.hosts[name].suspend()
    yield
    mesh.hosts[name].suspend(False)


@contextmanager
def lossy(mesh: Mesh, name: str) -> Iterator[None]:
    mesh.hosts[name].worsen(delay_s=0.02, jitter_s=0.01, loss=0.05)
    yield
    mesh.hosts[name].mend()


@dataclass(frozen=True)
class Scene:
    what: str
    fault: Callable[[Mesh], AbstractContextManager[None]]
    lasts_s: float
    routers: str = "a"
    workers: str = "bc"
    clients: str = "d"
    goes_on: bool = False  # also meanwhile, whoever is asked
    ipv6: bool = True  # False: there is no way but by the address that changes
    router_gone: bool = False  # for good: what it had accepted and not told of is given up


SCENES = [
    Scene("a worker's host is killed", partial(killed, name="b"), 2.0),
    Scene("a worker's cable is out", partial(unplugged, name="b"), 20.0),
    Scene("a router's cable is out", partial(unplugged, name="a"), 20.0, "ab", "cd", "e", goes_on=True),
    Scene("a router is killed", partial(killed, name="a"), 12.0, "ab", "cd", "e", goes_on=True),
    Scene(
        "a router never returns",
        partial(killed, name="a", returns=False),
        12.0,
        "ab",
        "cd",
        "e",
        True,
        router_gone=True,
    ),
    Scene("a router with its worker sleeps", partial(asleep, name="a"), 30.0, "ab", "ac", "d", goes_on=True),
    Scene("a worker sleeps", partial(asleep, name="b"), 30.0, goes_on=True),
    Scene("a router and a worker on each side", partial(divided, names="bdf"), 12.0, "ab", "cd", "ef", goes_on=True),
    Scene("the router has another address", partial(moved, name="a", address="10.77.0.77"), 15.0, ipv6=False),
    Scene("a worker has another address", partial(moved, name="b", address="10.77.0.77"), 15.0, "a", "b", ipv6=False),
    Scene("a client has another address", partial(moved, name="d", address="10.77.0.77"), 15.0, ipv6=False),
    Scene("one of two routers has another", partial(moved, name="a", address="10.77.0.77"), 15.0, "ab", ipv6=False),
    Scene("the router's cable delays and loses", partial(lossy, name="a"), 15.0, goes_on=True),
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.what)
def test_no_task_is_lost_and_none_runs_twice_but_next_to_the_fault(lan: Lan, scene: Scene) -> None:
    mesh = Mesh(lan, *sorted({*scene.routers, *scene.workers, *scene.clients}), ipv6=scene.ipv6)
    # A router that is announced is not given up, and what it announced last holds for two minutes.
    environ, patience_s = ({"MESH_ROUTER_TTL_S": "10"}, 180.0) if scene.router_gone else ({}, 60.0)
    for name in scene.routers:
        mesh.router(name, **environ)
    for worker in [mesh.worker(name, **environ) for name in scene.workers]:
        wait_served(worker, len(scene.routers))
    load, count = mesh.load, int((scene.lasts_s + AFTER_S) / PAUSE_S)
    clients = [
        load.submit(mesh.hosts[name], f"{name}-", count, pause_s=PAUSE_S, task_s=0.02, patience_s=patience_s, **environ)
        for name in scene.clients
    ]
    wait_until(lambda: len(load.runs()) >= 20, 20.0, "load begins")
    with load.fault(router_gone=scene.router_gone) as began, scene.fault(mesh):
        if scene.goes_on:
            wait_until(lambda: load.runs_since(began) > 5, GOES_ON_S, "new work is done")
            print(f"\nnew work ran {time.time() - began:.2f} s after the fault began")
        time.sleep(max(0.0, began + scene.lasts_s - time.time()))  # how long it lasts is part of what is tested
    finish(load, *clients)


def test_twenty_nodes_that_start_at_once_all_join(lan: Lan) -> None:
    a = lan.host("a")
    a.run(["mesh", "key", "new"])
    key = a.key()
    others = [lan.host(f"n{number}") for number in range(20)]
    load = Load([a, *others])
    began = time.monotonic()
    command = ["mesh", "worker", "-A", "tasks", "-c", "1", "-l", "info"]
    workers = [host.start(command, MESH_KEY=key) for host in others]
    a.start(["mesh", "router", "--lan"]).wait_said("is up")
    for worker in workers:
        wait_served(worker, 1, 60.0)
    print(f"\n20 nodes had joined {time.monotonic() - began:.1f} s after the first was started, Python included")
    finish(load, load.submit(a, "t", 200, pause_s=0.005))
