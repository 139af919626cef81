"""What a running task may know about its own call (``self.request``)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from msgspec import Struct


class Request(Struct):
    """One call of a task function, by a delivery or, with ``is_eager`` or ``called_directly``, without one."""

    id: str = ""
    task: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    retries: int = 0
    attempt: int = 1
    hostname: str = ""  # the worker's name
    queue: str = "default"
    priority: int = 0
    expires: float | None = None
    time_limit: float | None = None
    headers: dict[str, str] | None = None
    parent_id: str | None = None
    root_id: str | None = None
    eta: float | None = None
    is_eager: bool = False
    called_directly: bool = False

    @property
    def delivery_info(self) -> dict[str, Any]:
        """How the call came here, in Celery's words."""
        return {"queue": self.queue, "priority": self.priority, "redelivered": self.attempt > self.retries + 1}


current_request: ContextVar[Request | None] = ContextVar("mesh_current_request", default=None)
"""The call this thread or coroutine is in; None outside of tasks."""
