"""What becomes of due times at a router: each is one task at most."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.commands import AppendBatch, Complain, SavePositions
from mesh.core.events import BatchesAdopted, GossipHeard, JournalAdopted, JournalClaimed, MessageReceived, StoreFilled
from mesh.core.router import RouterMachine
from mesh.entries import Position, firing_id
from mesh.messages import AskLease, Entries, Fired, Gossip, Rejected, Settled
from mesh.model import COUNT_MAX
from mesh.settings import Settings
from mesh.wire.codec import encode_body
from tests.core.make import C1, W1, W2, WALL, Driven, hello_client, hello_worker, sent, settlement, submit
from tests.core.periodic import TTL, Periodic, ask, declare, due, entry, one, said


def test_a_due_time_becomes_one_task_with_an_id_that_anybody_can_compute() -> None:
    mesh = Periodic(entry())
    mesh.do(wait=10.0)
    answer = mesh.fire(due(10.0))
    assert answer == Fired(1, False, [("e", due(10.0))])
    assert mesh.tasks() == [firing_id("e", due(10.0))]
    kinds = [type(command) for command in mesh.commands]
    assert AppendBatch in kinds and SavePositions in kinds, "both are in one commit"
    assert mesh.position().fired == 1


def test_what_is_doubled_late_or_too_far_ahead_is_refused_and_the_position_is_told() -> None:
    mesh = Periodic(entry())
    mesh.do(wait=20.0)
    mesh.fire(due(20.0))
    assert mesh.fire(due(20.0)).positions == [("e", due(20.0))]
    assert mesh.fire(due(10.0)).positions == [("e", due(20.0))]
    assert mesh.fire(due(90.0)).positions == [("e", due(20.0))]
    assert len(mesh.tasks()) == 1
    assert mesh.machine.counters["firings_refused"] == 3
    assert mesh.fire(due(80.0)).positions == [("e", due(80.0))], "a minute ahead is believed"


def test_how_far_ahead_a_due_time_is_believed_is_a_setting() -> None:
    settings = Settings(heartbeat_s=1_000.0, schedule_lease_ttl_s=1_000.0, schedule_ahead_s=15.0)
    mesh = Periodic(entry(), settings=settings)
    assert mesh.fire(due(20.0)).positions == [("e", due(0.0))]
    assert mesh.fire(due(10.0)).positions == [("e", due(10.0))]


def test_a_term_that_is_over_fires_nothing_and_is_counted() -> None:
    mesh = Periodic(entry())
    before = mesh.term
    mesh.hear(W1, AskLease(keep=False), wait=10.0)
    mesh.hear(W2, AskLease())
    assert mesh.fire(due(10.0), term=before).stale, "who let go"
    assert mesh.fire(due(10.0)).stale, "who is not the one that leads in this term"
    assert mesh.tasks() == [] and mesh.machine.counters["firings_stale"] == 2
    assert not mesh.fire(due(10.0), peer=W2).stale


def test_a_lease_that_is_over_fires_nothing_although_nobody_else_leads() -> None:
    mesh = Periodic(entry(), settings=Settings(heartbeat_s=20.0))
    mesh.seconds += TTL + 0.1  # the FIRE waits where the router reads from, and is what wakes it
    assert mesh.fire(due(10.0)).stale


def test_a_store_without_room_takes_no_firing_and_moves_no_position() -> None:
    mesh = Periodic(entry())
    mesh.do(StoreFilled("full", False), wait=10.0)
    answer = mesh.fire(due(10.0))
    assert (answer.stale, answer.positions, answer.reason) == (False, [("e", due(0.0))], "full")
    assert mesh.tasks() == []


def test_a_due_time_of_another_form_of_the_entry_is_refused() -> None:
    mesh = Periodic(entry())
    mesh.hear(W1, declare("app", 2.0, [entry(seconds=7.0)]), wait=5.0)
    assert mesh.fire(due(10.0), revised_at=WALL).positions == [("e", due(5.0))]
    assert not mesh.fire(due(7.0)).reason


def test_jitter_puts_the_task_off_and_what_may_not_start_late_expires() -> None:
    mesh = Periodic(entry(jitter_s=5.0, expires_s=30.0))
    mesh.do(wait=10.0)
    mesh.fire(due(10.0))
    (task,) = mesh.machine.table.tasks.values()
    assert task.rare is not None and task.rare.eta is not None and task.rare.expires_at is not None
    assert WALL + 10.0 < task.rare.eta < WALL + 15.0
    assert task.rare.expires_at == task.rare.eta + 30.0


def test_a_task_may_start_for_as_long_as_is_said_however_far_it_is_put_off() -> None:
    mesh = Periodic(entry(jitter_s=1_000.0, expires_s=0.5))
    mesh.do(wait=10.0)
    mesh.fire(due(10.0))
    (task,) = mesh.machine.table.tasks.values()
    assert task.rare is not None and task.rare.eta is not None and task.rare.eta > WALL + 11.0
    assert task.rare.expires_at == task.rare.eta + 0.5


# overlap


def overlapping(overlap: str) -> Periodic:
    """The task of the first due time runs when the second and the third are fired."""
    mesh = Periodic(entry(overlap=overlap))
    mesh.hear(W1, hello_worker("one", window=5))
    mesh.hear(W1, AskLease())
    for seconds in (10.0, 20.0, 30.0):
        mesh.do(wait=10.0)
        mesh.fire(due(seconds))
    return mesh


def test_tasks_of_an_entry_may_overlap() -> None:
    assert len(overlapping("allow").tasks()) == 3


def test_a_due_time_is_skipped_while_the_task_before_it_is_not_finished() -> None:
    mesh = overlapping("skip")
    assert mesh.tasks() == [firing_id("e", due(10.0))]
    assert (mesh.position().fired, mesh.position().skipped) == (1, 2)
    assert mesh.machine.counters["firings_skipped"] == 2
    assert said(mesh) == [("entry 'e': 1 due time skipped: the task before is not finished (overlap='skip')", False)]
    mesh.hear(W1, Settled(1, [settlement(firing_id("e", due(10.0)))]))
    assert mesh.position().last_state == "succeeded"
    mesh.do(wait=10.0)
    mesh.fire(due(40.0))
    assert mesh.tasks() == [firing_id("e", due(40.0))]


@pytest.mark.parametrize(
    ("policy", "caught_up", "text", "is_wrong"),
    [
        (
            {"catchup": "skip"},
            False,
            "entry 'e': 3 due times skipped: missed, and not made good (catchup='skip')",
            False,
        ),
        (
            {"catchup": "latest"},
            True,
            "entry 'e': 3 due times skipped: missed, and only the newest made good (catchup='latest')",
            False,
        ),
        (
            {"catchup": "latest"},
            False,
            "entry 'e': 3 due times lost: missed more than 3600 s ago (catchup_window)",
            True,
        ),
        (
            {"catchup": "all", "catchup_max": 2},
            True,
            "entry 'e': 3 due times lost: missed more than 3600 s ago, or before the newest 2 "
            "(catchup_window, catchup_max)",
            True,
        ),
    ],
)
def test_what_is_left_out_as_asked_for_is_no_warning_and_what_is_lost_is_one(
    policy: dict[str, Any], caught_up: bool, text: str, is_wrong: bool
) -> None:
    mesh = Periodic(entry(**policy))
    mesh.do(wait=60.0)
    mesh.fire(due(60.0), skipped=3, caught_up=caught_up)
    assert said(mesh) == [(text, is_wrong)]


def test_one_due_time_waits_for_the_task_before_it_and_others_are_skipped() -> None:
    mesh = overlapping("queue_one")
    assert (mesh.tasks(), mesh.position().skipped) == ([firing_id("e", due(10.0))], 1)
    mesh.hear(W1, Settled(1, [settlement(firing_id("e", due(10.0)))]))
    assert mesh.tasks() == [firing_id("e", due(20.0))]
    assert mesh.position().queued_due_us is None and mesh.position().last_due_us == due(30.0)


@pytest.mark.parametrize("overlap", ["skip", "queue_one"])
def test_a_task_that_is_adopted_from_the_router_that_fired_it_is_still_the_one_before(overlap: str) -> None:
    mesh = Periodic(entry(overlap=overlap), shared=True)
    before = firing_id("e", due(10.0))
    queued_us = due(15.0) if overlap == "queue_one" else None
    position = Position("e", due(15.0), before, fired=1, queued_due_us=queued_us)
    adopted = [(mesh.machine.table.reserve(1), WALL, submit(before))]
    mesh.do(
        GossipHeard("lost", Gossip(positions=[position])),  # it is adopted before its entries are ours
        JournalClaimed("lost", [], {}),
        BatchesAdopted(adopted, []),
        JournalAdopted("lost", 1),
    )
    mesh.hear(W1, hello_worker("one", window=0, held=[(before, 1)]))
    mesh.hear(W1, AskLease())
    mesh.do(wait=20.0)
    mesh.fire(due(20.0))
    assert mesh.tasks() == [before] and mesh.position().skipped == 1
    mesh.granted(mesh.hear(W1, Settled(1, [settlement(before)])))
    assert mesh.position().last_state == ("succeeded" if overlap == "skip" else "")
    assert mesh.tasks() == ([] if overlap == "skip" else [firing_id("e", due(15.0))])


# at people's wish, and after a restart


def test_a_triggered_entry_runs_now_and_its_schedule_goes_on() -> None:
    mesh = Periodic(entry())
    done = ask(mesh, "trigger", "e")["done"]
    assert mesh.tasks() == [done["e"]]
    assert mesh.position().last_due_us == due(0.0)


def test_a_restart_goes_on_where_the_router_was() -> None:
    mesh = Periodic(entry(overlap="skip"))
    mesh.do(wait=10.0)
    mesh.fire(due(10.0))
    again = Driven(boot=2)
    again.seconds = 30.0
    book = mesh.machine.periodic.book
    again.machine.restore([], [], [], apps={"app": 1.0}, entries=book.entries.values(), positions=[mesh.position()])
    again.hear(W1, hello_worker("one", window=0))
    told = one(sent(again.hear(W1, AskLease()), W1), Entries)
    assert [after for _, after in told.entries] == [due(10.0)]


# an entry that was removed and comes anew


@pytest.mark.parametrize("started_anew", [False, True])
@pytest.mark.parametrize("by", ["code", "people"])
def test_what_was_fired_is_not_fired_again_of_an_entry_that_comes_anew_where_the_clock_was_set_back(
    by: str, started_anew: bool
) -> None:
    mesh = Periodic(*([entry()] if by == "code" else []))
    if by == "people":
        ask(mesh, "add", entries=[entry()])
    mesh.do(wait=25.0)
    assert mesh.fire(due(10.0), due(20.0)).positions == [("e", due(20.0))]
    if by == "code":
        mesh.hear(W1, declare("app", 2.0, []))
    else:
        ask(mesh, "remove", "e")
    mesh.set_s = -15.0
    if started_anew:
        mesh = restarted(mesh)
    if by == "code":
        mesh.hear(W1, declare("app", 900.0, [entry()]))
    else:
        ask(mesh, "add", entries=[entry()])
    answer = mesh.fire(due(10.0), due(20.0))
    assert (answer.positions, "behind" in answer.reason) == ([("e", due(20.0))], True)
    assert mesh.fire(due(30.0)).positions == [("e", due(30.0))]


def restarted(mesh: Periodic) -> Periodic:
    """The router, started anew on what is to be durable."""
    book = mesh.machine.periodic.book
    entries, positions = (
        [*book.entries.values(), *book.gone.values()],
        list(mesh.machine.periodic.firings.positions.values()),
    )
    after = Periodic()
    after.set_s, after.seconds = mesh.set_s, mesh.seconds
    after.machine = RouterMachine("r", "router", mesh.machine.settings, boot=2)
    after.machine.restore([], [], [], apps=book.apps, entries=entries, positions=positions)
    after.started = after.hear(W1, hello_worker("one", window=0))
    after.hear(W1, AskLease())
    return after


def test_an_entry_that_was_never_due_begins_anew_like_any_other() -> None:
    mesh = Periodic()
    mesh.set_s = 1_000.0
    ask(mesh, "add", entries=[entry()])
    ask(mesh, "remove", "e")
    mesh.set_s = 0.0
    ask(mesh, "add", entries=[entry()])
    assert mesh.fire(due(10.0)).positions == [("e", due(10.0))]


def test_an_entry_whose_position_is_lost_begins_at_the_start_and_nothing_is_fired_again() -> None:
    mesh = Periodic(entry(), entry("f"))
    mesh.do(wait=25.0)
    mesh.fire(due(10.0), due(20.0))
    del mesh.machine.periodic.firings.positions["e"]
    after = restarted(mesh)
    (told,) = (one for one in after.started if isinstance(one, Complain))
    assert "entries 'e': the store does not say how far" in told.text and told.is_wrong
    assert [one.positions for one in after.started if isinstance(one, SavePositions)] == [[Position("e", due(25.0))]]
    assert "behind" in after.fire(due(20.0)).reason
    assert after.fire(due(30.0)).positions == [("e", due(30.0))]
    assert after.fire(due(10.0), name="f").positions == [("f", due(10.0))]


# ids that nobody else may use


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("has_bytes", [False, True])
def test_nobody_submits_a_task_with_the_id_of_a_firing(repeated: bool, has_bytes: bool) -> None:
    mesh = Periodic(entry())
    mesh.hear(C1, hello_client())
    planted = submit("fine", firing_id("e", due(10.0)), repeated=repeated)
    raw = encode_body(planted) if has_bytes else None
    rejected = one(sent(mesh.do(MessageReceived(C1, planted, raw)), C1), Rejected)
    assert (rejected.code, "due@" in rejected.reason) == ("invalid", True)
    made = ask(mesh, "trigger", "e")["done"]["e"]
    assert one(sent(mesh.hear(C1, submit(made)), C1), Rejected).code == "invalid"
    mesh.fire(due(10.0))
    assert mesh.tasks() == [made, firing_id("e", due(10.0))]


def test_an_id_with_the_mark_of_a_firing_elsewhere_is_anybodys() -> None:
    mesh = Periodic()
    mesh.hear(C1, hello_client())
    theirs = submit("somebody@example.org", "undue@", "due")
    mesh.do(MessageReceived(C1, theirs, encode_body(theirs)))
    assert mesh.tasks() == ["somebody@example.org", "undue@", "due"]


# numbers that a leader may make up


def test_counts_stay_at_their_bound_however_often_a_leader_says_that_much_was_skipped() -> None:
    mesh = Periodic(entry())
    near = Position("e", due(5.0), "a", "failed", COUNT_MAX, COUNT_MAX - 1, COUNT_MAX)
    mesh.do(GossipHeard("other", Gossip(positions=[near])))
    mesh.machine.counters["firings_skipped"] = COUNT_MAX
    for seconds in (10.0, 20.0):
        mesh.fire(due(seconds), skipped=10**15, caught_up=True)
    position = mesh.position()
    assert (position.fired, position.skipped, position.caught_up) == (COUNT_MAX,) * 3
    assert mesh.machine.counters["firings_skipped"] == COUNT_MAX
