from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodes.supervision import (
    FIRST_PAUSE_S,
    HASTY_S,
    HOPELESS,
    PAUSE_MAX_S,
    PROVEN_S,
    ChildExited,
    ChildWanted,
    Command,
    Exit,
    Kill,
    ReportDeath,
    Start,
    StopAsked,
    SupervisionMachine,
    Terminate,
    Tick,
)

STOP_S = 35.0


def started() -> SupervisionMachine:
    machine = SupervisionMachine(["router", "worker"], stop_s=STOP_S, now=0.0)
    assert machine.handle([Tick()], 0.0) == [Start("router"), Start("worker")]
    return machine


def test_all_children_are_started_at_once_in_their_order() -> None:
    machine = started()
    assert machine.next_deadline() is None
    machine.check()


def test_a_child_in_reserve_is_started_when_it_is_wanted_and_then_like_the_others() -> None:
    machine = SupervisionMachine(["router", "worker"], stop_s=STOP_S, now=0.0, reserve=["router"])
    assert machine.handle([Tick()], 0.0) == [Start("worker")]
    assert machine.next_deadline() is None
    assert machine.handle([ChildWanted("router"), ChildWanted("router")], 5.0) == [Start("router")]
    assert machine.handle([ChildWanted("router")], 6.0) == []
    assert machine.handle([ChildExited("router", 1)], 7.0) == [ReportDeath("router", 1, FIRST_PAUSE_S)]
    assert machine.handle([StopAsked()], 7.1) == [Terminate("worker")]
    assert machine.handle([ChildExited("worker", 0)], 8.0) == [Exit(0)]


def test_a_child_in_reserve_is_not_started_by_the_end() -> None:
    machine = SupervisionMachine(["router", "worker"], stop_s=STOP_S, now=0.0, reserve=["router"])
    machine.handle([Tick()], 0.0)
    assert machine.handle([StopAsked(), ChildWanted("router")], 1.0) == [Terminate("worker")]
    assert machine.handle([ChildExited("worker", 0)], 2.0) == [Exit(0)]


def test_a_child_that_died_is_started_again_after_a_pause() -> None:
    machine = started()
    assert machine.handle([ChildExited("worker", -9)], 5.0) == [ReportDeath("worker", -9, FIRST_PAUSE_S)]
    assert machine.next_deadline() == 5.0 + FIRST_PAUSE_S
    assert machine.handle([Tick()], 5.0 + FIRST_PAUSE_S / 2) == []
    assert machine.handle([Tick()], 5.0 + FIRST_PAUSE_S) == [Start("worker")]


def test_a_child_that_ends_without_a_reason_is_started_again_too() -> None:
    assert started().handle([ChildExited("router", 0)], 5.0) == [ReportDeath("router", 0, FIRST_PAUSE_S)]


def test_the_pause_doubles_with_each_death_up_to_its_limit() -> None:
    machine, now, pauses = started(), 0.0, []
    for _ in range(12):
        (report,) = machine.handle([ChildExited("worker", 1)], now)
        assert isinstance(report, ReportDeath)
        pauses.append(report.pause_s)
        now += report.pause_s
        assert machine.handle([Tick()], now) == [Start("worker")]
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert pauses[-1] == PAUSE_MAX_S


def test_a_child_that_was_up_for_long_begins_with_a_short_pause_again() -> None:
    machine = started()
    machine.handle([ChildExited("worker", 1)], 1.0)
    machine.handle([Tick()], 2.0)
    assert machine.handle([ChildExited("worker", 1)], 2.0 + PROVEN_S) == [ReportDeath("worker", 1, FIRST_PAUSE_S)]


def test_a_child_that_cannot_work_as_told_ends_the_whole_with_its_exit_code() -> None:
    machine = started()
    assert machine.handle([ChildExited("worker", HOPELESS)], 1.0) == [Terminate("router")]
    assert machine.handle([ChildExited("router", 0)], 2.0) == [Exit(HOPELESS)]


