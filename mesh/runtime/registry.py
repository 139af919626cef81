"""What the runtime needs of a task function; ``mesh.api`` has the one users make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from mesh.model import TaskOptions
from mesh.runtime.request import Request


@runtime_checkable
class TaskFunction(Protocol):
    """A function that workers know by name."""

    name: str

    def execute(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the call. May raise ``mesh.errors.Retry`` to be run again later."""
        ...


@runtime_checkable
class DefinedTask(Protocol):
    """A task function with a definition of its own."""

    def base_options(self) -> TaskOptions:
        """What every call has in common. Raises ``ConfigError``."""
        ...


def definitions(functions: Mapping[str, TaskFunction]) -> tuple[dict[str, float], list[str]]:
    """Time limits in seconds where there are any, and the names that are at-most-once. Raises ``ConfigError``."""
    defined = [task.base_options() for task in functions.values() if isinstance(task, DefinedTask)]
    limits = {one.name: one.time_limit_s for one in defined if one.time_limit_s is not None}
    return limits, sorted(one.name for one in defined if one.at_most_once)
