"""The numbers that are made of measurements."""

from __future__ import annotations

import pytest

from bench.figures import Figure, figure, left_out, paired_ratio, percentile, percentiles_us


def test_a_figure_is_the_median_between_the_extremes():
    assert figure([3.0, 1.0, 10.0], "us") == Figure(3.0, 1.0, 10.0, "us")


def test_there_is_no_figure_without_measurements():
    with pytest.raises(ValueError, match="no measurements"):
        figure([], "us")


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0.5, 1)])
def test_a_percentile_is_a_measured_value(percent, expected):
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_a_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_that_does_not_exist_is_an_error(values, percent):
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_percentiles_go_by_the_names_of_their_figures():
    assert percentiles_us(range(1, 10_001)) == {"p50_us": 5_000, "p95_us": 9_500, "p99_us": 9_900, "p999_us": 9_990}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (19, []),
        (20, ["p50_us"]),
        (300, ["p50_us", "p95_us"]),
        (999, ["p50_us", "p95_us"]),
        (1_000, ["p50_us", "p95_us", "p99_us"]),
        (9_999, ["p50_us", "p95_us", "p99_us"]),
        (10_000, ["p50_us", "p95_us", "p99_us", "p999_us"]),
    ],
)
def test_a_percentile_needs_ten_values_beyond_it(count, expected):
    assert list(percentiles_us([1.0] * count)) == expected


def test_what_is_left_out_is_said_in_one_line_and_nothing_where_all_is_there():
    assert left_out(["p50_us", "p99_us", "p999_us"], {"p50_us": 1.0}) == [
        "left out, for fewer than 10 values of a run lie beyond: p99_us, p999_us"
    ]
    assert left_out(["p50_us"], {"p50_us": 1.0}) == []


def test_ratios_are_taken_pair_by_pair_so_that_a_slow_moment_of_both_does_not_count():
    assert paired_ratio([20.0, 2.0, 30.0], [10.0, 1.0, 10.0]) == 2.0


def test_runs_that_are_not_pairs_have_no_ratio():
    with pytest.raises(ValueError, match="not pairs"):
        paired_ratio([1.0, 2.0], [1.0])
