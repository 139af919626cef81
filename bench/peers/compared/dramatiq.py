"""Dramatiq with Redis as broker and result backend; ``BENCH_VARIANT=single`` is one thread to a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.encoder import PickleEncoder
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers, redis_url
from bench.peers.compared.command import run, running

THREADS = 1 if os.environ.get("BENCH_VARIANT") == "single" else 8

dramatiq.set_encoder(PickleEncoder())
broker = RedisBroker(url=redis_url(0))
broker.add_middleware(Results(backend=RedisBackend(url=redis_url(1), encoder=PickleEncoder()), store_results=True))
dramatiq.set_broker(broker)
actors = {f.__name__: dramatiq.actor(f, actor_name=f.__name__) for f in (work.nothing, work.echo, work.hold)}


class Dramatiqs(Client):
    def submit(self, name: str, *arguments: Any) -> Any:
        return actors[name].send(*arguments)

    def result(self, handle: Any) -> Any:
        return handle.get_result(block=True, timeout=PATIENCE_S * 1000)

    def bulk(self, count: int) -> None:
        many = dramatiq.group([actors["nothing"].message() for _ in range(count)]).run()
        assert sum(1 for _ in many.get_results(block=True, timeout=PATIENCE_S * 1000)) == count


class TheDramatiq(Adapter):
    packages = ("dramatiq", "redis")
    settings: ClassVar = {
        "workers": f"one process each, {THREADS} {'thread' if THREADS == 1 else 'threads (its default)'} in each",
        "serializer": "pickle, since its JSON takes no bytes",
        "in bulk": "group().run().get_results(block=True)",
        "accepted tasks": "in Redis, acknowledged when done",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        options = ["--processes", str(count), "--threads", str(THREADS), "--worker-shutdown-timeout", "5000"]
        with running(["dramatiq", "bench.peers.compared.dramatiq", *options]) as processes:
            yield Workers({}, processes)

    @contextmanager
    def client(self) -> Iterator[Client]:
        yield Dramatiqs()


if __name__ == "__main__":
    run(TheDramatiq())
