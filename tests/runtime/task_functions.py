"""Task functions without the API: what the runtime's Protocol asks for, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.model import Delivery, TaskOptions
from mesh.runtime.execute import Runner
from mesh.runtime.request import Request
from mesh.wire.payload import encode_call

INLINE_MAX = 1024
TOTAL_MAX = 1 << 20


class Named:
    """A function with a name; with ``bound`` it is given its request first."""

    def __init__(self, name: str, function: Callable[..., Any], bound: bool = False) -> None:
        self.name = name
        self._function = function
        self._bound = bound

    def execute(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._function(request, *args, **kwargs) if self._bound else self._function(*args, **kwargs)


def runner_of(*functions: Callable[..., Any], bound: bool = False) -> Runner:
    named = {function.__name__: Named(function.__name__, function, bound) for function in functions}
    return Runner(named, worker_name="w1", inline_bytes_max=INLINE_MAX, payload_bytes_max=TOTAL_MAX)


def call(task_id: str, *args: Any, option: int = 0, attempt: int = 1, **kwargs: Any) -> Delivery:
    """A delivery of a call whose arguments are small."""
    payload = encode_call(args, kwargs, key=task_id, inline_max=INLINE_MAX, total_max=TOTAL_MAX).payload
    return Delivery(task_id, option, attempt, payload)


def named(name: str, **values: Any) -> TaskOptions:
    return TaskOptions(name, **values)
