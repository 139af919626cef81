"""Where a task's time went: what is counted, and how it is split."""

from __future__ import annotations

import os
import time

import pytest

from bench.profiling.counters import Counters, Spent, read, seconds_per_call
from bench.profiling.split import Look, split, told


def test_a_counted_call_does_what_it_did_and_is_counted_also_when_it_fails(tmp_path):
    counters = Counters(tmp_path)
    divide = counters.counted("journal", lambda a, b: a / b)
    assert divide(6, b=3) == 2
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    counters.counted("wire", time.sleep)(0.02)
    found = read(tmp_path, os.getpid())
    assert found["journal"].calls == 2 and found["wire"].calls == 1
    assert found["wire"].wall_s >= 0.02 > 0.01 > found["wire"].cpu_s, "waiting is no work"


def test_a_process_that_does_not_count_has_spent_nothing(tmp_path):
    assert read(tmp_path, 1) == {"wire": Spent(), "journal": Spent()}


def test_what_counting_costs_is_found_out(tmp_path):
    assert 0 < seconds_per_call(tmp_path) < 1e-3


def test_each_second_belongs_to_one_part():
    before = {"router": Look(1.0, 10.0, {"wire": Spent(2.0, 3.0, 5), "journal": Spent(1.0, 4.0, 5)})}
    after = {
        "router": Look(2.0, 20.0, {"wire": Spent(4.0, 9.0, 15), "journal": Spent(4.0, 9.0, 8)}),
        "worker": Look(0.5, 3.0, {"wire": Spent(1.0, 1.0, 2)}),
        "executors": Look(0.0, 4.0),
        "client": Look(0.5, 6.0, {"wire": Spent(0.5, 0.5, 1)}),
    }
    found = split(before, after)
    assert found.parts == {
        "client": 5.5,
        "wire": 1.0 + 2.0 + 0.5 + 1.0 + 0.5 + 0.5,
        "router": 5.0,
        "journal": 3.0,
        "agent": 2.0,
        "executor": 4.0,
    }
    assert sum(found.parts.values()) == 1.0 + 10.0 + 3.5 + 4.0 + 6.5
    assert found.journal_wait_s == 2.0
    assert found.calls == 10 + 3 + 2 + 1


def test_a_client_tells_of_itself_in_numbers():
    numbers = {"io_s": 1.0, "own_s": 2.0, "wire_cpu_s": 0.5, "wire_wall_s": 0.75, "wire_calls": 3}
    assert told(numbers) == Look(1.0, 2.0, {"wire": Spent(0.5, 0.75, 3)})
