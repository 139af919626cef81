"""What the runtime needs of a task function; ``mesh.api`` has the one users make."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from mesh.runtime.request import Request


@runtime_checkable
class TaskFunction(Protocol):
    """A function that workers know by name."""

    name: str

    def execute(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the call. May raise ``mesh.errors.Retry`` to be run again later."""
        ...
