"""``app.conf``: the defaults of an app's tasks, under Celery's names. Only what has an effect is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import tzinfo
from typing import Any

from mesh.api.hints import explain_absent, with_hints
from mesh.api.options import QUEUE_LENGTH_MAX, checked_limit, checked_text
from mesh.errors import ConfigError
from mesh.schedules import crontab


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
    beat_schedule: dict[str, Any] = field(default_factory=dict)  # periodic tasks by name: docs/SCHEDULES.md
    timezone: str | tzinfo | None = None  # of schedules that name none; None: UTC
    enable_utc: bool = True  # False: a schedule by the clock on the wall must have a zone
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


def _checked_entries(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}={value!r:.80}: expected a dictionary of entries by name")
    return value if isinstance(value, dict) else dict(value)


def _checked_zone(name: str, value: str | tzinfo | None) -> str | tzinfo | None:
    try:
        crontab(zone=value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return value


_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "task_default_queue": lambda name, value: checked_text(name, value, QUEUE_LENGTH_MAX),
    "task_time_limit": checked_limit,
    "result_expires": checked_limit,
    "beat_schedule": _checked_entries,
    "timezone": _checked_zone,
}


def _names() -> list[str]:
    return [f.name for f in fields(Conf) if f.name != "changed"]


explain_absent(Conf)
