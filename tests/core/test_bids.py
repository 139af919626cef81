"""Due times that must not be fired twice: a router fires them when most of the routers have granted it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mesh.core.commands import AppendBatch, Complain, SavePositions
from mesh.core.events import GossipHeard, OthersFound, StoreFilled, StoreFreed
from mesh.entries import Entry, Firing, Position, firing_id
from mesh.errors import ConfigError
from mesh.messages import AskLease, Cancel, Fire, Fired, Gossip, Hello, Schedule
from mesh.model import Peer, Role, TaskOptions
from mesh.schedules import Every, microseconds
from mesh.settings import Settings
from tests.core.make import C1, W1, WALL, Driven, got, hello_client, hello_worker, sent, submit

SETTINGS = Settings(
    heartbeat_s=1_000.0,
    schedule_lease_ttl_s=9_000.0,
    schedule_settle_s=0.0,
    schedule_partition="majority",
    schedule_routers=3,
)
OTHERS = [Peer(b"one"), Peer(b"two")]
DUE = microseconds(WALL + 10.0)


class Bidding(Driven):
    """One of three routers, which hear each other, with a leader; all entries are its own."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        super().__init__(settings)
        self.machine.restore([], [], [], others=True)
        self.hear(W1, hello_worker(window=0))
        self.hear(W1, AskLease())
        self.hear(C1, hello_client())
        for peer in OTHERS:
            self.hear(peer, Hello(Role.ROUTER, f"{peer.decode()}.1", "router", "3.11", "0"))
        heard = [GossipHeard(name, Gossip(fires=["r"])) for name in ("one", "two")]
        self.do(OthersFound(2, [], ["one", "two"]), *heard)
        self.hear(C1, Schedule(1, "add", [], [Entry("e", Every(10.0), TaskOptions("work"))]))
        self.do(wait=10.0)

    def fire(self, *dues: int) -> list[Any]:
        revised_at = self.machine.periodic.book.entries["e"].revised_at
        firings = [Firing("e", due, revised_at=revised_at) for due in dues]
        return self.hear(W1, Fire(self.machine.periodic.lease.term, 1, firings))

    def tell(self, router: str, **fields: Any) -> list[Any]:
        return self.do(GossipHeard(router, Gossip(**fields)))

    def last_us(self) -> int:
        return self.machine.periodic.firings.positions["e"].last_due_us


def gossip(commands: list[Any], peer: Peer = OTHERS[0]) -> Gossip:
    (found,) = (message for message in sent(commands, peer) if isinstance(message, Gossip))
    return found


def fired(commands: list[Any]) -> Fired:
    (found,) = (message for message in sent(commands, W1) if isinstance(message, Fired))
    return found


def test_nothing_is_fired_before_most_have_granted_it() -> None:
    mesh = Bidding()
    commands = mesh.fire(DUE)
    assert gossip(commands).bids == gossip(commands, OTHERS[1]).bids == [("e", DUE)]
    assert not mesh.machine.table.tasks and not any(isinstance(m, Fired) for m in sent(commands, W1))
    commands = mesh.tell("one", granted=gossip(commands).bid)
    assert list(mesh.machine.table.tasks) == [firing_id("e", DUE)]
    assert any(isinstance(command, AppendBatch) for command in commands)
    assert fired(commands).positions == [("e", DUE)] and not fired(commands).reason


def test_what_is_not_granted_in_time_is_not_fired_and_the_leader_says_it_again() -> None:
    mesh = Bidding()
    bid = gossip(mesh.fire(DUE)).bid
    assert mesh.machine.next_deadline() <= 1_000.0 + 10.0 + SETTINGS.heartbeat_s
    answer = fired(mesh.do(wait=SETTINGS.heartbeat_s))
    assert "not agreed" in answer.reason and answer.positions[0][1] < DUE
    mesh.tell("one", granted=bid)
    assert not mesh.machine.table.tasks, "that bid was given up"
    again = gossip(mesh.fire(DUE)).bid
    assert again != bid
    mesh.tell("two", granted=again)
    assert list(mesh.machine.table.tasks) == [firing_id("e", DUE)]


def test_each_due_time_is_granted_once() -> None:
    mesh = Bidding()
    commands = mesh.tell("one", bid=7, bids=[("e", DUE), ("e", DUE + 5)])
    assert gossip(commands).granted == 7 and mesh.last_us() == DUE + 5
    assert any(isinstance(command, SavePositions) for command in commands), "said after it is written down"
    assert not any(m.granted for m in sent(mesh.tell("two", bid=3, bids=[("e", DUE + 5)])) if isinstance(m, Gossip))
    assert not any(m.granted for m in sent(mesh.tell("two", bid=4, bids=[("x", DUE)])) if isinstance(m, Gossip))
    assert fired(mesh.fire(DUE)).reason == "entry 'e': this due time is behind it"


def test_who_bids_for_what_is_fired_already_is_told_how_far_the_entry_is() -> None:
    """It may not have heard, where the network was cut just then, and would bid for the same for ever."""
    mesh = Bidding()
    mesh.tell("one", bid=7, bids=[("e", DUE + 5)])
    answer = gossip(mesh.tell("one", bid=8, bids=[("e", DUE), ("e", DUE + 10)]))
    assert [(one.entry, one.last_due_us) for one in answer.positions] == [("e", DUE + 5)] and not answer.granted


