"""A scheduler beside a router of its own imagination: when it asks, what it fires, what it forgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.commands import Send
from mesh.core.events import ExecutorStarted, MessageReceived, StopRequested
from mesh.core.scheduler import SchedulerMachine
from mesh.entries import Entry, Firing
from mesh.messages import AskLease, Declare, Entries, Fire, Fired, Leased, Message, Shutdown, Welcome
from mesh.model import INSTANT_MAX, Peer, TaskOptions
from mesh.schedules import CronLine, Every, Once, microseconds
from mesh.settings import Settings
from tests.core.make import WALL, at

R = Peer(b"router")
TTL = 9.0
AHEAD = 3_600.0  # the router's clock goes so much before ours


def due(seconds: float) -> int:
    return microseconds(WALL + AHEAD + seconds)


def entry(name: str = "e", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Every(seconds), TaskOptions("work"), **fields)


class Driven:
    def __init__(self, settings: Settings | None = None, *, code: tuple[Entry, ...] = ()) -> None:
        self.machine = SchedulerMachine(settings or Settings())
        self.seconds = 0.0
        self.sessions: list[Peer] = []
        self.do(ExecutorStarted(1, app="app", entries=code))

    def do(self, *events: Any, wait: float = 0.0) -> list[Message]:
        self.seconds += wait
        commands = self.machine.handle(events, self.sessions, at(self.seconds))
        self.machine.check()
        return [command.message for command in commands if isinstance(command, Send)]

    def hear(self, *messages: Message, wait: float = 0.0) -> list[Message]:
        return self.do(*(MessageReceived(R, message) for message in messages), wait=wait)

    def lead(self, *entries: Entry, after: float = 0.0, term: int = 7) -> list[Message]:
        self.sessions = [R]
        self.do()
        told = [(one, due(after)) for one in entries]
        return self.hear(self.leased(term), Entries(term, told, first=True))

    def leased(self, term: int = 7) -> Leased:
        return Leased(term, TTL, WALL + AHEAD + self.seconds, "me")


def test_a_new_session_is_told_the_code_and_asked_for_the_lease() -> None:
    mesh = Driven(code=(entry("a"), entry("b")))
    mesh.sessions = [R]
    assert mesh.do() == [Declare("app", WALL, [entry("a"), entry("b")], at=WALL), AskLease()]
    assert mesh.do(wait=1.0) == []


def test_a_node_without_an_app_does_nothing() -> None:
    machine = SchedulerMachine(Settings())
    assert machine.handle([ExecutorStarted(1)], [R], at(0.0)) == []
    assert machine.next_deadline() == float("inf")


def test_the_lease_is_asked_for_three_times_in_its_time_once_it_was_answered() -> None:
    mesh = Driven()
    mesh.lead()
    assert mesh.do(wait=TTL / 3) == [AskLease()]
    assert mesh.do(wait=TTL) == []
    assert mesh.hear(mesh.leased()) == [AskLease()], "the answer was late"


def test_what_is_due_by_the_routers_clock_is_fired_and_the_rest_when_that_is_answered() -> None:
    mesh = Driven()
    assert mesh.lead(entry()) == []
    assert mesh.machine.next_deadline() == pytest.approx(1_000.0 + TTL / 3)
    for _ in range(3):
        assert mesh.do(wait=3.0) == [AskLease()]
        mesh.hear(mesh.leased())
    assert mesh.do(wait=0.9) == []
    assert mesh.do(wait=0.1) == [Fire(7, 1, [Firing("e", due(10.0))])]
    assert mesh.do(wait=0.1) == []


def test_nothing_is_fired_when_the_time_to_lead_is_over_and_all_when_it_is_renewed() -> None:
    mesh = Driven()
    mesh.lead(entry())
    assert mesh.do(wait=10.0) == [AskLease()]
    (fire,) = mesh.hear(mesh.leased())
    assert fire == Fire(7, 1, [Firing("e", due(10.0))])


def test_a_stale_answer_makes_it_forget_and_ask_anew() -> None:
    mesh = Driven()
    mesh.lead(entry())
    mesh.do(wait=10.0)
    mesh.hear(mesh.leased())
    assert mesh.hear(Fired(1, True)) == [AskLease()]
    assert mesh.machine.leads == []
    assert mesh.hear(Entries(7, [(entry(), due(0.0))])) == [], "what was said to the leader of a term that is over"


def test_a_router_that_takes_nothing_is_not_asked_again_at_once_and_its_clock_is_asked_for() -> None:
    mesh = Driven()
    mesh.lead(entry(), after=-20.0)
    assert mesh.machine.next_deadline() == pytest.approx(1_003.0), "one FIRE is out, and no other"
    assert mesh.hear(Fired(1, False, [("e", due(-20.0))], "the store is full")) == [AskLease()]
    assert mesh.hear(mesh.leased()) == []
    assert mesh.do(wait=0.5) == []
    assert [type(message) for message in mesh.do(wait=0.5)] == [Fire]


def test_no_more_than_fits_is_fired_at_once() -> None:
    mesh = Driven(Settings(schedule_firings_max=2))
    (fire,) = mesh.lead(*(entry(name) for name in "abc"), after=-10.0)
    assert isinstance(fire, Fire) and [f.entry for f in fire.firings] == ["a", "b"]
    (fire,) = mesh.hear(Fired(1, False, [("a", due(0.0)), ("b", due(0.0))]))
    assert isinstance(fire, Fire) and [f.entry for f in fire.firings] == ["c"]


def test_a_paused_entry_waits_and_one_that_is_gone_is_forgotten() -> None:
    mesh = Driven()
    assert mesh.lead(entry(paused=True), entry("gone"), after=0.0) == []
    mesh.hear(Entries(7, [], ["gone"]))
    assert mesh.do(wait=20.0) == [AskLease()]
    assert mesh.hear(mesh.leased()) == []


def test_with_its_session_all_that_is_known_of_a_router_goes() -> None:
    mesh = Driven()
    mesh.lead(entry())
    mesh.sessions = []
    assert mesh.do(wait=10.0) == []
    mesh.sessions = [R]
    assert mesh.do() == [Declare("app", WALL, [], at=WALL + 10.0), AskLease()]


def test_one_that_does_not_lead_says_what_its_code_has_and_no_more() -> None:
    machine = SchedulerMachine(Settings(), leads=False)
    commands = machine.handle([ExecutorStarted(1, app="app", entries=[entry()])], [R], at(0.0))
    assert commands == [Send(R, Declare("app", WALL, [entry()], at=WALL))]
    assert machine.next_deadline() == float("inf")
    machine.check()


def test_who_stops_lets_go() -> None:
    mesh = Driven()
    mesh.lead(entry())
    assert mesh.do(StopRequested()) == [AskLease(keep=False)]
    assert mesh.do(wait=20.0) == []


def test_a_router_that_says_how_far_an_entry_is_which_was_not_fired_is_not_believed() -> None:
    mesh = Driven()
    mesh.lead(entry("a", 2.0), entry("b", 1_000.0))
    (fire,) = mesh.do(wait=2.5)
    assert isinstance(fire, Fire)
    mesh.hear(Fired(fire.number, False, [("a", due(2.0)), ("b", due(5_000.0)), ("none", due(0.0))]))
    assert mesh.machine.leads == [R]
    (fire,) = (message for message in mesh.do(wait=0.5) + mesh.do(wait=1.0) if isinstance(message, Fire))
    assert [firing.due_us for firing in fire.firings] == [due(4.0)]


NAMES = st.sampled_from(["a", "b", "c"])
TERMS = st.sampled_from([1, 1, 1, 0, 2])
DUES = st.integers(0, 10**18) | st.integers(due(-100.0), due(100.0))
FORMS = st.builds(
    entry,
    NAMES,
    st.sampled_from([0.001, 1.0, 7.0, 1e9]),
    paused=st.booleans(),
    catchup=st.sampled_from(["latest", "all", "skip"]),
    catchup_window_s=st.floats(0.0, 1e9),
    revised_at=st.floats(0.0, INSTANT_MAX) | st.just(WALL),
) | st.builds(
    Entry,
    NAMES,
    st.sampled_from([CronLine("* * * * *"), CronLine("* * * * *", "No/Where"), CronLine("odd"), Once(WALL + AHEAD)]),
    st.just(TaskOptions("work")),
)
SAID = st.one_of(
    st.builds(Leased, TERMS, st.floats(-1e12, 1e12), st.floats(0.0, INSTANT_MAX) | st.just(WALL + AHEAD)),
    st.builds(Entries, TERMS, st.lists(st.tuples(FORMS, DUES)), st.lists(NAMES), st.booleans()),
    st.builds(
        Fired, st.sampled_from([1, 1, 2, 9]), st.sampled_from([False, False, True]), st.lists(st.tuples(NAMES, DUES))
    ),
    st.just(Shutdown()),
    st.just(Welcome("r", "router", "0", "memory")),
)


@given(st.lists(st.tuples(SAID, st.sampled_from([0.0, 0.5, 5.0]))))
def test_whatever_a_router_says_ends_no_node(said: list[tuple[Message, float]]) -> None:
    mesh = Driven()
    mesh.lead(entry("a", 2.0), entry("b"), term=1)
    mesh.do(wait=2.5)  # a FIRE is out
    for message, wait in said:
        mesh.hear(message, wait=wait)
        mesh.machine.next_deadline()
