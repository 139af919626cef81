"""A brokerless task mesh: durable tasks, results and code shipping over ZeroMQ."""

from mesh.api.app import Mesh
from mesh.api.result import AsyncResult
from mesh.api.task import Task
from mesh.errors import (
    ConfigError,
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
    UnknownTask,
    WorkerLostError,
)
from mesh.settings import Settings

__all__ = [
    "AsyncResult",
    "ConfigError",
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
    "UnknownTask",
    "WorkerLostError",
]
