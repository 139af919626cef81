"""Runs one task: find its function, decode, call, encode, say how it ended.

Rule: nothing a task does, raises or returns gets out of ``Runner.run``; everything becomes a settlement. It has the
``except BaseException`` round the user's code: the function, and what pickling its arguments and result may run. What
was raised is the user's code too: it is asked through ``mesh.wire.asking``, and never tested with ``isinstance``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import count
from time import monotonic, perf_counter, time
from types import CoroutineType
from typing import Any, cast

import msgspec

from mesh.errors import ConfigError, MeshError, NotRegistered, Retry
from mesh.model import (
    INSTANT_MAX,
    Blob,
    Buffer,
    Delivery,
    Ending,
    FunctionCode,
    Payload,
    Retrying,
    Settlement,
    TaskExtra,
    TaskOptions,
)
from mesh.runtime.depot import Buffers
from mesh.runtime.failure import describe
from mesh.runtime.failure_log import FailureLog
from mesh.runtime.map_task import MapTask, replace_unsendable
from mesh.runtime.registry import TaskFunction
from mesh.runtime.request import Request, current_request
from mesh.wire.asking import ask, message_of
from mesh.wire.functions import unpack_function
from mesh.wire.payload import decode_call, encode, encode_call

NO_EXTRA = TaskExtra()
NO_PARTS: Sequence[Buffer] = ()

# what was being done for the task when it failed, as its error says it
READING = "this task cannot be read"
RUNNING = ""
SENDING = "its result cannot be sent"
RETRYING = "it cannot be tried again as it asks"

log = logging.getLogger("mesh.task")

Ended = tuple[Settlement, Sequence[Buffer]]
"""How an attempt ended, and the buffers of its payload."""


class Runner:
    """Knows the task functions of one executor and runs deliveries with them."""

    def __init__(
        self,
        functions: Mapping[str, TaskFunction],
        *,
        worker_name: str,
        inline_bytes_max: int,
        payload_bytes_max: int,
    ) -> None:
        self._functions: dict[str, TaskFunction] = dict(functions)
        self._codes: dict[str, tuple[FunctionCode, Sequence[Buffer]]] = {}
        self._shipped: dict[str, TaskFunction] = {}
        self._worker_name = worker_name
        self._inline_bytes_max = inline_bytes_max
        self._payload_bytes_max = payload_bytes_max
        self._token = os.urandom(8).hex()
        self._next_key = count(1).__next__
        self._failures = FailureLog(log)

    @property
    def names(self) -> list[str]:
        """The task functions of the user's modules."""
        return sorted(self._functions)

    def add_function(self, code: FunctionCode, parts: Sequence[Buffer]) -> None:
        """Keep a shipped function; it is unpacked when it is first called, so that an error is that task's."""
        self._codes[code.digest] = (code, parts)

    def find(self, name: str, digest: str | None) -> TaskFunction:
        """The function of this name, else the shipped one. Raises ``NotRegistered`` and what unpacking raises."""
        function = self._functions.get(name)
        if function is None and digest is not None:
            function = self._shipped.get(digest) or self._unpack(name, digest)
        if function is None:
            raise NotRegistered(
                f"worker {self._worker_name!r} has no task function {name!r}; start it with -A and the module that "
                f"defines it (it knows: {', '.join(self.names[:20]) or 'none'})"
            )
        return function

    def run(self, delivery: Delivery, options: TaskOptions, buffers: Buffers = ()) -> Ended:
        """Run one attempt; ``buffers`` are those of its arguments, the parts returned are its result's."""
        started_at = time()
        began = perf_counter()
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        value: Any = None
        doing = READING
        try:
            function = self.find(options.name, options.function)
            if options.mapped:
                function = MapTask(function)
            if isinstance(buffers, MeshError):
                raise buffers
            args, kwargs = decode_call(delivery.payload, buffers)
            request = self._request(delivery, options, args, kwargs)
            current_request.set(request)
            doing = RUNNING
            value = function.execute(request, args, kwargs)
            if type(value) is CoroutineType:
                value = _run_coroutine(value)
            if options.ignore_result:
                payload: Payload = b""
                parts = NO_PARTS
            else:
                doing = SENDING
                payload, parts = self._encode(value, delivery)
        except BaseException as error:
            settlement, parts, why = self._raised(delivery, error, options, value, args, kwargs, doing)
        else:
            runtime_s = perf_counter() - began
            current_request.set(None)
            return Settlement(delivery.id, delivery.attempt, Ending.SUCCEEDED, payload, started_at, runtime_s), parts
        runtime_s = perf_counter() - began
        current_request.set(None)
        # Not where the exception is handled: a handler of the log that fails would show it as the context of its error.
        self._log_ending(options, settlement, why)
        return msgspec.structs.replace(settlement, started_at=started_at, runtime_s=runtime_s), parts

    def _raised(
        self,
        delivery: Delivery,
        error: BaseException,
        options: TaskOptions,
        value: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        doing: str,
    ) -> tuple[Settlement, Sequence[Buffer], str]:
        """What becomes of an attempt that raised, and why."""

        def failed(error: BaseException, doing: str) -> Ended:
            info = describe(error, args, kwargs, doing and f"worker {self._worker_name!r}: {doing}")
            return Settlement(delivery.id, delivery.attempt, Ending.FAILED, error=info), ()

        if doing is RUNNING and issubclass(type(error), Retry):
            retry = cast(Retry, error)
            ended = ask(lambda: self._retried(delivery, retry, args, kwargs), lambda wrong: failed(wrong, RETRYING))
            return *ended, message_of(error)
        if doing is SENDING and options.mapped:  # either one element cannot be sent, or all together are too large
            ended = ask(lambda: self._without_unsendable(delivery, value), lambda wrong: failed(wrong, SENDING))
        else:
            ended = failed(error, doing)
        return *ended, ""

    def _log_ending(self, options: TaskOptions, settlement: Settlement, why: str) -> None:
        if settlement.retry is not None:
            wait_s = settlement.retry.eta - time()
            log.info("%s[%s] asks to be tried again in %.1f s: %s", options.name, settlement.id, wait_s, why)
        elif settlement.error is not None:
            self._failures.add(options.name, settlement.id, settlement.error, monotonic())

    def _unpack(self, name: str, digest: str) -> TaskFunction | None:
        found = self._codes.get(digest)
        if found is None:
            return None
        unpacked = unpack_function(*found)
        del self._codes[digest]  # not before: what cannot be unpacked says so each time
        function = unpacked if isinstance(unpacked, TaskFunction) else _Shipped(name, unpacked)
        self._shipped[digest] = function
        return function

    def _key(self, delivery: Delivery) -> str:
        """A name for a large payload. Attempts are counted anew by a router that starts anew: they name nothing."""
        return f"{delivery.id[:200]}/{self._token}.{self._next_key()}"

    def _encode(self, value: Any, delivery: Delivery) -> tuple[Payload, Sequence[Buffer]]:
        payload, parts = encode(
            value, key=delivery.id, inline_max=self._inline_bytes_max, total_max=self._payload_bytes_max
        )
        if type(payload) is Blob:  # made here, for few results need one
            payload = msgspec.structs.replace(payload, key=self._key(delivery))
        return payload, parts

    def _request(
        self, delivery: Delivery, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Request:
        extra = delivery.extra or NO_EXTRA
        return Request(
            delivery.id,
            options.name,
            args,
            kwargs,
            delivery.retries,
            delivery.attempt,
            self._worker_name,
            options.queue,
            options.priority,
            delivery.expires_at,
            options.time_limit_s,
            extra.headers,
            extra.parent_id,
            extra.root_id,
        )

    def _retried(self, delivery: Delivery, retry: Retry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ended:
        payload: Payload | None = None
        parts: Sequence[Buffer] = ()
        if retry.new_args is not None or retry.new_kwargs is not None:
            payload, parts = encode_call(
                args if retry.new_args is None else tuple(retry.new_args),
                kwargs if retry.new_kwargs is None else dict(retry.new_kwargs),
                key=self._key(delivery),
                inline_max=self._inline_bytes_max,
                total_max=self._payload_bytes_max,
            )
        eta = retry.eta or time()
        if not isinstance(eta, int | float) or not 0.0 <= eta <= INSTANT_MAX:
            raise ConfigError(
                f"cannot be tried again at {eta!r}: that is no instant in UTC seconds, 0 to {INSTANT_MAX:g}"
            )
        retrying = Retrying(float(eta), payload, retry.from_now or not retry.eta)
        return Settlement(delivery.id, delivery.attempt, Ending.RETRY, retry=retrying), parts

    def _without_unsendable(self, delivery: Delivery, results: list[Any]) -> Ended:
        results = replace_unsendable(results, lambda value: self._encode(value, delivery))
        payload, parts = self._encode(results, delivery)
        return Settlement(delivery.id, delivery.attempt, Ending.SUCCEEDED, payload), parts


class _Shipped:
    """A plain callable that came by its code."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function

    def execute(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._function(*args, **kwargs)


def _run_coroutine(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    # asyncio takes 30 ms to import: only executors that are sent coroutines pay for it
    return import_module("asyncio").run(coroutine)