def test_the_worker_ends_before_the_router_is_told_to() -> None:
    machine = started()
    assert machine.handle([StopAsked()], 10.0) == [Terminate("worker")]
    assert machine.handle([ChildExited("worker", 0)], 12.0) == [Terminate("router")]
    assert machine.handle([ChildExited("router", 0)], 12.5) == [Exit(0)]


def test_a_router_that_dies_while_the_worker_drains_is_not_started_again() -> None:
    machine = started()
    machine.handle([StopAsked()], 10.0)
    assert machine.handle([ChildExited("router", -9)], 11.0) == []
    assert machine.handle([ChildExited("worker", 0)], 12.0) == [Exit(0)]


def test_a_child_that_does_not_end_in_time_is_killed_and_the_exit_code_says_so() -> None:
    machine = started()
    machine.handle([StopAsked()], 10.0)
    assert machine.next_deadline() == 10.0 + STOP_S
    assert machine.handle([Tick()], 10.0 + STOP_S) == [Kill("worker")]
    assert machine.handle([ChildExited("worker", -9)], 46.0) == [Terminate("router")]
    assert machine.handle([ChildExited("router", 0)], 47.0) == [Exit(1)]


def test_asked_a_second_time_all_end_at_once() -> None:
    machine = started()
    machine.handle([StopAsked()], 10.0)
    assert machine.handle([StopAsked()], 11.0) == [Terminate("worker"), Terminate("router")]
    assert machine.handle([Tick()], 11.0 + HASTY_S) == [Kill("router"), Kill("worker")]
    assert machine.handle([ChildExited("worker", -9), ChildExited("router", -9)], 15.0) == [Exit(1)]


def test_two_wishes_to_stop_in_one_turn_count_as_two() -> None:
    assert started().handle([StopAsked(), StopAsked()], 1.0) == [
        Terminate("worker"),
        Terminate("worker"),
        Terminate("router"),
    ]


def test_a_child_that_waits_to_be_started_is_not_started_once_all_end() -> None:
    machine = started()
    machine.handle([ChildExited("worker", 1)], 1.0)
    assert machine.handle([StopAsked()], 1.1) == [Terminate("router")]
    assert machine.handle([ChildExited("router", 0)], 9.0) == [Exit(0)]


class Children:
    """What the machine believes it commands: each child is up or not."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.exit: int | None = None

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            assert self.exit is None, "commands after the end"
            if isinstance(command, Start):
                assert command.name not in self.up, "started twice"
                self.up.add(command.name)
            elif isinstance(command, Terminate | Kill):
                assert command.name in self.up, "told to end, and not up"
            elif isinstance(command, Exit):
                assert not self.up, f"orphans: {self.up}"
                self.exit = command.code


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("exit"), st.sampled_from(["router", "worker"]), st.sampled_from([0, 1, 2, -9])),
        st.tuples(st.just("pass"), st.floats(0.01, 40.0)),
        st.just(("stop",)),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_nothing_is_started_twice_and_no_orphan_is_left(steps: list[tuple[object, ...]]) -> None:
    machine, children, now = SupervisionMachine(["router", "worker"], stop_s=STOP_S, now=0.0), Children(), 0.0
    children.obey(machine.handle([Tick()], now))
    for step in steps:
        if children.exit is not None:
            return
        if step[0] == "exit" and step[1] in children.up:
            children.up.remove(str(step[1]))
            children.obey(machine.handle([ChildExited(str(step[1]), int(str(step[2])))], now))
        elif step[0] == "pass":
            now += float(str(step[1]))
            children.obey(machine.handle([Tick()], now))
        elif step[0] == "stop":
            children.obey(machine.handle([StopAsked()], now))
        machine.check()
    if children.exit is None:
        children.obey(machine.handle([StopAsked()], now))
    while children.exit is None:
        name = sorted(children.up)[-1]
        children.up.remove(name)
        children.obey(machine.handle([ChildExited(name, 0)], now))
