"""A mesh on hosts of one wire: its nodes, by the name of their host, and what they ran."""

from __future__ import annotations

from collections import defaultdict

from tests.cluster import wait_until
from tests.lan.hosts import Host, Lan, Process
from tests.lan.load import Load


class Mesh:
    """The first router makes the key, and all other hosts join with it."""

    def __init__(self, lan: Lan, *names: str, ipv6: bool = True) -> None:
        self.lan = lan
        self.hosts = {name: lan.host(name, ipv6=ipv6) for name in names}
        self.load = Load(list(self.hosts.values()))
        self.nodes: dict[str, list[Process]] = defaultdict(list)
        self.routers: set[str] = set()
        self.workers: set[str] = set()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def router(self, name: str, **environ: str) -> Process:
        """Start a router on this host, and wait until it is up."""
        process = self[name].start(["mesh", "router", "--lan"], **environ)
        process.wait_said("is up")
        self.nodes[name].append(process)
        if not self.routers:
            self.lan.share_key(self[name])
        self.routers.add(name)
        return process

    def worker(self, name: str, **environ: str) -> Process:
        """Start a worker on this host."""
        process = self[name].start(["mesh", "worker", "-A", "tasks", "-c", "2", "-l", "info"], **environ)
        self.nodes[name].append(process)
        self.workers.add(name)
        return process


def wait_served(worker: Process, routers: int, within_s: float = 20.0) -> None:
    """Wait until this worker was welcomed by so many routers."""
    wait_until(lambda: worker.text().count("welcomed by") >= routers, within_s, f"{worker.name} serves {routers}")
