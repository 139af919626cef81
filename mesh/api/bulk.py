"""Many tasks at once: an ordered, lazy map; results as they come; all results.

``map_ordered`` packs elements into bundles, each one mapped task. Bundles grow by their measured run time until they
are worth their overhead, and no further than ``BUNDLE_BYTES``; an element that is large or takes long travels alone.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from mesh.api.options import a_kind, checked_function, checked_timeout
from mesh.api.result import AsyncResult, timed_out
from mesh.api.shipping import function_name
from mesh.api.task import Task
from mesh.errors import ConfigError, Unavailable
from mesh.model import ErrorInfo, FunctionCode, TaskOptions, TaskSpec, payload_size
from mesh.wire.exceptions import rebuild_exception

if TYPE_CHECKING:
    from mesh.api.app import Mesh

R = TypeVar("R")
T = TypeVar("T")

WINDOW = 256  # bundles under way at a time
BUNDLE_S = 0.020  # work a bundle should hold
BUNDLE_MAX = 1_000  # elements in one bundle
BUNDLE_BYTES = 1 << 20  # of encoded arguments in one bundle
GROWTH = 4  # at most, from one measurement to the next


class BundleSize:
    """How many elements to put into the next bundle: towards ``BUNDLE_S`` of work."""

    def __init__(self, fixed: int | None) -> None:
        if fixed is not None and fixed < 1:
            raise ConfigError(f"chunksize={fixed}: expected 1 or more")
        self._fixed = fixed
        self._most = BUNDLE_MAX
        self.size = fixed or 1

    def weigh(self, elements: int, size_bytes: int) -> None:
        """A bundle of so many elements has so many bytes."""
        if self._fixed is None:
            self._most = max(1, min(BUNDLE_MAX, elements * BUNDLE_BYTES // max(1, size_bytes)))
            self.size = min(self.size, self._most)

    def learn(self, elements: int, seconds: float) -> None:
        """A bundle of so many elements kept its worker busy for so long."""
        if self._fixed is not None or elements < self.size:
            return
        wanted = BUNDLE_S / max(seconds / elements, 1e-9)
        self.size = max(1, min(self._most, int(wanted), self.size * GROWTH))


class _Caller:
    """What one map calls, and with which options."""

    def __init__(self, app: Mesh, function: Callable[..., Any]) -> None:
        self._app = app
        self._options, self._code = _described(app, function)

    def submit(self, elements: list[tuple[Any, ...]]) -> tuple[AsyncResult[list[tuple[str, Any]]], int]:
        """Submit a bundle; its result, and how many bytes it has."""
        task_id = self._app.new_id()
        encoded = self._app.encode(task_id, (elements,), {})
        payload = encoded.payload
        size_bytes = payload_size(payload)
        return self._app.send_encoded(
            self._options, TaskSpec(task_id, 0, payload), encoded.parts, self._code
        ), size_bytes


def _described(app: Mesh, function: Callable[..., Any]) -> tuple[TaskOptions, FunctionCode | None]:
    """The options of the bundles, and the function's code where it travels."""
    if isinstance(function, Task):
        return replace(function.base_options(), mapped=True, ignore_result=False), function.code
    code = app.pack(function)
    return replace(app.shipped_options(function_name(function), code), mapped=True), code


