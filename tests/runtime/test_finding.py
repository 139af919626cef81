"""The finder says what it tried, and does not let an error of its own pass for an empty network."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable

import pytest

from mesh.errors import ConfigError
from mesh.net.find import Found, Search
from mesh.runtime.finding import Finder

HERE = Found(("ipc://there",), "r1", "running here")


def reports_of(find: Callable[[], Search], count: int) -> list[Search]:
    """The first ``count`` reports of a finder."""
    reports: queue.SimpleQueue[Search] = queue.SimpleQueue()
    finder = Finder(find, reports.put, 0.01)
    finder.start()
    try:
        return [reports.get(timeout=5.0) for _ in range(count)]
    finally:
        finder.close()


@pytest.mark.parametrize("error", [ConfigError("no such router"), OSError("no network")])
def test_what_stops_a_search_is_what_was_tried(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def find() -> Search:
        raise error

    assert reports_of(find, 1) == [Search([], f"{type(error).__name__}: {error}")]
    assert caplog.records == []


def test_an_error_of_the_program_is_logged_once_and_the_search_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries = iter([1, 2, 3])

    def find() -> Search:
        if next(tries) < 3:
            raise KeyError("address")
        return Search([HERE], "here")

    with caplog.at_level(logging.ERROR):
        reports = reports_of(find, 3)

    assert "an error of the program: KeyError: 'address'" in reports[0].tried
    assert reports[2] == Search([HERE], "here")
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_who_looks_no_more_rests() -> None:
    rested: queue.SimpleQueue[None] = queue.SimpleQueue()
    finder = Finder(lambda: Search([HERE], "here"), lambda search: None, 0.01, lambda: rested.put(None))
    finder.start()
    finder.close()
    rested.get(timeout=5.0)
