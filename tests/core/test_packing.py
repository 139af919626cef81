"""Lists cut into messages that a peer will take."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mesh.core.packing import (
    FRAME_BYTES,
    ITEM_BYTES,
    LARGE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    MESSAGE_ITEMS_MAX,
    PART_BYTES,
    has_long_options,
    outcome_bytes,
    pack,
    payload_bytes,
    settlement_bytes,
    task_bytes,
    task_bytes_with,
)
from mesh.messages import Submit
from mesh.model import (
    Blob,
    Ending,
    ErrorInfo,
    Outcome,
    Retrying,
    Settlement,
    TaskExtra,
    TaskOptions,
    TaskSpec,
    TaskState,
)

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
    assert payload_bytes(Blob("k", [1, 1, 1])) == 3 * FRAME_BYTES
    whole = Blob("k", [PART_BYTES, PART_BYTES + 1])
    assert payload_bytes(whole) == whole.size * MESSAGE_BYTES_MAX // LARGE_BYTES_MAX


def test_large_payloads_share_a_message_up_to_a_limit_and_one_beyond_it_has_its_own() -> None:
    def sizes(*mib: int) -> list[int]:
        tasks = [TaskSpec("t", 0, Blob("k", [one << 20])) for one in mib]
        return [len(part) for part in pack(tasks, task_bytes)]

    most = LARGE_BYTES_MAX >> 20
    assert sizes(*[2] * 60) == [most // 2 - 1, 60 - most // 2 + 1], "what is small in an item counts, too"
    assert sizes(1, 4 * most, 1, 1) == [1, 1, 2]
    assert sizes(*[most // 2 + 1] * 3) == [1, 1, 1]


@given(st.lists(st.lists(st.integers(1, 200 << 20), min_size=1, max_size=40), max_size=60))
def test_no_message_has_more_frames_than_a_peer_takes_nor_more_bytes_than_the_limit(blobs: list[list[int]]) -> None:
    for part in pack([TaskSpec("t", 0, Blob("k", sizes)) for sizes in blobs], task_bytes):
        payloads = [task.payload for task in part]
        if len(part) > 1:
            assert sum(blob.size for blob in payloads) <= LARGE_BYTES_MAX
            assert sum(-(-size // PART_BYTES) for blob in payloads for size in blob.sizes) <= 512


LONG = "錯" * 255
texts = st.text(st.characters(codec="utf-8"), max_size=300)
blobs = st.builds(Blob, st.just("k"), st.lists(st.integers(1, 1 << 21), min_size=1, max_size=3))
payloads = st.binary(max_size=300) | blobs
task_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=255)
extras = st.none() | st.builds(TaskExtra, st.none() | st.dictionaries(texts, texts, max_size=5), texts, texts)
errors = st.builds(ErrorInfo, texts, texts, texts, st.none() | st.binary(max_size=300), texts)
retries = st.none() | st.builds(Retrying, st.just(1.5), st.none() | payloads)
encode = msgspec.msgpack.Encoder().encode


@given(st.builds(TaskSpec, task_ids, st.just(2**40), payloads, st.just(1.5), st.just(2.5), extras))
def test_a_task_takes_no_more_than_is_counted(task: TaskSpec) -> None:
    assert len(encode(task)) <= task_bytes(task) + ITEM_BYTES


@given(st.builds(Settlement, task_ids, st.just(3), st.just(Ending.FAILED), payloads, error=errors, retry=retries))
def test_a_settlement_takes_no_more_than_is_counted(settlement: Settlement) -> None:
    assert len(encode(settlement)) <= settlement_bytes(settlement) + ITEM_BYTES


@given(
    st.builds(Outcome, task_ids, st.just(TaskState.FAILED), payloads, errors, texts, texts, texts),
    st.integers(0, 2**62),
)
def test_an_outcome_takes_no_more_than_is_counted(outcome: Outcome, number: int) -> None:
    at = 1.8e9 + 0.1
    outcome = replace(outcome, attempts=number, retries=number, batch=number, accepted_at=at, started_at=at)
    outcome = replace(outcome, finished_at=at, expires_at=at)
    assert len(encode(outcome)) <= outcome_bytes(outcome) + ITEM_BYTES


def test_options_that_are_long_together_are_counted_with_each_task() -> None:
    options = [TaskOptions(LONG[:200], LONG[: 100 + i % 100]) for i in range(2_000)]
    tasks = [TaskSpec(LONG, i, b"") for i in range(2_000)]
    assert has_long_options(options) and not has_long_options(options[:10])
    for part in pack(tasks, task_bytes_with(options)):
        assert len(encode(Submit(1, [options[task.option] for task in part], list(part)))) <= MESSAGE_BYTES_MAX


def test_large_new_arguments_of_a_retry_count_for_their_frames() -> None:
    retry = Settlement("t", 1, Ending.RETRY, retry=Retrying(1.0, Blob("k", [PART_BYTES] * 100)))
    assert len(list(pack([retry] * 10, settlement_bytes))) > 1
