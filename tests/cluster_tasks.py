"""The tasks that the tests with real processes run. Each writes its start and its end outside of the mesh."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from typing import Any

from mesh import Mesh

app = Mesh("tests.cluster_tasks")


def note(what: str, task_id: str, attempt: int) -> None:
    """One line in the log of runs, by one write: lines of several processes do not mix."""
    line = f"{what} {task_id} {attempt} {os.getpid()} {time.monotonic():.6f}\n"
    fd = os.open(os.environ["CLUSTER_RUN_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


@app.task(bind=True)
def work(self: Any, number: int, seconds: float = 0.0) -> int:
    """Give the number back."""
    note("start", self.request.id, self.request.attempt)
    if seconds:
        time.sleep(seconds)
    note("end", self.request.id, self.request.attempt)
    return number


@app.task
def nothing() -> None:
    """The smallest task."""


@app.task
def echo(value: Any) -> Any:
    return value


@app.task
def executor_pid() -> int:
    return os.getpid()


@app.task(bind=True)
def die(self: Any, number: int = signal.SIGKILL) -> None:
    """Take the executor along."""
    note("start", self.request.id, self.request.attempt)
    os.kill(os.getpid(), number)
    time.sleep(10)


@app.task(bind=True, time_limit=0.5)
def limited(self: Any, seconds: float) -> None:
    """Has half a second, by its definition."""
    note("start", self.request.id, self.request.attempt)
    time.sleep(seconds)


@app.task(bind=True, acks_late=False)
def die_once(self: Any) -> None:
    """Take the executor along, and by its definition never run again."""
    note("start", self.request.id, self.request.attempt)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


@app.task(bind=True)
def hold_gil(self: Any, seconds: int) -> str:
    """Let no other thread of this process run for a while."""
    note("start", self.request.id, self.request.attempt)
    ctypes.PyDLL(None).sleep(seconds)  # PyDLL keeps the interpreter's lock
    note("end", self.request.id, self.request.attempt)
    return "held"


class Unpicklable(Exception):
    """An exception that cannot leave its process."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()


class Unshowable(Exception):
    """An exception that would end the process which asks it anything."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)

    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __reduce__(self) -> Any:
        raise SystemExit("reduce")


@app.task
def fail(kind: str) -> None:
    if kind == "unshowable":
        raise Unshowable("it will not be shown")
    if kind == "exit":
        raise SystemExit(3)
    if kind == "value":
        raise ValueError("no such value", 7)
    if kind == "unpicklable":
        raise Unpicklable("it holds a lock")
    raise KeyError(kind)


@app.task(bind=True)
def retry_once(self: Any) -> int:
    if self.request.retries == 0:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@app.task(bind=True)
def whose(self: Any, seconds: float) -> int:
    """Which process ran it; so a second run gives another result."""
    note("start", self.request.id, self.request.attempt)
    time.sleep(seconds)
    note("end", self.request.id, self.request.attempt)
    return os.getpid()
