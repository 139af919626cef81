"""Dask distributed: a local cluster of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from distributed import Client as DaskClient
from distributed import LocalCluster

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers
from bench.peers.compared.command import run


class Dasks(Client):
    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, name: str, *arguments: Any) -> Any:
        return self._client.submit(getattr(work, name), *arguments, pure=False)

    def result(self, handle: Any) -> Any:
        return handle.result(timeout=PATIENCE_S)

    def one_by_one(self, count: int) -> None:
        self._client.gather([self.submit("nothing") for _ in range(count)])

    def bulk(self, count: int) -> None:
        self._client.gather(self._client.map(work.nothing, range(count), pure=False))


class TheDask(Adapter):
    packages = ("distributed", "dask")
    settings: ClassVar = {
        "workers": "LocalCluster(processes=True, threads_per_worker=1), no dashboard",
        "calls": "submit(pure=False), so that equal calls are not one",
        "in bulk": "map(), then gather()",
        "accepted tasks": "in the scheduler's memory",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        with LocalCluster(
            n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster:
            yield Workers({"BENCH_ADDRESS": cluster.scheduler_address}, [])

    @contextmanager
    def client(self) -> Iterator[Client]:
        with DaskClient(os.environ["BENCH_ADDRESS"]) as client:
            yield Dasks(client)


if __name__ == "__main__":
    run(TheDask())
