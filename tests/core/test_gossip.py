"""What routers tell each other of periodic tasks: whatever each heard and in which order, all come to the same."""

from __future__ import annotations

import random
from typing import Any

from msgspec import json
from msgspec.structs import replace

from mesh.core.events import GossipHeard, OthersFound, StoreFilled
from mesh.core.ownership import owner
from mesh.core.router import RouterMachine
from mesh.entries import Entry, Firing, Listing, Position, merged_entry, merged_position
from mesh.messages import AskLease, Declare, Entries, Fire, Gossip, Hello, Schedule
from mesh.model import Peer, Role, TaskOptions
from mesh.schedules import Every, microseconds
from mesh.settings import Settings
from tests.core.make import C1, W1, WALL, Driven, got, hello_client, hello_worker, sent

SETTINGS = Settings(heartbeat_s=1_000.0, schedule_lease_ttl_s=1_000.0, schedule_settle_s=1.0)
OTHER = Peer(b"other")


def entry(name: str = "e", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Every(seconds), TaskOptions("work"), **fields)


class Shared(Driven):
    """A router that may have others; ``router`` has said HELLO to it."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        super().__init__(settings)
        self.requests = 0
        self.machine.restore([], [], [], others=True)
        self.do()
        self.hear(C1, hello_client())
        self.do(wait=1.0)

    def join(self) -> list[Gossip]:
        """Another router comes; what it is told."""
        hello = Hello(Role.ROUTER, "other.1", "router", "3.11", "0")
        return said(self.hear(OTHER, hello))

    def tell(self, *entries: Entry, **fields: Any) -> list[Any]:
        """The other router says something."""
        return self.do(GossipHeard("other", Gossip(list(entries), **fields)))

    def ask(self, operation: str, *names: str, entries: tuple[Entry, ...] = ()) -> list[Any]:
        self.requests += 1
        return self.hear(C1, Schedule(self.requests, operation, list(names), list(entries)))

    def declare(self, loaded_at: float, *entries: Entry) -> list[Any]:
        self.hear(W1, hello_worker())
        return self.hear(W1, Declare("app", loaded_at, list(entries), at=1_000.0))


def said(commands: list[Any]) -> list[Gossip]:
    return [message for message in sent(commands, OTHER) if isinstance(message, Gossip)]


def names(machine: RouterMachine) -> set[str]:
    return set(machine.periodic.book.entries)


def test_who_comes_is_told_all_and_then_what_is_new() -> None:
    mesh = Shared()
    mesh.ask("add", entries=(entry("a"), entry("b")))
    mesh.ask("remove", "b")
    (all_there_is,) = mesh.join()
    assert {(one.name, one.gone) for one in all_there_is.entries} == {("a", False), ("b", True)}
    assert [one.entry for one in all_there_is.positions] == ["a"] and all_there_is.fires == ["r"]
    (new,) = said(mesh.ask("add", entries=(entry("c"),)))
    assert [one.name for one in new.entries] == ["c"] and new.fires is None
    assert said(mesh.do()) == []


def test_what_was_heard_of_a_router_is_not_told_to_it_or_to_whom_it_tells_itself() -> None:
    mesh = Shared()
    mesh.join()
    assert said(mesh.tell(entry("a", written_at=5.0))) == []
    third = GossipHeard("third", Gossip([entry("b", written_at=5.0)]))
    (passed_on,) = said(mesh.do(third))
    assert [one.name for one in passed_on.entries] == ["b"], "nobody knows that it hears of that one"
    mesh.do(OthersFound(1, [], ["other"]), GossipHeard("other", Gossip(fires=["other", "third"])))
    assert said(mesh.do(GossipHeard("third", Gossip([entry("c", written_at=5.0)])))) == []


def test_what_is_changed_in_the_wake_up_in_which_it_is_heard_of_is_told_to_who_said_it() -> None:
    position = Position("a", microseconds(WALL + 10.0), "t", "", 1)
    for heard in (Gossip(positions=[position]), Gossip([entry("a", written_at=WALL + 0.5)])):
        for operation in ("pause", "remove"):
            mesh = Shared()
            mesh.ask("add", entries=(entry("a"),))
            mesh.join()
            (told,) = said(mesh.do(GossipHeard("other", heard), got(C1, Schedule(2, operation, ["a"], []))))
            assert [(one.paused, one.gone) for one in told.entries] == [(operation == "pause", operation == "remove")]
            assert not told.positions, "it has said that itself"


def test_who_said_less_than_what_is_known_here_is_told_the_rest() -> None:
    mesh = Shared()
    mesh.ask("add", entries=(entry("a"),))
    mesh.tell(positions=[Position("a", microseconds(WALL + 10.0), "t", "", 5)])
    mesh.join()
    (told,) = said(mesh.tell(positions=[Position("a", microseconds(WALL + 20.0), "u", "", 1)]))
    assert [(one.last_task, one.fired) for one in told.positions] == [("u", 5)]


def test_who_gave_up_a_router_is_told_all_for_it_may_have_missed_what_that_one_said() -> None:
    mesh = Shared()
    mesh.join()
    both = Gossip(fires=["other", "third", "r"])
    mesh.do(OthersFound(2, [], ["other", "third"]), GossipHeard("other", both), GossipHeard("third", both))
    assert said(mesh.do(GossipHeard("third", Gossip([entry("c", written_at=5.0)])))) == []
    (told,) = said(mesh.tell(fires=["other", "r"]))
    assert [one.name for one in told.entries] == ["c"]
    assert said(mesh.tell(fires=["other", "third", "r"])) == []


def test_much_is_told_in_parts_and_who_fires_with_the_last() -> None:
    mesh = Shared()
    payload = bytes(15_000)
    mesh.ask("add", entries=tuple(entry(f"e{number}", payload=payload) for number in range(100)))
    parts = mesh.join()
    assert len(parts) == 2 and [part.fires for part in parts] == [None, ["r"]]
    assert sum(len(part.entries) for part in parts) == sum(len(part.positions) for part in parts) == 100


def test_a_router_that_nobody_leads_tells_the_others_that_it_fires_nothing_and_when_it_does_again() -> None:
    mesh = Shared()
    mesh.ask("add", entries=(entry("a"),))
    mesh.join()
    mesh.do(OthersFound(1, [], ["other"]), GossipHeard("other", Gossip(fires=["other", "r"])))
    assert [one.fires for one in said(mesh.do(wait=5.0))] == [["other"]]
    mesh.tell(fires=["other"])
    mesh.hear(W1, hello_worker())
    assert [one.fires for one in said(mesh.hear(W1, AskLease()))] == [["other", "r"]]


def test_a_list_says_which_router_fires_each_entry_and_why_the_store_takes_nothing() -> None:
    mesh = Shared()
    mesh.join()
    many = [f"e{number}" for number in range(30)]
    mesh.ask("add", entries=tuple(map(entry, many)))
    mesh.do(OthersFound(1, [], ["other"]), GossipHeard("other", Gossip(fires=["other", "r"])))
    mesh.do(StoreFilled("the store is full: OOM", halt=False))
    (reply,) = sent(mesh.ask("list"), C1)
    listing = json.decode(reply.body, type=Listing)
    assert listing.owners == {name: owner({"other", "r"}, name) for name in many}
    assert set(listing.owners.values()) == {"other", "r"} and listing.full == "the store is full: OOM"


def test_the_form_written_last_counts() -> None:
    mesh = Shared()
    mesh.ask("add", entries=(entry(),))
    known = mesh.machine.periodic.book.entries["e"]
    mesh.tell(replace(known, written_at=known.written_at - 1.0, paused=True))
    assert mesh.machine.periodic.book.entries["e"] == known
    later = replace(known, written_at=known.written_at + 1.0, paused=True)
    mesh.tell(later)
    assert mesh.machine.periodic.book.entries["e"] == later
    mesh.tell(replace(later, written_at=later.written_at + 1.0, gone=True))
    assert names(mesh.machine) == set()
    mesh.tell(later)
    assert names(mesh.machine) == set(), "it was removed since"


def test_a_router_that_begins_with_the_code_does_not_undo_what_people_did() -> None:
    mesh = Shared()
    mesh.tell(
        entry("a", app="app", paused=True, written_at=WALL - 50.0), entry("b", app="app", gone=True, written_at=WALL)
    )
    mesh.declare(990.0, entry("a"), entry("b"))
    assert mesh.machine.periodic.book.entries["a"].paused and names(mesh.machine) == {"a"}
    fresh = Shared()
    fresh.declare(990.0, entry("a"))
    fresh.tell(entry("a", app="app", paused=True, written_at=1.0))
    assert fresh.machine.periodic.book.entries["a"].paused, "what stood in the code nobody has written"


def test_code_that_is_loaded_after_an_entry_was_removed_brings_it_back() -> None:
    mesh = Shared()
    mesh.declare(999.0, entry("a"))
    mesh.ask("remove", "a")
    mesh.declare(999.0, entry("a"))
    assert names(mesh.machine) == set()
    mesh.do(wait=60.0)
    mesh.declare(999.9, entry("a"))
    assert names(mesh.machine) == {"a"}


def test_older_code_counts_as_little_where_another_router_has_seen_newer() -> None:
    mesh = Shared()
    mesh.tell(entry("new", app="app"), apps={"app": WALL})
    mesh.declare(900.0, entry("old"))
    assert names(mesh.machine) == {"new"}


def test_what_was_removed_is_forgotten_after_a_time_and_when_there_is_too_much_of_it() -> None:
    mesh = Shared(SETTINGS.with_overrides(schedule_gone_s=100.0, schedule_entries_max=3))
    for number in range(5):
        mesh.ask("add", entries=(entry(f"e{number}"),))
        mesh.ask("remove", f"e{number}")
    assert list(mesh.machine.periodic.book.gone) == ["e2", "e3", "e4"]
    mesh.do(wait=101.0)
    mesh.ask("add", entries=(entry("last"),))
    mesh.ask("remove", "last")
    assert list(mesh.machine.periodic.book.gone) == ["last"]
    mesh.tell(entry("ancient", gone=True, written_at=WALL - 200.0))
    assert list(mesh.machine.periodic.book.gone) == ["last"]


def test_what_is_kept_of_a_removed_entry_is_how_far_any_router_had_come() -> None:
    mesh = Shared()
    mesh.ask("add", entries=(entry(),))
    mesh.join()
    known = mesh.machine.periodic.book.entries["e"]
    fired = microseconds(WALL + 30.0)
    mesh.tell(positions=[Position("e", fired, "t", "", 3)])
    gone = replace(known, gone=True, written_at=known.written_at + 1.0, after_us=fired - 10)
    (told,) = said(mesh.tell(gone))
    assert told.entries == [replace(gone, after_us=fired)], "the other had not come so far"
    assert said(mesh.tell(gone)) == []
    (told,) = said(mesh.ask("add", entries=(entry(),)))
    assert told.entries[0].after_us == fired and not told.entries[0].gone
    mesh.tell(replace(gone, after_us=fired + 10))
    assert mesh.machine.periodic.book.entries["e"].after_us == fired + 10, (
        "it fired once more before it heard that it was gone"
    )


def test_a_position_goes_as_far_as_any_router_came() -> None:
    mesh = Shared()
    mesh.ask("add", entries=(entry(),))
    before = mesh.machine.periodic.firings.positions["e"]
    further = Position("e", microseconds(WALL + 30.0), "t", "", 3, 1)
    mesh.tell(positions=[further])
    assert mesh.machine.periodic.firings.positions["e"] == further
    mesh.tell(positions=[replace(further, last_due_us=microseconds(WALL + 20.0), fired=2), before])
    assert mesh.machine.periodic.firings.positions["e"] == further
    mesh.tell(positions=[replace(further, last_state="succeeded")])
    assert mesh.machine.periodic.firings.positions["e"].last_state == "succeeded"
    assert mesh.machine.periodic.firings.positions["e"].fired == 3


def test_a_router_where_an_entry_was_never_due_does_not_push_it_ahead() -> None:
    behind = Position("e", 1_000, "t", "succeeded", 1)
    fresh = Position("e", 9_000)
    assert merged_position(behind, fresh) == merged_position(fresh, behind) == behind
    assert merged_position(fresh, Position("e", 8_000)).last_due_us == 8_000


def test_all_come_to_the_same_in_whatever_order_they_hear() -> None:
    rng = random.Random(1)
    for _ in range(200):
        forms = [
            entry(
                seconds=rng.choice([1.0, 2.0]),
                revised_at=rng.choice([0.0, 1.0]),
                written_at=rng.choice([0.0, 5.0]),
                after_us=rng.choice([0, 7, 8]),
            )
            for _ in range(4)
        ]
        positions = [
            Position("e", rng.choice([10, 20]), rng.choice("ab"), rng.choice(["", "failed"]), rng.choice([0, 1]))
            for _ in range(4)
        ]
        ends = set()
        for _ in range(5):
            order = rng.sample(range(4), 4)
            form, position = forms[order[0]], positions[order[0]]
            for place in order[1:]:
                form = merged_entry(form, forms[place])
                position = merged_position(position, positions[place])
            ends.add(repr((form, position)))
        assert len(ends) == 1


def test_the_leader_is_told_of_entries_that_are_ours_and_loses_those_that_are_not() -> None:
    mesh = Shared()
    mesh.hear(W1, hello_worker())
    mesh.hear(W1, AskLease())
    mesh.ask("add", entries=tuple(entry(f"e{number}") for number in range(10)))
    machine = mesh.machine
    found, heard = OthersFound(1, [], ["other"]), GossipHeard("other", Gossip(fires=["other", "r"]))
    (told,) = (message for message in sent(mesh.do(found, heard), W1) if isinstance(message, Entries))
    ours = {name for name in names(machine) if machine.periodic.ownership.owns(name)}
    theirs = names(machine) - ours
    assert ours and theirs and not told.entries and set(told.gone) == theirs
    name = min(theirs)
    firing_of = machine.periodic.book.entries[name]
    due = microseconds(WALL + 20.0)
    mesh.hear(W1, Fire(machine.periodic.lease.term, 1, [Firing(name, due, revised_at=firing_of.revised_at)]))
    assert not machine.table.tasks and machine.counters["firings_refused"] == 1
    (told,) = (m for m in sent(mesh.tell(fires=["r"]), W1) if isinstance(m, Entries))
    assert {one.name for one, _ in told.entries} == theirs
