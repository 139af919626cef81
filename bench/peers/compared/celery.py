"""Celery with Redis as broker and result backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from celery import Celery, group

from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers, redis_url
from bench.peers.compared.command import run, running

PREFETCH = 64
AS_ROOT = {"C_FORCE_ROOT": "1"}
"""Else it refuses pickle where root runs the bench; its tasks come over loopback, from the bench alone."""

app = Celery("compared", broker=redis_url(0), backend=redis_url(1))
app.conf.update(
    worker_prefetch_multiplier=PREFETCH,
    worker_send_task_events=False,
    worker_disable_rate_limits=True,
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
)
functions = {f.__name__: app.task(f, name=f.__name__) for f in (work.nothing, work.echo, work.hold)}


class Celerys(Client):
    def submit(self, name: str, *arguments: Any) -> Any:
        return functions[name].delay(*arguments)

    def result(self, handle: Any) -> Any:
        return handle.get(timeout=PATIENCE_S)

    def bulk(self, count: int) -> None:
        nothing = functions["nothing"]
        group(nothing.s() for _ in range(count)).apply_async().get(timeout=PATIENCE_S)


class TheCelery(Adapter):
    packages = ("celery", "kombu", "redis")
    settings: ClassVar = {
        "pool": "prefork, one node, -c as many as there are workers",
        "worker_prefetch_multiplier": f"{PREFETCH}, as its guide to optimizing says for many short tasks",
        "off": "gossip, mingle, heartbeat, events, rate limits",
        "serializer": "pickle, so that the echo need not be base64 in JSON",
        "acks_late": "no (its default): a task of a killed worker is lost",
        "in bulk": "group().apply_async().get()",
        "accepted tasks": "in Redis",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
        with running(
            ["celery", "-A", "bench.peers.compared.celery", "worker", "-c", str(count), *quiet], environ=AS_ROOT
        ) as processes:
            yield Workers({}, processes)

    @contextmanager
    def client(self) -> Iterator[Client]:
        yield Celerys()


if __name__ == "__main__":
    run(TheCelery())
