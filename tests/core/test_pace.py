"""Run times remembered, and what follows from them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.pace import NAMES_MAX, Pace
from mesh.settings import Settings

SETTINGS = Settings()
measurements = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 100, allow_subnormal=False), st.integers(1, 500)), max_size=30
)


@given(measurements, st.integers(1, 64))
def test_the_window_keeps_every_slot_busy_and_stays_within_its_limit(
    seen: list[tuple[str, float, int]], slots: int
) -> None:
    pace = Pace(SETTINGS)
    for name, total_s, count in seen:
        pace.observe(name, total_s, count)
    assert slots + 1 <= pace.window(slots) <= max(slots + 1, SETTINGS.credit_max)


@given(measurements)
def test_an_expected_run_time_lies_between_what_was_measured(seen: list[tuple[str, float, int]]) -> None:
    pace = Pace(SETTINGS)
    for name, total_s, count in seen:
        pace.observe(name, total_s, count)
    for name in {name for name, *_ in seen}:
        means = [total_s / count for other, total_s, count in seen if other == name]
        assert min(means) - 1e-9 <= pace.runtime(name) <= max(means) + 1e-9


def test_a_name_never_seen_counts_as_a_full_chunk() -> None:
    assert Pace(SETTINGS).runtime("new") == SETTINGS.chunk_s


def test_a_task_that_turned_slow_is_noticed_within_a_few_runs() -> None:
    pace = Pace(SETTINGS)
    pace.observe("t", 0.001 * 500, 500)
    for _ in range(10):
        pace.observe("t", 1.0, 1)
    assert pace.runtime("t") > 0.5
    assert pace.window(2) == 3


def test_tiny_tasks_widen_the_window_to_its_limit_and_no_further() -> None:
    pace = Pace(SETTINGS)
    pace.observe("t", 0.0, 500)
    assert 1_990 <= pace.window(1) <= 2_000
    assert pace.window(64) == SETTINGS.credit_max


def test_names_without_end_do_not_fill_the_memory() -> None:
    pace = Pace(SETTINGS)
    for number in range(NAMES_MAX + 1):
        pace.observe(str(number), 1.0, 1)
    assert pace.runtime("0") == SETTINGS.chunk_s
    assert pace.runtime(str(NAMES_MAX)) == 1.0
