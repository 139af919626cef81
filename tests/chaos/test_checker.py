"""The checker is only worth something if it fails bad histories."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.checker import Execution, Fault, History, judge, read_clients, read_runs

KILLED = Fault("kill -9", at=10.0, pids=frozenset({7}))


def good() -> History:
    """Two tasks; the second was cut off by a fault and ran again."""
    return History(
        invoked={"a", "b"},
        accepted={"a", "b"},
        executions=[Execution("a", 1, 7, 1.0, 2.0), Execution("b", 1, 7, 9.0), Execution("b", 2, 8, 11.0, 12.0)],
        told=[("a", "succeeded"), ("b", "succeeded"), ("b", "succeeded")],
        stored=[("a", "succeeded"), ("b", "succeeded")],
        faults=[KILLED],
    )


def test_a_good_history_passes_and_its_explained_duplicates_are_counted() -> None:
    verdict = judge(good())
    assert verdict.is_good
    assert verdict.duplicates == 1


def test_an_accepted_task_that_never_ran_is_lost() -> None:
    history = good()
    history.invoked.add("c")
    history.accepted.add("c")
    assert judge(history).lost == {"c"}


def test_an_outcome_without_an_execution_is_a_loss_too() -> None:
    history = good()
    history.invoked.add("c")
    history.accepted.add("c")
    history.stored.append(("c", "succeeded"))
    assert judge(history).lost == {"c"}


def test_an_unexpected_failure_is_a_loss_too() -> None:
    history = good()
    history.stored = [("a", "dead"), ("b", "succeeded")]
    history.told = []
    assert judge(history).lost == {"a"}
    history.failures_expected = True
    assert judge(history).is_good


def test_a_task_that_ran_and_has_no_outcome_is_unfinished() -> None:
    history = good()
    history.stored.pop()
    assert judge(history).unfinished == {"b"}


def test_a_task_whose_submit_was_not_confirmed_may_be_lost_or_not() -> None:
    history = good()
    history.invoked |= {"never", "once"}
    history.executions.append(Execution("once", 1, 7, 1.0, 2.0))
    history.stored.append(("once", "succeeded"))
    assert judge(history).is_good


def test_a_task_that_nobody_submitted_is_unexpected() -> None:
    history = good()
    history.executions.append(Execution("ghost", 1, 7, 1.0, 2.0))
    history.stored.append(("spectre", "succeeded"))
    assert judge(history).unexpected == {"ghost", "spectre"}


def test_two_outcomes_of_one_task_are_found_in_the_store_and_at_clients() -> None:
    history = good()
    history.stored.append(("a", "failed"))
    assert judge(history).outcomes_twice == {"a"}
    history = good()
    history.told.append(("a", "failed"))
    assert judge(history).outcomes_contradict == {"a"}


def test_an_outcome_that_a_client_was_told_must_be_in_the_store() -> None:
    history = good()
    history.stored = [("a", "failed"), ("b", "succeeded")]
    history.failures_expected = True
    assert judge(history).outcomes_contradict == {"a"}


def test_a_second_execution_without_a_fault_is_not_explained() -> None:
    history = good()
    history.faults = []
    assert [run.id for run in judge(history).unexplained] == ["b"]


def test_a_fault_explains_only_what_it_hit() -> None:
    other_process = replace(KILLED, pids=frozenset({8}))
    before_it_started = replace(KILLED, at=8.0)
    after_the_second_start = replace(KILLED, at=11.5)
    for fault in (other_process, before_it_started, after_the_second_start):
        history = good()
        history.faults = [fault]
        assert not judge(history).is_good, fault


def test_a_fault_long_after_the_end_explains_nothing() -> None:
    history = good()
    history.executions += [Execution("a", 2, 8, 100.0, 101.0)]
    history.faults = [KILLED, Fault("kill -9", at=99.0, pids=frozenset({7}))]
    assert [run.id for run in judge(history).unexplained] == ["a"]


def test_a_fault_of_the_router_and_one_that_lasts_explain_what_ran_meanwhile() -> None:
    for fault in (Fault("router", at=10.0), Fault("stop", at=8.0, pids=frozenset({7}), until=10.5)):
        history = good()
        history.faults = [fault]
        assert judge(history).is_good, fault


def test_each_further_execution_needs_a_hit_of_its_own() -> None:
    history = good()
    history.executions.append(Execution("b", 3, 9, 13.0, 14.0))
    assert [run.attempt for run in judge(history).unexplained] == [3]
    history.faults.append(Fault("kill -9", at=12.5, pids=frozenset({8})))
    assert judge(history).is_good


def test_logs_are_read_as_they_were_written() -> None:
    runs = read_runs(["start a 1 7 1.0", "start b 1 8 1.5", "end a 1 7 2.0", "start b 2 9 3.0"])
    assert runs == [Execution("a", 1, 7, 1.0, 2.0), Execution("b", 1, 8, 1.5), Execution("b", 2, 9, 3.0)]
    history = History()
    read_clients(["invoke a", "ok a", "invoke b", "unknown b", "invoke c", "outcome c succeeded"], history)
    assert (history.invoked, history.accepted, history.told) == (
        {"a", "b", "c"},
        {"a", "c"},
        [("c", "succeeded")],
    )
