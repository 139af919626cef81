"""IPython Parallel: a local cluster of engines, through a load-balanced view."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import ipyparallel

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers
from bench.peers.compared.command import run

CHUNKSIZE = 64


class Views(Client):
    def __init__(self, view: Any) -> None:
        self._view = view

    def submit(self, name: str, *arguments: Any) -> Any:
        return self._view.apply_async(getattr(work, name), *arguments)

    def result(self, handle: Any) -> Any:
        return handle.get(timeout=PATIENCE_S)

    def bulk(self, count: int) -> None:
        many = self._view.map_async(work.nothing, range(count), chunksize=CHUNKSIZE)
        assert len(many.get(timeout=PATIENCE_S)) == count


class TheIpyparallel(Adapter):
    packages = ("ipyparallel", "pyzmq")
    settings: ClassVar = {
        "workers": "Cluster(n=workers), one engine each, controller on 127.0.0.1",
        "view": "load_balanced_view()",
        "in bulk": f"map_async(chunksize={CHUNKSIZE})",
        "accepted tasks": "in the memory of the controller",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        place = Path(os.environ.get("BENCH_DIRECTORY", ".")) / "ipython"
        os.environ["IPYTHONDIR"] = str(place)
        cluster = ipyparallel.Cluster(n=count, controller_ip="127.0.0.1", log_level=40)
        with cluster as client:
            client.wait_for_engines(count, timeout=PATIENCE_S)
            yield Workers({"BENCH_CLUSTER": str(cluster.cluster_file), "IPYTHONDIR": str(place)}, [])

    @contextmanager
    def client(self) -> Iterator[Client]:
        cluster = ipyparallel.Cluster.from_file(os.environ["BENCH_CLUSTER"])
        client = cluster.connect_client_sync()
        try:
            yield Views(client.load_balanced_view())
        finally:
            client.close()


if __name__ == "__main__":
    run(TheIpyparallel())
