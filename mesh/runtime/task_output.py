"""What tasks print and log, as lines of the node's log."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import Any

from mesh.runtime.request import Request, current_request

LINE_CHARS_MAX = 8_192
"""A longer line is logged in pieces."""

FORMAT = "%(asctime)s %(levelname)s executor[%(process)d] %(message)s"

log = logging.getLogger("mesh.task")


class LineWriter(io.TextIOBase):
    """A text stream that logs each line with the task that printed it."""

    encoding = "utf-8"

    def __init__(self, level: int, real: io.TextIOWrapper) -> None:
        super().__init__()
        self._level = level
        self._real = real
        self._text = ""
        self._request: Request | None = None
        self._lock = threading.RLock()
        self._writing = False

    @property
    def buffer(self) -> Any:
        """The real stream, for bytes."""
        return self._real.buffer

    def fileno(self) -> int:
        return self._real.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            if self._writing:  # the log's own handler failed and reports it here
                self._real.write(text)
                return len(text)
            request = current_request.get()
            if request is not self._request:
                self._emit(self._text)
                self._request = request
                self._text = ""
            *lines, self._text = (self._text + text).split("\n")
            for line in lines:
                self._emit(line)
            if len(self._text) > LINE_CHARS_MAX:
                self.flush()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            self._emit(self._text)
            self._text = ""

    def _emit(self, line: str) -> None:
        task = "" if self._request is None else f"{self._request.task}[{self._request.id}]: "
        self._writing = True
        try:
            for start in range(0, len(line), LINE_CHARS_MAX):
                log.log(self._level, "%s%s", task, line[start : start + LINE_CHARS_MAX])
        finally:
            self._writing = False


def redirect_output(loglevel: str) -> logging.Handler:
    """Turn what this process prints into log lines on its real stderr; return their handler."""
    real = sys.__stderr__
    assert isinstance(real, io.TextIOWrapper), "an executor is always started with a stderr"
    handler = logging.StreamHandler(real)
    handler.setFormatter(logging.Formatter(FORMAT))
    mesh_log = logging.getLogger("mesh")
    mesh_log.addHandler(handler)
    mesh_log.setLevel(loglevel.upper())
    mesh_log.propagate = False
    # As in Celery: what a task prints is seen at every usual level, or it looks as if the task never ran.
    sys.stdout = LineWriter(logging.WARNING, real)
    sys.stderr = LineWriter(logging.WARNING, real)
    return handler


def configure_root(handler: logging.Handler, loglevel: str) -> None:
    """Give the root logger this handler and level, unless the user's modules have configured it."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(loglevel.upper())
