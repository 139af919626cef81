"""``app.conf``: the defaults of an app's tasks, under Celery's names. Only what has an effect is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from mesh.api.hints import explain_absent, with_hints
from mesh.api.options import QUEUE_LENGTH_MAX, checked_limit, checked_text
from mesh.errors import ConfigError


@dataclass(slots=True, kw_only=True)
class Conf:
    """Defaults for tasks that do not say otherwise. Limits and waits of the connection are in ``app.settings``."""

    task_always_eager: bool = False  # run tasks in this process instead of submitting them
    task_eager_propagates: bool = False  # and raise their errors at once
    task_default_queue: str = "default"
    task_ignore_result: bool = False
    task_acks_late: bool = True  # False: at-most-once delivery. Celery's default is False
    task_time_limit: float | None = None  # seconds
    result_expires: float | None = None  # seconds an outcome is kept; None: as the router is set
    beat_schedule: dict[str, Any] = field(default_factory=dict)  # periodic tasks by name
    changed: Callable[[], None] | None = None  # called after each change

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__slots__:
            raise ConfigError(with_hints(f"there is no setting {name!r}; known: {', '.join(_names())}", [name]))
        check = _CHECKS.get(name)
        object.__setattr__(self, name, value if check is None else check(name, value))
        changed = getattr(self, "changed", None)
        if changed is not None:
            changed()

    def update(self, values: dict[str, Any] | None = None, **more: Any) -> None:
        """Change several settings. Raises ``ConfigError`` for a name it does not know, and for a wrong value."""
        for name, value in {**(values or {}), **more}.items():
            setattr(self, name, value)


_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "task_default_queue": lambda name, value: checked_text(name, value, QUEUE_LENGTH_MAX),
    "task_time_limit": checked_limit,
    "result_expires": checked_limit,
}


def _names() -> list[str]:
    return [f.name for f in fields(Conf) if f.name != "changed"]


explain_absent(Conf)
