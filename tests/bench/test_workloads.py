"""What entrants are given, the least time it can take, and who did how much of it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from bench import rss
from bench.peers.echoing import echo_all
from bench.scenarios.backlog import backlogs, short
from bench.workloads import (
    KIB,
    LONG_S,
    MIB,
    PAYLOADS,
    SHORT_S,
    echoes,
    ideal_makespan,
    mixed,
    percent_shares,
    under_way,
)


def test_mixed_work_is_the_same_for_everybody_with_one_long_task_in_twenty():
    work = mixed(1_000)
    assert work == mixed(1_000)
    assert work.count(LONG_S) == 50 and work.count(SHORT_S) == 950
    assert LONG_S in mixed(5), "a small run has a long task too"


@pytest.mark.parametrize(
    ("seconds", "speeds", "ideal"),
    [
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0], 2.0),
        ([1.0, 1.0, 1.0, 2.0], [1.0, 0.25], 4.0),
        ([3.0, 1.0], [1.0, 1.0], 3.0),  # the longest task takes its time
        ([3.0, 1.0], [0.5, 0.25], 6.0),
    ],
)
def test_the_ideal_keeps_all_slots_busy_and_waits_for_the_longest_task(seconds, speeds, ideal):
    assert ideal_makespan(seconds, speeds) == pytest.approx(ideal)


@pytest.mark.parametrize(("seconds", "speeds"), [([], [1.0]), ([1.0], []), ([1.0], [0.0])])
def test_there_is_no_ideal_without_work_or_slots(seconds, speeds):
    with pytest.raises(ValueError, match="give tasks"):
        ideal_makespan(seconds, speeds)


def test_every_size_is_echoed_and_no_more_is_under_way_than_memory_should_hold():
    for size in PAYLOADS.values():
        assert echoes(size, 1) == 1
        assert echoes(size) * size <= 256 * MIB
        assert under_way(size) >= 1 and (under_way(size) == 1 or under_way(size) * size <= 32 * MIB)


def test_shares_are_of_what_was_done_between_two_looks():
    before = {"a": 100.0, "gone": 5.0}
    assert percent_shares(before, {"b": 30.0, "a": 110.0, "c": 0.0}) == {"a": 25.0, "b": 75.0, "c": 0.0}
    assert percent_shares(before, {"a": 100.0}) == {"a": 0.0}
    assert percent_shares({"a": 9.0}, {"a": 1.0}) == {"a": 0.0}, "a worker that came back counts from nothing"


def test_backlogs_grow_tenfold_from_one_that_is_long_enough_to_be_timed_and_are_named_shortly():
    assert backlogs(1_000_000, quick=False) == [10_000, 100_000, 1_000_000]
    assert backlogs(500_000, quick=False) == [10_000, 100_000, 500_000]
    assert backlogs(500_000, quick=True) == [10_000, 500_000]
    assert backlogs(10_000, quick=False) == [10_000]
    assert backlogs(5, quick=False) == [5]
    assert [short(size) for size in (1_000_000, 10_000, 1_500, 500)] == ["1m", "10k", "1500", "500"]


def test_what_a_router_gives_back_meanwhile_does_not_count_against_what_it_keeps():
    from_before = [bytearray(os.urandom(1)) * (64 * MIB)]

    def submit(payload: bytes) -> Callable[[], bytes]:
        if len(sent) == 1:
            from_before.clear()
        sent.append(payload)
        return lambda: payload

    sent: list[bytes] = []
    found = echo_all(submit, "bytes", ["1kib"], 2 * KIB, os.getpid())
    assert len(sent) == 3 and found["1kib_router_kept_mib"] == 0.0


def test_a_router_keeps_no_more_than_it_had_at_its_peak(monkeypatch):
    resident = iter((100 * MIB, 130 * MIB))
    monkeypatch.setattr(rss, "forget_peak", lambda pid: None)
    monkeypatch.setattr(rss, "resident_bytes", lambda pid: next(resident))
    monkeypatch.setattr(rss, "peak_bytes", lambda pid: 129 * MIB)
    found = echo_all(lambda payload: lambda: payload, "bytes", ["1kib"], 1, router_pid=1)
    assert found["1kib_router_kept_mib"] == found["1kib_router_peak_mib"] == 30
