"""What is asked of figures, and what is said of it."""

from __future__ import annotations

import pytest

from bench.asked import Asked, verdicts


@pytest.mark.parametrize(
    ("asked", "value", "told"),
    [
        (Asked("rate", 40_000), 40_000.0, "rate is 40,000, asked for at least 40,000: met"),
        (Asked("rate", 40_000), 39_999.0, "MISSED: rate is 39,999, asked for at least 40,000"),
        (Asked("late_ms", 50, below=True), 12.3, "late_ms is 12.30, asked for less than 50: met"),
        (Asked("late_ms", 50, below=True), 50.0, "MISSED: late_ms is 50, asked for less than 50"),
        (
            Asked("ratio", 1.2, cpus=8),
            0.9,
            "ratio is 0.900, asked for at least 1.20: not judged, for it takes 8 CPUs and there are 2",
        ),
        (Asked("ratio", 1.2, cpus=8), 1.3, "ratio is 1.30, asked for at least 1.20: met"),
    ],
)
def test_a_verdict_says_what_was_found_what_was_asked_and_whether_that_is_enough(asked: Asked, value: float, told: str):
    assert asked.verdict(value, cpus=2) == told


def test_what_was_not_measured_has_no_verdict():
    assert verdicts([Asked("there", 1), Asked("absent", 1)], {"there": 2.0, "other": 1.0}, 2) == [
        "there is 2, asked for at least 1: met"
    ]


def test_what_was_missed_is_said_first():
    asked = [Asked("good", 1), Asked("bad", 3), Asked("fine", 1)]
    told = verdicts(asked, {"good": 2.0, "bad": 2.0, "fine": 2.0}, 2)
    assert [line.partition(" is ")[0] for line in told] == ["MISSED: bad", "good", "fine"]
