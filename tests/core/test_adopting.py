"""What a router that was lost had is another's: what the machines of that one, of workers and of clients do then."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mesh.core.awaited import Where
from mesh.core.commands import AskOthers, GiveFunction, LookUpOutcomes, RecordOutcomes, Send
from mesh.core.events import (
    BatchesAdopted,
    ExecutorSettled,
    JournalAdopted,
    JournalClaimed,
    OthersFound,
    OutcomesLookedUp,
    PeerLost,
    SettledElsewhere,
    UnknownElsewhere,
)
from mesh.messages import (
    Accepted,
    Adopted,
    Cancel,
    Claim,
    Deliver,
    Drop,
    Function,
    GetFunction,
    Outcomes,
    Settled,
    Unknown,
    Unwatch,
    Watch,
    Welcome,
)
from mesh.model import NodeInfo, Role, TaskMark, TaskOptions, TaskState
from mesh.settings import Settings
from tests.core import test_client as clients
from tests.core import test_worker as workers
from tests.core.make import C1, W1, W2, WALL, WORK, Driven, delivery, got, hello_client, hello_worker, sent, settlement
from tests.core.make import submit as submit_of
from tests.core.test_client import R1, R2, client, outcome, submitted
from tests.core.test_worker import OTHER, R, deliver, run, with_other

ONCE = TaskOptions("work", at_most_once=True)

# the router


def adopter(*ids: str, marks: tuple[TaskMark, ...] = (), options: TaskOptions = WORK, **settings: Any) -> Driven:
    """A router with a worker, a client, and these tasks of a router that it adopts; the worker may hold some."""
    mesh = Driven(Settings(**{"heartbeat_s": 1e3, "grace_s": 5.0, **settings}), shared=True)
    mesh.hear(W1, hello_worker(window=5))
    mesh.hear(C1, hello_client())
    mesh.do(JournalClaimed("lost", [NodeInfo("worker", "worker")], {}))
    first = mesh.machine.table.reserve(1)
    mesh.do(BatchesAdopted([(first, WALL - 60, submit_of(*ids, options=options))], list(marks)))
    return mesh


def ran(mesh: Driven, *events: Any, wait: float = 0.0) -> list[str]:
    """What is delivered then."""
    messages = sent(mesh.do(*events, wait=wait))
    return [task.id for message in messages if isinstance(message, Deliver) for task in message.tasks]


ALL_HERE = JournalAdopted("lost", 7)


def adopts(mesh: Driven, task_id: str) -> list[str]:
    """What is delivered once it has adopted this task of a router of worker 1."""
    mesh.do(JournalClaimed("lost", [NodeInfo("worker", "worker")], {}))
    mesh.do(BatchesAdopted([(mesh.machine.table.reserve(1), WALL - 60, submit_of(task_id))], []))
    return ran(mesh, ALL_HERE)


def test_what_is_adopted_is_run_when_its_workers_have_said_what_they_hold() -> None:
    mesh = adopter("a", "b")
    assert ran(mesh, wait=100.0) == [], "not all is here"
    commands = mesh.do(ALL_HERE)
    assert sent(commands) == [Adopted({"lost": 7}), Adopted({"lost": 7})]
    assert ran(mesh, got(W1, Claim([("a", 2)], more=True))) == []
    assert ran(mesh, got(W1, Claim([]))) == ["b"]
    mesh.hear(W1, Settled(1, [settlement("a", 2)]))
    assert set(mesh.machine.table.tasks) == {"b"}


def test_a_worker_that_does_not_claim_is_waited_for_and_one_that_is_lost_is_not() -> None:
    mesh = adopter("a")
    mesh.do(ALL_HERE)
    assert ran(mesh, wait=4.9) == []
    assert ran(mesh, wait=0.2) == ["a"]
    mesh = adopter("a")
    mesh.do(ALL_HERE, got(W2, hello_worker("w2", window=5)))
    assert ran(mesh, PeerLost(W1)) == ["a"]


def test_a_worker_that_was_lost_with_its_router_is_not_waited_for_unless_it_is_back() -> None:
    mesh = Driven(Settings(heartbeat_s=1e3, grace_s=5.0), shared=True)
    mesh.hear(W1, hello_worker(window=5))
    mesh.hear(W2, hello_worker("w2", window=5))
    mesh.do(PeerLost(W1))
    assert adopts(mesh, "a") == ["a"]
    mesh.hear(W1, hello_worker(window=5))
    assert adopts(mesh, "b") == []
    assert ran(mesh, got(W1, Claim([]))) == ["b"]


def test_what_was_started_at_most_once_is_its_workers_or_fails() -> None:
    marks = tuple(TaskMark(task_id, 1, 1, 0, 0, started=True) for task_id in ("a", "b"))
    mesh = adopter("a", "b", marks=marks, options=ONCE)
    mesh.do(ALL_HERE)
    commands = mesh.do(got(W1, Claim([("a", 1)])))
    [record] = [command for command in commands if isinstance(command, RecordOutcomes)]
    assert [(o.id, o.state) for o in record.outcomes] == [("b", TaskState.FAILED)]
    assert mesh.machine.table.tasks["a"].worker == W1


def test_a_claim_of_what_is_another_s_or_over_is_dropped() -> None:
    mesh = adopter("a")
    mesh.do(ALL_HERE)
    commands = mesh.do(got(W1, Claim([("a", 1), ("over", 3)])))
    assert sent(commands, W1) == [Drop([("over", 3)])]


def test_what_is_cancelled_while_it_is_adopted_is_not_run() -> None:
    mesh = adopter("a", "b")
    mesh.hear(C1, Cancel(["a", "b"], True))
    mesh.do(ALL_HERE)
    assert ran(mesh, got(W1, Claim([("a", 1)]))) == []
    assert set(mesh.machine.table.tasks) == {"a"}, "its worker is told"


def test_what_another_router_finished_meanwhile_is_not_run() -> None:
    mesh = adopter("a")
    mesh.do(SettledElsewhere([outcome("a")]), ALL_HERE)
    assert ran(mesh, got(W1, Claim([]))) == []
    assert not mesh.machine.table.tasks


def test_who_comes_later_is_told_in_its_welcome() -> None:
    mesh = adopter("a")
    mesh.do(ALL_HERE)
    [welcome, *_] = sent(mesh.hear(W2, hello_worker("w2")), W2)
    assert isinstance(welcome, Welcome) and welcome.adopted == {"lost": 7} and welcome.shared


def test_what_a_client_sends_again_and_another_router_has_adopted_is_not_taken_twice() -> None:
    mesh = Driven(shared=True)
    mesh.hear(C1, hello_client())
    again = submit_of("a", "b", repeated=True)
    mesh.hear(C1, again)
    commands = mesh.do(OutcomesLookedUp(C1, ["a", "b"], [], again, None, ["a"]))
    assert set(mesh.machine.table.tasks) == {"b"}
    assert sent(commands, C1) == [Accepted([1]), Unknown(["a"])]


# a worker


def lost_and_adopted(mesh: workers.Driven, boot: int = 1) -> list[Any]:
    return mesh.do(got(OTHER, Adopted({R.decode(): boot})))


def test_a_worker_claims_what_runs_waits_or_was_not_acknowledged_and_tells_its_end_to_both() -> None:
    mesh = with_other()
    mesh.hear(deliver("done"))
    mesh.settle(1, "done")
    mesh.hear(deliver("runs", "waits"))
    mesh.do(PeerLost(R))
    commands = lost_and_adopted(mesh)
    [claim, owed] = sent(commands, OTHER)
    assert claim == Claim([("runs", 1), ("waits", 1), ("done", 1)])
    assert isinstance(owed, Settled) and [s.id for s in owed.settlements] == ["done"]
    told = sent(mesh.settle(1, "runs"), OTHER)
    assert [s.id for message in told if isinstance(message, Settled) for s in message.settlements] == ["runs"]
    assert sent(lost_and_adopted(mesh), OTHER) == [Claim([])], "it has said so"


def test_a_delivery_of_the_adopter_runs_once() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    mesh.do(PeerLost(R))
    lost_and_adopted(mesh)
    assert mesh.do(got(OTHER, deliver(delivery("a", 2)))) == []
    told = sent(mesh.settle(1, "a"), OTHER)
    assert [(s.id, s.attempt) for m in told if isinstance(m, Settled) for s in m.settlements] == [("a", 2)]


def test_what_the_lost_router_delivers_in_a_later_life_is_its_own() -> None:
    mesh = with_other()
    mesh.do(PeerLost(R))
    mesh.do(got(R, replace(workers.WELCOME, boot=2)))
    mesh.hear(deliver("new"))
    assert sent(lost_and_adopted(mesh), OTHER) == [Claim([])]


def test_what_the_lost_router_drops_when_it_is_back_goes_on_for_the_adopter() -> None:
    mesh = with_other()
    mesh.hear(deliver("runs", "waits"))
    mesh.do(PeerLost(R))
    lost_and_adopted(mesh)
    mesh.hear(Drop([("runs", 1), ("waits", 1)]))
    commands = mesh.settle(1, "runs")
    assert run(1, "waits") in commands
    assert [s.id for m in sent(commands, OTHER) if isinstance(m, Settled) for s in m.settlements] == ["runs"]


def test_a_function_that_was_asked_for_in_vain_is_asked_of_the_adopter() -> None:
    mesh = with_other()
    mesh.hear(deliver("a", options=workers.SHIPPED))
    mesh.do(PeerLost(R))
    assert GetFunction("digest") in sent(lost_and_adopted(mesh), OTHER)
    assert GiveFunction(1, workers.CODE) in mesh.do(got(OTHER, Function("digest", workers.CODE)))


def test_a_session_with_one_that_adopted_begins_with_a_claim() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    commands = mesh.do(PeerLost(OTHER), got(OTHER, replace(workers.WELCOME, adopted={R.decode(): 1})))
    assert Claim([("a", 1)]) in sent(commands, OTHER)
    [executor] = mesh.machine.executors
    assert mesh.do(ExecutorSettled(executor, [settlement("a")]))


# a client


def accepted_by_home(*ids: str, boot: int = 1) -> clients.Driven:
    """Of two routers that share a store the first is home, and has these."""
    mesh = client()
    mesh.hear(replace(clients.WELCOME, boot=boot, shared=True))
    mesh.do(clients.RouterFound(R2))
    mesh.hear(replace(clients.WELCOME, boot=1, shared=True), peer=R2)
    mesh.do(submitted(*ids))
    mesh.hear(Accepted([1]))
    return mesh


def test_a_client_asks_whoever_is_there_for_what_was_adopted() -> None:
    mesh = accepted_by_home("a")
    mesh.do(PeerLost(R1))
    commands = mesh.hear(Adopted({"r1": 1}), peer=R2)
    assert Send(R2, Watch(["a"])) in commands
    assert mesh.machine.waiting == {"a": Where.ANYWHERE}


def test_a_client_that_was_told_by_the_adopter_that_it_knows_nothing_asks_again() -> None:
    mesh = accepted_by_home("a")
    mesh.do(clients.ResultsWatched(["other"]))
    mesh.hear(Unknown(["other"]), peer=R2)
    mesh.do(PeerLost(R1))
    asked = [message for message in sent(mesh.hear(Adopted({"r1": 1}), peer=R2), R2) if isinstance(message, Watch)]
    assert {task_id for message in asked for task_id in message.ids} == {"a", "other"}
    mesh.hear(Unknown(["a"]), peer=R2)
    assert "a" in mesh.machine.waiting, "the first may still know it"


def test_what_the_lost_router_accepted_in_a_later_life_is_still_expected_from_it() -> None:
    mesh = accepted_by_home("a", boot=2)
    mesh.hear(Adopted({"r1": 1}), peer=R2)
    assert mesh.machine.waiting == {"a": Where.AT_HOME}


def test_a_router_that_is_back_and_knows_nothing_is_not_the_last_word() -> None:
    mesh = accepted_by_home("a")
    assert mesh.hear(Unknown(["a"])) == [Send(R2, Watch(["a"]))]
    [unknown] = mesh.hear(Unknown(["a"]), peer=R2)
    assert isinstance(unknown, clients.PublishUnknown) and unknown.ids == ["a"]


# what is afar


def watched_afar() -> Driven:
    """A router that shares its store with another, and a client that waits for what is nowhere to be found."""
    mesh = Driven(shared=True)
    mesh.do(OthersFound(1, []))
    mesh.hear(C1, hello_client())
    mesh.hear(C1, Watch(["a"]))
    assert mesh.do(OutcomesLookedUp(C1, ["a"], [])) == [AskOthers(["a"], wait=False)]
    return mesh


def test_what_another_router_works_at_is_told_when_it_has_finished_it() -> None:
    mesh = watched_afar()
    assert mesh.do(SettledElsewhere([outcome("a")])) == [LookUpOutcomes(C1, ["a"])]
    assert sent(mesh.do(OutcomesLookedUp(C1, ["a"], [outcome("a")])), C1) == [Outcomes([outcome("a")])]


def test_what_no_router_knows_is_unknown() -> None:
    mesh = watched_afar()
    assert sent(mesh.do(UnknownElsewhere(["a"])), C1) == [Unknown(["a"])]
    mesh.do(OthersFound(0, []))
    mesh.hear(C1, Watch(["b"]))
    assert sent(mesh.do(OutcomesLookedUp(C1, ["b"], [])), C1) == [Unknown(["b"])], "nobody is there to be asked"


def test_what_is_not_waited_for_any_more_is_not_told() -> None:
    mesh = watched_afar()
    mesh.hear(C1, Unwatch(["a"]))
    assert mesh.do(SettledElsewhere([outcome("a")])) == []


def test_what_was_afar_and_is_adopted_is_told_when_it_ends_here() -> None:
    mesh = watched_afar()
    mesh.hear(W1, hello_worker(window=5))
    mesh.do(JournalClaimed("lost", [], {}))
    mesh.do(BatchesAdopted([(mesh.machine.table.reserve(1), WALL, submit_of("a"))], []))
    assert LookUpOutcomes(C1, ["a"]) in mesh.do(ALL_HERE)
    mesh.do(OutcomesLookedUp(C1, ["a"], []))
    told = sent(mesh.do(got(W1, Settled(1, [settlement("a")]))), C1)
    assert [o.id for message in told if isinstance(message, Outcomes) for o in message.outcomes] == ["a"]


def test_a_router_that_asks_is_not_sent_round() -> None:
    mesh = Driven(shared=True)
    mesh.do(OthersFound(1, []))
    mesh.hear(C1, replace(hello_client(), role=Role.ROUTER))
    mesh.hear(C1, Watch(["a"]))
    assert sent(mesh.do(OutcomesLookedUp(C1, ["a"], [])), C1) == [Unknown(["a"])]
