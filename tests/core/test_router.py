"""What a router does: these events, exactly this list of commands."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from mesh.core.commands import (
    AppendBatch,
    AskOthers,
    Command,
    DropBatches,
    DropOutcomes,
    DropPeer,
    LookUpFunction,
    LookUpOutcomes,
    RecordOutcomes,
    SaveFunction,
    SaveMarks,
    SaveNode,
    Send,
)
from mesh.core.events import (
    FunctionLookedUp,
    OthersFound,
    OutcomesLookedUp,
    PeerHeard,
    PeerLost,
    SettledElsewhere,
    StoreFilled,
    StoreFreed,
    UnknownElsewhere,
)
from mesh.core.permits import CLIENT_VERBS, WORKER_VERBS
from mesh.core.settling import ACK_PAUSE_S
from mesh.core.status import OtherStatus, SocketStatus, StoreStatus, Surroundings
from mesh.messages import (
    Accepted,
    AskLease,
    Bye,
    Cancel,
    Claim,
    Credit,
    Declare,
    Deliver,
    Drop,
    Fire,
    FromNode,
    Function,
    GetFunction,
    Heartbeat,
    Hello,
    Identify,
    Message,
    Outcomes,
    PutFunction,
    Query,
    Recall,
    Refuse,
    Rejected,
    Released,
    Reply,
    SayHello,
    Schedule,
    Settled,
    SettledAck,
    Submit,
    Unknown,
    Unwatch,
    Watch,
    Welcome,
)
from mesh.model import (
    Ending,
    ErrorInfo,
    FunctionCode,
    NodeInfo,
    Outcome,
    Peer,
    Retrying,
    Role,
    TaskExtra,
    TaskMark,
    TaskOptions,
    TaskSpec,
    TaskState,
)
from mesh.settings import Settings
from mesh.wire.codec import decode_from_router, encode
from tests.core.make import (
    C1,
    C2,
    MONO,
    W1,
    W2,
    WALL,
    WELCOME,
    WORK,
    Driven,
    at,
    delivery,
    got,
    hello_client,
    hello_worker,
    sent,
    settlement,
    submit,
)

ONCE = TaskOptions("work", at_most_once=True)


def quiet() -> Settings:
    """No heartbeats between the messages a test looks at."""
    return Settings(heartbeat_s=1_000.0)


def router(settings: Settings | None = None, *, window: int | None = None) -> Driven:
    """With a client, and with a worker where it has a window."""
    driven = Driven(settings or quiet())
    driven.hear(C1, hello_client())
    if window is not None:
        driven.hear(W1, hello_worker(window=window))
    return driven


def outcome(task_id: str, state: TaskState = TaskState.SUCCEEDED, seconds: float = 0.0, **fields: object) -> Outcome:
    """As the router of a test makes it."""
    values = {
        "name": "work",
        "queue": "default",
        "worker": "worker",
        "attempts": 1,
        "accepted_at": WALL,
        "finished_at": WALL + seconds,
        "expires_at": WALL + seconds + Settings().result_ttl_s,
        "batch": 1,
        **fields,
    }
    return Outcome(task_id, state, **values)  # type: ignore[arg-type]


# accepting


def test_a_submit_is_journalled_delivered_at_once_and_accepted_after_the_commit() -> None:
    mesh = router(window=5)
    assert mesh.hear(C1, submit("a", "b")) == [
        Send(W1, Deliver({1: WORK}, [delivery("a"), delivery("b")])),
        AppendBatch(1, submit("a", "b"), None, WALL),
        Send(C1, Accepted([1]), after_commit=True),
    ]


def test_batches_of_one_wake_up_are_accepted_in_one_message() -> None:
    mesh = router()
    commands = mesh.hear(C1, submit("a"), submit("b", batch=2))
    assert sent(commands) == [Accepted([1, 2])]
    assert [c.seq for c in commands if isinstance(c, AppendBatch)] == [1, 2]


def test_a_resent_batch_is_stored_once_and_accepted_again() -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    assert mesh.hear(C1, submit("a", repeated=True)) == [Send(C1, Accepted([1]), after_commit=True)]


def test_a_resent_batch_that_is_finished_is_answered_with_its_outcome() -> None:
    mesh = router()
    again = submit("a", repeated=True)
    assert mesh.hear(C1, again) == [LookUpOutcomes(C1, ["a"], again, None)]
    done = outcome("a")
    assert mesh.do(OutcomesLookedUp(C1, ["a"], [done], again, None)) == [
        Send(C1, Outcomes([done], [1]), after_commit=True),
    ]


def test_how_long_a_task_ran_is_what_its_worker_measured() -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    mesh.hear(W1, hello_worker())
    commands = mesh.hear(W1, Settled(1, [settlement("a", started_at=WALL + 500.0, runtime_s=0.25)]))
    [record] = [command for command in commands if isinstance(command, RecordOutcomes)]
    assert record.outcomes[0].runtime_s == 0.25


def test_of_a_resent_batch_only_what_is_unknown_is_journalled() -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    again = submit("a", "b", "c", batch=2, repeated=True)
    assert mesh.hear(C1, again) == [LookUpOutcomes(C1, ["b", "c"], again, None)]
    commands = mesh.do(OutcomesLookedUp(C1, ["b", "c"], [outcome("b")], again, b"raw"))
    assert commands[0] == AppendBatch(2, submit("c", batch=2, repeated=True), None, WALL)
    assert set(mesh.machine.table.tasks) == {"a", "c"}


def test_an_id_that_stands_twice_in_a_batch_is_one_task() -> None:
    mesh = router(window=5)
    commands = mesh.hear(C1, submit("a", "a"))
    assert sent(commands, W1) == [Deliver({1: WORK}, [delivery("a")])]
    commands = mesh.hear(W1, Settled(1, [settlement("a")]))
    assert DropBatches([1]) in commands


def test_a_batch_of_no_tasks_is_accepted_and_leaves_nothing_behind() -> None:
    mesh = router()
    assert mesh.hear(C1, Submit(7, [], [])) == [Send(C1, Accepted([7]), after_commit=True)]


def test_a_batch_that_names_options_it_does_not_bring_is_rejected_whole() -> None:
    mesh = router()
    bad = Submit(1, [WORK], [TaskSpec("a", 0, b""), TaskSpec("b", 1, b"")])
    reason = "a task refers to options that were not sent with it"
    assert mesh.hear(C1, bad) == [Send(C1, Rejected(1, "invalid", reason))]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(heartbeat_s=1e3, queued_tasks_max=2), "2 tasks are queued; the limit is 2"),
        (Settings(heartbeat_s=1e3, queued_bytes_max=8), "8 bytes are queued; the limit is 8"),
    ],
)
def test_at_a_limit_a_submit_is_overloaded_and_nothing_of_it_is_taken(settings: Settings, reason: str) -> None:
    mesh = router(settings)
    mesh.hear(C1, Submit(1, [WORK], [TaskSpec("a", 0, b"1234"), TaskSpec("b", 0, b"5678")]))
    assert mesh.hear(C1, submit("c", batch=2)) == [Send(C1, Rejected(2, "overloaded", reason))]
    assert set(mesh.machine.table.tasks) == {"a", "b"}


def test_a_low_store_takes_no_tasks_but_goes_on_with_those_it_has() -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    mesh.do(StoreFilled("5 bytes are free", halt=False))
    assert sent(mesh.hear(C1, submit("b", batch=2))) == [Rejected(2, "overloaded", "5 bytes are free")]
    assert sent(mesh.hear(W1, hello_worker()))[1:] == [Deliver({1: WORK}, [delivery("a")])]


def test_a_full_store_starts_nothing_until_it_has_room() -> None:
    mesh = router(window=1)
    mesh.do(StoreFilled("full", halt=True))
    assert sent(mesh.hear(C1, submit("a"))) == [Rejected(1, "overloaded", "full")]
    mesh.do(StoreFreed())
    assert sent(mesh.hear(C1, submit("a")), W1) == [Deliver({1: WORK}, [delivery("a")])]


# delivering


def test_no_more_is_delivered_than_the_window_allows() -> None:
    mesh = router(window=2)
    assert sent(mesh.hear(C1, submit("a", "b", "c")), W1) == [Deliver({1: WORK}, [delivery("a"), delivery("b")])]
    assert sent(mesh.hear(W1, Settled(1, [settlement("a")])), W1)[0] == Deliver({1: WORK}, [delivery("c")])


def test_a_credit_is_a_level_and_not_a_sum() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", "b", "c"))
    assert sent(mesh.hear(W1, Credit(2), Credit(2)), W1) == [Deliver({1: WORK}, [delivery("b")])]
    assert mesh.hear(W1, Credit(0)) == []


def test_of_one_queue_the_highest_priority_goes_first_and_then_the_oldest() -> None:
    mesh = router()
    high = TaskOptions("work", priority=9)
    mesh.hear(C1, submit("low1"), submit("low2", batch=2), submit("high", batch=3, options=high))
    mesh.hear(W1, hello_worker(window=0))
    order = []
    for window in (1, 2, 3):
        [message] = sent(mesh.hear(W1, Credit(window)), W1)
        assert isinstance(message, Deliver)
        order += [one.id for one in message.tasks]
    assert order == ["high", "low1", "low2"]


def test_tasks_of_different_functions_in_a_queue_start_in_the_order_of_acceptance() -> None:
    mesh = router()
    other = TaskOptions("other")
    batch = Submit(1, [WORK, other], [TaskSpec(f"t{i}", i % 2, b"") for i in range(6)])
    mesh.hear(C1, batch)
    [_, message] = sent(mesh.hear(W1, hello_worker(window=6, tasks=("work", "other"))), W1)
    assert isinstance(message, Deliver)
    assert [one.id for one in message.tasks] == [f"t{i}" for i in range(6)]


def test_queues_take_turns_so_that_a_long_one_starves_nobody() -> None:
    mesh = router()
    images = TaskOptions("work", "images")
    mesh.hear(C1, submit(*(f"d{i}" for i in range(50))), submit("i1", batch=2, options=images))
    [_, message] = sent(mesh.hear(W1, hello_worker(window=4, queues=("default", "images"))), W1)
    assert isinstance(message, Deliver)
    assert "i1" in {one.id for one in message.tasks}
    assert len(message.tasks) == 4


def test_what_no_worker_can_run_is_parked_and_shown_and_goes_out_when_one_joins() -> None:
    mesh = router(window=5)
    assert sent(mesh.hear(C1, submit("a", options=TaskOptions("unknown"))), W1) == []
    [reply] = sent(mesh.hear(C1, Query(1, "status")))
    assert isinstance(reply, Reply)
    [queue] = msgspec.json.decode(reply.body)["queues"]
    assert queue["parked"] == 1
    assert queue["parked_why"] == ["no worker of queue 'default' knows task 'unknown'"]
    [_, message] = sent(mesh.hear(W2, hello_worker("w2", tasks=("unknown",))), W2)
    assert isinstance(message, Deliver)
    assert [one.id for one in message.tasks] == ["a"]


def test_shipped_code_goes_to_workers_of_its_python_only() -> None:
    mesh = router()
    code = FunctionCode("digest", "3.12", b"code")
    mesh.hear(C1, PutFunction(code), submit("a", options=TaskOptions("f", function="digest", python="3.12")))
    assert sent(mesh.hear(W1, hello_worker("w1", python="3.11"))) == [WELCOME]
    assert len(sent(mesh.hear(W2, hello_worker("w2", python="3.12")), W2)) == 2


def test_an_at_most_once_task_is_marked_started_before_it_is_delivered() -> None:
    mesh = router(window=1)
    assert mesh.hear(C1, submit("a", options=ONCE)) == [
        AppendBatch(1, submit("a", options=ONCE), None, WALL),
        SaveMarks([TaskMark("a", 1, 1, 0, 0, None, b"", started=True)]),
        Send(C1, Accepted([1]), after_commit=True),
        Send(W1, Deliver({1: ONCE}, [delivery("a")]), after_commit=True),
    ]


def test_a_task_that_its_worker_defines_as_at_most_once_is_delivered_so_whatever_the_call_says() -> None:
    mesh = router()
    mesh.hear(W1, hello_worker(window=2, tasks=("work", "other"), at_most_once=("work",)))
    mesh.hear(C1, Submit(1, [WORK, TaskOptions("other")], [TaskSpec("a", 0, b""), TaskSpec("b", 1, b"")]))
    commands = mesh.hear(W1, Released([("a", 1), ("b", 1)], recall=True))
    assert commands == [
        Send(W1, Deliver({2: TaskOptions("other")}, [delivery("b", 2, 2)])),
        SaveMarks([TaskMark("a", 1, 2, 0, 0, None, b"", started=True)]),
        Send(W1, Deliver({1: WORK}, [delivery("a", 2)]), after_commit=True),
    ]
    mesh.hear(W2, hello_worker("w2", window=2, tasks=("work", "other")))
    commands = mesh.do(PeerLost(W1))
    assert [one.id for message in sent(commands, W2) for one in message.tasks] == ["b"]  # type: ignore[attr-defined]
    [message] = sent(commands, C1)
    assert isinstance(message, Outcomes)
    assert [(one.id, one.state) for one in message.outcomes] == [("a", TaskState.FAILED)]


def test_a_worker_that_defines_a_task_otherwise_gets_it_at_once() -> None:
    mesh = router()
    mesh.hear(W1, hello_worker(window=1, at_most_once=("other",)))
    assert Send(W1, Deliver({1: WORK}, [delivery("a")])) in mesh.hear(C1, submit("a"))


LOST_BEFORE_IT_ANSWERED = ErrorInfo(
    "mesh.errors.WorkerLostError",
    "it is delivered at most once, and the router that it was submitted to first was lost before it answered: "
    "whether it ran there is unknown",
)


def test_what_a_worker_defines_as_at_most_once_is_not_delivered_where_another_router_may_have_delivered_it() -> None:
    mesh = router(window=0)
    mesh.hear(
        C1, Submit(1, [WORK, TaskOptions("other")], [TaskSpec("a", 0, b""), TaskSpec("b", 1, b"")], elsewhere=True)
    )
    mesh.hear(C1, submit(*(f"t{n}" for n in range(5)), batch=2, elsewhere=True), submit("here only", batch=3))
    commands = mesh.hear(W1, hello_worker(window=2, tasks=("work", "other"), at_most_once=("work",)))
    delivered = [m for m in sent(commands, W1) if isinstance(m, Deliver)]
    assert [one.id for message in delivered for one in message.tasks] == ["b", "here only"]
    [told] = [m for m in sent(commands, C1) if isinstance(m, Outcomes)]
    assert [one.id for one in told.outcomes] == ["a", *(f"t{n}" for n in range(5))]
    assert {(one.state, one.error) for one in told.outcomes} == {(TaskState.FAILED, LOST_BEFORE_IT_ANSWERED)}


def test_a_worker_that_defines_a_task_otherwise_is_given_what_another_router_may_have() -> None:
    mesh = router(window=1)
    assert Send(W1, Deliver({1: WORK}, [delivery("a")])) in mesh.hear(C1, submit("a", elsewhere=True))


def test_after_a_restart_a_router_still_knows_what_another_may_have() -> None:
    mesh = Driven()
    mesh.machine.restore([(1, WALL, submit("a", elsewhere=True), set())], [], [])
    mesh.do()
    commands = mesh.hear(W1, hello_worker(at_most_once=("work",)))
    assert not [message for message in sent(commands) if isinstance(message, Deliver)]
    assert [c.outcomes[0].error for c in commands if isinstance(c, RecordOutcomes)] == [LOST_BEFORE_IT_ANSWERED]


def test_an_idle_worker_gets_what_another_has_not_started() -> None:
    mesh = router(window=4)
    mesh.hear(C1, submit("a", "b", "c", "d"))
    commands = mesh.hear(W2, hello_worker("w2", window=4))
    assert sent(commands, W1) == [Recall(1)]
    commands = mesh.hear(W1, Released([("d", 1)], recall=True))
    assert sent(commands, W2) == [Deliver({1: WORK}, [delivery("d", 2)])]


def test_a_worker_that_has_nothing_to_give_back_is_left_alone_for_a_while() -> None:
    mesh = router(window=4)
    mesh.hear(C1, submit("a", "b"))
    mesh.hear(W2, hello_worker("w2", window=4))
    assert mesh.hear(W1, Released([], recall=True)) == []
    assert sent(mesh.do(wait=0.02), W1) == [Recall(1)]


# settling


def test_a_success_is_recorded_and_then_told_and_acknowledged() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    done = outcome("a", seconds=1.0, payload=b"42", started_at=WALL)
    word = settlement("a", payload=b"42", started_at=WALL)
    assert mesh.hear(W1, Settled(3, [word]), wait=1.0) == [
        RecordOutcomes([done], []),
        DropBatches([1]),
        Send(C1, Outcomes([done]), after_commit=True),
    ]
    assert not mesh.machine.table.tasks
    assert mesh.machine.next_deadline() == pytest.approx(MONO + 1.0 + ACK_PAUSE_S)
    assert mesh.do(wait=ACK_PAUSE_S) == [Send(W1, SettledAck([3]), after_commit=True)]


def test_settlements_of_a_while_are_acknowledged_together() -> None:
    mesh = router(window=2)
    mesh.hear(C1, submit("a", "b"))
    mesh.hear(W1, Settled(1, [settlement("a")]))
    assert sent(mesh.hear(W1, Settled(2, [settlement("b")]), wait=ACK_PAUSE_S / 2), W1) == []
    assert sent(mesh.do(wait=ACK_PAUSE_S / 2)) == [SettledAck([1, 2])]


def test_a_batch_that_ends_in_the_wake_up_it_came_in_is_accepted_with_its_outcome() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    commands = mesh.do(got(C1, submit("b", batch=2)), got(W1, Settled(1, [settlement("a")])))
    assert sent(commands, C1) == [Outcomes([outcome("a")], [2])]


def test_a_failure_is_final() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    error = ErrorInfo("builtins.ValueError", "no")
    commands = mesh.hear(W1, Settled(1, [settlement("a", ending=Ending.FAILED, error=error)]))
    assert sent(commands, C1) == [Outcomes([outcome("a", TaskState.FAILED, error=error)])]


def test_a_result_that_is_ignored_is_recorded_without_it_and_told_to_nobody() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", options=TaskOptions("work", ignore_result=True)))
    assert mesh.hear(W1, Settled(1, [settlement("a", payload=b"42")])) == [
        RecordOutcomes([outcome("a")], []),
        DropBatches([1]),
    ]


def test_a_retry_waits_for_its_time_and_brings_its_new_arguments() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    again = Retrying(WALL + 5, b"new")
    commands = mesh.hear(W1, Settled(1, [settlement("a", ending=Ending.RETRY, retry=again)]))
    assert commands == [SaveMarks([TaskMark("a", 1, 1, 1, 0, WALL + 5, b"new")])]
    mesh.do(wait=ACK_PAUSE_S)
    assert mesh.machine.next_deadline() == pytest.approx(MONO + 5)
    assert mesh.do(wait=4.9) == []
    [message] = sent(mesh.do(wait=0.2), W1)
    assert isinstance(message, Deliver)
    assert message.tasks == [msgspec.structs.replace(delivery("a", 2, retries=1), payload=b"new")]


def test_a_task_whose_executor_dies_three_times_is_dead_lettered_with_the_signals() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    for attempt in (1, 2):
        [message] = sent(mesh.hear(W1, Settled(attempt, [settlement("a", attempt, Ending.LOST)])), W1)[:1]
        assert isinstance(message, Deliver)
        assert message.tasks == [delivery("a", attempt + 1, deaths=attempt)]
    [message] = sent(mesh.hear(W1, Settled(3, [settlement("a", 3, Ending.LOST)])), C1)
    assert isinstance(message, Outcomes)
    [dead] = message.outcomes
    assert dead.state is TaskState.DEAD
    assert dead.error is not None
    assert dead.error.message.count("SIGKILL") == 3


def test_a_task_whose_delivery_never_arrives_is_dead_lettered_and_what_waited_behind_it_is_not() -> None:
    mesh = router(Settings(heartbeat_s=1e3, losses_max=3), window=2)
    mesh.hear(C1, submit("large", "b"))
    for attempt in (2, 3):
        message = sent(mesh.hear(W1, hello_worker(window=2)), W1)[-1]
        assert message == Deliver({1: WORK}, [delivery("large", attempt), delivery("b", attempt)])
    commands = mesh.hear(W1, hello_worker(window=2))
    [message] = sent(commands, C1)
    assert isinstance(message, Outcomes)
    assert [(one.id, one.state) for one in message.outcomes] == [("large", TaskState.DEAD)]
    assert message.outcomes[0].error is not None
    assert message.outcomes[0].error.message.count("its delivery to worker worker was lost") == 3
    assert sent(commands, W1)[-1] == Deliver({1: WORK}, [delivery("b", 4)])


def test_an_at_most_once_task_whose_executor_dies_fails_and_never_runs_again() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", options=ONCE))
    commands = mesh.hear(W1, Settled(1, [settlement("a", ending=Ending.LOST)]))
    [message] = sent(commands, C1)
    assert isinstance(message, Outcomes)
    assert message.outcomes[0].state is TaskState.FAILED
    assert sent(commands, W1) == []


def test_a_settlement_that_comes_twice_is_acknowledged_twice_and_counts_once() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    for _ in range(2):
        mesh.hear(W1, Settled(1, [settlement("a")]))
        assert mesh.do(wait=ACK_PAUSE_S) == [Send(W1, SettledAck([1]), after_commit=True)]
    assert mesh.machine.counters["stale"] == 1


def test_the_failure_of_a_stale_attempt_is_ignored_and_its_success_is_the_first() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    mesh.do(PeerLost(W1))
    mesh.hear(W2, hello_worker("w2"))
    mesh.hear(W1, hello_worker("worker", window=0))
    failed = settlement("a", 1, Ending.FAILED, error=ErrorInfo("E", "late"))
    assert mesh.hear(W1, Settled(1, [failed])) == []
    commands = mesh.hear(W1, Settled(2, [settlement("a")]))
    assert sent(commands, W2) == [Drop([("a", 2)])]
    assert sent(commands, C1) == [Outcomes([outcome("a", attempts=2)])]
    assert mesh.hear(W2, Settled(1, [settlement("a", 2)])) == []
    assert mesh.do(wait=ACK_PAUSE_S) == [
        Send(W1, SettledAck([1, 2]), after_commit=True),
        Send(W2, SettledAck([1]), after_commit=True),
    ]


def test_a_drained_workers_deliveries_go_elsewhere_and_it_gets_no_more() -> None:
    mesh = router(window=2)
    mesh.hear(C1, submit("a", "b"))
    mesh.hear(W2, hello_worker("w2", window=0))
    assert sent(mesh.hear(W1, Released([("a", 1), ("b", 1)]))) == []
    assert sent(mesh.hear(W2, Credit(2)), W2) == [Deliver({1: WORK}, [delivery("a", 2), delivery("b", 2)])]


def test_a_release_of_an_attempt_it_does_not_hold_changes_nothing() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    assert mesh.hear(W1, Released([("a", 2), ("b", 1)], recall=True)) == []


# losing workers


@pytest.mark.parametrize("loss", [PeerLost(W1), got(W1, Bye("stopped"))])
def test_the_tasks_of_a_lost_worker_go_to_another_at_once(loss: PeerLost) -> None:
    mesh = router(window=2)
    mesh.hear(C1, submit("a", "b"))
    mesh.hear(W2, hello_worker("w2", window=2))
    assert sent(mesh.do(loss), W2) == [Deliver({1: WORK}, [delivery("a", 2), delivery("b", 2)])]


def test_a_worker_silent_for_three_heartbeats_is_gone() -> None:
    mesh = router(Settings(), window=1)
    mesh.hear(C1, submit("a"))
    for _ in range(5):
        mesh.do(wait=1.0)
    assert W1 in mesh.machine.workers
    commands = mesh.do(wait=1.0)
    assert DropPeer(W1) in commands
    assert W1 not in mesh.machine.workers
    assert len(mesh.machine.table.ready) == 1


def test_a_worker_that_speaks_is_not_gone() -> None:
    mesh = router(Settings(), window=1)
    for _ in range(20):
        mesh.hear(W1, Heartbeat(), wait=1.0)
    assert W1 in mesh.machine.workers


def test_a_router_that_did_nothing_for_long_takes_no_node_for_silent() -> None:
    """A machine that slept, a disk that hung: what its nodes said meanwhile waits to be read."""
    mesh = router(Settings(heartbeat_s=2.0))
    mesh.hear(W1, hello_worker(window=1))
    mesh.hear(C1, hello_client(), submit("a", options=TaskOptions("work", at_most_once=True)))
    assert mesh.do(wait=60.0) == [
        Send(W1, Heartbeat(at(60.0).wall, load=1)),
        Send(C1, Heartbeat(at(60.0).wall, load=1)),
    ]
    assert mesh.machine.workers[W1].held == 1
    gone = [mesh.do(wait=1.5) for _ in range(4)]
    assert DropPeer(W1) in gone[-1] and DropPeer(W1) not in gone[0], "it says nothing still"


def test_seconds_from_now_are_counted_from_the_call_where_the_router_slept_meanwhile() -> None:
    mesh = router(Settings(heartbeat_s=2.0))
    mesh.hear(C1, hello_client())
    mesh.hear(C1, Heartbeat(at(0.5).wall), wait=0.5)
    task = TaskSpec("a", 0, b"", None, at(1.0).wall + 5, TaskExtra(expires_from_now=True))
    mesh.hear(C1, Submit(1, [WORK], [task], at=at(1.0).wall), wait=12.0)
    assert mesh.machine.table.tasks == {}, "it was to start within 5 s of 12"


def test_who_is_heard_of_in_part_is_not_silent() -> None:
    mesh = router(Settings(heartbeat_s=2.0), window=1)
    for _ in range(5):
        mesh.do(PeerHeard(W1), PeerHeard(C1), PeerHeard(C2), wait=2.0)
    assert (list(mesh.machine.workers), list(mesh.machine.clients)) == ([W1], [C1])
    for _ in range(4):
        mesh.do(wait=1.5)
    assert (mesh.machine.workers, mesh.machine.clients) == ({}, {})


def test_a_client_that_is_silent_for_three_heartbeats_has_no_session_any_more() -> None:
    mesh = router(Settings(heartbeat_s=2.0))
    mesh.hear(C2, hello_client("c2"))
    for _ in range(3):
        mesh.hear(C1, Heartbeat(), wait=1.8)
    assert DropPeer(C2) in mesh.do(wait=1.5)
    assert set(mesh.machine.clients) == {C1}


def test_a_worker_that_connects_anew_keeps_what_it_holds() -> None:
    mesh = router(window=2)
    mesh.hear(C1, submit("a", "b"))
    anew = Peer(b"w1 anew")
    commands = mesh.hear(anew, hello_worker(window=2, held=[("a", 1), ("b", 1)]))
    assert commands == [Send(anew, WELCOME), DropPeer(W1)]
    assert sent(mesh.hear(anew, Settled(1, [settlement("a")])), C1) == [Outcomes([outcome("a")])]


def test_a_delivery_that_was_lost_on_the_way_is_made_again() -> None:
    mesh = router(window=2)
    mesh.hear(C1, submit("a", "b"))
    commands = mesh.hear(W1, hello_worker(window=2, held=[("a", 1)]))
    assert sent(commands, W1) == [WELCOME, Deliver({1: WORK}, [delivery("b", 2)])]


def test_what_a_worker_holds_without_a_right_to_it_is_taken_from_it() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    commands = mesh.hear(W2, hello_worker("w2", window=0, held=[("a", 1), ("gone", 4)]))
    assert sent(commands, W2) == [WELCOME, Drop([("a", 1), ("gone", 4)])]


def test_a_worker_that_was_taken_for_gone_gets_back_what_nobody_else_has_yet() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    mesh.do(PeerLost(W1))
    commands = mesh.hear(W1, hello_worker(held=[("a", 1)]))
    assert sent(commands, W1) == [WELCOME]
    assert mesh.machine.workers[W1].held == 1


@pytest.mark.parametrize("ending", [Ending.LOST, Ending.RETRY])
@pytest.mark.parametrize("window", [0, 1])
def test_an_attempt_whose_acknowledgement_was_lost_is_counted_once(ending: Ending, window: int) -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    mesh.hear(W1, Credit(window))
    told = Settled(1, [settlement("a", ending=ending)])
    mesh.hear(W1, told)  # neither its acknowledgement nor a second delivery arrives
    mesh.do(PeerLost(W1))
    mesh.hear(W1, hello_worker(window=0, held=[("a", 1)]))
    mesh.hear(W1, told)
    rare = mesh.machine.table.tasks["a"].rare
    assert rare is not None
    assert (rare.deaths, rare.retries) == ((1, 0) if ending is Ending.LOST else (0, 1))


def test_a_claim_of_two_attempts_is_a_claim_of_the_later_one() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    told = Settled(1, [settlement("a", ending=Ending.LOST)])
    assert sent(mesh.hear(W1, told), W1)[0] == Deliver({1: WORK}, [delivery("a", 2, deaths=1)])
    # the delivery arrived, the acknowledgement of the first attempt did not
    commands = mesh.hear(W1, hello_worker(held=[("a", 2), ("a", 1)]))
    assert sent(commands, W1) == [WELCOME]
    mesh.hear(W1, told)
    rare = mesh.machine.table.tasks["a"].rare
    assert rare is not None and rare.deaths == 1


def test_a_delivery_of_an_at_most_once_task_that_was_lost_on_the_way_fails() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", options=ONCE))
    [message] = sent(mesh.hear(W1, hello_worker()), C1)
    assert isinstance(message, Outcomes)
    assert message.outcomes[0].state is TaskState.FAILED


def test_a_lost_delivery_of_a_task_that_its_worker_defines_as_at_most_once_fails_too() -> None:
    mesh = router()
    mesh.hear(W1, hello_worker(at_most_once=("work",)))
    mesh.hear(C1, submit("a"))
    [message] = sent(mesh.hear(W1, hello_worker(at_most_once=("work",))), C1)
    assert isinstance(message, Outcomes)
    assert message.outcomes[0].state is TaskState.FAILED


# time


def test_a_task_with_an_eta_starts_then() -> None:
    mesh = router(window=1)
    assert sent(mesh.hear(C1, submit("a", eta=WALL + 3)), W1) == []
    assert mesh.machine.next_deadline() == pytest.approx(MONO + 3)
    assert sent(mesh.do(wait=3.0), W1) == [Deliver({1: WORK}, [delivery("a")])]


def test_a_task_that_nobody_took_in_time_expires() -> None:
    mesh = router()
    mesh.hear(C1, submit("a", expires_at=WALL + 3))
    [message] = sent(mesh.do(wait=3.0), C1)
    assert isinstance(message, Outcomes)
    assert message.outcomes[0].state is TaskState.EXPIRED


def test_a_task_that_was_taken_in_time_does_not_expire_at_its_router() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", expires_at=WALL + 3))
    assert mesh.do(wait=10.0) == []
    assert sent(mesh.hear(W1, Settled(1, [settlement("a")])), C1) != []


# cancelling


def test_a_waiting_task_is_cancelled_at_once() -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    error = ErrorInfo("mesh.errors.TaskRevokedError", "cancelled before it finished")
    end = outcome("a", TaskState.CANCELLED, worker="", attempts=0, error=error)
    assert mesh.hear(C1, Cancel(["a", "never heard of"])) == [
        RecordOutcomes([end], []),
        DropBatches([1]),
        Send(C1, Outcomes([end]), after_commit=True),
    ]


def test_a_cancel_of_a_delivered_task_goes_to_its_worker_and_is_remembered() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    cancel = Cancel(["a"], terminate=True, signal="SIGTERM")
    assert mesh.hear(C1, cancel) == [Send(W1, cancel)]
    [message] = sent(mesh.do(PeerLost(W1)), C1)
    assert isinstance(message, Outcomes)
    assert message.outcomes[0].state is TaskState.CANCELLED


def test_a_purge_cancels_what_waits_in_the_queues_named() -> None:
    mesh = router()
    mesh.hear(C1, submit("a", "b"), submit("c", batch=2, options=TaskOptions("work", "other")))
    commands = mesh.hear(C1, Query(9, "purge", ["default"]))
    assert sent(commands)[-1] == Reply(9, b'{"purged":2}')
    assert set(mesh.machine.table.tasks) == {"c"}


def test_a_purge_ends_however_much_comes_in_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.core.purging.PURGE_AT_ONCE", 2)
    mesh = router()
    mesh.hear(C1, submit("a", "b", "c"))
    mesh.hear(C1, Query(9, "purge"))
    commands = mesh.hear(C1, submit("d", "e", batch=2))
    assert Send(C1, Reply(9, b'{"purged":3}'), after_commit=True) in commands
    assert set(mesh.machine.table.tasks) == {"d", "e"}


def test_a_purge_is_refused_and_not_done_later_while_the_store_takes_nothing() -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    mesh.do(StoreFilled("the store is away", halt=True))
    (reply,) = sent(mesh.hear(C1, Query(9, "purge")))
    assert json.loads(reply.body) == {  # type: ignore[attr-defined]
        "error": "nothing is purged: the store is away",
        "code": "overloaded",
    }
    mesh.do(StoreFreed())
    assert set(mesh.machine.table.tasks) == {"a"}


def test_a_purge_that_is_under_way_waits_while_the_store_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.core.purging.PURGE_AT_ONCE", 1)
    mesh = router()
    mesh.hear(C1, submit("a", "b"))
    mesh.hear(C1, Query(9, "purge"))
    mesh.do(StoreFilled("full", halt=True))
    assert mesh.machine.next_deadline() > at(0.0).mono  # type: ignore[operator]
    mesh.do(StoreFreed())
    assert sent(mesh.do())[-1] == Reply(9, b'{"purged":2}')


def test_the_status_says_what_the_process_sees_around_the_machine() -> None:
    mesh = router()
    sockets = SocketStatus({"mute": 1}, {"": 2, "worker w1": 1}, {"k1": 3}, {"announced_unproven": 4})
    store, other = StoreStatus(100, 10, 1), OtherStatus("r2", "tcp://b:1", True)
    for around in (Surroundings(), Surroundings(sockets, store, [other])):
        mesh.machine.surroundings = around
        (reply,) = sent(mesh.hear(C1, Query(1, "status")), C1)
        said = json.loads(reply.body)["router"]  # type: ignore[attr-defined]
        assert msgspec.convert(said["transport"], SocketStatus) == around.sockets
        assert msgspec.convert(said["store"], StoreStatus) == around.store
        assert msgspec.convert(said["others"], list[OtherStatus]) == [*around.others]


def test_the_status_counts_what_waits_for_its_time() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", "b", eta=WALL + 5.0), submit("c", batch=2))
    mesh.hear(C1, Cancel(["a"]))
    mesh.hear(W1, Settled(1, [settlement("c", ending=Ending.RETRY, retry=Retrying(WALL + 9.0))]))

    def scheduled() -> int:
        (reply,) = sent(mesh.hear(C1, Query(1, "status")), C1)
        (queue,) = msgspec.json.decode(reply.body)["queues"]  # type: ignore[attr-defined]
        return int(queue["scheduled"])

    assert scheduled() == 2
    mesh.do(wait=6.0)
    assert scheduled() == 1


# watching


def test_whoever_watches_is_told_after_the_commit() -> None:
    mesh = router(window=1)
    mesh.hear(C2, hello_client("c2"))
    mesh.hear(C1, submit("a"))
    assert mesh.hear(C2, Watch(["a"])) == []
    commands = mesh.hear(W1, Settled(1, [settlement("a")]))
    assert Send(C2, Outcomes([outcome("a")]), after_commit=True) in commands
    assert Send(C1, Outcomes([outcome("a")]), after_commit=True) in commands


def test_what_is_finished_is_looked_up_and_what_nobody_knows_is_unknown() -> None:
    mesh = router()
    assert mesh.hear(C1, Watch(["old", "never"])) == [LookUpOutcomes(C1, ["old", "never"])]
    assert mesh.do(OutcomesLookedUp(C1, ["old", "never"], [outcome("old")])) == [
        Send(C1, Outcomes([outcome("old")])),
        Send(C1, Unknown(["never"])),
    ]


def test_whoever_no_longer_watches_is_not_told() -> None:
    mesh = router(window=1)
    mesh.hear(C2, hello_client("c2"))
    mesh.hear(C1, submit("a"))
    mesh.hear(C2, Watch(["a"]), Unwatch(["a"]))
    assert sent(mesh.hear(W1, Settled(1, [settlement("a")])), C2) == []


def test_a_result_is_forgotten_when_its_client_says_so() -> None:
    mesh = router()
    assert mesh.hear(C1, Unwatch(["done"], forget=True)) == [DropOutcomes(["done"])]


def test_nobody_watches_more_than_the_limit_and_is_told_once_which_are_too_many() -> None:
    mesh = router(Settings(heartbeat_s=1e3, watched_ids_max=1))
    mesh.hear(C2, hello_client("c2"))
    mesh.hear(C1, submit("a", "b", "c"))
    [refusal] = sent(mesh.hear(C2, Watch(["a", "b", "c"])))
    assert refusal == Refuse("watched", "no more than 1 ids of others can be watched (watched_ids_max)", ["b", "c"])


@pytest.mark.parametrize("restarted", [False, True])
def test_however_many_tasks_a_client_submitted_it_is_told_of_them_over_another_connection(restarted: bool) -> None:
    settings = Settings(heartbeat_s=1e3, watched_ids_max=1)
    mesh = router(settings)
    ids = ["a", "b", "c"]
    mesh.hear(C1, submit(*ids))
    if restarted:
        mesh = Driven(settings)
        mesh.machine.restore([(1, WALL, submit(*ids), set())], [], [])
    mesh.hear(C2, hello_client("client"))
    assert sent(mesh.hear(C2, Watch(ids, own=True)), C2) == []
    mesh.hear(W1, hello_worker(window=3))
    done = sent(mesh.hear(W1, Settled(1, [settlement(i) for i in ids])), C2)
    assert [outcome.id for outcomes in done for outcome in outcomes.outcomes] == ids  # type: ignore[attr-defined]


def test_a_new_session_on_the_same_connection_watches_nothing_yet() -> None:
    mesh = router(window=1)
    mesh.hear(C2, hello_client("c2"))
    mesh.hear(C1, submit("a"))
    mesh.hear(C2, Watch(["a"]))
    mesh.hear(C2, hello_client("c2"))
    assert sent(mesh.hear(W1, Settled(1, [settlement("a")])), C2) == []


def test_a_repeated_batch_does_not_ask_for_results_that_are_to_be_ignored() -> None:
    mesh = router(window=1)
    quiet_ones = TaskOptions("work", ignore_result=True)
    for repeated in (False, True):
        mesh.hear(C1, submit("a", options=quiet_ones, repeated=repeated))
    assert sent(mesh.hear(W1, Settled(1, [settlement("a")])), C1) == []


def test_a_batch_that_is_finished_is_accepted_although_the_disk_is_low() -> None:
    mesh = router()
    mesh.do(StoreFilled("low", halt=False))
    again = submit("a", repeated=True)
    assert mesh.hear(C1, again) == [LookUpOutcomes(C1, ["a"], again, None)]
    done = outcome("a")
    assert mesh.do(OutcomesLookedUp(C1, ["a"], [done], again, None)) == [
        Send(C1, Outcomes([done], [1]), after_commit=True)
    ]
    new = submit("b", batch=2, repeated=True)
    mesh.hear(C1, new)
    assert sent(mesh.do(OutcomesLookedUp(C1, ["b"], [], new, None))) == [Rejected(2, "overloaded", "low")]


def test_nobody_takes_the_tasks_of_a_client_that_is_there() -> None:
    mesh = router(window=1)
    mesh.hear(C2, hello_client("c2"))
    mesh.hear(C1, submit("a"))
    mesh.hear(C2, Watch(["a"], own=True))
    done = mesh.hear(W1, Settled(1, [settlement("a")]))
    assert len(sent(done, C1)) == len(sent(done, C2)) == 1


def test_a_client_that_connects_anew_ends_its_earlier_session() -> None:
    mesh = router()
    assert DropPeer(C1) in mesh.hear(C2, hello_client("client"))
    assert set(mesh.machine.clients) == {C2}


# who may do what


def test_a_node_without_a_session_is_asked_for_hello() -> None:
    mesh = router()
    assert mesh.hear(C2, submit("a")) == [Send(C2, SayHello()), DropPeer(C2)]


VERBS: list[Message] = [
    submit("a"),
    Watch(["a"]),
    Unwatch(["a"]),
    Cancel(["a"]),
    Query(1, "status"),
    PutFunction(FunctionCode("digest", "3.11", b"code")),
    Credit(5),
    Settled(1, [settlement("a")]),
    Released([]),
    GetFunction("digest"),
    Schedule(1, "list"),
    AskLease(),
    Declare("app", WALL, []),
    Fire(0, 1, []),
    Claim([("a", 1)]),
]


def test_every_verb_of_a_node_belongs_to_a_role_or_to_all() -> None:
    of_all = {Hello, Bye, Heartbeat, Identify}
    assert set(FromNode.__args__) == of_all | CLIENT_VERBS | WORKER_VERBS
    assert {type(verb) for verb in VERBS} == CLIENT_VERBS | WORKER_VERBS
    assert not CLIENT_VERBS & WORKER_VERBS


@pytest.mark.parametrize("key", [Role.WORKER, Role.CLIENT, Role.ADMIN, None])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: type(verb).__name__)
@pytest.mark.parametrize(("peer", "role"), [(W1, Role.WORKER), (C1, Role.CLIENT)])
def test_a_verb_of_another_role_is_refused_whatever_the_key(
    peer: Peer, role: Role, verb: Message, key: Role | None
) -> None:
    mesh = router(window=1)
    commands = mesh.do(got(peer, verb, key))
    others = CLIENT_VERBS if role is Role.WORKER else WORKER_VERBS
    if type(verb) in others:
        assert commands == [Send(peer, Refuse("role", f"a {role} may not send {type(verb).__name__}"))]
    assert mesh.machine.counters["refused"] == int(type(verb) in others)


@pytest.mark.parametrize("key", [Role.WORKER, Role.CLIENT])
def test_only_a_key_for_all_purges(key: Role) -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    [reply] = sent(mesh.do(got(C1, Query(7, "purge"), key)))
    assert isinstance(reply, Reply) and reply.request == 7
    assert json.loads(reply.body) == {"error": f"a {key} key may not purge: that takes the whole key of the mesh"}
    assert mesh.machine.counters["refused"] == 1
    assert "a" in mesh.machine.table.tasks


@pytest.mark.parametrize("key", [Role.ADMIN, None])
def test_a_key_for_all_and_the_users_own_socket_purge(key: Role | None) -> None:
    mesh = router()
    mesh.hear(C1, submit("a"))
    assert Reply(7, b'{"purged":1}') in sent(mesh.do(got(C1, Query(7, "purge"), key)))
    assert "a" not in mesh.machine.table.tasks


def test_a_hello_of_another_protocol_is_refused_with_both_numbers() -> None:
    mesh = router()
    [refusal] = sent(mesh.hear(C2, msgspec.structs.replace(hello_client("c2"), protocol=7)))
    assert isinstance(refusal, Refuse)
    assert refusal.code == "protocol"
    assert "7 here, 1 at the router" in refusal.reason


@pytest.mark.parametrize(
    "hello",
    [
        Hello("prince", "n", "n", "3.11", "0"),
        Hello(Role.WORKER, "n", "n", "3.11", "0"),
        msgspec.structs.replace(hello_worker(), role=Role.CLIENT),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(hello: Hello) -> None:
    commands = Driven(quiet()).hear(C1, hello)
    [refusal] = sent(commands)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "invalid"
    assert commands[-1] == DropPeer(C1)


@pytest.mark.parametrize("field", ["role", "name", "python", "version"])
def test_a_hello_with_a_text_that_is_too_long_is_refused_without_it(field: str) -> None:
    mesh = Driven(quiet())
    long = msgspec.structs.replace(hello_client(), **{field: "x" * 256})
    reason = f"the {field} of a node has at most 255 characters, not 256"
    assert mesh.hear(C1, long) == [Send(C1, Refuse("invalid", reason)), DropPeer(C1)]
    assert mesh.machine.counters["refused"] == 1


@pytest.mark.parametrize("hello", [hello_client, hello_worker])
def test_a_connection_speaks_for_one_node(hello: Callable[[str], Hello]) -> None:
    mesh = Driven(quiet())
    mesh.hear(W1, hello("first"))
    commands = mesh.hear(W1, hello("second"))
    reason = "this connection speaks for node 'first', another node makes one of its own"
    assert commands == [Send(W1, Refuse("invalid", reason)), DropPeer(W1)]
    assert sent(mesh.hear(W1, hello("first"))) == [WELCOME]


def test_of_more_nodes_than_the_limit_those_that_are_there_already_go_on() -> None:
    mesh = Driven(Settings(heartbeat_s=1e3, nodes_max=1))
    mesh.hear(C1, hello_client("c1"))
    [refusal, _] = mesh.hear(C2, hello_client("c2"))
    assert refusal == Send(C2, Refuse("overloaded", "1 clients take part already, and nodes_max is 1"))
    assert sent(mesh.hear(W1, hello_worker("w1"))) == [WELCOME], "clients keep no worker out"
    [refusal, _] = mesh.hear(W2, hello_worker("w2"))
    assert refusal == Send(W2, Refuse("overloaded", "1 workers take part already, and nodes_max is 1"))
    assert sent(mesh.hear(W2, hello_worker("w1"))) == [WELCOME], "it connects anew"
    mesh.do(PeerLost(C1))
    assert sent(mesh.hear(C2, hello_client("c2"))) == [WELCOME]
    assert mesh.machine.counters["refused"] == 2


def test_a_worker_of_before_the_restart_has_its_place_among_the_nodes() -> None:
    mesh = Driven(Settings(heartbeat_s=1e3, nodes_max=1))
    mesh.machine.restore([], [], [NodeInfo("w1", "w1")])
    [refusal] = sent(mesh.hear(W2, hello_worker("w2")))
    assert isinstance(refusal, Refuse) and "nodes_max" in refusal.reason
    assert sent(mesh.hear(W1, hello_worker("w1"))) == [WELCOME]


@pytest.mark.parametrize("key", [Role.WORKER, Role.CLIENT, Role.ADMIN, None])
@pytest.mark.parametrize("role", [Role.WORKER, Role.CLIENT, Role.ADMIN])
def test_a_key_opens_sessions_of_its_role_only_and_an_admin_key_any(key: Role | None, role: Role) -> None:
    mesh = Driven(quiet())
    hello = hello_worker() if role is Role.WORKER else msgspec.structs.replace(hello_client(), role=role)
    commands = mesh.do(got(W1, hello, key))
    if key in (None, Role.ADMIN, role):
        assert sent(commands) == [WELCOME]
    else:
        assert commands == [Send(W1, Refuse("role", f"a {key} key does not make a {role}")), DropPeer(W1)]
        assert mesh.machine.counters["refused"] == 1
        assert not mesh.machine.workers and not mesh.machine.clients


# functions


def test_a_shipped_function_is_kept_and_given_to_whoever_asks() -> None:
    mesh = router(window=1)
    code = FunctionCode("digest", "3.11", b"code")
    assert mesh.hear(C1, PutFunction(code)) == [SaveFunction(code, WALL)]
    assert mesh.hear(W1, GetFunction("digest")) == [LookUpFunction(W1, "digest")]
    assert mesh.do(FunctionLookedUp(W1, "digest", code)) == [Send(W1, Function("digest", code))]


# starting again


def restarted(*specs: str, marks: tuple[TaskMark, ...] = (), options: TaskOptions = WORK, **fields: object) -> Driven:
    """A router that finds these in its journal, and knows the worker node ``worker`` from before."""
    mesh = Driven(Settings(heartbeat_s=1e3, grace_s=5.0), next_seq=2)
    batch = submit(*specs, options=options, **fields)
    mesh.machine.restore([(1, WALL - 60, batch, set())], list(marks), [NodeInfo("worker", "worker")])
    mesh.machine.check()
    return mesh


def test_after_a_restart_what_a_worker_still_runs_is_adopted_and_not_run_again() -> None:
    mesh = restarted("a", "b")
    commands = mesh.hear(W1, hello_worker(window=5, held=[("a", 3)]))
    assert sent(commands, W1) == [WELCOME, Deliver({1: WORK}, [delivery("b")])]
    mesh.hear(W1, Settled(1, [settlement("a", 3)]))
    assert set(mesh.machine.table.tasks) == {"b"}


def test_after_a_restart_old_tasks_wait_for_the_workers_that_may_run_them_and_new_ones_do_not() -> None:
    mesh = restarted("old")
    mesh.hear(W2, hello_worker("w2", window=5))
    mesh.hear(C1, hello_client())
    assert sent(mesh.hear(C1, submit("new")), W2) == [Deliver({1: WORK}, [delivery("new")])]
    assert sent(mesh.do(wait=4.9), W2) == []
    [message] = sent(mesh.do(wait=0.2), W2)
    assert isinstance(message, Deliver)
    assert [one.id for one in message.tasks] == ["old"]


def restarted_among_others(*ids: str) -> tuple[Driven, list[Command]]:
    """A router that finds these in its journal, and is not the only one; its first commands."""
    mesh = Driven(Settings(heartbeat_s=1e3, grace_s=5.0), next_seq=2)
    mesh.machine.restore([(1, WALL - 60, submit(*ids), set())], [], [], others=True)
    begun = mesh.do()
    mesh.hear(W1, hello_worker(window=5))
    return mesh, begun


def delivered(commands: list[Command]) -> list[str]:
    return [one.id for message in sent(commands, W1) if isinstance(message, Deliver) for one in message.tasks]


def test_after_a_restart_other_routers_are_asked_before_anything_is_run_again() -> None:
    mesh, begun = restarted_among_others("done", "theirs", "mine")
    (asked,) = [command for command in begun if isinstance(command, AskOthers)]
    assert sorted(asked.ids) == ["done", "mine", "theirs"]
    assert delivered(mesh.do(OthersFound(1, ["tcp://b:1"]))) == []
    outcome = Outcome("done", TaskState.SUCCEEDED, b"there", worker="w9")
    commands = mesh.do(SettledElsewhere([outcome]))
    (record,) = [command for command in commands if isinstance(command, RecordOutcomes)]
    assert [(o.id, o.state, o.payload, o.worker) for o in record.outcomes] == [
        ("done", TaskState.SUCCEEDED, b"there", "w9")
    ]
    assert delivered(mesh.do(UnknownElsewhere(["mine"]))) == [], "a worker may still hold it"
    assert delivered(mesh.do(wait=5.1)) == ["mine"]
    assert delivered(mesh.do(wait=100.0)) == [], "another router has it, and will say how it ends"
    assert delivered(mesh.do(OthersFound(0))) == ["theirs"]


@pytest.mark.parametrize("early", [True, False])
def test_of_two_routers_that_wait_for_each_others_word_one_runs_the_task(early: bool) -> None:
    lesser, greater = "q.1", "s.1"  # than this one's id
    mesh, _ = restarted_among_others("a")
    mesh.do(OthersFound(2), wait=0.0 if early else 6.0)
    mesh.hear(C1, Hello(Role.ROUTER, lesser, "router", "", "0"))
    mesh.hear(C2, Hello(Role.ROUTER, greater, "router", "", "0"))
    answers = mesh.hear(C1, Watch(["a"])) + mesh.hear(C2, Watch(["a"]))
    assert any(isinstance(said, Unknown) for said in sent(answers)) is not early, "a worker may still hold it"
    answers += mesh.do(wait=6.0)
    assert [said for said in sent(answers, C1) if isinstance(said, Unknown)] == [Unknown(["a"])]
    assert [said for said in sent(answers, C2) if isinstance(said, Unknown)] == [], "it will say that it does not know"
    commands = mesh.do(UnknownElsewhere(["a"]))
    assert delivered(commands) == ["a"]
    commands = mesh.hear(W1, Settled(1, [settlement("a")]))
    assert [type(message) for message in sent(commands, C2)] == [Outcomes]


def test_without_other_routers_all_is_run_when_the_workers_have_spoken() -> None:
    mesh, _ = restarted_among_others("a")
    assert delivered(mesh.do(wait=5.1)) == ["a"]


def test_what_ended_elsewhere_is_taken_from_the_worker_that_has_it_here() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a"))
    commands = mesh.do(SettledElsewhere([Outcome("a", TaskState.FAILED), Outcome("unknown", TaskState.FAILED)]))
    assert sent(commands, W1) == [Drop([("a", 1)])]
    assert [o.state for o in sent(commands, C1)[0].outcomes] == [TaskState.FAILED]  # type: ignore[attr-defined]


def test_nodes_are_told_where_other_routers_are() -> None:
    mesh = router(Settings(heartbeat_s=1.0))
    mesh.do(OthersFound(1, ["tcp://b:1"]))
    assert [m.routers for m in sent(mesh.do(wait=1.0), C1) if isinstance(m, Heartbeat)] == [["tcp://b:1"]]
    (welcome,) = sent(mesh.hear(C2, hello_client("c2")), C2)
    assert isinstance(welcome, Welcome)
    assert welcome.routers == ["tcp://b:1"]


def test_after_a_restart_a_task_keeps_its_retries_deaths_and_time() -> None:
    mesh = restarted("a", marks=(TaskMark("a", 1, 4, 2, 1, WALL + 30, b"new"),))
    mesh.hear(W1, hello_worker())
    assert sent(mesh.do(wait=29.0), W1) == []
    [message] = sent(mesh.do(wait=1.1), W1)
    assert isinstance(message, Deliver)
    assert message.tasks == [msgspec.structs.replace(delivery("a", 5, retries=2, deaths=1), payload=b"new")]


@pytest.mark.parametrize("options", [WORK, ONCE])
def test_after_a_restart_a_task_that_started_in_time_does_not_expire_while_it_runs(options: TaskOptions) -> None:
    mesh = restarted("runs", "waits", options=options, expires_at=WALL - 30)
    assert mesh.do(wait=0.1) == []
    mesh.hear(C1, hello_client())
    mesh.hear(C1, Watch(["runs", "waits"], own=True))
    commands = mesh.hear(W1, hello_worker(held=[("runs", 1)]))
    assert [o.state for o in sent(commands, C1)[0].outcomes] == [TaskState.EXPIRED]  # type: ignore[attr-defined]
    commands = mesh.hear(W1, Settled(1, [settlement("runs")]))
    assert [o.state for o in sent(commands, C1)[0].outcomes] == [TaskState.SUCCEEDED]  # type: ignore[attr-defined]


def test_a_worker_that_claims_an_impossible_attempt_does_not_get_the_task() -> None:
    mesh = router(window=0)
    mesh.hear(C1, submit("a"))
    lie = (("a", 1 << 62),)
    assert sent(mesh.hear(W2, hello_worker("w2", window=0, held=lie)), W2)[-1] == Drop(list(lie))
    assert sent(mesh.hear(W1, Credit(1)), W1) == [Deliver({1: WORK}, [delivery("a")])]


@pytest.mark.parametrize("ttl_s", [1e12, -1e12])
def test_an_outcome_can_be_read_however_long_it_is_to_be_kept(ttl_s: float) -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", options=TaskOptions("work", result_ttl_s=ttl_s)))
    (message,) = sent(mesh.hear(W1, Settled(1, [settlement("a")])), C1)
    frames = encode(message, 1, 1)
    assert decode_from_router(frames).message == message


def test_after_a_restart_an_at_most_once_task_that_was_out_fails_unless_its_worker_has_it() -> None:
    mark = TaskMark("a", 1, 1, 0, 0, None, b"", started=True)
    mesh = restarted("a", marks=(mark,), options=ONCE)
    assert sent(mesh.hear(W1, hello_worker(held=[("a", 1)])), W1) == [WELCOME]
    mesh.hear(W1, Settled(1, [settlement("a")]))
    assert not mesh.machine.table.tasks

    mesh = restarted("a", marks=(mark,), options=ONCE)
    commands = mesh.hear(W1, hello_worker())
    [recorded] = [c for c in commands if isinstance(c, RecordOutcomes)]
    assert recorded.outcomes[0].state is TaskState.FAILED
    assert recorded.marked == ["a"]


def test_after_a_restart_an_at_most_once_task_that_asked_to_be_retried_is_retried() -> None:
    mesh = router(window=1)
    mesh.hear(C1, submit("a", options=ONCE))
    commands = mesh.hear(W1, Settled(1, [settlement("a", ending=Ending.RETRY, retry=Retrying(WALL + 30))]))
    [saved] = [c for c in commands if isinstance(c, SaveMarks)]
    mesh = restarted("a", marks=tuple(saved.marks), options=ONCE)
    assert sent(mesh.hear(W1, hello_worker()), W1) == [WELCOME]
    [message] = sent(mesh.do(wait=31.0), W1)
    assert isinstance(message, Deliver)
    assert message.tasks == [delivery("a", 2, retries=1)]


def test_after_a_restart_an_attempt_that_was_settled_is_not_counted_again() -> None:
    mesh = restarted("a", marks=(TaskMark("a", 1, 1, 0, 1, None, b""),))
    told = Settled(1, [settlement("a", ending=Ending.LOST)])
    mesh.hear(W1, hello_worker(window=0, held=[("a", 1)]))
    mesh.hear(W1, told)
    rare = mesh.machine.table.tasks["a"].rare
    assert rare is not None and rare.deaths == 1


def test_after_a_restart_a_batch_that_is_finished_is_dropped() -> None:
    mesh = Driven(quiet(), next_seq=2)
    mesh.machine.restore([(1, WALL, submit("a"), {"a"})], [], [])
    assert mesh.do() == [DropBatches([1])]


def test_a_worker_is_remembered_until_it_is_gone() -> None:
    mesh = Driven(quiet())
    commands = mesh.hear(W1, hello_worker())
    assert commands == [Send(W1, Welcome("r", "router", "0", "memory", boot=1)), SaveNode(NodeInfo("worker", "worker"))]


def test_tasks_of_more_kinds_than_are_remembered_are_all_queued_and_delivered() -> None:
    mesh = router()
    for batch in range(11):
        options = [TaskOptions("work", f"q{batch}-{i}") for i in range(1_000)]
        specs = [TaskSpec(f"{batch}-{i}", i, b"") for i in range(1_000)]
        mesh.hear(C1, Submit(batch, options, specs))
    assert sum(len(lane) for lane in mesh.machine.table.ready) == 11_000
    mesh.machine.check()


def test_a_batch_that_is_here_already_is_not_refused_for_load() -> None:
    mesh = router(Settings(heartbeat_s=1e3, queued_tasks_max=1))
    mesh.hear(C1, submit("a"))
    assert sent(mesh.hear(C1, submit("a", repeated=True))) == [Accepted([1])]


def test_a_task_whose_time_passed_while_it_ran_is_not_tried_again() -> None:
    mesh = router(window=1)
    mesh.hear(C1, Submit(1, [WORK], [TaskSpec("a", 0, b"", expires_at=WALL + 3)]))
    mesh.seconds = 5
    retry = settlement("a", ending=Ending.RETRY, retry=Retrying(WALL + 7))
    (told,) = [message for message in sent(mesh.hear(W1, Settled(1, [retry]))) if isinstance(message, Outcomes)]
    assert told.outcomes[0].state is TaskState.EXPIRED


def test_an_attempt_that_is_settled_twice_in_one_message_is_settled_by_the_first_word() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    mesh.hear(W1, hello_worker())
    mesh.hear(C1, submit("a"))
    mesh.hear(W1, Settled(1, [settlement("a", 1, Ending.LOST), settlement("a", 1)]))
    assert mesh.machine.counters["stale"] == 1
    assert list(mesh.machine.table.tasks) == ["a"]


def test_an_at_most_once_task_that_was_given_back_unstarted_is_free_again() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    mesh.hear(W1, hello_worker())
    mesh.hear(C1, submit("a", options=TaskOptions("work", at_most_once=True)))
    mesh.hear(W1, Credit(0))
    commands = mesh.hear(W1, Released([("a", 1)]))
    marks = [mark for c in commands if isinstance(c, SaveMarks) for mark in c.marks]
    assert [(mark.id, mark.started) for mark in marks] == [("a", False)]
