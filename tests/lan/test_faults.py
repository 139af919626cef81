"""Faults of hosts and cables under load: nothing is lost, each task ends once, and runs twice only next to a fault."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.cluster import wait_until
from tests.lan.hosts import Host, Lan, Process
from tests.lan.load import Load

pytestmark = pytest.mark.lan


def start(lan: Lan, names: str, *, routers: str, workers: str) -> tuple[dict[str, Host], Load, dict[str, Process]]:
    """Hosts with one letter each; a router on some, a worker on some. The first of ``routers`` makes the key."""
    hosts = {name: lan.host(name) for name in names}
    load = Load(list(hosts.values()))
    processes: dict[str, Process] = {}
    for name in routers:
        processes[f"router {name}"] = router(hosts[name])
        if name == routers[0]:
            key = hosts[name].run(["mesh", "key", "show", "--secret"]).stdout.strip()
            for other in hosts.values():
                if other is not hosts[name]:
                    other.run(["mesh", "join", key])
    for name in workers:
        processes[f"worker {name}"] = worker(hosts[name])
    for name in workers:
        wait_until(partial(serves, processes[f"worker {name}"], len(routers)), 20.0, f"{name} serves all routers")
    return hosts, load, processes


def serves(process: Process, routers: int) -> bool:
    return process.text().count("welcomed by") >= routers


def router(host: Host) -> Process:
    process = host.start(["mesh", "router", "--lan"])
    process.wait_said("is up")
    return process


def worker(host: Host) -> Process:
    return host.start(["mesh", "worker", "-A", "tasks", "-c", "2", "-l", "info"])


def finish(load: Load, *clients: Process) -> None:
    for client in clients:
        client.wait_said("ended", 120.0)
    print(f"\n{load.check()}")


def test_a_worker_host_that_is_killed_costs_no_task(lan: Lan) -> None:
    hosts, load, processes = start(lan, "abcd", routers="a", workers="bc")
    client = load.submit(hosts["d"], "t", 300, pause_s=0.02, task_s=0.02)
    time.sleep(2.0)
    with load.fault():
        processes["worker b"].kill()
    time.sleep(2.0)
    worker(hosts["b"])
    finish(load, client)


def test_a_cable_that_is_out_for_20_s_costs_no_task(lan: Lan) -> None:
    hosts, load, _ = start(lan, "abcd", routers="a", workers="bc")
    client = load.submit(hosts["d"], "t", 500, pause_s=0.05, task_s=0.02, patience_s=90.0)
    time.sleep(2.0)
    with load.fault():
        hosts["b"].link(up=False)
        time.sleep(20.0)
        hosts["b"].link(up=True)
    finish(load, client)


def test_a_router_whose_cable_is_out_for_20_s_costs_no_task(lan: Lan) -> None:
    hosts, load, _ = start(lan, "abcde", routers="ab", workers="cd")
    client = load.submit(hosts["e"], "t", 500, pause_s=0.05, task_s=0.02, patience_s=90.0)
    time.sleep(2.0)
    with load.fault():
        hosts["a"].link(up=False)
        time.sleep(20.0)
        hosts["a"].link(up=True)
    finish(load, client)


def test_a_partition_with_a_router_and_workers_on_each_side_costs_no_task(lan: Lan) -> None:
    hosts, load, _ = start(lan, "abcdef", routers="ab", workers="cd")
    clients = [load.submit(hosts[name], f"{name}-", 400, pause_s=0.05, task_s=0.02, patience_s=120.0) for name in "ef"]
    time.sleep(2.0)
    with load.fault():
        lan.divide(*(hosts[name] for name in "bdf"))
        time.sleep(12.0)
        lan.unite()
    finish(load, *clients)


def test_a_host_whose_address_changes_comes_back_by_itself(lan: Lan) -> None:
    hosts, load, _ = start(lan, "abcd", routers="a", workers="bc")
    client = load.submit(hosts["d"], "t", 400, pause_s=0.05, task_s=0.02, patience_s=90.0)
    time.sleep(2.0)
    with load.fault():
        hosts["a"].change_address("10.77.0.77")
        time.sleep(10.0)
    finish(load, client)


def test_twenty_nodes_that_start_at_once_all_join(lan: Lan) -> None:
    a = lan.host("a")
    load = Load([a])
    process = router(a)
    key = a.run(["mesh", "key", "show", "--secret"]).stdout.strip()
    process.terminate()
    process.wait()
    others = [lan.host(f"n{number}") for number in range(20)]
    load = Load([a, *others])
    began = time.monotonic()
    command = ["mesh", "worker", "-A", "tasks", "-c", "1", "-l", "info"]
    workers = [host.start(command, MESH_KEY=key) for host in others]
    router(a)
    wait_until(lambda: all("welcomed by" in one.text() for one in workers), 60.0, "all have joined")
    print(f"\n20 nodes had joined {time.monotonic() - began:.1f} s after the first was started, Python included")
    finish(load, load.submit(a, "t", 200, pause_s=0.005))
