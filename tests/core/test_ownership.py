"""Which of several routers fires an entry, and when it lets go or takes over."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest

from mesh.core.ownership import Ownership, owner
from mesh.errors import ConfigError
from mesh.settings import Settings

SETTLE, TAKEOVER = 10.0, 5.0
PATIENCE = 6.0 + TAKEOVER  # three heartbeats of two seconds, and that
NAMES = [f"e{number}" for number in range(60)]


def ready(*others: str, me: str = "a", **settings: object) -> Ownership:
    """Router ``me``, which was started ``SETTLE`` seconds ago, and hears these, which fire, too."""
    found = Ownership(Settings().with_overrides(**settings), me)
    found.begin(others=True)
    found.tick(0.0)
    found.see(others, {}, 0.0)
    for other in others:
        found.hear(other, others, 0.0)
    found.tick(SETTLE)
    for other in others:
        found.hear(other, (me, *others), SETTLE)
    return found


def owned(router: Ownership) -> set[str]:
    return {name for name in NAMES if router.owns(name)}


def share(me: str, *others: str) -> set[str]:
    """What is ``me``'s among these."""
    return {name for name in NAMES if owner((me, *others), name) == me}


def test_each_entry_has_one_owner_and_each_router_about_as_many() -> None:
    owners = Counter(owner(("a", "b", "c"), f"e{number}") for number in range(3_000))
    assert set(owners) == {"a", "b", "c"} and min(owners.values()) > 850
    assert owner((), "e") is None


def test_a_router_that_goes_or_comes_moves_its_own_entries_only() -> None:
    assert share("a", "b", "c") <= share("a", "b")
    assert share("a", "b") - share("a", "b", "c") == {name for name in NAMES if owner("abc", name) == "c"} & share(
        "a", "b"
    )


def test_a_router_that_is_alone_owns_all_at_once_however_long_it_did_nothing() -> None:
    alone = Ownership(Settings(), "a")
    alone.begin(others=False)
    alone.tick(0.0)
    assert owned(alone) == set(NAMES) and alone.next_deadline(0.0) == inf
    alone.excuse(1_000.0, 1_000.0)
    alone.tick(1_000.0)
    assert owned(alone) == set(NAMES)


def test_a_router_that_was_alone_shares_with_one_that_comes() -> None:
    first = Ownership(Settings(), "a")
    first.begin(others=False)
    first.see(["b"], {}, 0.0)
    assert not owned(first), "it may fire already, and not know of us"
    first.hear("b", ["a"], 0.0)
    assert owned(first) == set(NAMES)
    first.hear("b", ["a", "b"], SETTLE)
    assert owned(first) == share("a", "b")
    first.excuse(1_000.0, 1_000.0)
    first.tick(1_000.0)
    assert not owned(first), "it may have been taken for lost"


def test_of_two_that_start_at_a_time_one_that_sees_the_other_waits() -> None:
    router = Ownership(Settings(), "a")
    router.begin(others=False)
    router.begin(others=True)
    router.tick(0.0)
    assert not owned(router) and not router.fires


def test_a_router_that_starts_fires_nothing_while_it_may_find_others() -> None:
    router = Ownership(Settings(), "a")
    router.begin(others=True)
    router.tick(0.0)
    assert not owned(router) and not router.fires and router.next_deadline(0.0) == SETTLE
    router.tick(SETTLE)
    assert owned(router) == set(NAMES) and router.fires == {"a"}


def test_an_entry_is_taken_when_its_owner_has_let_go() -> None:
    router = Ownership(Settings(), "a")
    router.begin(others=True)
    router.tick(0.0)
    router.see(["b"], {}, 1.0)
    router.hear("b", ["b"], 1.0)
    router.tick(SETTLE)
    assert router.fires == {"a", "b"}
    assert not owned(router), "b does not count us yet, and fires all"
    router.hear("b", ["a", "b"], SETTLE)
    assert owned(router) == share("a", "b")


def test_entries_are_let_go_as_soon_as_another_says_that_it_fires() -> None:
    router = ready()
    assert owned(router) == set(NAMES)
    router.see(["b"], {}, 20.0)
    assert not owned(router), "what b fires is not known"
    router.hear("b", [], 20.0)
    assert not owned(router), "it fires nothing yet, and may begin before it knows that we do"
    router.hear("b", ["a"], 20.0)
    assert owned(router) == set(NAMES)
    router.hear("b", ["a", "b"], 30.0)
    assert owned(router) == share("a", "b")


def test_the_entries_of_a_router_that_is_lost_are_anothers_after_a_while() -> None:
    router = ready("b")
    router.see([], {"b": 20.0}, 21.0)
    assert router.next_deadline(21.0) == 20.0 + PATIENCE
    router.tick(20.0 + PATIENCE - 0.1)
    assert owned(router) == share("a", "b")
    router.tick(20.0 + PATIENCE)
    assert owned(router) == set(NAMES) and router.fires == {"a"}


