"""Which shipped functions a router keeps, and what becomes of a task that names one it no longer has."""

from __future__ import annotations

import pytest

from mesh.core.commands import DropFunctions, KeepFunctions, LookUpOutcomes, SaveFunction, Send
from mesh.core.events import FunctionLookedUp, OutcomesLookedUp, StoreFilled, StoreFreed
from mesh.core.functions import PRUNED_AT_ONCE
from mesh.messages import Accepted, Cancel, PutFunction, Rejected, Settled
from mesh.model import FunctionCode, Outcome, TaskOptions, TaskState
from mesh.settings import Settings
from tests.core.make import C1, W1, WALL, Driven, at, hello_client, hello_worker, sent, settlement, submit

TTL_S = 100.0
CODE = FunctionCode("digest", "3.11", b"code")
SHIPPED = TaskOptions("f", function="digest", python="3.11")
MISSING = Rejected(1, "function", "the router does not have the shipped function digest: it is to be sent again")


def kept(mesh: Driven) -> list[str]:
    return list(mesh.machine.table.functions.kept)


def records(mesh: Driven, wait: float) -> list[object]:
    """What becomes of functions when so much time has passed."""
    commands = mesh.do(wait=wait)
    return [c for c in commands if isinstance(c, (SaveFunction, KeepFunctions, DropFunctions))]


@pytest.fixture
def mesh() -> Driven:
    """A router that looks around every two seconds, with a client and a worker."""
    driven = Driven(Settings(heartbeat_s=4.0, liveness=1_000, function_ttl_s=TTL_S))
    driven.hear(C1, hello_client())
    driven.hear(W1, hello_worker(window=5))
    return driven


def test_a_function_goes_some_time_after_it_was_put(mesh: Driven) -> None:
    assert mesh.hear(C1, PutFunction(CODE)) == [SaveFunction(CODE, WALL)]
    assert records(mesh, 60.0) == []
    mesh.hear(C1, PutFunction(CODE))
    assert records(mesh, 60.0) == []
    assert records(mesh, 41.0) == [DropFunctions(["digest"])]
    assert kept(mesh) == []
    assert records(mesh, 200.0) == []


def test_a_function_that_an_unfinished_task_needs_stays(mesh: Driven) -> None:
    mesh.hear(C1, PutFunction(CODE), submit("a", "b", options=SHIPPED))
    for _ in range(5):
        assert records(mesh, 101.0) == [KeepFunctions(["digest"], at(mesh.seconds).wall)]
    mesh.hear(W1, Settled(1, [settlement("a")]))
    assert records(mesh, 101.0) == [KeepFunctions(["digest"], at(mesh.seconds).wall)]
    mesh.hear(W1, Settled(2, [settlement("b")]))
    assert records(mesh, 101.0) == [DropFunctions(["digest"])]


def test_a_submit_that_names_a_function_is_a_use_of_it(mesh: Driven) -> None:
    mesh.hear(C1, PutFunction(CODE))
    for number in range(1, 4):
        mesh.do(wait=90.0)
        mesh.hear(C1, submit(f"t{number}", batch=number, options=SHIPPED))
        mesh.hear(W1, Settled(number, [settlement(f"t{number}")]))
        assert records(mesh, 11.0) == [KeepFunctions(["digest"], at(mesh.seconds).wall)]
    assert records(mesh, 101.0) == [DropFunctions(["digest"])]


def test_a_submit_that_names_a_function_which_is_gone_is_refused_until_it_is_put_again(mesh: Driven) -> None:
    batch = submit("a", options=SHIPPED)
    assert sent(mesh.hear(C1, batch)) == [MISSING]
    assert mesh.machine.table.tasks == {}
    again = submit("a", options=SHIPPED, repeated=True)
    assert LookUpOutcomes(C1, ["a"], again, None) in mesh.hear(C1, PutFunction(CODE), again)
    assert Send(C1, Accepted([1]), after_commit=True) in mesh.do(OutcomesLookedUp(C1, ["a"], [], again))


def test_what_is_finished_needs_no_function(mesh: Driven) -> None:
    again = submit("a", options=SHIPPED, repeated=True)
    assert mesh.hear(C1, again) == [LookUpOutcomes(C1, ["a"], again, None)]
    [told] = mesh.do(OutcomesLookedUp(C1, ["a"], [Outcome("a", TaskState.SUCCEEDED)], again))
    assert isinstance(told, Send) and told.message != MISSING
    other = submit("b", options=SHIPPED, repeated=True)
    mesh.hear(C1, other)
    assert sent(mesh.do(OutcomesLookedUp(C1, ["b"], [], other))) == [MISSING]


def test_a_function_that_the_store_cannot_read_is_asked_for_again(mesh: Driven) -> None:
    mesh.hear(C1, PutFunction(CODE))
    mesh.do(FunctionLookedUp(W1, "digest", None))
    assert sent(mesh.hear(C1, submit("a", options=SHIPPED)), C1) == [MISSING]


def test_while_the_store_has_no_room_nothing_goes(mesh: Driven) -> None:
    mesh.hear(C1, PutFunction(CODE))
    mesh.do(StoreFilled("no room", halt=True))
    assert records(mesh, 101.0) == []
    assert [one for one in mesh.do(StoreFreed()) if not isinstance(one, Send)] == [DropFunctions(["digest"])]


def test_only_so_many_go_at_once(mesh: Driven) -> None:
    codes = [FunctionCode(f"d{n}", "3.11", b"code") for n in range(PRUNED_AT_ONCE + 7)]
    mesh.hear(C1, *map(PutFunction, codes))
    assert records(mesh, 101.0) == [DropFunctions([code.digest for code in codes[:PRUNED_AT_ONCE]])]
    assert records(mesh, 2.0) == [DropFunctions([code.digest for code in codes[PRUNED_AT_ONCE:]])]


def test_after_a_restart_what_the_journal_needs_stays_and_the_rest_has_its_time() -> None:
    mesh = Driven(Settings(heartbeat_s=4.0, function_ttl_s=TTL_S), next_seq=2)
    found = {"digest": WALL - 900.0, "old": WALL - 900.0, "new": WALL - 50.0}
    batches = [(1, WALL - 1_000.0, submit("a", options=SHIPPED), set[str]())]
    mesh.machine.restore(batches, [], [], found)
    assert records(mesh, 0.0) == [KeepFunctions(["digest"], WALL), DropFunctions(["old"])]
    assert records(mesh, 51.0) == [DropFunctions(["new"])]
    mesh.hear(C1, hello_client())
    mesh.hear(C1, Cancel(["a"]))
    assert kept(mesh) == ["digest"]
    assert records(mesh, 101.0) == [DropFunctions(["digest"])]


def test_no_more_functions_are_kept_than_a_setting_says() -> None:
    mesh = Driven(Settings(functions_max=1))
    mesh.hear(C1, hello_client())
    mesh.hear(C1, PutFunction(FunctionCode("other", "3.11", b"code")))
    assert mesh.hear(C1, PutFunction(CODE)) == []
    [refused] = sent(mesh.hear(C1, submit("a", options=SHIPPED)), C1)
    assert isinstance(refused, Rejected) and refused.code == "overloaded" and "functions_max" in refused.reason


def test_a_full_store_is_given_no_functions(mesh: Driven) -> None:
    mesh.do(StoreFilled("no room", halt=False))
    assert mesh.hear(C1, PutFunction(CODE)) == []
    mesh.do(StoreFreed())
    assert sent(mesh.hear(C1, submit("a", options=SHIPPED)), C1) == [MISSING]
