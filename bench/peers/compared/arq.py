"""arq: asyncio and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from bench.peers.compared import work
from bench.peers.compared.adapter import AT_ONCE, PATIENCE_S, Adapter, AsyncClient, Client, Workers, redis_url
from bench.peers.compared.command import run, running

HERE = "bench.peers.compared.arq"
POLL_S = 0.001
LOGGING = {"version": 1, "disable_existing_loggers": False}  # else it logs two lines for each job


async def nothing(context: dict[str, Any]) -> None:
    """Do nothing, on the worker's event loop: it has no other way."""


async def echo(context: dict[str, Any], data: bytes) -> bytes:
    """Give back what came."""
    return data


async def hold(context: dict[str, Any], seconds: float) -> None:
    """Hold the process in a thread, as its documentation says of functions that block."""
    await asyncio.to_thread(work.hold, seconds)


class WorkerSettings:
    """What ``arq`` reads."""

    functions: ClassVar = [nothing, echo, hold]
    redis_settings = RedisSettings.from_dsn(redis_url())
    poll_delay = POLL_S
    max_jobs = 10


class Arqs(AsyncClient):
    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        super().__init__(loop)
        self._pool = pool

    async def send(self, name: str, *arguments: Any) -> Any:
        return await self._pool.enqueue_job(name, *arguments)

    async def wait(self, handle: Any) -> Any:
        return await handle.result(timeout=PATIENCE_S, poll_delay=POLL_S)


class TheArq(Adapter):
    packages = ("arq", "redis", "hiredis")
    settings: ClassVar = {
        "workers": "one process each, max_jobs=10 (its default)",
        "polling": f"poll_delay={POLL_S} for workers and results instead of 0.5 s",
        "in bulk": f"asyncio.gather() of enqueue_job(), {AT_ONCE} at once, then result() of each",
        "accepted tasks": "in Redis, taken out when done",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        with running(*[["arq", f"{HERE}.WorkerSettings", "--custom-log-dict", f"{HERE}.LOGGING"]] * count) as processes:
            yield Workers({}, processes)

    @contextmanager
    def client(self) -> Iterator[Client]:
        with asyncio.Runner() as runner:
            pool = runner.run(create_pool(RedisSettings.from_dsn(redis_url())))
            yield Arqs(runner.get_loop(), pool)
            runner.run(pool.aclose())


if __name__ == "__main__":
    run(TheArq())
