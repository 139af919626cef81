"""Many at once: map is ordered, lazy and bounded; as_completed yields without polling; gather keeps the order."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import ConfigError, Mesh, TimeoutError, Unavailable
from mesh.api.bulk import BUNDLE_BYTES, BUNDLE_MAX, GROWTH, BundleSize
from mesh.testing import local_mesh
from tests.api.scripted_router import ScriptedRouter
from tests.api.waiting import MeshWithMachine, wait_until

app = MeshWithMachine("bulk")
gate = threading.Event()


@app.task
def square(n):
    return n * n


@app.task
def fragile(n):
    if n == 3:
        raise ValueError(n)
    return n


@app.task
def wait_for_gate(n):
    gate.wait(20)
    return n


@pytest.fixture(scope="module", autouse=True)
def _mesh():
    with local_mesh(app, slots=2):
        yield


@pytest.fixture(autouse=True)
def _gate():
    gate.clear()
    yield
    gate.set()


def test_map_gives_the_results_in_order():
    assert list(app.map(square, range(3_000))) == [n * n for n in range(3_000)]


def test_map_takes_several_iterables_and_any_function():
    offset = 100

    assert list(app.map(lambda a, b: a + b + offset, [1, 2, 3], itertools.count())) == [101, 103, 105]
    assert list(app.map(square, [])) == []


@pytest.mark.parametrize("chunksize", [1, 7, 1_000])
def test_a_fixed_chunk_size_changes_nothing_but_the_chunks(chunksize):
    before = app.status()["router"]["accepted"]

    assert list(app.map(square, range(50), chunksize=chunksize)) == [n * n for n in range(50)]
    assert app.status()["router"]["accepted"] - before == -(-50 // chunksize)


def test_elements_are_taken_only_as_they_are_needed():
    taken = itertools.count()

    def endless():
        while True:
            yield next(taken)

    results = app.map(square, endless(), chunksize=10, window=3)
    assert next(taken) == 0, "nothing is taken before the first result is asked for"
    got = list(itertools.islice(results, 95))

    assert got == [n * n for n in range(1, 96)]
    assert next(taken) <= 1 + 95 + 2 * 3 * 10
    results.close()


def test_what_is_under_way_stays_bounded_over_a_long_run():
    taken = 0

    def elements():
        nonlocal taken
        for n in range(1, 6_001):
            taken = n
            yield n

    ahead = [taken - given_ for given_, _ in enumerate(app.map(square, elements(), window=4), start=1)]

    assert len(ahead) == 6_000
    assert max(ahead) <= 5 * BUNDLE_MAX
    wait_until(lambda: not app.machine.waiting)


def test_the_first_error_is_raised_in_its_place_and_the_rest_is_cancelled():
    results = app.map(fragile, range(10_000), chunksize=2, window=50)

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)
    wait_until(lambda: app.status()["router"]["tasks"] == 0)


def test_errors_can_be_returned_in_their_place():
    results = list(app.map(fragile, range(6), chunksize=2, return_exceptions=True))

    assert results[:3] + results[4:] == [0, 1, 2, 4, 5]
    assert isinstance(results[3], ValueError) and "in fragile" in results[3].remote_traceback


def test_map_raises_an_outage_also_where_exceptions_are_wanted(short_polls):
    lonely = Mesh("bulk", connect_timeout_s=0.05, exit_flush_s=0.01)
    ScriptedRouter().join(lonely, found=False)

    with lonely, pytest.raises(Unavailable, match="the script and nothing else"):
        list(lonely.map(len, ["a", "b"], return_exceptions=True))


def test_a_map_that_takes_too_long_says_so():
    with pytest.raises(TimeoutError):
        list(app.map(wait_for_gate, range(3), timeout=0.05))


@pytest.mark.parametrize("wrong", [{"chunksize": 0}, {"window": 0}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        app.map(square, [1], **wrong)
    with pytest.raises(ConfigError, match="iterable"):
        app.map(square)


@given(st.lists(st.floats(1e-8, 10), min_size=1, max_size=30))
def test_chunks_grow_in_steps_and_shrink_at_once(seconds_per_element):
    size = BundleSize(None)
    for seconds in seconds_per_element:
        before = size.size
        size.learn(size.size, seconds * size.size)
        assert 1 <= size.size <= min(BUNDLE_MAX, before * GROWTH)
        assert size.size == 1 or size.size * seconds <= 0.021


def test_large_elements_travel_in_small_chunks():
    size = BundleSize(None)
    size.weigh(1, BUNDLE_BYTES // 10)
    for _ in range(10):
        size.learn(size.size, 1e-6)
    assert size.size == 10
    size.weigh(10, 100 * BUNDLE_BYTES)
    assert size.size == 1

    texts = ["x" * 300_000 for _ in range(40)]
    assert list(app.map(len, texts, return_exceptions=True)) == [300_000] * 40


def test_as_completed_yields_as_tasks_finish():
    slow = wait_for_gate.delay(1)
    quick = [square.delay(n) for n in range(20)]
    finished = app.as_completed([slow, *quick], timeout=10)
    first = [next(finished) for _ in range(20)]

    assert set(first) == set(quick) and all(r.ready() for r in first)
    gate.set()
    assert next(finished) is slow and next(finished, None) is None


def test_as_completed_knows_what_is_finished_already_and_what_it_is_given_twice():
    result = square.delay(3)
    result.get(timeout=5)

    assert list(app.as_completed([result, result], timeout=1)) == [result, result]
    assert list(app.as_completed([])) == []


def test_as_completed_gives_up_in_time():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="2 results"):
        list(app.as_completed([wait_for_gate.delay(1), wait_for_gate.delay(2)], timeout=0.1))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "wait",
    [
        lambda result: app.gather(result, timeout=0.05),
        lambda result: list(app.as_completed([result], timeout=0.05)),
    ],
)
def test_a_wait_for_many_that_runs_out_says_why_one_is_not_finished(wait):
    result = app.send_task("no.such.task")
    with pytest.raises(TimeoutError, match=r"knows task 'no\.such\.task'") as caught:
        wait(result)
    assert result.id in str(caught.value) and caught.value.why == result.story()
    result.revoke()


def test_gather_keeps_the_order():
    assert app.gather(square.delay(2), square.delay(3), timeout=5) == [4, 9]
    assert app.gather([square.delay(n) for n in range(5)], timeout=5) == [0, 1, 4, 9, 16]


def test_gather_raises_the_first_error_or_returns_them():
    with pytest.raises(ValueError, match="3"):
        app.gather([fragile.delay(n) for n in (1, 3, 2)], timeout=5)
    one, error, two = app.gather([fragile.delay(n) for n in (1, 3, 2)], timeout=5, return_exceptions=True)
    assert (one, two) == (1, 2) and isinstance(error, ValueError)
    with pytest.raises(TimeoutError):
        app.gather(wait_for_gate.delay(1), timeout=0.05)
