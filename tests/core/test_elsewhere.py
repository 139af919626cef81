"""When a router holds that no other router of its mesh knows a task."""

from __future__ import annotations

from math import inf

import pytest

from mesh.clock import Now
from mesh.core.elsewhere import HEAR_ALL, Elsewhere
from mesh.core.events import OthersFound, ResultsWatched, SettledElsewhere, UnknownElsewhere
from mesh.model import Outcome, TaskState
from mesh.settings import Settings

GRACE_S = 10.0
HEAR_S = HEAR_ALL * GRACE_S
ADDRESSES = ["tcp://b:1"]
ONE = {"b": 0.0}
TWO = {"b": 0.0, "c": 0.0}


def at(second: float) -> Now:
    return Now(1e9 + second, 1000.0 + second)


@pytest.fixture
def asked() -> Elsewhere:
    """What has asked for one task at second 0, of one router."""
    elsewhere = Elsewhere(Settings(grace_s=GRACE_S))
    assert elsewhere.take_questions(at(-1.0)) == [] and elsewhere.next_deadline() == inf
    elsewhere.see(ONE, ADDRESSES, at(-1.0))
    elsewhere.ask(["a"])
    assert elsewhere.next_deadline() <= at(0.0).mono, "to be asked at once"
    assert elsewhere.take_questions(at(0.0)) == [ResultsWatched(["a"])]
    assert elsewhere.take_questions(at(0.0)) == [], "once"
    return elsewhere


def test_a_denial_is_held_back_while_a_router_may_come_that_knows_more(asked: Elsewhere) -> None:
    asked.deny(["a"])
    assert asked.see(ONE, ADDRESSES, at(HEAR_S - 0.1)) == []
    assert asked.next_deadline() == at(HEAR_S).mono
    assert asked.see(ONE, ADDRESSES, at(HEAR_S)) == [UnknownElsewhere(["a"])]
    assert asked.see(ONE, ADDRESSES, at(HEAR_S)) == [] and asked.next_deadline() == inf, "once"


def test_a_denial_that_comes_late_counts_at_once(asked: Elsewhere) -> None:
    asked.deny(["a"])
    assert asked.see(ONE, ADDRESSES, at(HEAR_S + 1.0)) == [UnknownElsewhere(["a"])]


def test_what_is_denied_is_asked_again_when_another_router_is_there(asked: Elsewhere) -> None:
    asked.deny(["a"])
    assert asked.see(TWO, ADDRESSES, at(1.0)) == [OthersFound(2, ADDRESSES, ["b", "c"])]
    assert asked.next_deadline() <= at(1.0).mono
    assert asked.take_questions(at(1.0)) == [ResultsWatched(["a"])]
    assert asked.see(TWO, ADDRESSES, at(HEAR_S)) == [], "it has not answered yet"
    asked.deny(["a"])
    assert asked.see(TWO, ADDRESSES, at(HEAR_S)) == [UnknownElsewhere(["a"])], "asking again gives no more time"


def test_a_router_that_comes_at_the_last_moment_is_asked_first(asked: Elsewhere) -> None:
    asked.deny(["a"])
    assert asked.see(TWO, ADDRESSES, at(HEAR_S)) == [OthersFound(2, ADDRESSES, ["b", "c"])]
    assert asked.take_questions(at(HEAR_S)) == [ResultsWatched(["a"])]


def test_a_router_that_goes_changes_nothing_of_what_is_denied(asked: Elsewhere) -> None:
    asked.deny(["a"])
    assert asked.see({}, (), at(1.0)) == [OthersFound(0, lost=ONE)]
    assert asked.take_questions(at(1.0)) == []
    assert asked.see({}, (), at(HEAR_S)) == [UnknownElsewhere(["a"])]


def test_what_is_asked_later_has_a_while_of_its_own(asked: Elsewhere) -> None:
    asked.deny(["a"])
    asked.ask(["b"])
    assert asked.take_questions(at(5.0)) == [ResultsWatched(["b"])]
    assert asked.see(ONE, ADDRESSES, at(HEAR_S)) == []
    assert asked.see(ONE, ADDRESSES, at(5.0 + HEAR_S)) == [UnknownElsewhere(["a"])]


def test_routers_are_told_of_when_their_number_or_an_address_has_changed(asked: Elsewhere) -> None:
    assert asked.see(ONE, ADDRESSES, at(1.0)) == []
    assert asked.see(ONE, ["tcp://c:1"], at(1.0)) == [OthersFound(1, ["tcp://c:1"], ["b"])]


def test_what_ended_elsewhere_and_left_no_result_is_run_again_at_once(asked: Elsewhere) -> None:
    outcome = Outcome("a", TaskState.SUCCEEDED)
    assert asked.settle([outcome], []) == [SettledElsewhere([outcome])]
    assert asked.settle([], ["a"]) == [UnknownElsewhere(["a"])]


def test_a_task_that_two_clients_wait_for_is_asked_for_and_denied_once(asked: Elsewhere) -> None:
    asked.ask(["b", "a"], wait=False)
    asked.ask(["b"], wait=False)
    assert asked.take_questions(at(0.0)) == [ResultsWatched(["b", "a"])]
    asked.deny(["a", "b"])
    asked.deny(["b"])
    assert asked.see(ONE, ADDRESSES, at(HEAR_S)) == [UnknownElsewhere(["a", "b"])]
