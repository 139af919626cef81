"""Parsl with its high-throughput executor, whose workers belong to the client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, worker_count
from bench.peers.compared.command import run

functions = {f.__name__: python_app(f) for f in (work.nothing, work.echo, work.hold)}


class Parsls(Client):
    def submit(self, name: str, *arguments: Any) -> Any:
        return functions[name](*arguments)

    def result(self, handle: Any) -> Any:
        return handle.result(PATIENCE_S)


class TheParsl(Adapter):
    packages = ("parsl", "pyzmq")
    settings: ClassVar = {
        "workers": "HighThroughputExecutor(max_workers_per_node=workers), one block, LocalProvider",
        "encryption": "none, as everybody's: all is on one machine",
        "off": "usage tracking, strategy, checkpoints, retries",
        "in bulk": "it has no way of its own",
        "accepted tasks": "in the client's memory",
    }

    @contextmanager
    def client(self) -> Iterator[Client]:
        executor = HighThroughputExecutor(
            label="compared",
            address="127.0.0.1",
            max_workers_per_node=worker_count(),
            cores_per_worker=1 / worker_count(),  # else there are no more than processors
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        place = os.path.join(os.environ.get("BENCH_DIRECTORY", "."), "parsl")
        with parsl.load(Config(executors=[executor], run_dir=place, strategy="none", initialize_logging=False)):
            yield Parsls()


if __name__ == "__main__":
    run(TheParsl())
