"""Names that wait for a moment each."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.moments import SPARE, Moments


def taken(moments: Moments[int], until: int) -> Iterator[str]:
    while (name := moments.take(until)) is not None:
        yield name


def test_what_waits_for_another_moment_or_for_none_takes_no_more_room() -> None:
    moments = Moments[int]()
    moments.put("there", 5)
    for at in range(10_000):
        moments.put("often", 1_000_000 + at)
        moments.put("there", 5)
        moments.forget("often")
    assert len(moments) <= SPARE + 4
    assert moments.first() == 5
    assert [*taken(moments, 10), *taken(moments, 10**9)] == ["there"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9))), st.integers(0, 9))
def test_each_name_is_taken_at_its_last_moment(said: list[tuple[str, int | None]], until: int) -> None:
    moments, waits = Moments[int](), dict[str, int]()
    for name, at in said:
        if at is None:
            moments.forget(name)
            waits.pop(name, None)
        else:
            moments.put(name, at)
            waits[name] = at
    due = sorted((at, name) for name, at in waits.items() if at <= until)
    assert moments.first() == min(waits.values(), default=None)
    assert list(taken(moments, until)) == [name for _, name in due]
    assert moments.first() == min((at for at in waits.values() if at > until), default=None)
