"""Waits for results in an asyncio event loop, without a thread of its own and without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

pause = asyncio.sleep


class Settleable(Protocol):
    """What can be waited for."""

    def add_done_callback(self, callback: Callable[[], None]) -> None: ...

    def remove_done_callback(self, callback: Callable[[], None]) -> None: ...


class Patience(Protocol):
    """How long to wait in one go, and when there is no hope."""

    def patience(self, deadline: float | None) -> float: ...

    def raise_if_hopeless(self) -> None: ...


async def wait_settled(handle: Settleable, connection: Patience) -> None:
    """Wait until ``handle`` is settled; raises as ``Routers.raise_if_hopeless`` does."""
    loop = asyncio.get_running_loop()
    settled = loop.create_future()

    def set_settled() -> None:
        if not settled.done():  # the waiting task may have been cancelled
            settled.set_result(None)

    def on_settled() -> None:
        try:
            loop.call_soon_threadsafe(set_settled)
        except RuntimeError:
            return  # the loop was closed: nobody waits any more

    handle.add_done_callback(on_settled)
    try:
        while not settled.done():
            patience = connection.patience(None)
            if patience < 0:
                await settled
            else:
                await asyncio.wait([settled], timeout=patience)
                if not settled.done():
                    connection.raise_if_hopeless()
    finally:
        handle.remove_done_callback(on_settled)
