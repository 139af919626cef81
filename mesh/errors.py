"""Every error this library raises on purpose.

MeshError
├── ConfigError                 the settings or the command are wrong: fix and start again
│   └── NoKey                   no mesh key where one is needed (also Unavailable)
├── ProtocolError               a peer sent what the protocol forbids: dropped and counted
├── Refused                     a router would not have this node (key, version, role)
├── Unavailable                 nobody answered in time: trying again may help
│   ├── Overloaded              the mesh is at a limit; nothing was accepted
│   └── TimeoutError            a wait for a result ran out (also the built-in TimeoutError)
├── PayloadTooLarge             arguments or result over the limit: nothing was sent
├── Unpicklable                 arguments or result cannot be turned into bytes: nothing was sent
├── Unreadable                  a payload needs code or data that this process does not have
├── UnknownTask                 nobody knows this task id
├── UnknownEntry                there is no periodic task of this name
├── EntryExists                 there is a periodic task of this name already
├── StoreError                  the journal or result store failed
│   ├── StoreLocked             another router holds this store
│   ├── StoreLost               another router has taken this store over
│   ├── StoreMoved              what was in this store is in another now, or on its way here
│   ├── StoreDamaged            rows are missing or changed since they were written
│   │   └── RowDamaged          one result or function was changed; the rest can be used
│   └── StoreUnavailable        it cannot be written or read now: trying again may help
│       └── StoreFull           no room left to write
└── TaskError                   the task itself did not succeed
    ├── TaskFailed              it raised an exception that could not be rebuilt here
    ├── TimeLimitExceeded       it ran over its time limit and was killed
    ├── TaskRevokedError        it was cancelled
    ├── TaskExpired             its time to start passed
    ├── WorkerLostError         its worker process died too often
    ├── NotRegistered           the worker has no such task function
    ├── MaxRetriesExceededError it asked for one retry too many
    └── Retry                   raised by ``self.retry`` inside a task: not a failure
"""

from __future__ import annotations

import builtins
from typing import Any


class MeshError(Exception):
    """Root of every error this library raises on purpose."""


class ConfigError(MeshError):
    """The settings or the command are wrong; fix them and start again."""


class ProtocolError(MeshError):
    """A peer sent what the protocol forbids, or a message is larger than a peer may be sent."""


class Refused(MeshError):
    """A router refused this node; the message says why."""


class Unavailable(MeshError):
    """Nobody answered in time; trying again may help."""


class NoKey(ConfigError, Unavailable):
    """No mesh key on this machine where one is needed, or not the one: nobody answers until there is."""


class Overloaded(Unavailable):
    """The mesh is at one of its limits and accepted nothing; try again after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.retry_after_s)


class TimeoutError(Unavailable, builtins.TimeoutError):
    """The wait for a result ran out; the task itself goes on.

    ``why``: why it is not finished, in the words of its router; empty where none says.
    """

    why: str = ""


class PayloadTooLarge(MeshError):
    """Arguments or a result are larger than ``payload_bytes_max``; nothing was sent."""


class Unpicklable(MeshError, TypeError):
    """Arguments, a result or a function cannot be turned into bytes; nothing was sent."""


class Unreadable(MeshError):
    """A payload needs a module, a class or other data that this process does not have."""


class UnknownTask(MeshError, LookupError):
    """No router knows this task id: never accepted, its result kept no longer, or its router given up."""


class UnknownEntry(MeshError, LookupError):
    """There is no entry of this name: it was never added, or is removed."""


class EntryExists(MeshError):
    """There is an entry of this name already: update it, or choose another name."""


class StoreError(MeshError):
    """The journal or the result store failed."""


class StoreLocked(StoreError):
    """Another router holds this store."""


class StoreDamaged(StoreError):
    """Rows of the journal are missing or changed since they were written."""


class RowDamaged(StoreDamaged):
    """One result or one shipped function was changed since it was written; all else can be used."""


class StoreLost(StoreError):
    """Another router has taken this store over; nothing more can be written by this one."""


class StoreMoved(StoreError):
    """What was in this store is in another one now, or has not all arrived in it yet."""


class StoreUnavailable(StoreError):
    """The store cannot be written or read now; what was written stays.

    A commit that ended so may have been done all the same: it is to be repeated with the same records before any other.
    """


class StoreFull(StoreUnavailable):
    """There is no room left to write: nothing was, and what was written before stays."""


class TaskError(MeshError):
    """The task did not succeed. ``remote_traceback`` is the text from where it ran, or empty."""

    remote_traceback: str = ""


class TaskFailed(TaskError):
    """The task raised an exception that could not be rebuilt in this process."""

    def __init__(self, message: str, type_name: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.remote_traceback = remote_traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.type_name, self.remote_traceback)


class TimeLimitExceeded(TaskError):
    """The task ran over its time limit and was killed."""


class TaskRevokedError(TaskError):
    """The task was cancelled."""


class TaskExpired(TaskRevokedError):
    """The task's time to start had passed before a worker was free for it."""


class WorkerLostError(TaskError):
    """The worker process that ran the task died, as often as the mesh allows; see the signals in the message."""


class NotRegistered(TaskError):
    """The worker has no task function of this name."""


class MaxRetriesExceededError(TaskError):
    """The task asked to be retried more often than ``max_retries``."""


class Retry(TaskError):
    """Raised by ``self.retry()`` to leave the task; it will run again at ``eta`` (UTC seconds)."""

    from_now = False  # the eta is by the clock of this host

    def __init__(
        self, message: str = "", eta: float = 0.0, args: Any = None, kwargs: Any = None, from_now: bool = False
    ) -> None:
        super().__init__(message)
        self.eta = eta
        self.new_args = args
        self.new_kwargs = kwargs
        self.from_now = from_now
