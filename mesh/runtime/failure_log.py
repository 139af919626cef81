"""What an executor logs of tasks that failed: a line each, and as many tracebacks as no log is flooded with."""

from __future__ import annotations

import logging

from mesh.model import ErrorInfo
from mesh.runtime.failure import without_middle

TRACEBACK_LOGGED_CHARS_MAX = 4_096  # the outcome has more of it
TRACEBACKS_MAX = 10  # logged in a span
SPAN_S = 10.0

LEFT_OUT = (
    f"; more than {TRACEBACKS_MAX} tasks failed here within {SPAN_S:g} s, and the rest of that time has no tracebacks: "
    "`mesh result ID --traceback` shows them"
)


class FailureLog:
    """Of one executor. A million tasks that fail alike are a million lines, and 4 KiB of tracebacks a second."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._span_ends_at = 0.0
        self._failed = 0  # in this span

    def add(self, name: str, task_id: str, error: ErrorInfo, now: float) -> None:
        """One more task failed; ``now``: monotonic seconds."""
        if now >= self._span_ends_at:
            self._span_ends_at = now + SPAN_S
            self._failed = 0
        self._failed += 1
        more = ""
        if error.traceback and self._failed <= TRACEBACKS_MAX:
            more = "\n" + without_middle(error.traceback.rstrip(), TRACEBACK_LOGGED_CHARS_MAX)
        elif self._failed == TRACEBACKS_MAX + 1:
            more = LEFT_OUT
        self._log.error("%s[%s] failed: %s: %s%s", name, task_id, error.type, error.message, more)
