"""What a router says of peers that go wrong without end."""

from __future__ import annotations

import logging

import pytest

from nodes.complaints import FIRST, PAUSE_S, Complaints


def test_the_first_are_said_and_then_one_line_counts_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("mesh.test"))
    with caplog.at_level("WARNING"):
        for number in range(1000):
            complaints.add("wrong key", f"number {number}", number * PAUSE_S / 500)
        complaints.add("garbage", "another kind", 0.0)
    said = [record.getMessage() for record in caplog.records]
    assert said[:FIRST] == [f"number {number}" for number in range(FIRST)]
    assert said[-1] == "another kind"
    assert len(said) == FIRST + 1 + 1
    assert said[FIRST].startswith("number 504 ") and "500 like it" in said[FIRST]
