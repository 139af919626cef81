"""Lists cut into messages that a peer will take."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.packing import (
    FRAME_BYTES,
    ITEM_BYTES,
    MESSAGE_BYTES_MAX,
    MESSAGE_ITEMS_MAX,
    PART_BYTES,
    pack,
    payload_bytes,
)
from mesh.model import Blob

sizes = st.lists(
    st.one_of(st.integers(0, 100), st.integers(0, MESSAGE_BYTES_MAX // 3), st.integers(0, 2 * MESSAGE_BYTES_MAX)),
    max_size=40,
)


@given(sizes)
def test_packs_hold_everything_in_order_and_fit_unless_one_item_alone_is_too_large(items: list[int]) -> None:
    packs = [list(part) for part in pack(items, int)]
    assert [item for part in packs for item in part] == items
    assert all(packs)
    for part in packs:
        assert len(part) == 1 or sum(part) + ITEM_BYTES * len(part) <= MESSAGE_BYTES_MAX


@given(sizes)
def test_no_two_packs_in_a_row_would_have_fitted_into_one(items: list[int]) -> None:
    packs = [list(part) for part in pack(items, int)]
    for one, following in pairwise(packs):
        first = following[0]
        assert sum(one) + ITEM_BYTES * len(one) + first + ITEM_BYTES > MESSAGE_BYTES_MAX


def test_small_items_are_cut_by_their_number() -> None:
    counts = [len(part) for part in pack([0] * (2 * MESSAGE_ITEMS_MAX + 1), int)]
    assert counts == [MESSAGE_ITEMS_MAX, MESSAGE_ITEMS_MAX, 1]


def test_nothing_is_no_message() -> None:
    assert list(pack([], int)) == []


def test_a_large_payload_counts_for_the_frames_that_follow() -> None:
    assert payload_bytes(b"abc") == 3
    assert payload_bytes(Blob("k", [1, PART_BYTES, PART_BYTES + 1])) == 4 * FRAME_BYTES
