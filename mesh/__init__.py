"""A brokerless task mesh: durable tasks, results and code shipping over ZeroMQ.

What users touch is imported when it is first asked for: routers and executors import parts of this package too, and
do not need it, nor ZeroMQ in an executor.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mesh.errors import (
    ConfigError,
    EntryExists,
    MaxRetriesExceededError,
    MeshError,
    NotRegistered,
    Overloaded,
    Retry,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,
    Unavailable,
    UnknownEntry,
    UnknownTask,
    WorkerLostError,
)
from mesh.settings import Settings

if TYPE_CHECKING:
    from mesh.api.app import Mesh
    from mesh.api.result import AsyncResult
    from mesh.api.task import Task
    from mesh.schedules import crontab

__all__ = [
    "AsyncResult",
    "ConfigError",
    "EntryExists",
    "MaxRetriesExceededError",
    "Mesh",
    "MeshError",
    "NotRegistered",
    "Overloaded",
    "Retry",
    "Settings",
    "Task",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "Unavailable",
    "UnknownEntry",
    "UnknownTask",
    "WorkerLostError",
    "crontab",
]

__version__ = "0.1.0"  # what nodes tell each other, and what pyproject.toml reads

_API = {"AsyncResult": "mesh.api.result", "Mesh": "mesh.api.app", "Task": "mesh.api.task", "crontab": "mesh.schedules"}


def __getattr__(name: str) -> Any:
    if name in _API:
        value = globals()[name] = getattr(import_module(_API[name]), name)
        return value
    hint = import_module("mesh.api.hints").HINTS.get(name)
    if hint is None:
        raise AttributeError(f"module 'mesh' has no attribute {name!r}")
    # ``from mesh import NAME`` asks by hasattr, and would put words of its own in the place of an AttributeError's.
    if sys._getframe(1).f_globals.get("__name__") == "importlib._bootstrap":
        raise ImportError(f"cannot import name {name!r} from 'mesh': {hint}", name="mesh")
    raise AttributeError(f"module 'mesh' has no attribute {name!r}: {hint}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
