"""So many seconds from now are so many, whatever the clocks of caller, router and worker show."""

from __future__ import annotations

import pytest

from mesh.clock import Now
from mesh.core.clocks import WINDOW_S, ClockDifference, any_from_now, any_retry_from_now, delivered, settled, submitted
from mesh.messages import Deliver, Settled, Submit
from mesh.model import INSTANT_MAX, Delivery, Ending, Retrying, Settlement, TaskExtra, TaskOptions, TaskSpec

ROUTER = 1_000_000.0
OPTIONS = [TaskOptions("t")]


def spec(eta: float | None, expires_at: float | None, *from_now: bool, **rest: str) -> TaskSpec:
    return TaskSpec("a", 0, b"", eta, expires_at, TaskExtra(None, rest.get("parent"), None, *from_now))


@pytest.mark.parametrize("ahead", [-15.0, 0.0, 20.0])
def test_what_a_caller_counts_from_now_is_by_the_routers_clock_afterwards(ahead: float) -> None:
    here = ROUTER + ahead
    tasks = [spec(here + 0.5, here + 10, True, True), spec(here + 0.5, 7.0, True, False, parent="p")]
    assert any_from_now(tasks)
    found, raw = submitted(Submit(1, OPTIONS, tasks, True, at=here), b"raw", ROUTER - here)
    assert raw is None, "the bytes that came say something else"
    first, second = found.tasks
    assert (first.eta, first.expires_at, first.extra) == (ROUTER + 0.5, ROUTER + 10, None)
    assert (second.eta, second.expires_at) == (ROUTER + 0.5, 7.0), "an instant that the user named is let be"
    assert second.extra == TaskExtra(None, "p")
    assert submitted(found, None, 99) == (found, None), "once is enough"


def test_what_has_no_such_time_is_let_be_with_its_bytes() -> None:
    plain = Submit(1, OPTIONS, [TaskSpec("a", 0, b"", 5.0, 6.0), TaskSpec("b", 0, b"")])
    assert not any_from_now(plain.tasks)
    assert submitted(plain, b"raw", 99) == (plain, b"raw")


@pytest.mark.parametrize("ahead", [-15.0, 20.0])
def test_a_retry_from_now_is_by_the_routers_clock_afterwards(ahead: float) -> None:
    here = ROUTER + ahead
    retries = [Retrying(here + 0.3, b"x", True), Retrying(here + 0.3)]
    settlements = [Settlement("a", 1, Ending.RETRY, retry=retry) for retry in retries]
    assert any_retry_from_now(settlements) and not any_retry_from_now(settlements[1:])
    found = settled(Settled(1, settlements, here), ROUTER - here)
    assert [one.retry for one in found] == [Retrying(ROUTER + 0.3, b"x"), retries[1]]


def test_a_worker_lets_a_task_expire_by_the_routers_clock() -> None:
    tasks = [Delivery("a", 0, 1, b"", expires_at=ROUTER + 10), Delivery("b", 0, 1, b"")]
    found = delivered(Deliver({0: OPTIONS[0]}, tasks, ROUTER), 20)
    assert [one.expires_at for one in found] == [ROUTER + 30, None]
    assert delivered(Deliver({0: OPTIONS[0]}, tasks), 20) == tasks, "an older router does not say its time"


@pytest.mark.parametrize(("at", "moved"), [(INSTANT_MAX, 0.0), (1.0, INSTANT_MAX)])
def test_no_clock_moves_an_instant_out_of_bounds(at: float, moved: float) -> None:
    wall = 0.5 if at == INSTANT_MAX else INSTANT_MAX
    found, _ = submitted(Submit(1, OPTIONS, [spec(10.0, None, True)], at=at), None, wall - at)
    assert found.tasks[0].eta == pytest.approx(moved, abs=20)


def said(at: float, came: float) -> tuple[float, Now]:
    """A message that was sent at one of our monotonic seconds by a clock 100 s behind, and came at another."""
    return ROUTER + at - 100, Now(ROUTER + came, came)


def test_a_message_that_was_long_on_its_way_makes_no_clock_be_behind() -> None:
    clock = ClockDifference()
    assert clock.take(*said(1.0, 1.1)) == pytest.approx(100.1)
    assert clock.take(*said(2.0, 14.0), 20.0) == pytest.approx(100.1)
    assert clock.take(*said(15.0, 15.02)) == pytest.approx(100.02), "a shorter way says it better"


def test_a_clock_that_jumps_is_followed() -> None:
    clock = ClockDifference()
    clock.take(*said(1.0, 1.1), 6.0)
    at, now = said(2.0, 2.1)
    assert clock.take(at + 3600, now, 6.0) == pytest.approx(100.1 - 3600), "no way is shorter than none"
    at, now = said(3.0, 3.1)
    assert clock.take(at, now, 6.0) == pytest.approx(100.1), "no way takes an hour"
    at, now = said(4.0, 4.1)
    assert clock.take(at - 5, now, 6.0) == pytest.approx(100.1), "that may be the way"
    at, now = said(4.0 + 2 * WINDOW_S, 4.1 + 2 * WINDOW_S)
    assert clock.take(at - 5, now, 6.0) == pytest.approx(105.1), "but not each time"
