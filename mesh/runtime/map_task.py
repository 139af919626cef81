"""A mapped task: one function over many argument tuples, as one task.

Its argument: a list with the arguments of each element. Its result: ["ok", value] or ["error", the fields of
ErrorInfo] per element, so that a failing element fails no other. Lists, not tuples: they are the
plainer data and so travel faster.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from msgspec.structs import astuple

from mesh.errors import Retry
from mesh.model import ErrorInfo
from mesh.runtime.failure import describe
from mesh.runtime.registry import TaskFunction
from mesh.runtime.request import Request, current_request
from mesh.wire.asking import ask, cause_of

Result = list[Any]


class MapTask:
    """The task function behind ``app.map``."""

    def __init__(self, function: TaskFunction) -> None:
        self.name = function.name
        self._function = function

    def execute(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Result]:
        (elements,) = args
        return [_run_element(self._function, request, tuple(element)) for element in elements]


def replace_unsendable(results: list[Result], encode: Callable[[Any], object]) -> list[Result]:
    """The results with an error in the place of each value that ``encode`` raises for."""
    return [_sendable(result, encode) for result in results]


def _run_element(function: TaskFunction, request: Request, args: tuple[Any, ...]) -> Result:
    own = copy(request)
    own.task = function.name
    own.args = args
    current_request.set(own)
    try:
        return ["ok", function.execute(own, args, {})]
    except BaseException as error:
        # an element has no attempts of its own: what it would have been retried for is its error
        cause = cause_of(error) if issubclass(type(error), Retry) else None
        return _failure(describe(error if cause is None else cause, args, {}))


def _sendable(result: Result, encode: Callable[[Any], object]) -> Result:
    def sendable() -> Result:
        encode(result)
        return result

    return ask(sendable, lambda why: _failure(describe(why, (), {}, "the result of an element cannot be sent")))


def _failure(error: ErrorInfo) -> Result:
    return ["error", list(astuple(error))]
