"""Periodic tasks at a router: who leads, which entries there are, and that each due time is one task at most."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from mesh.core.commands import AppendBatch, BidAtStore, Complain, SavePositions
from mesh.core.events import (
    BatchesAdopted,
    BidAnswered,
    DueGrant,
    GossipHeard,
    JournalAdopted,
    JournalClaimed,
    MessageReceived,
    PeerLost,
    StoreFilled,
)
from mesh.core.router import RouterMachine
from mesh.entries import Entry, Firing, Listing, Position, firing_id
from mesh.messages import (
    AskLease,
    Bye,
    Declare,
    Entries,
    Fire,
    Fired,
    Gossip,
    Leased,
    Refuse,
    Rejected,
    Reply,
    Schedule,
    Settled,
)
from mesh.model import COUNT_MAX, TaskOptions
from mesh.schedules import Every, Once, microseconds
from mesh.settings import Settings
from mesh.wire.codec import encode_body
from tests.core.make import C1, W1, W2, WALL, Driven, hello_client, hello_worker, sent, settlement, submit

TTL = 10.0


def due(seconds: float) -> int:
    """The due time so many seconds after the test began."""
    return microseconds(WALL + seconds)


def entry(name: str = "e", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Every(seconds), TaskOptions("work"), **fields)


def declare(app: str, loaded_at: float, entries: list[Entry], **fields: Any) -> Declare:
    """Said just now, of code that was loaded so many seconds after some moment."""
    return Declare(app, loaded_at, entries, at=1_000.0, **fields)


class Periodic(Driven):
    """A router with workers, the first of which leads."""

    def __init__(self, *entries: Entry, settings: Settings | None = None, **options: Any) -> None:
        super().__init__(settings or Settings(heartbeat_s=1_000.0, schedule_lease_ttl_s=1_000.0), **options)
        for peer, name in ((W1, "one"), (W2, "two")):
            self.hear(peer, hello_worker(name, window=0))
        self.hear(W1, declare("app", 1.0, list(entries)))
        self.hear(W2, AskLease())  # it leads, and lets go
        self.hear(W1, AskLease())
        self.hear(W2, AskLease(keep=False))
        self.number = 0
        self.started: list[Any] = []  # what was to be done at a start

    @property
    def term(self) -> int:
        return self.machine.lease.term

    def fire(self, *dues: int, name: str = "e", peer: Any = W1, term: int | None = None, **fields: Any) -> Fired:
        known = self.machine.book.entries.get(name)
        fields = {"revised_at": known.revised_at if known is not None else 0.0, **fields}
        self.number += 1
        firings = [Firing(name, at, **fields) for at in dues]
        self.commands = self.granted(self.hear(peer, Fire(self.term if term is None else term, self.number, firings)))
        (answer,) = (message for message in sent(self.commands, peer) if isinstance(message, Fired))
        return answer

    def granted(self, commands: list[Any]) -> list[Any]:
        """A shared store grants whatever it was asked for."""
        for bid in [command for command in commands if isinstance(command, BidAtStore)]:
            commands = commands + self.do(BidAnswered(bid.number, [DueGrant(True)] * len(bid.spans)))
        return commands

    def tasks(self) -> list[str]:
        return list(self.machine.table.tasks)

    def position(self, name: str = "e") -> Any:
        return self.machine.firings.positions[name]


def said(mesh: Periodic) -> list[tuple[str, bool]]:
    """What was told of the last FIRE, and whether something is wrong."""
    return [(command.text, command.is_wrong) for command in mesh.commands if isinstance(command, Complain)]


def one(messages: list[Any], kind: type) -> Any:
    (found,) = (message for message in messages if isinstance(message, kind))
    return found


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
    book = mesh.machine.book
    entries, positions = [*book.entries.values(), *book.gone.values()], list(mesh.machine.firings.positions.values())
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
    del mesh.machine.firings.positions["e"]
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


# the lease


def test_the_first_who_asks_leads_and_is_told_all_entries() -> None:
    mesh = Driven()
    mesh.hear(W1, hello_worker("one"))
    mesh.hear(W1, declare("app", 1.0, [entry()]))
    told = sent(mesh.hear(W1, AskLease(), wait=1.0), W1)
    leased, entries = one(told, Leased), one(told, Entries)
    assert (leased.ttl_s, leased.at, leased.holder) == (TTL, WALL + 1.0, "one")
    assert leased.term > 0 and (entries.term, entries.first, entries.gone) == (leased.term, True, [])
    assert [(e.name, after) for e, after in entries.entries] == [("e", due(0.0))]


def test_others_wait_and_the_next_is_told_when_the_leader_lets_go_leaves_or_is_lost() -> None:
    for end in (AskLease(keep=False), Bye(), None):
        mesh = Driven()
        mesh.hear(W1, hello_worker("one"))
        mesh.hear(W2, hello_worker("two"))
        first = one(sent(mesh.hear(W1, AskLease()), W1), Leased).term
        waits = one(sent(mesh.hear(W2, AskLease()), W2), Leased)
        assert (waits.term, waits.holder) == (0, "one")
        commands = mesh.do(PeerLost(W1)) if end is None else mesh.hear(W1, end)
        assert one(sent(commands, W2), Leased).term == first + 1


def test_a_silent_leader_is_one_until_its_time_is_over() -> None:
    mesh = Driven(Settings(heartbeat_s=20.0))
    mesh.hear(W1, hello_worker("one"))
    mesh.hear(W2, hello_worker("two"))
    mesh.hear(W1, AskLease())
    mesh.hear(W2, AskLease(), wait=5.0)
    mesh.hear(W2, AskLease(), wait=4.9)
    assert mesh.machine.lease.holder == W1
    assert mesh.machine.next_deadline() == pytest.approx(1_000.0 + TTL)
    assert one(sent(mesh.do(wait=0.1), W2), Leased).term


def test_a_leader_that_says_hello_anew_leads_no_more_for_it_knows_nothing() -> None:
    mesh = Periodic(entry())
    before = mesh.term
    mesh.hear(W1, hello_worker("one", window=0))
    assert mesh.machine.lease.holder is None
    told = sent(mesh.hear(W1, AskLease()), W1)
    assert one(told, Leased).term == before + 1 and one(told, Entries).first


def test_terms_grow_across_starts() -> None:
    first, second = Periodic(entry()), Periodic(entry(), boot=2)
    assert second.term > first.term + 1_000_000


# firing


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


# entries


def test_the_newest_declaration_of_an_app_replaces_what_is_not_in_it() -> None:
    mesh = Periodic(entry("a"), entry("b"))
    mesh.hear(W1, declare("app", 2.0, [entry("b"), entry("c")]), wait=5.0)
    assert sorted(mesh.machine.book.entries) == ["b", "c"]
    mesh.hear(W2, declare("app", 1.5, [entry("a")]))
    assert sorted(mesh.machine.book.entries) == ["b", "c"], "of a node with older code"
    assert mesh.machine.book.entries["b"].revised_at == WALL, "what is unchanged keeps everything"
    assert mesh.machine.book.entries["c"].revised_at == WALL + 5.0


def test_how_old_the_code_is_counts_and_not_whose_clock_goes_ahead() -> None:
    mesh = Periodic()
    mesh.hear(W1, Declare("app", WALL + 9_000.0, [entry("old")], at=WALL + 9_100.0))
    mesh.hear(W2, Declare("app", WALL - 9_010.0, [entry("new")], at=WALL - 9_000.0))
    mesh.hear(W1, Declare("app", WALL + 9_000.0, [entry("old")], at=WALL + 9_105.0), wait=5.0)
    assert list(mesh.machine.book.entries) == ["new"]


def test_arguments_that_each_process_pickles_otherwise_are_no_change_of_what_is_due() -> None:
    mesh = Periodic(entry(payload=b"\x01ab"))
    mesh.do(wait=15.0)
    mesh.hear(W2, declare("app", 900.0, [entry(payload=b"\x01ba")]))
    known = mesh.machine.book.entries["e"]
    assert (known.payload, known.revised_at) == (b"\x01ba", WALL), "the newest counts, and nothing is put off"
    assert not mesh.fire(due(10.0)).reason
    assert mesh.machine.table.tasks[firing_id("e", due(10.0))].payload == b"\x01ba"
    mesh.hear(W2, declare("app", 950.0, [entry(payload=b"\x01ba", overlap="skip")]))
    assert mesh.machine.book.entries["e"].revised_at == WALL + 15.0


def test_an_entry_is_paused_and_resumed_by_code_where_that_changed_and_stays_as_people_want_it_where_not() -> None:
    mesh = Periodic(entry(paused=True))

    def is_paused(loaded_at: float, **fields: Any) -> bool:
        mesh.hear(W2, declare("app", loaded_at, [entry(**fields)]), wait=1.0)
        return mesh.machine.book.entries["e"].paused

    assert ask(mesh, "resume", "e") == {"done": ["e"]}
    assert not is_paused(1_001.0, paused=True), "the code says what it said before"
    assert not is_paused(1_002.0, paused=False)
    assert ask(mesh, "pause", "e") == {"done": ["e"]}
    assert is_paused(1_004.0, paused=False)
    assert is_paused(1_005.0, paused=True)
    assert not is_paused(1_006.0, paused=False), "the code was changed since"
    mesh.do(wait=10.0)
    assert not mesh.fire(due(20.0)).reason


def test_the_leader_is_told_of_changes() -> None:
    mesh = Periodic(entry("a"), entry("b"))
    told = one(sent(mesh.hear(W2, declare("app", 2.0, [entry("b"), entry("c")])), W1), Entries)
    assert ([e.name for e, _ in told.entries], told.gone, told.first) == (["c"], ["a"], False)


def test_a_declaration_in_parts_counts_when_the_last_has_come() -> None:
    mesh = Periodic()
    mesh.hear(W1, declare("app", 2.0, [entry("a")], last=False))
    assert not mesh.machine.book.entries
    mesh.hear(W2, declare("app", 2.0, [entry("x")], first=False)), "whose first part never came"
    mesh.hear(W1, declare("app", 2.0, [entry("b")], first=False))
    assert sorted(mesh.machine.book.entries) == ["a", "b"]


def test_a_name_belongs_to_one_app_and_more_entries_than_the_limit_are_refused_and_counted() -> None:
    mesh = Periodic(entry("a"), settings=Settings(heartbeat_s=1_000.0, schedule_entries_max=2))
    mesh.hear(W1, declare("other", 1.0, [entry("a", 3.0), entry("b"), entry("c")]))
    assert {name: e.app for name, e in mesh.machine.book.entries.items()} == {"a": "app", "b": "other"}
    assert mesh.machine.counters["entries_refused"] == 2


def test_a_declaration_in_many_parts_that_is_too_long_is_one_line_and_so_is_what_its_sender_is_told() -> None:
    mesh = Periodic(settings=Settings(heartbeat_s=1_000.0, schedule_entries_max=2))
    said: list[Any] = []
    for part in range(50):
        entries = [entry(f"{part}.{place}") for place in range(10)]
        said += mesh.hear(W1, declare("app", 2.0, entries, first=part == 0, last=part == 49))
    (line,) = (one.text for one in said if isinstance(one, Complain))
    assert line == "app app: more entries than schedule_entries_max; refused: 498"
    told = one(sent(said, W1), Refuse)
    assert told.reason.endswith("schedule_entries_max; and 493 more of app app are not taken") and len(told.ids) == 100
    assert mesh.machine.counters["entries_refused"] == 498


def test_who_declares_an_entry_whose_name_is_taken_is_told_and_so_is_who_lists_it() -> None:
    mesh = Periodic(entry("a"))
    told = sent(mesh.hear(W2, declare("other", 1.0, [entry("a", 3.0), entry("b")])), W2)
    why = "entry 'a' of app other is not taken: app app has one of this name, and names are mesh-wide: give it another"
    assert [message for message in told if isinstance(message, Refuse)] == [Refuse("entries", why, ["a"])]
    assert ask(mesh, "list")["rivals"] == {"a": "other"}
    mesh.hear(W2, declare("other", 2.0, [entry("b")]), wait=5.0)
    assert ask(mesh, "list")["rivals"] == {}, "its code has it no more"


def test_a_rival_is_forgotten_with_the_entry_and_may_have_the_name_then() -> None:
    mesh = Periodic(entry("a"))
    mesh.hear(W2, declare("other", 1.0, [entry("a")]))
    mesh.hear(W1, declare("app", 2.0, []), wait=5.0)
    assert ask(mesh, "list") == {**ask(mesh, "list"), "entries": [], "rivals": {}}
    mesh.hear(W2, declare("other", 3.0, [entry("a")]), wait=5.0)
    assert (mesh.machine.book.entries["a"].app, ask(mesh, "list")["rivals"]) == ("other", {})


def test_of_many_that_are_refused_some_are_told_and_all_counted() -> None:
    entries = [entry(f"{number:04}") for number in range(1_000)]
    mesh = Periodic(*entries)
    (refuse,) = (m for m in sent(mesh.hear(W2, declare("other", 1.0, entries)), W2) if isinstance(m, Refuse))
    assert refuse.reason.startswith("entry '0000' of app other is not taken: ")
    assert refuse.reason.endswith("; and 995 more of app other are not taken")
    assert len(refuse.ids) == 100


def test_a_list_says_whose_task_nobody_could_run() -> None:
    mesh = Periodic(
        entry("known"),
        replace(entry("typo"), options=TaskOptions("wrok")),
        replace(entry("elsewhere"), options=TaskOptions("work", "q")),
    )
    assert ask(mesh, "list")["parked"] == {
        "typo": "no worker has this task",
        "elsewhere": "no worker serves its queue",
    }
    done = ask(mesh, "add", entries=[replace(entry("new"), options=TaskOptions("later"))])
    assert done == {"done": ["new"], "parked": {"new": "no worker has this task"}}
    mesh.hear(W2, hello_worker("two", window=0, tasks=["work", "wrok", "later"], queues=["default", "q"]))
    assert ask(mesh, "list")["parked"] == {}
    for peer in (W1, W2):
        mesh.do(PeerLost(peer))
    assert ask(mesh, "list")["parked"] == {}, "nobody leads, so nothing waits"


def ask(mesh: Periodic, operation: str, *names: str, entries: Any = ()) -> Any:
    if C1 not in mesh.machine.clients:
        mesh.hear(C1, hello_client())
    reply = one(sent(mesh.hear(C1, Schedule(1, operation, list(names), list(entries))), C1), Reply)
    return msgspec.json.decode(reply.body)


def test_entries_are_added_changed_paused_resumed_and_removed_at_run_time() -> None:
    mesh = Periodic(entry("code"))
    assert ask(mesh, "add", entries=[entry("e")]) == {"done": ["e"]}
    assert "already" in ask(mesh, "add", entries=[entry("e")])["error"]
    assert ask(mesh, "pause", "e") == {"done": ["e"]}
    mesh.do(wait=20.0)
    assert mesh.fire(due(10.0)).reason == "entry 'e': it is paused"
    assert ask(mesh, "resume", "e") == {"done": ["e"]}
    assert mesh.fire(due(20.0)).positions == [("e", due(20.0))], "what was due meanwhile does not count"
    assert ask(mesh, "update", entries=[entry("e", 7.0)]) == {"done": ["e"]}
    assert [entry[0] for entry, position in ask(mesh, "list")["entries"]] == ["code", "e"]
    assert ask(mesh, "remove", "e") == {"done": ["e"]}
    assert "no entry" in ask(mesh, "remove", "e")["error"]
    assert "unknown operation" in ask(mesh, "odd")["error"]


def test_a_list_that_is_too_long_for_a_message_goes_on_in_the_next_and_says_who_leads() -> None:
    names = [f"{number:04} {'x' * 200}" for number in range(2_000)]
    mesh = Periodic(*(entry(name) for name in names))
    parts = [msgspec.convert(ask(mesh, "list"), Listing)]
    while parts[-1].next:
        parts.append(msgspec.convert(ask(mesh, "list_from", parts[-1].next), Listing))
    assert [shown.name for part in parts for shown, _ in part.entries] == names and len(parts) > 1
    assert {(part.leader, part.term) for part in parts} == {("one", mesh.term)}


def test_an_update_of_what_was_changed_meanwhile_is_refused() -> None:
    mesh = Periodic(entry())
    before = mesh.machine.book.entries["e"]
    mesh.do(wait=1.0)
    assert ask(mesh, "update", entries=[replace(before, jitter_s=1.0)]) == {"done": ["e"]}
    assert ask(mesh, "update", entries=[replace(before, overlap="skip")])["code"] == "changed"
    now = mesh.machine.book.entries["e"]
    assert (now.jitter_s, now.overlap) == (1.0, "allow")


def test_of_two_changes_of_its_arguments_at_a_time_one_is_refused() -> None:
    mesh = Periodic(entry())
    before = mesh.machine.book.entries["e"]
    assert ask(mesh, "update", entries=[replace(before, payload=b"a")]) == {"done": ["e"]}
    assert ask(mesh, "update", entries=[replace(before, payload=b"b")])["code"] == "changed"


def once(name: str = "o", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Once(WALL + seconds), TaskOptions("work"), **fields)


def once_fired(*code: Entry) -> Periodic:
    """A mesh in which what is due once at 10 s was fired, and runs."""
    mesh = Periodic(*code, settings=Settings(heartbeat_s=1e6, schedule_lease_ttl_s=1e6, schedule_done_s=100.0))
    mesh.hear(W1, hello_worker("one", window=5))
    mesh.hear(W1, AskLease())
    ask(mesh, "add", entries=[once()])
    mesh.do(wait=10.0)
    mesh.fire(due(10.0), name="o")
    return mesh


def test_what_was_due_once_is_there_for_a_time_after_it_was_fired_and_then_goes() -> None:
    mesh = once_fired(once("code"))
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    mesh.do(wait=99.0)
    assert mesh.position("o").last_state == "succeeded"
    told = one(sent(mesh.do(wait=1.0), W1), Entries)
    assert set(mesh.machine.book.entries) == {"code"} and told.gone == ["o"]
    assert ask(mesh, "add", entries=[once(seconds=500.0)]) == {"done": ["o"]}


def test_what_was_due_once_does_not_go_while_its_task_runs() -> None:
    mesh = once_fired()
    mesh.do(wait=150.0)
    assert "o" in mesh.machine.book.entries
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    mesh.do(wait=100.0)
    assert not mesh.machine.book.entries


def test_what_was_due_once_and_missed_goes_when_it_cannot_be_made_good_and_is_counted() -> None:
    mesh = Periodic(settings=Settings(heartbeat_s=1e6, schedule_done_s=100.0))
    ask(mesh, "add", entries=[once(catchup_window_s=1_000.0), once("held", paused=True)])
    mesh.do(wait=1_000.0)
    assert set(mesh.machine.book.entries) == {"o", "held"}
    mesh.do(wait=110.0)
    assert set(mesh.machine.book.entries) == {"held"} and mesh.machine.counters["firings_skipped"] == 1
    ask(mesh, "resume", "held")
    mesh.do(wait=1.0)
    assert not mesh.machine.book.entries


def test_what_is_due_once_goes_by_when_it_is_due_now_and_after_a_restart_too() -> None:
    mesh = once_fired()
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    ask(mesh, "update", entries=[once(seconds=300.0)])
    mesh.do(wait=200.0)
    assert "o" in mesh.machine.book.entries
    ask(mesh, "update", entries=[once(seconds=220.0)])
    again = Driven(Settings(schedule_done_s=100.0), boot=2)
    again.seconds = 215.0
    again.machine.restore([], [], [], entries=mesh.machine.book.entries.values(), positions=[mesh.position("o")])
    again.do()
    assert "o" in again.machine.book.entries
    again.do(wait=4_000.0)
    assert "o" not in again.machine.book.entries


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
    book = mesh.machine.book
    again.machine.restore([], [], [], apps={"app": 1.0}, entries=book.entries.values(), positions=[mesh.position()])
    again.hear(W1, hello_worker("one", window=0))
    told = one(sent(again.hear(W1, AskLease()), W1), Entries)
    assert [after for _, after in told.entries] == [due(10.0)]


def test_a_clients_key_leads_nothing() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    mesh.hear(C1, AskLease())
    assert mesh.machine.lease.holder is None and mesh.machine.counters["refused"] == 1