def test_a_router_that_is_back_in_time_keeps_its_entries_and_one_that_was_started_anew_gets_them_later() -> None:
    router = ready("b")
    router.see([], {"b": 20.0}, 21.0)
    router.see(["b"], {}, 25.0)
    router.tick(60.0)
    assert owned(router) == share("a", "b")
    router.hear("b", ["a"], 60.0)
    assert owned(router) == set(NAMES), "it says that it fires nothing: nobody waits for it"
    router.hear("b", ["a", "b"], 70.0)
    assert owned(router) == share("a", "b")


def test_a_router_that_says_nothing_of_periodic_tasks_holds_up_nobody_for_long() -> None:
    router = ready()
    router.see(["older"], {}, 20.0)
    assert not owned(router) and router.next_deadline(20.0) == 20.0 + SETTLE
    router.tick(20.0 + SETTLE)
    assert owned(router) == set(NAMES)


def test_of_routers_that_begin_at_one_time_none_fires_what_another_may() -> None:
    router = Ownership(Settings(), "a")
    router.begin(others=True)
    router.tick(0.0)
    router.see(["b"], {}, 1.0)
    router.hear("b", [], 1.0)
    router.tick(SETTLE)
    assert router.fires == {"a"} and not owned(router), "b begins in this moment, too"
    router.hear("b", ["b"], SETTLE)
    assert not owned(router)
    router.hear("b", ["a", "b"], SETTLE)
    assert owned(router) == share("a", "b")


def test_a_router_that_does_not_hear_us_and_fires_nothing_holds_us_up_for_a_while_only() -> None:
    router = ready()
    router.see(["b"], {}, 20.0)
    router.hear("b", [], 21.0)
    assert not owned(router) and router.next_deadline(21.0) == 21.0 + SETTLE
    router.tick(21.0 + SETTLE)
    assert owned(router) == set(NAMES)


def test_a_router_that_slept_fires_nothing_until_it_has_heard_what_others_did() -> None:
    router = ready("b")
    router.excuse(7.0, 30.0)
    router.tick(30.0)
    assert not owned(router) and router.fires == {"b"}
    router.tick(30.0 + SETTLE)
    assert owned(router) == share("a", "b")


def test_what_a_router_that_nobody_leads_has_is_anothers_once_it_has_let_go() -> None:
    router = ready("b")
    router.follow(leads=False, now=20.0)
    assert router.next_deadline(20.0) == 20.0 + TAKEOVER
    router.tick(20.0 + TAKEOVER - 0.1)
    assert owned(router) == share("a", "b"), "its leader may only have been started anew"
    router.follow(leads=False, now=20.0 + TAKEOVER)
    router.tick(20.0 + TAKEOVER)
    assert not owned(router) and router.fires == {"b"}
    router.hear("b", ["b"], 26.0)
    router.follow(leads=True, now=60.0)
    assert router.fires == {"a", "b"} and not owned(router), "b fires all until it has heard of us"
    router.hear("b", ["a", "b"], 60.0)
    assert owned(router) == share("a", "b")


def test_of_routers_that_are_led_anew_at_one_time_none_fires_what_another_may() -> None:
    router = ready("b")
    router.follow(leads=False, now=20.0)
    router.tick(20.0 + TAKEOVER)
    router.hear("b", [], 26.0)
    router.follow(leads=True, now=60.0)
    assert router.fires == {"a"} and not owned(router), "b may be led in this moment, too"
    router.hear("b", ["b"], 60.0)
    assert not owned(router)
    router.hear("b", ["a", "b"], 60.0)
    assert owned(router) == share("a", "b")


def test_a_router_that_is_led_anew_waits_for_one_that_does_not_count_it_for_a_while_only() -> None:
    router = ready("b")
    router.follow(leads=False, now=20.0)
    router.tick(20.0 + TAKEOVER)
    router.hear("b", [], 26.0)
    router.follow(leads=True, now=60.0)
    assert not owned(router) and router.next_deadline(60.0) == 60.0 + SETTLE
    router.tick(60.0 + SETTLE)
    assert owned(router) == set(NAMES)


def test_a_router_without_others_and_without_a_leader_owns_all() -> None:
    router = ready()
    router.follow(leads=False, now=20.0)
    router.tick(100.0)
    assert owned(router) == set(NAMES)


def test_parted_routers_all_fire_or_those_that_are_most() -> None:
    for partition, few in (("fire", set(NAMES)), ("majority", set())):
        minority = ready("b", "c", schedule_partition=partition, schedule_routers=3)
        minority.see([], {"b": 20.0, "c": 20.0}, 26.0)
        assert ("a" in minority.fires) is (partition == "fire"), "it stops as soon as it hears too few"
        minority.tick(40.0)
        assert owned(minority) == few
        majority = ready("b", "c", schedule_partition=partition, schedule_routers=3)
        majority.see(["b"], {"c": 20.0}, 26.0)
        majority.hear("b", ["a", "b"], 40.0)
        majority.tick(40.0)
        assert owned(majority) == share("a", "b")


def test_only_two_things_can_be_done_in_a_partition() -> None:
    with pytest.raises(ConfigError, match="schedule_partition = 'both': expected 'fire' or 'majority'"):
        Settings(schedule_partition="both")
