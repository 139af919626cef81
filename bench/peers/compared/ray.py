"""Ray: a local cluster, in a network of its own, since it listens to every interface of the machine."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import ray

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers
from bench.peers.compared.apart import join_network, leave_network
from bench.peers.compared.command import run, running

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}  # a token would be left in the home
HERE, PORT = "127.0.0.1", 6379
OBJECT_STORE = 256 << 20
RAY_START_S = 30.0  # it starts several servers before it listens; less than the bench waits for any entrant


class Rays(Client):
    def __init__(self) -> None:
        self._functions = {f.__name__: ray.remote(f) for f in (work.nothing, work.echo, work.hold)}

    def submit(self, name: str, *arguments: Any) -> Any:
        return self._functions[name].remote(*arguments)

    def result(self, handle: Any) -> Any:
        return ray.get(handle, timeout=PATIENCE_S)

    def one_by_one(self, count: int) -> None:
        ray.get([self.submit("nothing") for _ in range(count)], timeout=PATIENCE_S)


def wait_until_open() -> None:
    deadline = time.monotonic() + RAY_START_S
    while time.monotonic() < deadline:
        with socket.socket() as tried:
            if tried.connect_ex((HERE, PORT)) == 0:
                return
        time.sleep(0.05)


class TheRay(Adapter):
    packages = ("ray",)
    settings: ClassVar = {
        "workers": "ray start --head --num-cpus=workers on 127.0.0.1, so that as many tasks run at once",
        "network": "a namespace of its own with the loopback interface alone",
        "off": "dashboard, usage statistics, token (nobody else is in its network)",
        "object store": f"{OBJECT_STORE >> 20} MiB of shared memory",
        "results": "one ray.get() of all of them",
        "in bulk": "it has no way of its own",
        "accepted tasks": "in memory",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        leave_network()
        # Short: it holds sockets, and their paths may have 107 bytes.
        place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        where = ["--node-ip-address", HERE, "--port", str(PORT), "--temp-dir", place]
        size = ["--num-cpus", str(count), "--object-store-memory", str(OBJECT_STORE)]
        try:
            command = ["ray", "start", "--head", "--block", "--include-dashboard", "false", *where, *size]
            with running(command) as processes:
                wait_until_open()
                yield Workers({"BENCH_NETWORK": str(os.getpid())}, processes)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def client(self) -> Iterator[Client]:
        join_network(int(os.environ["BENCH_NETWORK"]))
        ray.init(address=f"{HERE}:{PORT}", _node_ip_address=HERE, log_to_driver=False, logging_level="ERROR")
        try:
            yield Rays()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    run(TheRay())
