"""How what waits for a store is parted into commits, and what is left out of it."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropEntry,
    DropNode,
    DropOutcomes,
    DueSpan,
    KeepFunctions,
    Record,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SaveMarks,
    SaveNode,
    SavePositions,
)
from mesh.entries import Entry, Position
from mesh.messages import Submit
from mesh.model import NodeInfo, Outcome, TaskMark, TaskOptions, TaskSpec, TaskState
from mesh.runtime import waiting
from mesh.runtime.waiting import Waiting
from mesh.schedules import Every


def outcomes(*ids: str, size: int = 0, marked: list[str] | None = None) -> RecordOutcomes:
    return RecordOutcomes([Outcome(i, TaskState.SUCCEEDED, bytes(size)) for i in ids], marked or [])


def batch(seq: int, number: int = 1) -> AppendBatch:
    return AppendBatch(seq, Submit(number, [TaskOptions("work")], [TaskSpec(f"t{seq}", 0, b"")]), b"raw", 0.0)


def positions(*names: str, due_us: int = 1, **fields: Any) -> SavePositions:
    return SavePositions([Position(name, due_us) for name in names], **fields)


def entry(name: str) -> SaveEntry:
    return SaveEntry(Entry(name, Every(1.0), TaskOptions("work")))


def holding(*records: Record) -> Waiting:
    one = Waiting()
    for record in records:
        one.add(record)
    return one


def parts_of(one: Waiting) -> list[list[Record]]:
    found = []
    while one.records:
        part, rest = one.part()
        assert part
        one.committed(part, rest)
        found.append(part)
    assert one.result_bytes == 0
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "COMMIT_ROWS", 3)
    monkeypatch.setattr(waiting, "COMMIT_BYTES", 1_000)


def test_a_part_has_as_many_records_as_fit() -> None:
    records = [batch(1), batch(2), batch(3), batch(4)]
    assert parts_of(holding(*records)) == [records[:3], records[3:]]


def test_a_long_record_is_split_by_rows_and_by_bytes() -> None:
    found = parts_of(holding(outcomes("a", "b", "c", "d", marked=["b", "d"])))
    assert found == [[outcomes("a", "b", "c", marked=["b"])], [outcomes("d", marked=["d"])]]
    found = parts_of(holding(outcomes("a", "b", "c", size=600)))
    assert found == [[outcomes("a", size=600)], [outcomes("b", size=600)], [outcomes("c", size=600)]]
    assert parts_of(holding(outcomes("a", size=5_000))) == [[outcomes("a", size=5_000)]], "one thing stays whole"
    assert parts_of(holding(DropBatches([1, 2, 3, 4]))) == [[DropBatches([1, 2, 3])], [DropBatches([4])]]
    assert parts_of(holding(DropOutcomes(list("abcd")))) == [[DropOutcomes(list("abc"))], [DropOutcomes(["d"])]]
    marks = [TaskMark(i, 1, 1, 0, 0) for i in "abcd"]
    assert parts_of(holding(SaveMarks(marks))) == [[SaveMarks(marks[:3])], [SaveMarks(marks[3:])]]


def test_what_was_fired_stays_with_how_far_its_entry_has_come() -> None:
    fired, done = [batch(2, number=0), batch(3, number=0)], outcomes("a", "b", "c", "d")
    found = parts_of(holding(batch(1), *fired, done, positions("e", "f")))
    assert found == [
        [batch(1)],
        [outcomes("a", "b", "c")],
        [outcomes("d")],
        [*fired, positions("e", "f")],
    ]


def test_a_fired_batch_whose_entry_is_gone_waits_for_nothing() -> None:
    records = [batch(seq, number=0) for seq in range(1, 5)]
    assert parts_of(holding(*records)) == [records[:3], records[3:]]


def test_the_entries_of_an_app_are_declared_together() -> None:
    declared = [SaveApp("app", 1.0), entry("a"), entry("b"), DropEntry("c"), positions("a", "b")]
    assert parts_of(holding(batch(1), *declared, DropNode("n"))) == [[batch(1)], declared, [DropNode("n")]]


def test_messages_may_be_told_when_what_they_depend_on_is_durable() -> None:
    one = Waiting()
    for number, ids in enumerate(("ab", "cdef", "g"), 1):
        one.add(outcomes(*ids))
        one.end_wake_up(number)
    told = []
    while one.records:
        told.append(one.committed(*one.part()))
    assert told == [1, 0, 2]


def test_a_commit_that_may_have_been_done_is_the_next_one_as_it_was() -> None:
    one = holding(outcomes("a", "b", "c", "d"))
    part, rest = one.part()
    one.doubtful = len(part)
    one.add(DropNode("n"))
    again, _ = one.part()
    assert again is not part and again == part
    assert one.committed(again, [*rest, DropNode("n")]) == 0
    assert parts_of(one) == [[outcomes("d"), DropNode("n")]]


@pytest.mark.parametrize(
    ("records", "left"),
    [
        ([positions("a", "b"), positions("a", due_us=2)], [positions("b"), positions("a", due_us=2)]),
        ([positions("a"), outcomes("x"), positions("a", due_us=2)], [outcomes("x"), positions("a", due_us=2)]),
        ([entry("a"), SaveApp("p", 1.0), entry("a")], [SaveApp("p", 1.0), entry("a")]),
        ([SaveApp("p", 1.0), SaveApp("q", 1.0), SaveApp("p", 2.0)], [SaveApp("q", 1.0), SaveApp("p", 2.0)]),
        ([entry("a"), positions("a"), DropEntry("a")], [DropEntry("a")]),
        ([DropEntry("a"), entry("a"), DropEntry("a"), entry("a")], [DropEntry("a"), entry("a")]),
        ([DropEntry("a"), entry("a"), positions("a")], [DropEntry("a"), entry("a"), positions("a")]),
        ([KeepFunctions(["d"], 1.0), KeepFunctions(["d"], 2.0)], [KeepFunctions(["d"], 2.0)]),
        ([SaveNode(NodeInfo("n", "n")), DropNode("n"), SaveNode(NodeInfo("n", "m"))], [SaveNode(NodeInfo("n", "m"))]),
    ],
)
def test_what_only_the_last_counts_of_waits_once(records: list[Record], left: list[Record]) -> None:
    one = holding(*records)
    one.compact()
    assert one.records == left


@pytest.mark.parametrize(
    "records",
    [
        [batch(1, number=0), positions("a"), positions("a", due_us=2)],
        [positions("a", fired=[DueSpan("a", 1, 1)]), positions("a")],
    ],
)
def test_positions_stay_with_what_was_fired_also_where_later_ones_follow(records: list[Record]) -> None:
    one = holding(*records)
    one.compact()
    assert one.records == records


def test_nothing_is_left_out_of_a_commit_that_may_have_been_done() -> None:
    one = holding(positions("a"), positions("a"), positions("a"))
    one.doubtful = 1
    one.compact()
    assert one.records == [positions("a"), positions("a")]
