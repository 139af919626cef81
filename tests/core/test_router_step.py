"""One wake-up of a router: persist, then tell."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.core.commands import AppendBatch, DropOutcomes, DueSpan, Record, RecordOutcomes, SavePositions
from mesh.core.events import DueGrant, Event, GossipHeard, PeerLost
from mesh.core.router import RouterMachine
from mesh.core.settling import ACK_PAUSE_S
from mesh.entries import Entry, Firing, Position, firing_id
from mesh.errors import StoreError, StoreFull, StoreUnavailable
from mesh.messages import (
    Accepted,
    AskLease,
    Bye,
    Cancel,
    Credit,
    Declare,
    Deliver,
    Fire,
    Function,
    GetFunction,
    Gossip,
    Heartbeat,
    Message,
    Outcomes,
    PutFunction,
    Rejected,
    Reply,
    Schedule,
    Settled,
    Submit,
    Unknown,
    Unwatch,
    Watch,
)
from mesh.model import Blob, Ending, FunctionCode, Peer, Retrying, TaskOptions, TaskSpec, TaskState
from mesh.runtime.restoring import restore
from mesh.runtime.router_step import RETRY_S, RouterStep
from mesh.schedules import Every, microseconds
from mesh.settings import Settings
from mesh.store.base import Store
from mesh.store.memory import MemoryStore
from mesh.store.redis.store import RedisStore
from mesh.store.sqlite import SqliteStore
from mesh.wire.codec import blobs_of
from tests.core.make import C1, C2, W1, WALL, at, got, hello_client, hello_worker, settlement, submit

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Submit).decode


class Granting:
    """What a store that routers share does besides; it grants all that it is asked for."""

    def __init__(self) -> None:
        self.bids: list[int] = []
        self.error: StoreError | None = None
        self.set_back = ""

    def grant_dues(self, number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        if self.error is not None:
            raise self.error
        self.bids.append(number)
        return [DueGrant(True) for _ in spans]

    def elsewhere(self, ids: Sequence[str]) -> list[str]:
        return []


class Process:
    """A step with its machine and store; ``log`` is what was done, in order: commits, and messages by their verb."""

    def __init__(
        self, *, commit_delay_s: float = 0.0, store: Store | None = None, shared: Granting | None = None
    ) -> None:
        self.log: list[Any] = []
        self.messages: list[tuple[Peer, Message]] = []
        self.full: list[str] = []  # what heartbeats said of the store
        self.written: list[Record] = []
        self.room = "all"  # or "outcomes" (no new tasks), or "none"; or the store is "away"
        self.deaf = False  # the store does the first commit all the same
        self.tried: list[list[Record]] = []
        self.seconds = 0.0
        self.new_blobs: list[Blob] = []
        self.store = store or MemoryStore()
        commit = self.store.commit

        def commit_noted(records: Sequence[Record], held_back: Collection[str] = ()) -> None:
            new = any(isinstance(record, AppendBatch) for record in records)
            if self.room == "away":
                self.tried.append(list(records))
                if self.deaf:
                    commit(records, held_back)
                    self.deaf = False
                raise StoreUnavailable("connection refused")
            if self.room == "none" or (self.room == "outcomes" and new):
                raise StoreFull("no room")
            commit(records, held_back)
            self.written += records
            self.log.append("commit")

        self.store.commit = commit_noted  # type: ignore[method-assign]
        found = self.store.recover()
        settings = Settings(heartbeat_s=1e3, commit_delay_s=commit_delay_s)
        self.machine = RouterMachine(
            "r", "router", settings, boot=found.boot, next_seq=found.next_seq, shared=bool(shared)
        )
        batches = [(b.seq, b.accepted_at, decode(b.raw), b.settled) for b in found.batches]
        restore(self.machine, found, batches)
        self.sessions: defaultdict[Peer, int] = defaultdict(int)
        self.step = RouterStep(
            self.machine,
            self.store,
            encode_submit=encode,
            send=self._send,
            drop=self._drop,
            session=self.sessions.__getitem__,
            shared=self.store if isinstance(self.store, RedisStore) else shared,  # type: ignore[arg-type]
        )

    def _send(self, peer: Peer, message: Message) -> None:
        if isinstance(message, Heartbeat):
            self.full.append(message.full)
            return
        self.log.append(type(message).__name__)
        self.messages.append((peer, message))

    def _drop(self, peer: Peer) -> None:
        self.log.append(f"drop {peer.decode()}")

    def do(self, *events: Event, wait: float = 0.0) -> list[Any]:
        self.seconds += wait
        self.log.clear()
        new_blobs, self.new_blobs = self.new_blobs, []
        self.step.step(events, at(self.seconds), new_blobs)
        self.machine.check()
        return list(self.log)

    def hear(self, peer: Peer, *messages: Message, wait: float = 0.0) -> list[Any]:
        for message in messages:  # the process puts large payloads into the store before the machine hears of them
            self.new_blobs += [blob for blob in blobs_of(message) if self.store.put_blob(blob, [b"data"])]
        return self.do(*(got(peer, message) for message in messages), wait=wait)


def process(window: int = 5, **options: Any) -> Process:
    one = Process(**options)
    one.hear(C1, hello_client())
    one.hear(W1, hello_worker(window=window))
    return one


def test_a_delivery_leaves_before_the_commit_and_the_acceptance_after_it() -> None:
    assert process().hear(C1, submit("a")) == ["Deliver", "commit", "Accepted"]


def test_outcomes_and_acknowledgements_leave_after_the_commit() -> None:
    one = process()
    one.hear(C1, submit("a"))
    assert one.hear(W1, Settled(1, [settlement("a")])) == ["commit", "Outcomes"]
    assert one.do(wait=ACK_PAUSE_S) == ["SettledAck"]


def test_an_acknowledgement_waits_for_the_commit_it_is_about() -> None:
    one = process()
    one.hear(C1, submit("a"))
    one.room = "none"
    one.hear(W1, Settled(1, [settlement("a")]))
    assert one.do(wait=ACK_PAUSE_S) == []
    one.room = "all"
    assert one.do(wait=RETRY_S) == ["commit", "Outcomes", "SettledAck"]


def test_an_at_most_once_delivery_leaves_after_the_commit() -> None:
    one = process()
    options = TaskOptions("work", at_most_once=True)
    assert one.hear(C1, submit("a", options=options)) == ["commit", "Accepted", "Deliver"]


def test_a_wake_up_with_many_messages_is_one_commit() -> None:
    one = process()
    log = one.hear(C1, *(submit(f"t{i}", batch=i) for i in range(20)))
    assert log.count("commit") == 1
    assert log[-1] == "Accepted"


def test_a_wake_up_that_changes_nothing_writes_nothing() -> None:
    assert "commit" not in process().hear(W1, Settled(1, [settlement("unknown")]))


def test_new_tasks_that_were_just_delivered_share_the_commit_of_their_outcome() -> None:
    one = process(commit_delay_s=0.001)
    assert one.hear(C1, submit("a")) == ["Deliver"]
    assert one.step.next_deadline() == pytest.approx(1000.001)
    log = one.hear(W1, Settled(1, [settlement("a")]), wait=0.0005)
    assert log == ["commit", "Accepted", "Outcomes"]


def test_new_tasks_wait_for_an_outcome_no_longer_than_the_setting() -> None:
    one = process(commit_delay_s=0.001)
    one.hear(C1, submit("a"))
    assert one.hear(C1, submit("b", batch=2), wait=0.0005) == ["Deliver"]
    assert one.do(wait=0.0006) == ["commit", "Accepted", "Accepted"]


def test_new_tasks_that_nobody_can_run_yet_are_committed_at_once() -> None:
    assert process(window=0, commit_delay_s=0.001).hear(C1, submit("a")) == ["commit", "Accepted"]


def test_a_question_is_answered_from_what_was_committed_in_the_same_wake_up() -> None:
    one = process()
    one.hear(C1, submit("a"))
    one.hear(C2, hello_client("c2"))
    log = one.do(got(W1, Settled(1, [settlement("a")])), got(C2, Watch(["a"])))
    assert log == ["commit", "Outcomes", "Outcomes"]
    code = FunctionCode("digest", "3.11", b"code")
    one.do(got(C1, PutFunction(code)), got(W1, GetFunction("digest")))
    assert one.messages[-1] == (W1, Function("digest", code))


LARGE, OTHER = Blob("large", [4]), Blob("other", [4])


def with_payload(task_id: str, blob: Blob, **fields: Any) -> Submit:
    return Submit(1, [TaskOptions("work", **fields)], [TaskSpec(task_id, 0, blob)], True)


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        (Peer(b"stranger"), with_payload("b", OTHER)),
        (W1, with_payload("b", OTHER)),
        (C1, with_payload("a", OTHER)),
        (C1, with_payload("done", OTHER)),
        (W1, Settled(2, [settlement("done", payload=OTHER)])),
        (W1, Settled(2, [settlement("a", 0, Ending.FAILED, payload=OTHER)])),
        (W1, Settled(2, [settlement("cancelled", 1, Ending.RETRY, retry=Retrying(WALL, OTHER))])),
        (W1, Settled(2, [settlement("quiet", payload=OTHER)])),
        (C1, Settled(2, [settlement("a", payload=OTHER)])),
    ],
)
def test_a_large_payload_that_nothing_will_name_leaves_the_store(peer: Peer, message: Message) -> None:
    one = process()
    one.hear(C1, with_payload("a", LARGE), with_payload("done", LARGE), with_payload("cancelled", LARGE))
    one.hear(C1, with_payload("quiet", LARGE, ignore_result=True))
    one.hear(W1, Settled(1, [settlement("done")]))
    one.hear(C1, Cancel(["cancelled"]))
    one.hear(peer, message)
    assert one.store.read_blob(OTHER) is None


def test_a_large_payload_that_is_sent_again_stays() -> None:
    one = process()
    settled = Settled(1, [settlement("a", payload=LARGE)])
    for _ in range(2):
        one.hear(C1, with_payload("a", OTHER))
        assert one.store.read_blob(OTHER) is not None
    for _ in range(2):
        one.hear(W1, settled)
        assert one.store.read_blob(LARGE) is not None
    assert one.store.read_blob(OTHER) is None


def test_a_session_is_dropped_after_what_was_said_in_it() -> None:
    one = process()
    one.hear(C1, submit("a"))
    log = one.hear(Peer(b"stranger"), submit("b"))
    assert log == ["SayHello", "drop stranger"]


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Process]:
    """A router on a file whose results of a and c, and whose function, were changed by somebody else."""
    store = SqliteStore(tmp_path / "m.db", level="process", ballast_bytes=0)
    one = Process(store=store)
    one.hear(C1, hello_client())
    one.hear(W1, hello_worker(window=5))
    one.hear(C1, submit("a", "b", "c"))
    one.hear(W1, Settled(1, [settlement(i) for i in "abc"]))
    one.hear(C1, PutFunction(FunctionCode("digest", "3.11", b"code")))
    connection = sqlite3.connect(store.path)
    connection.execute("UPDATE results SET result = 'changed' WHERE id IN ('a', 'c')")
    connection.execute("UPDATE functions SET payload = 'changed'")
    connection.commit()
    connection.close()
    yield one
    store.close()


def test_a_damaged_result_fails_its_task_and_no_other(damaged: Process) -> None:
    damaged.hear(C2, hello_client("c2"))
    damaged.hear(C2, Watch(["a", "b", "c"]))
    (message,) = [message for peer, message in damaged.messages if peer == C2 and isinstance(message, Outcomes)]
    found = {outcome.id: outcome for outcome in message.outcomes}
    assert {i: found[i].state for i in "abc"} == {
        "a": TaskState.FAILED,
        "b": TaskState.SUCCEEDED,
        "c": TaskState.FAILED,
    }
    error = found["a"].error
    assert error is not None
    assert error.type == "mesh.errors.RowDamaged"
    assert error.message.startswith("task a: its result was changed on disk")


def test_a_task_with_a_damaged_result_does_not_run_again(damaged: Process) -> None:
    log = damaged.hear(C1, submit("a", batch=2, repeated=True))
    assert log == ["Outcomes"]


def test_a_damaged_function_is_answered_as_unknown_until_it_is_submitted_again(
    damaged: Process, caplog: pytest.LogCaptureFixture
) -> None:
    damaged.hear(W1, GetFunction("digest"))
    assert damaged.messages[-1] == (W1, Function("digest", None))
    assert "function digest: its code was changed on disk" in caplog.text
    code = FunctionCode("digest", "3.11", b"code")
    damaged.hear(C1, PutFunction(code))
    damaged.hear(W1, GetFunction("digest"))
    assert damaged.messages[-1] == (W1, Function("digest", code))


# a full store


def test_while_the_store_is_full_nobody_is_told_anything_that_is_not_durable() -> None:
    one = process()
    one.room = "none"
    assert one.hear(C1, submit("a")) == ["Deliver"]
    assert one.hear(W1, Settled(1, [settlement("a")]), wait=0.1) == []
    assert one.store.outcomes(["a"]) == []


def test_while_the_store_is_away_nobody_is_told_anything_that_is_not_durable() -> None:
    one = process()
    one.room = "away"
    assert one.hear(C1, submit("a")) == ["Deliver"]
    assert one.hear(W1, Settled(1, [settlement("a")]), wait=0.1) == []
    assert one.hear(C1, submit("b", batch=2), wait=RETRY_S) == ["Rejected"]
    message = one.messages[-1][1]
    assert isinstance(message, Rejected) and message.reason == "the store is away: connection refused"
    one.room = "all"
    assert one.do(wait=RETRY_S) == ["commit", "Accepted", "commit", "Outcomes", "SettledAck"]
    assert [len(records) for records in one.tried] == [1, 1], "tried as it was, whatever came since"
    assert one.tried[0] == one.tried[1]


def test_what_has_come_together_is_committed_in_parts_and_the_loop_goes_on_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh.runtime.waiting.COMMIT_ROWS", 4)
    one = process(window=20)
    one.hear(C1, submit(*(f"t{number}" for number in range(10))))
    one.room = "away"
    one.hear(W1, Settled(1, [settlement(f"t{number}") for number in range(6)]))
    one.hear(W1, Settled(2, [settlement(f"t{number}") for number in range(6, 10)]), wait=0.1)
    one.room = "all"
    assert one.hear(C1, submit("new", batch=2), wait=RETRY_S) == ["Rejected", "commit", "commit", "Outcomes"]
    assert one.step.next_deadline() == pytest.approx(1_000.1 + RETRY_S), "the rest is due at once"
    assert "Accepted" not in one.hear(C1, submit("new", batch=3)), "and nothing new is accepted before it is durable"
    while one.step.holds_back:
        assert one.do().count("commit") == 1
    told = [len(message.outcomes) for _, message in one.messages if isinstance(message, Outcomes)]
    assert told == [6, 4]
    assert max(len(r.outcomes) for r in one.written if isinstance(r, RecordOutcomes)) <= 4
    assert len(one.store.outcomes([f"t{number}" for number in range(10)])) == 10


def test_more_than_one_commit_should_have_is_committed_in_parts_also_where_nothing_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh.runtime.waiting.COMMIT_ROWS", 2)
    one = process()
    assert one.hear(C1, *(submit(f"t{number}", batch=number) for number in range(1, 6))) == ["Deliver", "commit"]
    assert not one.step.holds_back
    assert one.do() == ["commit"]
    assert one.do() == ["commit", *["Accepted"] * 1]
    assert one.step.next_deadline() != 1_000.0


def test_a_full_store_takes_results_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.runtime.waiting.COMMIT_ROWS", 2)
    one = process(window=20)
    one.hear(C1, submit(*"abcde"))
    one.room = "outcomes"
    one.hear(C1, submit("new", batch=2))
    one.hear(W1, Settled(1, [settlement(i) for i in "abcde"]))
    logs = [one.do(wait=RETRY_S), one.do(), one.do(), one.do()]
    assert ["commit" in log for log in logs] == [True, True, True, False]
    assert "Outcomes" in logs[3] and "Outcomes" not in logs[0] + logs[1] + logs[2]
    assert len(one.store.outcomes(list("abcde"))) == 5


def test_what_others_say_of_periodic_tasks_waits_once_while_the_store_is_away() -> None:
    one = process()
    entries = [Entry(f"e{number}", Every(1.0), TaskOptions("work"), written_at=1.0) for number in range(10)]
    one.do(GossipHeard("other", Gossip(entries)))
    one.room = "away"
    for second in range(1, 100):
        said = [
            Position(entry.name, microseconds(WALL + second), firing_id(entry.name, second), fired=second)
            for entry in entries
        ]
        one.do(GossipHeard("other", Gossip([], said)), wait=1.0)
    one.room = "all"
    one.written.clear()
    one.do(wait=1.0)
    saved = [record for record in one.written if isinstance(record, SavePositions)]
    assert len(saved) <= 2, "the one that was tried, and the last"
    assert one.store.recover().positions == list(one.machine.periodic.firings.positions.values())


def test_results_that_are_too_many_to_wait_for_the_store_stay_with_their_workers() -> None:
    one = process(window=20)
    one.machine.settings = one.machine.settings.with_overrides(unwritten_bytes_max=900)
    one.hear(C1, submit("a", "b", "c"))
    one.room = "away"
    one.hear(W1, Settled(1, [settlement("a", payload=bytes(900))]))
    one.hear(W1, Settled(2, [settlement("b", payload=bytes(900))]), wait=0.1)
    assert one.machine.table.tasks.keys() == {"b", "c"}, "that result is as if it had not been said"
    one.room = "all"
    log = one.do(wait=RETRY_S)
    assert log[-1] == "drop w1", "which says in its next session what was not acknowledged"
    assert [outcome.id for outcome in one.store.outcomes(["a", "b"])] == ["a"]
    assert "drop w1" not in one.do(wait=RETRY_S)


def test_commits_that_a_store_that_is_away_holds_back_are_counted() -> None:
    one = process()
    one.room = "away"
    one.hear(C1, submit("a"))
    one.do(wait=RETRY_S)
    one.hear(W1, Settled(1, [settlement("a")]))
    assert one.step.holds_back
    one.room = "none"
    one.do(wait=RETRY_S)
    one.room = "all"
    one.do(wait=RETRY_S)
    assert not one.step.holds_back
    assert (one.step.take_held_back(), one.step.take_held_back()) == (2, 0)


def test_clients_are_told_at_once_why_the_store_takes_nothing_and_that_it_does_again() -> None:
    one = process()
    one.room = "away"
    one.hear(C1, submit("a"))
    assert one.full == ["the store is away: connection refused"]
    one.do(wait=RETRY_S)
    one.hear(C2, hello_client("c2"), wait=1.5 - RETRY_S)
    assert one.full[1:] == ["the store is away: connection refused (for 1 s)"], "also one that comes later"
    one.room = "all"
    one.do(wait=RETRY_S)
    assert one.full[2:] == ["", ""]


def test_a_store_that_does_not_say_how_much_room_it_has_takes_nothing_until_it_does() -> None:
    one = process()
    one.do(*one.step.look_away("timed out"))
    assert one.hear(C1, submit("a")) == ["Rejected"]
    assert one.full == ["the store is away: timed out"]
    one.do(*one.step.look_at_room(None, 0))
    assert one.hear(C1, submit("a", batch=2)) == ["Deliver", "commit", "Accepted"]


def test_periodic_tasks_are_listed_from_memory_and_not_changed_while_the_store_is_away() -> None:
    one = process()
    entry = Entry("nightly", Every(60.0), TaskOptions("work"), b"")
    one.hear(C1, Schedule(1, "add", [], [entry]))
    one.room = "away"
    one.hear(C1, submit("a"))
    assert one.hear(C1, Schedule(2, "list", []), Schedule(3, "pause", ["nightly"])) == ["Reply", "Reply"]
    listed, paused = (json.loads(message.body) for _, message in one.messages[-2:] if isinstance(message, Reply))
    assert [entry[0] for entry, _ in listed["entries"]] == ["nightly"]
    assert paused == {
        "code": "overloaded",
        "error": "nothing is changed: the store is away: connection refused",
    }


def test_a_commit_that_may_have_been_done_is_repeated_before_what_came_since() -> None:
    class Once(MemoryStore):
        """Takes the records of a repeated commit for done, as a store must that did not answer."""

        unanswered: Sequence[Record] = ()

        def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
            if self.unanswered:
                assert records == self.unanswered
                self.unanswered = ()
                return
            super().commit(records, held_back)

    store = Once()
    one = process(store=store)
    one.room, one.deaf = "away", True
    one.hear(C1, submit("a", "b"))
    store.unanswered = one.tried[0]
    one.hear(W1, Settled(1, [settlement("a")]), wait=0.1)
    one.room = "all"
    assert one.do(wait=RETRY_S) == ["commit", "Accepted", "commit", "Outcomes", "SettledAck"]
    assert [outcome.id for outcome in one.store.outcomes(["a", "b"])] == ["a"]


def test_what_is_asked_of_a_store_that_is_away_is_answered_when_it_is_back() -> None:
    one = process()
    one.hear(C1, submit("a"))
    one.hear(W1, Settled(1, [settlement("a")]))
    one.do(wait=1.0)
    code = FunctionCode("d", "3.11", b"code")
    one.hear(C1, PutFunction(code))
    outcomes, function = one.store.outcomes, one.store.function

    def away(_: Any) -> Any:
        raise StoreUnavailable("connection refused")

    one.store.outcomes = one.store.function = away  # type: ignore[method-assign]
    assert one.hear(C1, Watch(["a", "b"])) == []
    assert one.hear(W1, GetFunction("d"), wait=0.1) == []
    assert one.hear(C1, submit("c", batch=2), wait=0.1) == ["Rejected"]
    assert one.step.next_deadline() == pytest.approx(1001.0 + RETRY_S)
    one.store.outcomes, one.store.function = outcomes, function  # type: ignore[method-assign]
    assert one.do(wait=0.1) == [], "it is not asked again at each wake-up"
    told = one.do(wait=RETRY_S)
    assert "Outcomes" in told and "Function" in told
    assert "Accepted" in one.hear(C1, submit("c", batch=3))


def test_what_was_held_back_is_told_once_there_is_room() -> None:
    one = process()
    one.room = "none"
    one.hear(C1, submit("a"))
    one.hear(W1, Settled(1, [settlement("a")]), wait=0.1)
    one.room = "all"
    assert one.do(wait=0.1) == [], "it is not tried again at each wake-up"
    assert one.step.next_deadline() == pytest.approx(1000.0 + RETRY_S)
    assert one.do(wait=RETRY_S) == ["commit", "Accepted", "Outcomes", "SettledAck"]


def test_while_the_store_is_full_new_tasks_are_overloaded_and_none_starts() -> None:
    one = process(window=1)
    one.hear(C1, submit("a", "b", "c"))
    one.room = "none"
    assert one.hear(W1, Settled(1, [settlement("a")])) == ["Deliver"], "that there is no room shows at the commit"
    assert one.hear(W1, Credit(5)) == []
    assert one.hear(C1, submit("d", batch=2)) == ["Rejected"]
    message = one.messages[-1][1]
    assert isinstance(message, Rejected)
    assert message.code == "overloaded"
    assert message.reason.startswith("the store is full: no room")
    one.room = "all"
    assert sorted(one.do(wait=RETRY_S)) == ["Deliver", "Outcomes", "SettledAck", "commit"]


def test_work_goes_on_in_the_wake_up_that_finds_room() -> None:
    one = process(window=0)
    one.hear(C1, submit("a"))
    one.room = "none"
    one.hear(C1, submit("b", batch=2))
    one.hear(W1, hello_worker(window=5))
    one.room = "all"
    log = one.do(wait=RETRY_S)
    assert "Deliver" in log
    assert log.count("Accepted") == 1


def test_outcomes_are_committed_alone_where_new_tasks_do_not_fit() -> None:
    one = process()
    one.hear(C1, submit("a"))
    one.room = "outcomes"
    log = one.do(got(C1, submit("b", batch=2)), got(W1, Settled(1, [settlement("a")])))
    assert log == ["Deliver", "commit", "Outcomes"]
    assert [o.state for o in one.store.outcomes(["a"])] == [TaskState.SUCCEEDED]
    one.room = "all"
    assert "Accepted" in one.do(wait=RETRY_S)


def test_an_at_most_once_task_does_not_leave_before_its_batch_is_written() -> None:
    one = process()
    one.room = "outcomes"
    once = Submit(1, [TaskOptions("work", at_most_once=True)], [TaskSpec("a", 0, LARGE)])
    assert "Deliver" not in one.hear(C1, once)
    assert Process(store=one.store).store.read_blob(LARGE) is None, "nothing of it is there after a crash"
    one.room = "all"
    again = process(store=one.store)
    log = again.hear(C1, with_payload("a", LARGE, at_most_once=True))
    assert log.index("commit") < log.index("Deliver")


def test_an_at_most_once_task_of_a_batch_that_is_written_leaves_although_others_wait() -> None:
    one = process(window=0)
    one.hear(C1, submit("old", options=TaskOptions("work", at_most_once=True)))
    one.room = "outcomes"
    log = one.do(got(C1, submit("new", batch=2)), got(W1, hello_worker(window=1)))
    assert "Deliver" in log and "Accepted" not in log


@pytest.mark.parametrize("restart", [False, True])
def test_a_task_that_ends_before_its_batch_fits_leaves_no_batch_behind(restart: bool) -> None:
    one = process()
    one.room = "outcomes"
    one.hear(C1, submit("a"))
    one.hear(W1, Settled(1, [settlement("a")]), wait=RETRY_S)
    one.room = "all"
    one.do(wait=RETRY_S)
    assert one.store.usage().batches == 0
    if restart:
        assert not Process(store=one.store).machine.table.tasks


def test_a_task_that_ended_before_its_batch_was_written_does_not_run_again_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "m.db", level="process", ballast_bytes=0)
    one = Process(store=store)
    one.hear(C1, hello_client())
    one.hear(W1, hello_worker(window=5))
    one.hear(C1, submit("before"))
    one.room = "outcomes"
    one.hear(C1, submit("a", "b", batch=2))
    one.hear(W1, Settled(1, [settlement("before"), settlement("a")]), wait=RETRY_S)
    assert [outcome.id for outcome in store.outcomes(["a"])] == ["a"]
    one.room = "all"
    assert "Accepted" in one.do(wait=RETRY_S)
    store.close()
    again = SqliteStore(tmp_path / "m.db", level="process", ballast_bytes=0)
    assert set(Process(store=again).machine.table.tasks) == {"b"}
    again.close()


def test_an_error_of_the_store_that_waiting_does_not_mend_ends_the_router() -> None:
    one = process()

    def broken(records: list[Record], held_back: Collection[str] = ()) -> None:
        raise StoreError("the disk is gone")

    one.store.commit = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreError, match="the disk is gone"):
        one.hear(C1, submit("a"))
    assert Accepted not in {type(message) for _, message in one.messages}


def test_little_room_is_said_once_and_taken_back_once() -> None:
    one = process()
    one.do(*one.step.look_at_room(10, 100))
    assert one.machine.full == "10 bytes of disk are free, fewer than free_bytes_min = 100"
    assert not one.machine.halted
    assert one.step.look_at_room(11, 100) == []
    one.do(*one.step.look_at_room(1_000, 100))
    assert one.machine.full is None


def test_while_the_store_is_full_who_asks_is_told_what_is_durable_and_the_rest_once_it_is() -> None:
    one = process()
    one.hear(C1, submit("old"))
    one.hear(W1, Settled(1, [settlement("old")]))
    one.hear(C1, submit("new"))
    one.room = "none"
    one.hear(W1, Settled(2, [settlement("new")]))
    one.hear(C2, hello_client("c2"))
    for _ in range(3):
        one.messages.clear()
        one.hear(C2, Watch(["old", "new", "never"]))
        told, unknown = [message for peer, message in one.messages if peer == C2]
        assert isinstance(told, Outcomes)
        assert [outcome.id for outcome in told.outcomes] == ["old"]
        assert unknown == Unknown(["never"])
    one.room = "all"
    one.messages.clear()
    one.do(wait=RETRY_S)
    (told,) = [message for peer, message in one.messages if peer == C2]
    assert isinstance(told, Outcomes)
    assert [outcome.id for outcome in told.outcomes] == ["new"]


def test_forgetting_again_and_again_while_the_store_is_full_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.runtime.router_step.FORGETS_MAX", 5)
    one = process()
    one.hear(C1, submit("a"))
    one.hear(W1, Settled(1, [settlement("a")]))
    one.room = "none"
    one.hear(C1, submit("b", batch=2))
    for n in range(20):
        one.hear(C1, Unwatch(["a", f"other {n % 10}"], forget=True))
    one.room = "all"
    one.do(wait=RETRY_S)
    (forgets,) = [record for record in one.written if isinstance(record, DropOutcomes)]
    assert len(forgets.ids) == 5
    assert one.store.outcomes(["a"]) == []


def test_a_function_that_is_not_durable_yet_is_given_to_whoever_asks() -> None:
    one = process()
    code = FunctionCode("digest", "3.11", b"code")
    one.room = "none"
    one.hear(C1, PutFunction(code))
    one.hear(W1, GetFunction("digest"))
    assert one.messages[-1] == (W1, Function("digest", code))


def test_what_was_held_back_is_not_told_in_another_session() -> None:
    one = process(window=1)
    options = TaskOptions("work", at_most_once=True)
    one.room = "none"
    assert "Deliver" not in one.hear(C1, submit("a", options=options))
    one.sessions[W1] += 1
    one.room = "all"
    one.hear(W1, hello_worker(window=0))
    one.do(wait=RETRY_S)
    assert Deliver not in {type(message) for _, message in one.messages}
    (outcome,) = one.store.outcomes(["a"])
    assert outcome.error is not None
    assert "its delivery to worker worker was lost" in outcome.error.message


def test_a_session_that_ends_while_the_store_is_full_ends_at_once_and_not_the_next_one() -> None:
    one = process()
    one.room = "none"
    one.hear(C1, submit("a"))
    assert "drop c1" in one.hear(C1, Bye())
    one.hear(C1, hello_client())
    one.room = "all"
    assert "drop c1" not in one.do(wait=RETRY_S)


def test_a_router_that_crashed_before_the_commit_has_promised_nothing() -> None:
    one = process()
    one.room = "none"
    one.hear(C1, submit("a"))
    after = Process(store=one.store)
    assert not after.machine.table.tasks
    assert not any(isinstance(message, Accepted) for _, message in one.messages)


def test_a_router_that_crashed_after_the_commit_has_the_tasks_and_the_outcomes() -> None:
    one = process()
    one.hear(C1, submit("a", "b"))
    one.hear(W1, Settled(1, [settlement("a")]))
    after = Process(store=one.store)
    assert set(after.machine.table.tasks) == {"b"}
    after.do(PeerLost(W1))
    assert after.do(wait=6.0) == ["commit"]
    assert after.hear(W1, hello_worker("new", window=5)) == ["Welcome", "Deliver", "commit"]


def test_how_far_an_entry_has_come_is_durable_with_the_task_that_was_made_and_not_before() -> None:
    one = process()
    one.hear(W1, Declare("app", 1.0, [Entry("e", Every(10.0), TaskOptions("work"))]), AskLease())
    one.hear(C1, submit("a"))
    one.room = "outcomes"
    term = one.machine.periodic.lease.term
    firing = Firing("e", microseconds(WALL + 5.0), revised_at=WALL)
    done = one.hear(W1, Fire(term, 1, [firing]), Settled(1, [settlement("a")]), wait=5.0)
    assert done == ["Deliver", "commit", "Outcomes"]
    assert one.store.outcomes(["a"]) and one.store.recover().positions == [Position("e", microseconds(WALL))]
    one.room = "all"
    assert one.do(wait=0.5) == ["commit", "Fired", "SettledAck"]
    found = one.store.recover()
    assert [position.last_due_us for position in found.positions] == [microseconds(WALL + 5.0)]
    assert len(found.batches) == 1


def leading(store: Granting) -> Process:
    """A process whose worker leads, and fires the entry ``e``."""
    one = process(shared=store)
    one.hear(W1, Declare("app", 1.0, [Entry("e", Every(10.0), TaskOptions("work"))]), AskLease())
    return one


def fire(one: Process, number: int) -> Fire:
    return Fire(one.machine.periodic.lease.term, number, [Firing("e", microseconds(WALL + number), revised_at=WALL)])


def test_what_is_due_is_asked_for_at_a_store_that_is_shared_and_fired_in_the_same_wake_up() -> None:
    store = Granting()
    one = leading(store)
    assert one.hear(W1, fire(one, 1), wait=5.0) == ["Deliver", "commit", "Fired"]
    assert len(store.bids) == 1


@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull])
def test_what_is_due_while_a_store_that_is_shared_is_away_is_asked_for_when_it_is_back(error: type[StoreError]) -> None:
    store = Granting()
    one = leading(store)
    store.error = error("connection refused")
    assert one.hear(W1, fire(one, 1), wait=5.0) == []
    assert one.step.next_deadline() == pytest.approx(1005.0 + RETRY_S)
    assert one.do(wait=RETRY_S) == []
    store.error = None
    assert one.do(wait=RETRY_S) == ["Deliver", "commit", "Fired"]


def test_nothing_is_asked_for_before_what_was_granted_is_written_down() -> None:
    store = Granting()
    one = leading(store)
    grant, said = store.grant_dues, fire(one, 2)

    def at_once(number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        one.room = "away"  # when it is to be written down
        return grant(number, spans)

    store.grant_dues = at_once  # type: ignore[method-assign]
    one.hear(W1, fire(one, 1), wait=5.0)
    store.grant_dues = grant  # type: ignore[method-assign]
    one.machine.room.free()
    one.hear(W1, said, wait=0.1)
    assert len(store.bids) == 1
    one.room = "all"
    assert "commit" in one.do(wait=RETRY_S)
    assert len(store.bids) == 2
