"""RQ; ``BENCH_VARIANT=fork`` is its default worker, which forks for each job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from redis import Redis
from rq import Queue

from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers, redis_url
from bench.peers.compared.command import run, running

FORK = os.environ.get("BENCH_VARIANT") == "fork"
WORK = "bench.peers.compared.work"


class RQs(Client):
    def __init__(self) -> None:
        self._queue = Queue(connection=Redis.from_url(redis_url()))

    def submit(self, name: str, *arguments: Any) -> Any:
        return self._queue.enqueue(f"{WORK}.{name}", *arguments)

    def result(self, handle: Any) -> Any:
        found = handle.latest_result(timeout=PATIENCE_S)
        assert found is not None and found.type.name == "SUCCESSFUL", f"{handle.id}: {found}"
        return found.return_value

    def bulk(self, count: int) -> None:
        jobs = [Queue.prepare_data(f"{WORK}.nothing") for _ in range(count)]
        for job in self._queue.enqueue_many(jobs):
            self.result(job)


class TheRQ(Adapter):
    packages = ("rq", "redis")
    settings: ClassVar = {
        "workers": "Worker, its default, which forks for each job"
        if FORK
        else "SimpleWorker, as its notes on performance say for jobs of a few ms",
        "pool": "rq worker-pool, logging warnings only",
        "result": "latest_result(timeout), which blocks on a stream of Redis",
        "in bulk": "enqueue_many()",
        "accepted tasks": "in Redis",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        kind = "rq.worker.Worker" if FORK else "rq.worker.SimpleWorker"
        command = ["rq", "worker-pool", "-n", str(count), "-w", kind, "-u", redis_url(), "-l", "WARNING", "default"]
        with running(command) as processes:
            yield Workers({}, processes)

    @contextmanager
    def client(self) -> Iterator[Client]:
        yield RQs()


if __name__ == "__main__":
    run(TheRQ())
