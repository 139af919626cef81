"""A wait that ends before its task leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from contextlib import suppress

import pytest

from mesh import AsyncResult, Mesh, TimeoutError
from mesh.runtime.promises import Promise
from tests.api.scripted_router import ScriptedRouter

TIMES = 3


@pytest.fixture
def app():
    app = Mesh("waits", exit_flush_s=0.05)
    ScriptedRouter().join(app)  # it says nothing of tasks that are watched
    with app:
        yield app


def get(app: Mesh, result: AsyncResult[object]) -> None:
    result.get(timeout=0.001)


def take_those_that_come(app: Mesh, result: AsyncResult[object]) -> None:
    list(app.as_completed([result, result], timeout=0.001))


def leave_those_that_come(app: Mesh, result: AsyncResult[object]) -> None:
    done = AsyncResult[object]("done", app, Promise("done", TimeoutError("an end")))
    coming = app.as_completed([result, done])
    assert next(coming) is done
    coming.close()


def be_cancelled(app: Mesh, result: AsyncResult[object]) -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(_value(result))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert waiting.cancelled()

    asyncio.run(main())


def run_out_of_time(app: Mesh, result: AsyncResult[object]) -> None:
    async def main() -> None:
        await asyncio.wait_for(_value(result), 0.001)

    asyncio.run(main())


async def _value(result: AsyncResult[object]) -> object:
    return await result


@pytest.mark.parametrize("wait", [get, take_those_that_come, leave_those_that_come, be_cancelled, run_out_of_time])
def test_a_wait_that_ends_early_leaves_no_callback(app: Mesh, wait: Callable[[Mesh, AsyncResult[object]], None]):
    promise = Promise("of another process")
    result = AsyncResult[object](promise.id, app, promise)
    for _ in range(TIMES):
        with suppress(builtins.TimeoutError):
            wait(app, result)
    assert not promise.callbacks
