from __future__ import annotations

import logging

import pytest

from mesh.model import ErrorInfo
from mesh.runtime.failure_log import LEFT_OUT, SPAN_S, TRACEBACK_LOGGED_CHARS_MAX, TRACEBACKS_MAX, FailureLog

ERROR = ErrorInfo("ValueError", "no", "Traceback (most recent call last):\n  in f\nValueError: no\n")
LINE = "tasks.f[t] failed: ValueError: no"


@pytest.fixture
def failures(caplog: pytest.LogCaptureFixture) -> FailureLog:
    log = logging.getLogger("test.failures")
    caplog.set_level("ERROR", log.name)
    return FailureLog(log)


def test_a_failure_is_an_error_with_its_traceback(failures: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    failures.add("tasks.f", "t", ERROR, 0.0)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("ERROR", f"{LINE}\nTraceback (most recent call last):\n  in f\nValueError: no")
    ]


def test_a_failure_that_has_no_traceback_is_a_line(failures: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    failures.add("tasks.f", "t", ErrorInfo("mesh.errors.NotRegistered", "no"), 0.0)
    assert caplog.messages == ["tasks.f[t] failed: mesh.errors.NotRegistered: no"]


def test_a_long_traceback_loses_its_middle(failures: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    failures.add("tasks.f", "t", ErrorInfo("ValueError", "no", "head\n" + "x" * 100_000 + "\nValueError: no"), 0.0)
    assert "head" in caplog.messages[0] and caplog.messages[0].endswith("ValueError: no")
    assert len(caplog.messages[0]) < TRACEBACK_LOGGED_CHARS_MAX + 200


def test_of_tasks_that_fail_one_after_another_few_have_their_traceback_logged(
    failures: FailureLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1_000):
        failures.add("tasks.f", "t", ERROR, 5.0)
    failures.add("tasks.f", "t", ERROR, 5.0 + SPAN_S)
    said = caplog.messages
    assert all("in f" in text for text in said[:TRACEBACKS_MAX])
    assert said[TRACEBACKS_MAX:-1] == [LINE + LEFT_OUT] + [LINE] * (1_000 - TRACEBACKS_MAX - 1)
    assert "in f" in said[-1], "after a while there is room again"
