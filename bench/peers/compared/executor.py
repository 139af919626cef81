"""``concurrent.futures.ProcessPoolExecutor``, of the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, worker_count
from bench.peers.compared.command import run

CHUNKSIZE = 64


class Executors(Client):
    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, name: str, *arguments: Any) -> Any:
        return self._pool.submit(getattr(work, name), *arguments)

    def result(self, handle: Any) -> Any:
        return handle.result(PATIENCE_S)

    def bulk(self, count: int) -> None:
        assert sum(1 for _ in self._pool.map(work.nothing, range(count), chunksize=CHUNKSIZE)) == count


class TheExecutor(Adapter):
    settings: ClassVar = {
        "workers": "processes of the client, over pipes: no network, no other machine",
        "in bulk": f"map(chunksize={CHUNKSIZE})",
        "accepted tasks": "in the client's memory",
    }

    @contextmanager
    def client(self) -> Iterator[Client]:
        with ProcessPoolExecutor(worker_count()) as pool:
            yield Executors(pool)


if __name__ == "__main__":
    run(TheExecutor())
