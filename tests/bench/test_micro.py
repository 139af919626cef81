"""The parts do what is timed: each of them checks for itself that all tasks were finished."""

from __future__ import annotations

import pytest

from bench.micro.memory import measure
from bench.micro.stopwatch import Stopwatch
from bench.scenarios.micro import PARTS


@pytest.mark.parametrize("part", [name for name in PARTS if name not in ("store_disk", "store_process")])
def test_each_part_times_its_phases(part):
    watch = Stopwatch()
    PARTS[part](2_000, watch)
    assert watch.seconds and all(seconds > 0 for seconds in watch.seconds.values())


def test_a_profile_names_the_hottest_functions():
    watch = Stopwatch(profile=True)
    PARTS["router"](1_000, watch)
    assert "finish" in watch.hottest(5)


def test_a_full_router_is_measured_in_bytes_and_time():
    found = measure(30_000)
    assert found["accept_us_at_last"] > 0 and found["settle_and_deliver_us"] > 0
