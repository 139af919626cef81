"""What every store promises, tried on every store there is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropBlobs,
    DropEntry,
    DropFunctions,
    DropNode,
    DropOutcomes,
    KeepFunctions,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SaveNode,
    SavePositions,
)
from mesh.entries import Entry, Position
from mesh.errors import StoreError, StoreFull
from mesh.messages import Submit
from mesh.model import Blob, FunctionCode, NodeInfo, TaskMark, TaskOptions, TaskState
from mesh.runtime.waiting import COMMIT_BYTES, COMMIT_ROWS
from mesh.schedules import Every
from mesh.store.base import Store, StoredBatch
from mesh.store.memory import MemoryStore
from mesh.store.sqlite import SqliteStore
from tests.contract.stores import BLOB, ERROR, MIB, PARTS, Disk, append, outcome_of, submit_of
from tests.redis_server import open_redis, own_url, redis_server


@pytest.fixture(params=["memory", "process", "disk", pytest.param("redis", marks=pytest.mark.processes)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "memory":
        memory = MemoryStore()
        disk = Disk(lambda: memory, "memory")
    elif request.param == "redis":
        url = own_url(redis_server().url)
        disk = Disk(lambda: open_redis(url), "process")
    else:
        disk = Disk(lambda: SqliteStore(tmp_path / "m.db", level=request.param, ballast_bytes=0), request.param)
    yield disk
    if disk.store is not None:
        disk.store.close()


@pytest.fixture
def store(disk: Disk) -> Store:
    store = disk.start()
    store.recover()
    return store


def test_a_store_that_gave_nothing_up_says_so(store: Store) -> None:
    assert list(store.salvaged) == []


def mark(task_id: str, batch: int = 1, attempt: int = 1) -> TaskMark:
    return TaskMark(task_id, batch, attempt, 0, 0)


# starting


def test_a_new_store_is_empty_and_starts_at_boot_and_sequence_one(disk):
    recovered = disk.start().recover()

    assert (recovered.boot, recovered.next_seq) == (1, 1)
    assert (recovered.batches, recovered.marks, recovered.nodes) == ([], [], [])


def test_each_start_has_a_boot_number_of_its_own(disk, store):
    assert [disk.reopen().recover().boot for _ in range(3)] == [2, 3, 4]


def test_a_store_says_its_level(disk, store):
    assert store.level == disk.level
    assert store.url.startswith(("memory://", "sqlite:///", "redis://"))


# batches


def test_committed_batches_come_back_in_order_as_they_were_written(disk, store):
    store.commit([append(1, "a"), AppendBatch(2, submit_of("b"), b"as it arrived", 7.25)])
    store.commit([append(3, "c", "d")])

    batches = disk.reopen().recover().batches

    assert [(b.seq, b.accepted_at) for b in batches] == [(1, 1000.5), (2, 7.25), (3, 1000.5)]
    assert batches[1] == StoredBatch(2, b"as it arrived", 7.25, set())
    assert msgspec.msgpack.decode(batches[2].raw, type=Submit) == submit_of("c", "d")


def test_a_finished_batch_does_not_come_back_and_its_number_is_not_used_again(disk, store):
    store.commit([append(1, "a"), append(2, "b")])
    store.commit([DropBatches([1, 2])])

    recovered = disk.reopen().recover()

    assert recovered.batches == []
    assert recovered.next_seq == 3


def test_a_batch_appended_and_finished_in_one_commit_leaves_nothing(disk, store):
    store.commit([append(1, "a"), RecordOutcomes([outcome_of("a", batch=1)]), DropBatches([1])])

    recovered = disk.reopen().recover()

    assert recovered.batches == []
    assert recovered.next_seq == 2
    assert [o.id for o in disk.store.outcomes(["a"])] == ["a"]


def test_dropping_a_batch_twice_is_harmless(disk, store):
    store.commit([append(1, "a"), append(2, "b")])
    store.commit([DropBatches([1, 1])])
    store.commit([DropBatches([1])])

    assert [b.seq for b in disk.reopen().recover().batches] == [2]
    assert disk.store.usage().batches == 1


def test_a_recovered_batch_names_the_tasks_that_are_already_finished(disk, store):
    store.commit([append(1, "a", "b"), append(2, "c", "d"), append(3, "e")])
    store.commit([RecordOutcomes([outcome_of("b", batch=1), outcome_of("c", batch=2)])])
    store.commit([RecordOutcomes([outcome_of("e", batch=3)]), DropBatches([3])])

    batches = disk.reopen().recover().batches

    assert {b.seq: b.settled for b in batches} == {1: {"b"}, 2: {"c"}}


def test_settled_tasks_are_found_although_newer_results_were_forgotten(disk, store):
    store.commit([append(1, "old"), RecordOutcomes([outcome_of("old", batch=1)]), DropBatches([1])])
    store.commit([append(2, "a", "b")])
    store.commit([DropOutcomes(["old"])])
    store.commit([RecordOutcomes([outcome_of("a", batch=2)])])

    assert disk.reopen().recover().batches[0].settled == {"a"}


@pytest.mark.parametrize("count", [1, 3, 255, 257, 1000])
def test_batches_and_outcomes_of_every_number_are_written_whole(disk, store, count):
    ids = [f"t{i:05}" for i in range(count)]
    store.commit([append(i + 1, task_id) for i, task_id in enumerate(ids)])
    store.commit([RecordOutcomes([outcome_of(task_id, batch=i + 1) for i, task_id in enumerate(ids)])])

    recovered = disk.reopen().recover()
    assert [next(iter(b.settled)) for b in recovered.batches] == ids
    assert sorted(o.id for o in disk.store.outcomes(ids)) == ids

    disk.store.commit([DropBatches([b.seq for b in recovered.batches])])
    assert disk.reopen().recover().batches == []


# outcomes


def test_an_outcome_reads_back_as_it_was_written(disk, store):
    outcomes = [
        outcome_of("ok", retries=2, attempts=3, batch=9),
        outcome_of("empty", payload=b""),
        outcome_of("failed", state=TaskState.FAILED, payload=b"", error=ERROR),
        outcome_of("cancelled", state=TaskState.CANCELLED, payload=b""),
        outcome_of("large", payload=BLOB),
        outcome_of("dead", state=TaskState.DEAD, payload=b"", error=msgspec.structs.replace(ERROR, pickled=None)),
    ]
    store.put_blob(BLOB, PARTS)
    store.commit([RecordOutcomes(outcomes)])

    found = disk.reopen().outcomes([o.id for o in outcomes] + ["nobody"])

    assert sorted(found, key=lambda o: o.id) == sorted(outcomes, key=lambda o: o.id)
    assert all(type(o.state) is TaskState for o in found)


def test_outcomes_can_be_read_right_after_the_commit(store):
    store.commit([RecordOutcomes([outcome_of("a")])])

    assert store.outcomes(["a", "b", "a"]) == [outcome_of("a")]
    assert store.outcomes([]) == []


@pytest.mark.parametrize("in_one_commit", [True, False])
@pytest.mark.parametrize("second_error", [None, ERROR])
def test_the_first_outcome_of_a_task_wins(disk, store, in_one_commit, second_error):
    first = RecordOutcomes([outcome_of("a", payload=b"first")])
    second = RecordOutcomes([outcome_of("a", payload=b"second", error=second_error), outcome_of("b")])
    for records in [[first, second]] if in_one_commit else [[first], [second]]:
        store.commit(records)

    assert disk.reopen().outcomes(["a"]) == [outcome_of("a", payload=b"first")]
    assert disk.store.outcomes(["b"]) == [outcome_of("b")]
    assert disk.store.usage().outcomes == 2


def test_a_dropped_outcome_is_gone_and_its_id_may_finish_anew(disk, store):
    store.commit([RecordOutcomes([outcome_of("a"), outcome_of("b")])])
    store.commit([DropOutcomes(["a", "unknown"])])
    assert store.outcomes(["a", "b"]) == [outcome_of("b")]

    store.commit([DropOutcomes(["b"]), RecordOutcomes([outcome_of("b", payload=b"anew")])])
    store.commit([RecordOutcomes([outcome_of("c")]), DropOutcomes(["c"])])

    assert disk.reopen().outcomes(["a", "b", "c"]) == [outcome_of("b", payload=b"anew")]
    assert disk.store.usage().outcomes == 1


def test_a_task_whose_outcome_was_forgotten_is_still_finished_while_its_batch_is_open(disk, store):
    store.put_blob(BLOB, PARTS)
    store.commit([append(1, "a", "b"), RecordOutcomes([outcome_of("a", batch=1, payload=BLOB)])])
    store.commit([DropOutcomes(["a"])])
    assert (store.outcomes(["a"]), store.read_blob(BLOB), store.usage().outcomes) == ([], None, 0)

    assert disk.reopen().recover().batches[0].settled == {"a"}
    assert disk.store.prune(1e9, 10) == 0
    again = outcome_of("a", batch=2)
    disk.store.commit([append(2, "a"), RecordOutcomes([again])])
    assert disk.store.outcomes(["a"]) == [again]

    assert [b.settled for b in disk.reopen().recover().batches] == [{"a"}, {"a"}]
    disk.store.commit([RecordOutcomes([outcome_of("b", batch=1)]), DropBatches([1, 2])])
    disk.store.commit([DropOutcomes(["a", "b"])])
    assert disk.reopen().recover().batches == []
    assert disk.store.usage().outcomes == 0


@pytest.mark.parametrize("forgotten", [False, True])
def test_an_outcome_that_was_durable_before_its_batch_still_finishes_its_task(disk, store, forgotten):
    store.commit([RecordOutcomes([outcome_of("a", batch=1), outcome_of("c", batch=2)])])
    if forgotten:
        store.commit([DropOutcomes(["a"])])
    store.commit([RecordOutcomes([outcome_of("other")])])
    store.commit([append(1, "a", "b")])
    store.commit([append(2, "c", "d")])

    assert [b.settled for b in disk.reopen().recover().batches] == [{"a"}, {"c"}]


# marks and nodes


def test_the_latest_mark_of_a_task_comes_back(disk, store):
    full = TaskMark("b", 7, 4, 3, 2, 99.5, b"new arguments", True)
    store.commit([SaveMarks([mark("a"), full])])
    store.commit([SaveMarks([mark("a", attempt=2)]), SaveMarks([mark("a", attempt=3)])])

    marks = disk.reopen().recover().marks

    assert sorted(marks, key=lambda m: m.id) == [mark("a", attempt=3), full]


def test_a_mark_goes_with_the_outcome_of_its_task(disk, store):
    store.commit([SaveMarks([mark("a"), mark("b"), mark("c")])])
    store.commit([RecordOutcomes([outcome_of("a"), outcome_of("b")], marked=["a"])])

    assert sorted(m.id for m in disk.reopen().recover().marks) == ["b", "c"]


def test_a_mark_saved_and_removed_in_one_commit_follows_the_order_of_the_records(disk, store):
    store.commit([SaveMarks([mark("a")]), RecordOutcomes([outcome_of("a")], marked=["a"])])
    store.commit([RecordOutcomes([], marked=["b"]), SaveMarks([mark("b")])])

    assert [m.id for m in disk.reopen().recover().marks] == ["b"]


def test_nodes_are_remembered_until_they_are_dropped(disk, store):
    store.commit([SaveNode(NodeInfo("n1", "one")), SaveNode(NodeInfo("n2", "two"))])
    store.commit([SaveNode(NodeInfo("n1", "renamed")), DropNode("n2"), DropNode("n3")])
    store.commit([DropNode("n1"), SaveNode(NodeInfo("n1", "back"))])

    assert disk.reopen().recover().nodes == [NodeInfo("n1", "back")]


# functions


def test_a_function_is_kept_by_its_digest(disk, store):
    small, large = FunctionCode("d1", "3.11", b"code"), FunctionCode("d2", "3.12", BLOB)
    store.put_blob(BLOB, PARTS)
    store.commit([SaveFunction(small), SaveFunction(large), SaveFunction(small)])

    store = disk.reopen()
    assert (store.function("d1"), store.function("d2"), store.function("d3")) == (small, large, None)


def test_when_functions_were_last_used_comes_back_the_oldest_first(disk, store):
    codes = [FunctionCode(f"d{n}", "3.11", b"code") for n in range(4)]
    store.commit([SaveFunction(code, 100.0 + n) for n, code in enumerate(codes)])
    store.commit([KeepFunctions(["d0", "d2"], 200.0), SaveFunction(codes[1], 150.0)])

    assert list(disk.reopen().recover().functions.items()) == [
        ("d3", 103.0),
        ("d1", 150.0),
        ("d0", 200.0),
        ("d2", 200.0),
    ]


def test_a_dropped_function_is_gone_with_its_blob(disk, store):
    small, large = FunctionCode("d1", "3.11", b"code"), FunctionCode("d2", "3.12", BLOB)
    store.put_blob(BLOB, PARTS)
    store.commit([SaveFunction(small, 1.0), SaveFunction(large, 2.0)])
    store.commit([DropFunctions(["d2", "never there"])])

    assert store.read_blob(BLOB) is None
    store = disk.reopen()
    assert store.recover().functions == {"d1": 1.0}
    assert (store.function("d1"), store.function("d2"), store.read_blob(BLOB)) == (small, None, None)


def test_a_function_may_come_back_after_it_was_dropped(disk, store):
    large = FunctionCode("d2", "3.12", BLOB)
    for used_at in (1.0, 2.0):
        store.put_blob(BLOB, PARTS)
        store.commit([SaveFunction(large, used_at)])
        store.commit([DropFunctions(["d2"])])
    store.put_blob(BLOB, PARTS)
    store.commit([SaveFunction(large, 3.0)])

    assert disk.reopen().recover().functions == {"d2": 3.0}
    assert disk.store.function("d2") == large
    assert disk.store.read_blob(BLOB) == PARTS


def test_a_function_dropped_and_saved_again_in_one_commit_keeps_its_blob(disk, store):
    large = FunctionCode("d2", "3.12", BLOB)
    store.put_blob(BLOB, PARTS)
    store.commit([SaveFunction(large, 1.0)])
    store.put_blob(BLOB, PARTS)
    forgotten = [DropOutcomes(["t1"]), RecordOutcomes([outcome_of("t1")])]  # these are written in two goes
    store.commit([KeepFunctions(["d2"], 2.0), DropFunctions(["d2"]), *forgotten, SaveFunction(large, 3.0)])

    assert disk.reopen().recover().functions == {"d2": 3.0}
    assert (disk.store.function("d2"), disk.store.read_blob(BLOB)) == (large, PARTS)


def test_a_function_saved_and_dropped_in_one_commit_leaves_nothing(disk, store):
    code = FunctionCode("d1", "3.11", b"code")
    store.commit([SaveFunction(code, 1.0), KeepFunctions(["d1"], 2.0), DropFunctions(["d1"])])

    assert disk.reopen().recover().functions == {}
    assert disk.store.function("d1") is None


# blobs


def test_a_blob_reads_back_in_parts_that_never_cross_the_end_of_a_buffer(disk, store):
    store.put_blob(BLOB, [b"abc", b"de" + b"x" * 10, b"x" * (MIB - 10), b"yyy"])
    store.commit([RecordOutcomes([outcome_of("t1", payload=BLOB)])])

    assert store.read_blob(BLOB) == PARTS
    assert disk.reopen().read_blob(BLOB) == PARTS
    assert disk.store.recover().boot == 2
    assert disk.store.read_blob(BLOB) == PARTS


def test_a_blob_can_be_written_twice(disk, store):
    store.put_blob(BLOB, PARTS)
    store.put_blob(BLOB, PARTS)
    store.commit([append(1, "t1")])
    store.put_blob(BLOB, PARTS)

    disk.reopen().recover()
    assert disk.store.read_blob(BLOB) == PARTS


@pytest.mark.parametrize("sizes", [[3], [5]])
def test_a_committed_blob_is_never_overwritten(disk, store, sizes):
    first = Blob("k", [3])
    store.put_blob(first, [b"one"])
    store.commit([append(1, "t1")])

    for _ in range(2):
        disk.store.put_blob(Blob("k", sizes), [b"other"[: sizes[0]]])
        disk.store.commit([RecordOutcomes([outcome_of("t", payload=first), outcome_of("t", payload=Blob("k", sizes))])])
        assert disk.reopen().read_blob(first) == [b"one"]


def test_the_key_of_a_dropped_blob_can_be_used_again(store):
    store.put_blob(Blob("k", [3]), [b"one"])
    store.commit([append(1, "t1")])
    store.commit([DropBlobs([Blob("k", [3])])])
    store.put_blob(Blob("k", [3]), [b"two"])
    store.commit([append(2, "t2")])

    assert store.read_blob(Blob("k", [3])) == [b"two"]


def test_a_blob_of_the_wrong_size_is_refused_and_the_earlier_one_stays(store):
    store.put_blob(BLOB, PARTS)
    store.commit([])

    with pytest.raises(StoreError, match="t1:result"):
        store.put_blob(BLOB, PARTS[:-1])

    assert store.read_blob(BLOB) == PARTS


def test_a_blob_that_no_commit_followed_is_gone_after_the_next_start(disk, store):
    other = Blob("other", [3])
    store.put_blob(BLOB, PARTS)
    store.commit([append(1, "t1")])
    store.put_blob(other, [b"abc"])

    disk.reopen().recover()

    assert disk.store.read_blob(other) is None
    assert disk.store.read_blob(BLOB) == PARTS


def test_a_dropped_blob_is_gone(disk, store):
    store.put_blob(BLOB, PARTS)
    store.commit([append(1, "t1")])
    store.commit([DropBlobs([BLOB, Blob("unknown", [1])])])

    assert store.read_blob(BLOB) is None
    disk.reopen().recover()
    assert disk.store.read_blob(BLOB) is None


def test_the_blob_of_an_outcome_goes_with_the_outcome(store):
    kept, second = Blob("kept", [1]), Blob("second", [1])
    for blob, parts in ((BLOB, PARTS), (kept, [b"k"]), (second, [b"s"])):
        store.put_blob(blob, parts)
    store.commit([RecordOutcomes([outcome_of("t1", payload=BLOB), outcome_of("t2", payload=kept)])])
    store.commit([RecordOutcomes([outcome_of("t2", payload=second)])])
    store.commit([DropOutcomes(["t1"])])

    assert store.read_blob(BLOB) is None
    assert store.read_blob(kept) == [b"k"]
    assert store.read_blob(second) is None


# retention


def test_prune_forgets_what_has_expired_and_nothing_else(disk, store):
    store.put_blob(BLOB, PARTS)
    expired = [outcome_of(f"e{i}", expires_at=100.0 + i) for i in range(5)]
    store.commit([RecordOutcomes([*expired, outcome_of("stays", expires_at=500.0)])])
    store.commit([RecordOutcomes([outcome_of("large", payload=BLOB, expires_at=1.0)])])

    assert store.prune(50.0, 100) == 1
    assert store.read_blob(BLOB) is None
    assert store.prune(104.0, 100) == 4
    assert store.prune(104.0, 100) == 0
    assert sorted(o.id for o in disk.reopen().outcomes(["large", "stays", *(o.id for o in expired)])) == ["e4", "stays"]
    assert disk.store.usage().outcomes == 2


def test_prune_keeps_to_its_limit_and_goes_on_the_next_time(store):
    store.commit([RecordOutcomes([outcome_of(f"t{i}", expires_at=10.0 + i % 7) for i in range(3000)])])

    assert [store.prune(100.0, 1000) for _ in range(4)] == [1000, 1000, 1000, 0]
    assert store.usage().outcomes == 0


def test_an_outcome_stays_as_long_as_the_batch_its_task_came_in(disk, store):
    store.commit([append(1, "a", "b"), append(2, "c")])
    store.commit(
        [RecordOutcomes([outcome_of("a", batch=1, expires_at=10.0), outcome_of("c", batch=2, expires_at=9.0)])]
    )
    store.commit([DropBatches([2])])

    assert store.prune(100.0, 10) == 1
    assert disk.reopen().recover().batches[0].settled == {"a"}
    assert disk.store.prune(100.0, 10) == 0

    disk.store.commit([RecordOutcomes([outcome_of("b", batch=1)]), DropBatches([1])])
    assert disk.store.prune(100.0, 10) == 1
    assert [o.id for o in disk.store.outcomes(["a", "b", "c"])] == ["b"]


def test_outcomes_that_must_stay_do_not_keep_later_ones_from_being_forgotten(store):
    store.commit([append(1, *(f"open{i}" for i in range(2000)), "last")])
    store.commit([RecordOutcomes([outcome_of(f"open{i}", batch=1, expires_at=1.0) for i in range(2000)])])
    store.commit([RecordOutcomes([outcome_of(f"t{i}", expires_at=2.0) for i in range(2000)])])

    assert sum(store.prune(10.0, 500) for _ in range(8)) == 2000
    assert store.usage().outcomes == 2000


# all or nothing


def test_a_commit_that_fails_leaves_nothing_behind_and_the_next_one_succeeds(disk, store):
    store.commit([append(1, "a")])
    finished = RecordOutcomes([outcome_of("a", batch=1)])

    with pytest.raises(StoreError):
        store.commit([append(2, "b"), finished, SaveMarks([mark("b")]), SaveNode(NodeInfo("n", "n")), append(1, "a")])

    recovered = disk.reopen().recover()
    assert [(b.seq, b.settled) for b in recovered.batches] == [(1, set())]
    assert (recovered.marks, recovered.nodes, recovered.next_seq) == ([], [], 2)
    assert disk.store.usage().outcomes == 0
    disk.store.commit([append(2, "b"), finished])
    assert [(b.seq, b.settled) for b in disk.reopen().recover().batches] == [(1, {"a"}), (2, set())]


@pytest.mark.parametrize(("rows", "size"), [(COMMIT_ROWS, 10), (COMMIT_BYTES // 60_000, 60_000)])
def test_as_much_as_a_router_gives_it_at_once_is_one_commit(disk, store, rows, size):
    store.commit([append(1, *(f"t{number}" for number in range(rows)))])
    ended = [outcome_of(f"t{number}", batch=1, payload=bytes(size)) for number in range(rows)]

    store.commit([RecordOutcomes(ended)])

    recovered = disk.reopen()
    assert len(recovered.recover().batches[0].settled) == rows
    assert recovered.outcomes(["t0", f"t{rows - 1}"]) == [ended[0], ended[-1]]
    recovered.commit([DropBatches([1]), DropOutcomes([one.id for one in ended])])
    assert recovered.usage().outcomes == 0


# room


def test_usage_counts_outcomes_and_open_batches(disk, store):
    store.commit([append(1, "a"), append(2, "b"), RecordOutcomes([outcome_of("a", batch=1)]), DropBatches([1])])

    usage = disk.reopen().usage()

    assert (usage.outcomes, usage.batches) == (1, 1)
    assert usage.free_bytes is None or usage.free_bytes > 0


def test_a_commit_without_room_writes_nothing_and_succeeds_once_there_is_room():
    room = [True]
    store = MemoryStore(room=lambda: room[0])
    store.recover()
    store.commit([append(1, "a")])
    room[0] = False

    with pytest.raises(StoreFull):
        store.commit([append(2, "b"), RecordOutcomes([outcome_of("a", batch=1)]), DropBatches([1])])
    assert [b.seq for b in store.recover().batches] == [1]
    assert store.outcomes(["a"]) == []

    room[0] = True
    store.commit([append(2, "b")])
    assert [b.seq for b in store.recover().batches] == [1, 2]


def test_a_payload_that_was_put_for_nothing_can_be_taken_back_until_it_is_committed(disk, store):
    assert store.put_blob(BLOB, PARTS)
    assert not store.put_blob(BLOB, PARTS)
    assert store.take_back_blob(BLOB)
    assert store.read_blob(BLOB) is None
    assert store.put_blob(BLOB, PARTS)
    store.commit([AppendBatch(1, submit_of("a"), None, 1.0)])
    assert not store.take_back_blob(BLOB)
    assert disk.reopen().read_blob(BLOB) == PARTS
    assert not disk.store.put_blob(BLOB, PARTS)


# periodic tasks


def entry(name: str, seconds: float = 1.5) -> Entry:
    return Entry(name, Every(seconds), TaskOptions("tasks.add", "images"), b"\x04\x90", "app", "all", revised_at=1e9)


def test_entries_come_back_with_their_positions_and_the_apps_they_are_from(disk, store):
    ahead = Position("a", 1_700_000_000_123_456, "task", "succeeded", 3, 2, 1, 0.25, 1_700_000_000_000_001)
    store.commit([SaveApp("app", 1_000.5), SaveEntry(entry("a")), SaveEntry(entry("b"))])
    store.commit([append(1, "x"), SavePositions([ahead, Position("b", 7)])])

    recovered = disk.reopen().recover()

    assert recovered.apps == {"app": 1_000.5}
    assert sorted(recovered.entries, key=lambda one: one.name) == [entry("a"), entry("b")]
    assert sorted(recovered.positions, key=lambda one: one.entry) == [ahead, Position("b", 7)]


def test_an_entry_is_replaced_and_goes_with_its_position(disk, store):
    store.commit([SaveEntry(entry("a")), SavePositions([Position("a", 1)]), SaveEntry(entry("b"))])
    store.commit([SaveEntry(entry("a", 9.0)), SavePositions([Position("a", 2)]), SavePositions([Position("a", 3)])])
    store.commit([DropEntry("b"), SaveApp("app", 1.0)])
    store.commit([SaveApp("app", 0.0)])

    recovered = disk.reopen().recover()

    assert (recovered.entries, recovered.positions, recovered.apps) == ([entry("a", 9.0)], [Position("a", 3)], {})


def test_an_entry_that_goes_and_comes_in_one_commit_begins_anew(disk, store):
    store.commit([SaveEntry(entry("a")), SavePositions([Position("a", 1)])])
    store.commit([DropEntry("a"), SaveEntry(entry("a", 2.0)), SavePositions([Position("a", 5)])])
    store.commit([DropEntry("a")])
    assert disk.reopen().recover().positions == []


def test_people_can_read_what_is_periodic_and_how_far_it_has_come(tmp_path):
    store = SqliteStore(tmp_path / "m.db", ballast_bytes=0)
    store.commit([SaveEntry(entry("a")), SavePositions([Position("a", 1_500_000, "id", "failed", 3, 2)])])
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        columns = "name, schedule, task, last_due, last_state, fired, skipped"
        rows = connection.execute(f"SELECT {columns} FROM periodic_tasks").fetchall()
    store.close()
    assert rows == [("a", "every 1.5 seconds", "tasks.add", "1970-01-01T00:00:01.500Z", "failed", 3, 2)]
