"""When a failed task is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.retrying import RetryPolicy, backoff_factor, backoff_s
from mesh.errors import ConfigError, Retry


@pytest.mark.parametrize(
    ("factor", "retries", "maximum", "expected"),
    [(1, 0, 600, 1), (1, 3, 600, 8), (2, 3, 600, 16), (1, 10, 600, 600), (1, 5_000, 600, 600), (4, 1, 5, 5)],
)
def test_backoff_doubles_up_to_its_maximum(factor, retries, maximum, expected):
    assert backoff_s(factor, retries, maximum, None) == expected


@given(
    st.floats(0, 1e6), st.integers(0, 10_000), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True), st.integers(0, 99)
)
def test_a_pause_is_never_negative_nor_over_the_maximum_and_never_shrinks(factor, retries, maximum, chance, more):
    whole = backoff_s(factor, retries, maximum, None)

    assert 0 <= whole <= maximum
    assert 0 <= backoff_s(factor, retries, maximum, chance) <= whole
    assert backoff_s(factor, retries + more, maximum, None) >= whole


@pytest.mark.parametrize(("given_", "factor"), [(False, None), (0, None), (True, 1.0), (0.2, 0.2), (5, 5.0)])
def test_what_retry_backoff_means(given_, factor):
    assert backoff_factor(given_) == factor


def test_a_backoff_below_0_is_refused():
    with pytest.raises(ConfigError, match="retry_backoff=-1"):
        backoff_factor(-1)


def test_without_backoff_the_countdown_of_retry_kwargs_counts_else_the_default():
    assert RetryPolicy(arguments={"countdown": 7}).delay_s(3, 0.5) == 7
    assert RetryPolicy(default_delay_s=11).delay_s(3, 0.5) == 11


def test_jitter_takes_part_of_the_pause():
    policy = RetryPolicy(backoff=10.0, jitter=True)

    assert policy.delay_s(1, 0.25) == 5.0
    assert RetryPolicy(backoff=10.0, jitter=False).delay_s(1, 0.25) == 20.0


def test_what_a_policy_retries_on():
    policy = RetryPolicy(retry_for=(OSError,), dont_retry_for=(FileNotFoundError,))

    assert policy.retries_on(OSError())
    assert not policy.retries_on(FileNotFoundError())
    assert not policy.retries_on(ValueError())
    assert not RetryPolicy(retry_for=(Exception,)).retries_on(Retry())


@pytest.mark.parametrize("wrong", [{"arguments": {"countdwn": 1}}, {"max_retries": -1}])
def test_a_wrong_policy_is_refused_with_what_is_known(wrong):
    with pytest.raises(ConfigError, match=r"countdown|0 or more"):
        RetryPolicy(**wrong)