def map_ordered(
    app: Mesh,
    function: Callable[..., R],
    iterables: tuple[Iterable[Any], ...],
    *,
    chunksize: int | None,
    window: int,
    timeout: float | None,
    return_exceptions: bool,
) -> Iterator[R]:
    """Yield ``function(*elements)`` for the elements of the iterables, in order.

    Elements are taken from the iterables as they are needed: at most ``window`` bundles of them are under way. An
    element has no retries of its own. The first error is raised in its place, and what is under way is cancelled,
    unless ``return_exceptions``. Raises ``TimeoutError`` when a result is not there ``timeout`` seconds after the
    call, and ``Unavailable`` or ``NoKey`` in an outage, also with ``return_exceptions``.
    """
    if window < 1:
        raise ConfigError(f"window={window}: expected 1 or more")
    checked_function("map", function)
    if not iterables:
        raise ConfigError("map needs at least one iterable")
    size = BundleSize(chunksize)
    checked_timeout(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    elements = zip(*iterables)
    if app.conf.task_always_eager:
        return _map_here(function, elements, return_exceptions)
    return _map_there(app, _Caller(app, function), elements, size, window, deadline, return_exceptions)


def _map_here(
    function: Callable[..., Any], elements: Iterable[tuple[Any, ...]], return_exceptions: bool
) -> Iterator[Any]:
    for element in elements:
        try:
            yield function(*element)
        except Exception as error:
            if not return_exceptions:
                raise
            yield error


def _map_there(
    app: Mesh,
    caller: _Caller,
    elements: Iterator[tuple[Any, ...]],
    size: BundleSize,
    window: int,
    deadline: float | None,
    return_exceptions: bool,
) -> Iterator[Any]:
    under_way: deque[tuple[AsyncResult[list[tuple[str, Any]]], int]] = deque()
    try:
        while True:
            while len(under_way) < window and (bundle := list(islice(elements, size.size))):
                result, size_bytes = caller.submit(bundle)
                size.weigh(len(bundle), size_bytes)
                under_way.append((result, len(bundle)))
            if not under_way:
                return
            result, count = under_way[0]
            values = _values_of(result, count, deadline, return_exceptions)
            under_way.popleft()
            size.learn(count, result.runtime_s or 0.0)
            for kind, value in values:
                if kind == "ok":
                    yield value
                    continue
                error = value if isinstance(value, BaseException) else rebuild_exception(ErrorInfo(*value))
                if not return_exceptions:
                    raise error
                yield error
    finally:
        if under_way:
            app.control.revoke([result.id for result, _ in under_way])


def _values_of(
    result: AsyncResult[list[tuple[str, Any]]], count: int, deadline: float | None, return_exceptions: bool
) -> list[tuple[str, Any]]:
    """What a bundle gave; an error of the bundle as a whole is the error of each element."""
    left = None if deadline is None else deadline - time.monotonic()
    try:
        return result.get(timeout=left)
    except (Unavailable, ConfigError):  # an outage, or no time left: that is nothing the elements did
        raise
    except Exception as error:
        if not return_exceptions:
            raise
        return [("error", error)] * count


def as_completed(results: Iterable[AsyncResult[T]], timeout: float | None) -> Iterator[AsyncResult[T]]:
    """Yield each result once, as its task finishes. Raises ``TimeoutError`` after ``timeout`` seconds in all."""
    waiting = [_checked_result("as_completed", result) for result in results]
    checked_timeout(timeout)
    finished: queue.SimpleQueue[AsyncResult[T]] = queue.SimpleQueue()
    deadline = None if timeout is None else time.monotonic() + timeout
    with ExitStack() as on_leaving:
        for result in waiting:
            on_leaving.callback(result.on_settled(finished.put))
        for done in range(len(waiting)):
            yield _next_finished(finished, waiting, deadline, len(waiting) - done)


def _next_finished(
    finished: queue.SimpleQueue[AsyncResult[T]], waiting: list[AsyncResult[T]], deadline: float | None, left: int
) -> AsyncResult[T]:
    one = waiting[0]
    while True:
        patience = one.patience(deadline)
        try:
            return finished.get(timeout=None if patience < 0 else patience)
        except queue.Empty:
            if deadline is not None and time.monotonic() >= deadline:
                late = next((result for result in waiting if not result.is_settled()), one)
                why = late.story()
                reason = f", such as that of task {late.id}: {why}" if why else f"; {late.situation()}"
                raise timed_out(f"{left} results are not there in time{reason}", why) from None
            one.raise_if_hopeless()


def gather(
    results: Iterable[AsyncResult[T] | Iterable[AsyncResult[T]]], timeout: float | None, return_exceptions: bool
) -> list[T]:
    """The values of the results, in order; see ``Mesh.gather``."""
    checked_timeout(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    flat: list[AsyncResult[T]] = []
    for item in results:
        flat += [_checked_result("gather", one) for one in _each(item)]
    return [
        result.get(None if deadline is None else max(0.0, deadline - time.monotonic()), propagate=not return_exceptions)
        for result in flat
    ]


def _each(item: object) -> Iterable[object]:
    return item if isinstance(item, Iterable) else [item]


def _checked_result(verb: str, result: object) -> AsyncResult[Any]:
    """The result. Raises ``TypeError`` for what is none, such as the value of a call that was made here."""
    if not isinstance(result, AsyncResult):
        raise TypeError(f"{verb} takes results of tasks, got {a_kind(result)}: write f.delay(x), not f(x)")
    return result
