"""What ``flush`` waits for, and what it says was lost."""

from __future__ import annotations

from mesh.core.commands import PublishRejected
from mesh.errors import MeshError, Overloaded, Unavailable


class Flush:
    """Waits until what was submitted before it is settled. The loop fills it in.

    ``goal``: how many submissions that is, since the start; ``batches``: those of them that are not accepted.
    """

    def __init__(self) -> None:
        self.goal: int | None = None
        self.batches: set[int] | None = None


class Lost:
    """What was rejected since the last flush."""

    def __init__(self, tasks: int = 0, last: MeshError | None = None) -> None:
        self._tasks = tasks
        self._last = last

    def with_more(self, tasks: int, error: MeshError) -> Lost:
        return Lost(self._tasks + tasks, error)

    def error(self) -> MeshError:
        text = (
            f"{tasks_of(self._tasks, 'was', 'were')} not accepted since the last flush; the last reason: {self._last}"
        )
        if isinstance(self._last, Overloaded):
            return Overloaded(text, self._last.retry_after_s)
        return type(self._last)(text) if isinstance(self._last, Unavailable) else MeshError(text)


def tasks_of(count: int, one: str = "", many: str = "") -> str:
    """``1 task``, ``2 tasks``; with what they are or do, of one and of many."""
    return " ".join(filter(None, ["1 task", one] if count == 1 else [f"{count} tasks", many]))


def rejection(command: PublishRejected) -> MeshError:
    """What ``get()`` raises for a task that was not accepted."""
    if command.code == "overloaded":
        return Overloaded(f"not accepted: {command.reason}", command.retry_after_s)
    if command.code == "unavailable":
        return Unavailable(f"not accepted: {command.reason}")
    return MeshError(f"not accepted: {command.reason}")
