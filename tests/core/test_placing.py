"""Water-filling over credit, and dealing in turn."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.placing import deal, shares


@dataclass(frozen=True)
class Holder:
    slots: int
    credit: int
    held: int = 0


holders = st.lists(st.builds(Holder, st.integers(1, 16), st.integers(0, 200), st.integers(0, 200)), max_size=6)


@given(st.integers(0, 500), holders)
def test_shares_give_out_all_there_is_and_nobody_more_than_its_credit(count: int, among: list[Holder]) -> None:
    given_out = shares(count, among)
    assert sum(given_out) == min(count, sum(holder.credit for holder in among))
    assert all(0 <= share <= holder.credit for share, holder in zip(given_out, among))


@given(st.integers(1, 500), holders)
def test_nobody_gets_a_task_that_would_be_better_off_with_another(count: int, among: list[Holder]) -> None:
    given_out = shares(count, among)
    for holder, share in zip(among, given_out):
        if not share:
            continue
        load_without_the_last = (holder.held + share - 1) / holder.slots
        for other, others in zip(among, given_out):
            if others < other.credit:
                # rounding may put one task per slot's worth in the wrong place, never a whole round
                assert load_without_the_last <= (other.held + others + 1) / other.slots + 1e-9


def test_the_least_loaded_is_raised_first() -> None:
    assert shares(6, [Holder(2, 10, held=6), Holder(2, 10), Holder(2, 10)]) == [0, 3, 3]


def test_twice_the_slots_get_twice_the_work() -> None:
    assert shares(9, [Holder(1, 100), Holder(2, 100)]) == [3, 6]


def test_whoever_is_at_the_end_of_its_credit_leaves_the_rest_to_the_others() -> None:
    assert shares(10, [Holder(4, 2), Holder(4, 100)]) == [2, 8]


@given(st.lists(st.integers(0, 20), max_size=6))
def test_deal_gives_each_hand_its_count_and_keeps_the_order_in_it(counts: list[int]) -> None:
    tasks = list(range(sum(counts)))
    hands = deal(tasks, counts)
    assert [len(hand) for hand in hands] == counts
    assert sorted(task for hand in hands for task in hand) == tasks
    assert all(hand == sorted(hand) for hand in hands)


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_what_came_first_is_first_in_every_hand(counts: list[int]) -> None:
    hands = deal(list(range(sum(counts))), counts)
    assert [hand[0] for hand in hands] == list(range(len(counts)))