def test_of_an_entry_that_is_removed_in_the_wake_up_of_a_bid_for_it_only_that_is_told() -> None:
    mesh = Bidding()
    mesh.tell("one", bid=7, bids=[("e", DUE + 5)])
    bid = GossipHeard("one", Gossip(bid=8, bids=[("e", DUE)]))
    answer = gossip(mesh.do(bid, got(C1, Schedule(2, "remove", ["e"], []))))
    assert [(one.name, one.gone) for one in answer.entries] == [("e", True)] and not answer.positions


def test_a_bid_is_said_again_to_who_comes_anew_and_granted_again() -> None:
    mesh = Bidding()
    bid = gossip(mesh.fire(DUE)).bid
    hello = Hello(Role.ROUTER, "one.1", "router", "3.11", "0")
    assert gossip(mesh.hear(OTHERS[0], hello)).bid == bid
    mesh.tell("one", granted=bid)
    for _ in range(2):
        assert gossip(mesh.tell("one", bid=7, bids=[("e", DUE + 5)])).granted == 7
    assert gossip(mesh.hear(OTHERS[0], hello)).granted == 7, "it may not have heard"
    assert gossip(mesh.hear(OTHERS[1], replace(hello, node_id="two.1")), OTHERS[1]).granted == 0


def test_what_is_granted_is_fired_whatever_is_heard_meanwhile_of_how_far_the_entry_is() -> None:
    mesh = Bidding()
    bid = gossip(mesh.fire(DUE)).bid
    mesh.tell("two", positions=[Position("e", DUE + 5, "t", "", 2)])
    mesh.tell("one", granted=bid)
    assert list(mesh.machine.table.tasks) == [firing_id("e", DUE)] and mesh.last_us() == DUE + 5


@pytest.mark.parametrize("halted", [False, True])
def test_what_is_granted_while_there_is_no_room_is_fired_when_there_is(halted: bool) -> None:
    mesh = Bidding()
    bid = gossip(mesh.fire(DUE)).bid
    mesh.do(StoreFilled("full", halted))
    commands = mesh.tell("one", granted=bid)
    assert not mesh.machine.table.tasks and not sent(commands, W1)
    mesh.tell("two", bid=3, bids=[("e", DUE)])
    assert mesh.last_us() < DUE, "nobody else is granted it"
    mesh.do(wait=2 * SETTINGS.heartbeat_s)
    deadline = mesh.machine.next_deadline()
    assert deadline is not None and deadline > 1_000.0 + mesh.seconds, "nothing is to be done until then"
    commands = mesh.do(StoreFreed())
    assert list(mesh.machine.table.tasks) == [firing_id("e", DUE)]
    assert fired(commands) == Fired(1, False, [("e", DUE)])


def test_what_is_granted_is_not_fired_beyond_the_limit_of_queued_tasks() -> None:
    mesh = Bidding(SETTINGS.with_overrides(queued_tasks_max=1))
    bid = gossip(mesh.fire(DUE)).bid
    mesh.hear(C1, submit("other"))
    mesh.tell("one", granted=bid)
    assert list(mesh.machine.table.tasks) == ["other"]
    mesh.hear(C1, Cancel(["other"]))
    assert list(mesh.machine.table.tasks) == [firing_id("e", DUE)]


@pytest.mark.parametrize(("operation", "why"), [("pause", "it is paused"), ("remove", "it is gone")])
def test_what_was_changed_while_others_were_asked_is_not_fired_and_that_is_counted_and_said(
    operation: str, why: str
) -> None:
    mesh = Bidding()
    bid = gossip(mesh.fire(DUE)).bid
    mesh.hear(C1, Schedule(2, operation, ["e"]))
    commands = mesh.tell("one", granted=bid)
    assert not mesh.machine.table.tasks and mesh.machine.counters["firings_refused"] == 1
    assert fired(commands).reason == f"entry 'e': {why}"
    assert [command.text for command in commands if isinstance(command, Complain)]


def test_what_a_router_bids_for_it_grants_to_no_other_meanwhile() -> None:
    mesh = Bidding()
    mesh.fire(DUE)
    assert not any(isinstance(message, Gossip) for message in sent(mesh.tell("one", bid=7, bids=[("e", DUE)])))
    mesh.do(wait=SETTINGS.heartbeat_s)
    assert gossip(mesh.tell("one", bid=8, bids=[("e", DUE)])).granted == 8


def test_one_bid_is_out_at_a_time() -> None:
    mesh = Bidding()
    mesh.fire(DUE)
    assert "being asked" in fired(mesh.fire(DUE)).reason


def test_people_are_told_that_nothing_is_fired_for_too_few_routers_are_heard() -> None:
    mesh = Bidding()
    commands = mesh.do(OthersFound(0, [], [], {"one": 1_000.0, "two": 1_000.0}))
    (said,) = (command.text for command in commands if isinstance(command, Complain))
    assert said == "no periodic task is fired here: most of schedule_routers = 3 are not heard"
    assert "another router fires it" in fired(mesh.fire(DUE)).reason


def test_a_majority_of_how_many_is_to_be_said() -> None:
    with pytest.raises(ConfigError, match="schedule_routers is to say of how many"):
        Settings(schedule_partition="majority")
