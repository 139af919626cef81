"""What a router says of peers that go wrong without end."""

from __future__ import annotations

import logging

import pytest

from nodes.complaints import FIRST, PAUSE_S, Complaints


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Complaints:
    caplog.set_level("WARNING")
    return Complaints(logging.getLogger("mesh.test"))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_the_first_are_said_and_then_one_line_counts_the_rest(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        now = number * PAUSE_S / 500
        complaints.add("wrong key", f"number {number}", now)
        complaints.due(now)
    complaints.add("garbage", "another kind", 0.0)
    lines = said(caplog)
    assert lines[:FIRST] == [f"number {number}" for number in range(FIRST)]
    assert len(lines) == FIRST + 1 + 1
    assert lines[FIRST].startswith("number 504 ") and "500 like it" in lines[FIRST]
    assert lines[-1] == "another kind"


def test_the_rest_is_counted_also_when_no_more_come(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(FIRST + 7):
        complaints.add("wrong key", f"number {number}", 10.0)
    assert len(said(caplog)) == FIRST
    complaints.due(10.0 + PAUSE_S - 1)
    assert said(caplog) == []
    complaints.due(10.0 + PAUSE_S)
    (line,) = said(caplog)
    assert line.startswith(f"number {FIRST + 6} ") and "7 like it" in line
    complaints.due(10.0 + 3 * PAUSE_S)
    assert said(caplog) == [], "there is nothing more to say"


def test_one_that_comes_after_a_long_silence_is_told_at_the_next_look(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(FIRST):
        complaints.add("wrong key", f"number {number}", 0.0)
    complaints.add("wrong key", "late", 5 * PAUSE_S)
    said(caplog)
    complaints.due(5 * PAUSE_S)
    assert [line[:4] for line in said(caplog)] == ["late"]


def test_what_is_not_wrong_is_told_as_a_fact(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(FIRST + 1):
        complaints.add("skipped", "as asked for", 0.0, is_wrong=False)
    complaints.due(PAUSE_S)
    assert [record.levelname for record in caplog.records] == ["INFO"] * (FIRST + 1)


def test_what_is_over_is_said_no_more_and_its_next_time_at_once(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(FIRST + 7):
        complaints.add("away", f"number {number}", 0.0)
    said(caplog)
    complaints.over("away")
    complaints.over("never there")
    complaints.due(10 * PAUSE_S)
    assert said(caplog) == []
    complaints.add("away", "again", 10 * PAUSE_S)
    complaints.add("away", "and again", 10 * PAUSE_S)
    assert said(caplog) == ["again"]
