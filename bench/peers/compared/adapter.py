"""What an entrant must say of itself to be compared. Standard library only, as all that peers' own pythons run.

Its module in this package defines an ``Adapter`` and a ``Client``, and ends with ``run(...)`` of ``command.py``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, NamedTuple

PATIENCE_S = 120
AT_ONCE = 50
"""Submits under way at a time where an asynchronous client submits many."""


class Client(ABC):
    """Submits tasks and takes results. ``bulk`` is there where the entrant has a way of its own for many."""

    bulk: Callable[[int], None] | None = None

    @abstractmethod
    def submit(self, name: str, *arguments: Any) -> Any:
        """A handle of a task that runs the function of ``work.py`` with this name."""

    @abstractmethod
    def result(self, handle: Any) -> Any:
        """What it returned; waits for it."""

    def one_by_one(self, count: int) -> None:
        """Submit no-ops one after the other, then take every result."""
        for handle in [self.submit("nothing") for _ in range(count)]:
            self.result(handle)

    def round_trip(self) -> None:
        """One no-op there and back."""
        self.result(self.submit("nothing"))

    def echo(self, data: bytes) -> bytes:
        """Bytes there and back."""
        returned: bytes = self.result(self.submit("echo", data))
        return returned

    def mixed(self, durations: list[float]) -> None:
        """Submit a task of each duration, then take every result."""
        for handle in [self.submit("hold", seconds) for seconds in durations]:
            self.result(handle)


class AsyncClient(Client):
    """The same for a peer whose client is asynchronous: submits are awaited one by one, as its users write it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    @abstractmethod
    async def send(self, name: str, *arguments: Any) -> Any:
        """As ``submit``."""

    @abstractmethod
    async def wait(self, handle: Any) -> Any:
        """As ``result``."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end."""
        return self.loop.run_until_complete(coroutine)

    def submit(self, name: str, *arguments: Any) -> Any:
        return self.run(self.send(name, *arguments))

    def result(self, handle: Any) -> Any:
        return self.run(self.wait(handle))

    def one_by_one(self, count: int) -> None:
        async def all_of_them() -> None:
            for handle in [await self.send("nothing") for _ in range(count)]:
                await self.wait(handle)

        self.run(all_of_them())

    def bulk(self, count: int) -> None:
        """Submit in ``asyncio.gather()``, ``AT_ONCE`` under way at a time, then take every result."""

        async def all_of_them() -> None:
            room = asyncio.Semaphore(AT_ONCE)

            async def send() -> Any:
                async with room:
                    return await self.send("nothing")

            for handle in await asyncio.gather(*(send() for _ in range(count))):
                await self.wait(handle)

        self.run(all_of_them())


class Workers(NamedTuple):
    """``environ`` is added to that of clients; once one of ``processes`` has ended, there is nothing to measure."""

    environ: dict[str, str]
    processes: list[subprocess.Popen[bytes]]


class Adapter(ABC):
    """``packages``: whose versions are stated; ``settings``: what was chosen, and what it is for, as it is stated."""

    packages: tuple[str, ...] = ()
    settings: ClassVar[dict[str, object]] = {}

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        """Have workers running, ready or about to be. None, if clients start them."""
        yield Workers({}, [])

    @abstractmethod
    def client(self) -> AbstractContextManager[Client]:
        """A client, ready to submit."""


def worker_count() -> int:
    """How many worker processes everybody has."""
    return int(os.environ.get("BENCH_WORKERS", "2"))


def redis_url(database: int = 0) -> str:
    """The Redis server that the bench has started."""
    return f"{os.environ.get('BENCH_REDIS', 'redis://127.0.0.1:1')}/{database}"
