"""Many latencies as few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.distribution import PER_DECADE, histogram, low_of, merged, quantile
from bench.figures import percentile

VALUES = st.lists(st.floats(0.5, 1e7), min_size=1, max_size=200)


@given(VALUES)
def test_no_value_is_lost_and_each_is_in_its_bucket(values):
    counts = histogram(values)
    assert sum(counts.values()) == len(values)
    for bucket in counts:
        low, high = low_of(int(bucket)), low_of(int(bucket) + 1)
        assert any(low * 0.999999 <= value <= high * 1.000001 for value in values)


@given(VALUES, VALUES)
def test_runs_are_added_up_as_if_they_were_one(one, other):
    assert merged(histogram(one), histogram(other)) == histogram(one + other)


@given(VALUES, st.sampled_from([50, 95, 99]))
def test_a_quantile_is_near_the_percentile_of_the_values(values, percent):
    width = 10 ** (1 / PER_DECADE)
    assert 1 / width < quantile(histogram(values), percent) / percentile(values, percent) < width


def test_no_values_have_no_quantile():
    with pytest.raises(ValueError, match="no values"):
        quantile({}, 50)
