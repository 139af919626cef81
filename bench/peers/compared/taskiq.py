"""Taskiq with streams of Redis as its broker."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers.compared import work
from bench.peers.compared.adapter import AT_ONCE, PATIENCE_S, Adapter, AsyncClient, Client, Workers, redis_url
from bench.peers.compared.command import run, running

POLL_S = 0.001
CONNECTIONS = 2 * AT_ONCE

broker = RedisStreamBroker(url=redis_url(0), consumer_id="0", max_connection_pool_size=CONNECTIONS).with_result_backend(
    RedisAsyncResultBackend(redis_url=redis_url(1), max_connection_pool_size=CONNECTIONS)
)


async def nothing() -> None:
    """Do nothing, on the worker's event loop, as its users write short functions."""


async def echo(data: str) -> str:
    """Give back what came."""
    return data


functions = {f.__name__: broker.task(task_name=f.__name__)(f) for f in (nothing, echo, work.hold)}


class Taskiqs(AsyncClient):
    async def send(self, name: str, *arguments: Any) -> Any:
        return await functions[name].kiq(*arguments)

    async def wait(self, handle: Any) -> Any:
        found = await handle.wait_result(check_interval=POLL_S, timeout=PATIENCE_S)
        found.raise_for_error()
        return found.return_value

    def echo(self, data: bytes) -> bytes:
        return b64decode(self.result(self.submit("echo", b64encode(data).decode())))


class TheTaskiq(Adapter):
    packages = ("taskiq", "taskiq-redis", "redis")
    settings: ClassVar = {
        "broker": "RedisStreamBroker, as its readme shows; tasks are acknowledged when their results are saved",
        "functions": "async, those of the mixed load in its thread pool",
        "result": f"wait_result(check_interval={POLL_S}) instead of 0.2 s",
        "echo": "as base64, since arguments are text or numbers, with any serializer",
        "in bulk": f"asyncio.gather() of kiq(), {AT_ONCE} at once, then wait_result() of each",
        "accepted tasks": "in Redis",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        options = ["--workers", str(count), "--log-level", "WARNING"]
        with running(["taskiq", "worker", "bench.peers.compared.taskiq:broker", *options]) as processes:
            yield Workers({}, processes)

    @contextmanager
    def client(self) -> Iterator[Client]:
        with asyncio.Runner() as runner:
            runner.run(broker.startup())
            yield Taskiqs(runner.get_loop())
            runner.run(broker.shutdown())


if __name__ == "__main__":
    run(TheTaskiq())
