"""Due times of a router that shares its store with others: it fires what the store grants, and nothing else."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mesh.core.commands import BidAtStore, DueSpan, SavePositions
from mesh.core.events import BidAnswered, DueGrant, GossipHeard, StoreFilled, StoreFreed
from mesh.core.store_bids import AGAIN_S, PATIENCE_S, STALE_S
from mesh.entries import Entry, Firing, firing_id
from mesh.messages import AskLease, Declare, Fire, Fired, Gossip, Schedule, Settled
from mesh.model import COUNT_MAX, TaskOptions
from mesh.schedules import Every, microseconds
from mesh.settings import Settings
from tests.core.make import C1, W1, WALL, Driven, hello_client, hello_worker, sent, settlement

SETTINGS = Settings(heartbeat_s=1_000.0, schedule_lease_ttl_s=9_000.0)
DUE = microseconds(WALL + 10.0)
YES, HELD = DueGrant(True), DueGrant(False)


def due_id(name: str = "e", due_us: int = DUE) -> str:
    return firing_id(name, due_us)


class Sharing(Driven):
    """A router with a leader and entries; 10 s have passed."""

    def __init__(self, *names: str, settings: Settings = SETTINGS, **fields: Any) -> None:
        super().__init__(settings, shared=True)
        self.machine.restore([], [], [])
        self.hear(W1, hello_worker(window=0))
        self.hear(C1, hello_client())
        entries = [Entry(name, Every(10.0), TaskOptions("work"), **fields) for name in names or ("e",)]
        self.hear(W1, Declare("app", WALL - 1.0, entries, at=WALL))
        self.hear(W1, AskLease())
        self.do(wait=10.0)
        self.number = 0

    def fire(self, *dues: int, names: tuple[str, ...] = ("e",)) -> list[Any]:
        self.number += 1
        firings = [Firing(name, due, revised_at=WALL) for name in names for due in dues or (DUE,)]
        return self.hear(W1, Fire(self.machine.periodic.lease.term, self.number, firings))

    def answer(self, commands: list[Any], *grants: DueGrant) -> list[Any]:
        return self.do(BidAnswered(bid(commands).number, list(grants)))

    def tasks(self) -> list[str]:
        return list(self.machine.table.tasks)

    def position(self, name: str = "e") -> Any:
        return self.machine.periodic.firings.positions[name]


def bid(commands: list[Any]) -> BidAtStore:
    (found,) = (command for command in commands if isinstance(command, BidAtStore))
    return found


def bids(commands: list[Any]) -> list[BidAtStore]:
    return [command for command in commands if isinstance(command, BidAtStore)]


def saved(commands: list[Any]) -> SavePositions:
    (found,) = (command for command in commands if isinstance(command, SavePositions))
    return found


def fired(commands: list[Any]) -> list[Fired]:
    return [message for message in sent(commands, W1) if isinstance(message, Fired)]


def test_all_of_a_fire_is_asked_for_at_once_and_fired_when_it_is_granted() -> None:
    mesh = Sharing("e", "f")
    commands = mesh.fire(DUE, DUE + 5, names=("e", "f"))
    assert bid(commands).spans == [DueSpan("e", DUE, DUE + 5), DueSpan("f", DUE, DUE + 5)]
    assert not mesh.tasks() and not fired(commands)
    commands = mesh.answer(commands, YES, YES)
    assert mesh.tasks() == [due_id("e"), due_id("e", DUE + 5), due_id("f"), due_id("f", DUE + 5)]
    assert saved(commands).fired == [DueSpan("e", DUE + 5, DUE + 5), DueSpan("f", DUE + 5, DUE + 5)]
    assert not fired(commands)[0].reason and not bids(commands)


def test_what_another_router_has_fired_is_fired_and_not_missed() -> None:
    mesh = Sharing("e", "f")
    later = DUE + 7
    commands = mesh.answer(mesh.fire(names=("e", "f")), DueGrant(False, later), YES)
    assert mesh.tasks() == [due_id("f")]
    position = mesh.position()
    assert (position.last_due_us, position.fired, position.skipped) == (later, 1, 0)
    assert mesh.machine.counters["firings_elsewhere"] == 1 and not mesh.machine.counters["firings_skipped"]
    assert fired(commands)[0].positions == [("e", later), ("f", DUE)] and not fired(commands)[0].reason


def test_of_some_the_rest_is_asked_for_at_once() -> None:
    mesh = Sharing()
    commands = mesh.answer(mesh.fire(DUE, DUE + 5, DUE + 9), DueGrant(False, DUE + 5))
    assert bid(commands).spans == [DueSpan("e", DUE + 9, DUE + 9)] and not fired(commands)
    commands = mesh.answer(commands, YES)
    assert mesh.tasks() == [due_id(due_us=DUE + 9)] and mesh.position().fired == 3
    assert not fired(commands)[0].reason


def test_what_another_router_is_firing_is_asked_for_again_until_it_is_decided() -> None:
    mesh = Sharing("e", "f")
    commands = mesh.answer(mesh.fire(names=("e", "f")), HELD, YES)
    assert mesh.tasks() == [due_id("f")] and not bids(commands)
    assert mesh.machine.next_deadline() == 1_000.0 + 10.0 + AGAIN_S
    for _ in range(2):
        commands = mesh.do(wait=AGAIN_S)
        assert bid(commands).spans == [DueSpan("e", DUE, DUE)]
        assert not bids(mesh.answer(commands, HELD)) and not fired(commands)
    mesh.answer(mesh.do(wait=AGAIN_S), YES)
    assert mesh.tasks() == [due_id("f"), due_id("e")]


def test_a_router_that_is_held_up_does_not_hold_up_what_else_is_due() -> None:
    mesh = Sharing()
    commands = mesh.fire()
    mesh.answer(commands, HELD)
    commands = mesh.do(wait=PATIENCE_S)
    (answer,) = fired(mesh.answer(commands, HELD))
    assert "another router is firing" in answer.reason and answer.positions[0][1] < DUE
    mesh.answer(mesh.fire(), YES)
    assert mesh.tasks() == [due_id()]


def test_what_is_granted_when_the_store_is_back_is_chosen_anew_by_the_leader() -> None:
    mesh = Sharing()
    commands = mesh.fire()
    mesh.do(wait=STALE_S)
    commands = mesh.answer(commands, YES)
    assert not mesh.tasks() and "store was away" in fired(commands)[0].reason
    assert bid(commands).spans == [], "given back"
    mesh.do(BidAnswered(bid(commands).number, []))
    mesh.answer(mesh.fire(), YES)
    assert mesh.tasks() == [due_id()]


def test_what_is_granted_while_there_is_no_room_is_given_back_and_the_leader_says_it_again() -> None:
    mesh = Sharing()
    commands = mesh.fire()
    mesh.do(StoreFilled("full", False))
    commands = mesh.answer(commands, YES)
    assert not mesh.tasks() and bid(commands).spans == [], "given back"
    (answer,) = fired(commands)
    assert answer.reason == "full" and answer.positions[0][1] < DUE
    mesh.do(BidAnswered(bid(commands).number, []), StoreFreed())
    mesh.answer(mesh.fire(), YES)
    assert mesh.tasks() == [due_id()]


def test_one_that_has_waited_and_finds_no_room_is_given_back_and_asked_for_again() -> None:
    mesh = Sharing(overlap="queue_one")
    mesh.answer(mesh.fire(), YES)
    mesh.answer(mesh.fire(DUE + 5), YES)
    commands = mesh.hear(W1, Settled(1, [settlement(due_id())]))
    mesh.do(StoreFilled("full", False))
    commands = mesh.answer(commands, YES)
    assert not mesh.tasks() and bid(commands).spans == [], "given back"
    mesh.do(BidAnswered(bid(commands).number, []))
    mesh.answer(mesh.do(StoreFreed()), YES)
    assert mesh.tasks() == [due_id(due_us=DUE + 5)]


def test_what_was_paused_meanwhile_is_not_fired_and_given_back_and_that_is_counted_and_said() -> None:
    mesh = Sharing()
    commands = mesh.fire()
    mesh.hear(C1, Schedule(1, "pause", ["e"], []))
    commands = mesh.answer(commands, YES)
    assert fired(commands)[0].reason == "entry 'e': it is paused" and mesh.machine.counters["firings_refused"] == 1
    assert not mesh.tasks() and bid(commands).spans == []
    assert not bids(mesh.do(BidAnswered(bid(commands).number, [])))


def test_one_that_has_waited_is_asked_for_when_it_is_to_be_fired() -> None:
    mesh = Sharing(overlap="queue_one")
    mesh.answer(mesh.fire(), YES)
    commands = mesh.answer(mesh.fire(DUE + 5), YES)
    assert mesh.tasks() == [due_id()] and saved(commands).fired == [DueSpan("e", DUE + 5, DUE + 5)]
    commands = mesh.hear(W1, Settled(1, [settlement(due_id())]))
    assert bid(commands).spans == [DueSpan("e", DUE + 5, DUE + 5, queued=True)] and not mesh.tasks()
    assert not bids(mesh.answer(commands, HELD))
    commands = mesh.answer(mesh.do(wait=AGAIN_S), YES)
    assert mesh.tasks() == [due_id(due_us=DUE + 5)] and mesh.position().queued_due_us is None
    assert saved(commands).fired == [DueSpan("e", DUE + 5, DUE + 5, queued=True)]


def test_one_that_has_waited_and_that_another_router_has_fired_waits_no_more() -> None:
    mesh = Sharing(overlap="queue_one")
    mesh.answer(mesh.fire(), YES)
    mesh.answer(mesh.fire(DUE + 5), YES)
    commands = mesh.answer(mesh.hear(W1, Settled(1, [settlement(due_id())])), DueGrant(False, DUE + 5))
    assert not mesh.tasks() and mesh.position().queued_due_us is None and not bids(commands)


def test_a_count_of_what_others_fire_stays_at_its_bound() -> None:
    mesh = Sharing(overlap="queue_one")
    mesh.answer(mesh.fire(DUE, DUE + 5), YES)
    mesh.machine.periodic.firings.positions["e"] = replace(mesh.position(), fired=COUNT_MAX)
    mesh.answer(mesh.hear(W1, Settled(1, [settlement(due_id())])), DueGrant(False, DUE + 5))
    assert mesh.position().queued_due_us is None and mesh.position().fired == COUNT_MAX


def test_no_majority_is_needed_whatever_the_setting_says() -> None:
    settings = SETTINGS.with_overrides(schedule_partition="majority", schedule_routers=3)
    mesh = Sharing(settings=settings)
    mesh.answer(mesh.fire(), YES)
    assert mesh.tasks() == [due_id()]


def test_numbers_of_bids_differ_from_those_of_earlier_lives() -> None:
    assert bid(Sharing().fire()).number >> 32 == 1


def test_what_stood_in_the_journal_of_a_lost_router_is_told_to_all() -> None:
    mesh = Sharing()
    entry = Entry("lost", Every(3.0), TaskOptions("work"), revised_at=WALL)
    mesh.do(GossipHeard("", Gossip([entry], [])))
    assert mesh.machine.periodic.book.entries["lost"] == entry and mesh.position("lost").last_due_us == microseconds(
        WALL
    )
