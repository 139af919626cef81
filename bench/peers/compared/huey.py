"""Huey with Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from huey import RedisHuey

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers, redis_url
from bench.peers.compared.command import run, running

huey = RedisHuey("compared", url=redis_url(), notify_result=True, store_none=True)
functions = {f.__name__: huey.task(name=f.__name__)(f) for f in (work.nothing, work.echo, work.hold)}


class Hueys(Client):
    def submit(self, name: str, *arguments: Any) -> Any:
        return functions[name](*arguments)

    def result(self, handle: Any) -> Any:
        return handle.get(blocking=True, timeout=PATIENCE_S)

    def bulk(self, count: int) -> None:
        functions["nothing"].map(range(count)).get(blocking=True, timeout=PATIENCE_S)


class TheHuey(Adapter):
    packages = ("huey", "redis")
    settings: ClassVar = {
        "workers": "huey_consumer -k process, logging warnings only",
        "result": "notify_result=True, so that get() blocks on Redis instead of polling; store_none=True",
        "in bulk": "map().get()",
        "accepted tasks": "in Redis; taken out when a worker gets them",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        options = ["-k", "process", "-w", str(count), "-q"]
        with running(["huey_consumer", "bench.peers.compared.huey.huey", *options]) as processes:
            yield Workers({}, processes)

    @contextmanager
    def client(self) -> Iterator[Client]:
        yield Hueys()


if __name__ == "__main__":
    run(TheHuey())
