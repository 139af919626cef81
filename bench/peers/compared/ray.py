"""Ray: a local cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import ray

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Client, Peer
from bench.peers.compared.command import run

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
OBJECT_STORE = 256 << 20


class Rays(Client):
    def __init__(self) -> None:
        self._functions = {f.__name__: ray.remote(f) for f in (work.nothing, work.echo, work.hold)}

    def submit(self, name: str, *arguments: Any) -> Any:
        return self._functions[name].remote(*arguments)

    def result(self, handle: Any) -> Any:
        return ray.get(handle, timeout=PATIENCE_S)

    def one_by_one(self, count: int) -> None:
        ray.get([self.submit("nothing") for _ in range(count)], timeout=PATIENCE_S)


class TheRay(Peer):
    packages = ("ray",)
    settings: ClassVar = {
        "workers": "ray.init(num_cpus=workers), so that as many tasks run at once",
        "off": "dashboard, usage statistics",
        "object store": f"{OBJECT_STORE >> 20} MiB of shared memory",
        "results": "one ray.get() of all of them",
        "in bulk": "it has no way of its own",
        "accepted tasks": "in memory",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[dict[str, str]]:
        context = ray.init(
            num_cpus=count,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
        )
        try:
            yield {"RAY_ADDRESS": context.address_info["address"]}
        finally:
            ray.shutdown()

    @contextmanager
    def client(self) -> Iterator[Client]:
        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
        try:
            yield Rays()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    run(TheRay())
