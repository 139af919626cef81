"""What a worker node does: these events, exactly this list of commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mesh.core.commands import (
    Command,
    DropPeer,
    Exit,
    GiveFunction,
    KillExecutor,
    PublishRefused,
    ReclaimChunk,
    ReportEnded,
    ReportForgotten,
    RunChunk,
    Send,
    SessionEnded,
    StartExecutor,
    StopExecutor,
)
from mesh.core.crew import RESTART_MAX_S, RESTART_S, STUCK_S
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorFailed,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
    PeerHeard,
    PeerLost,
    RouterForgotten,
    RouterFound,
    StopRequested,
)
from mesh.core.scheduler import SchedulerMachine
from mesh.core.worker import WorkerMachine
from mesh.entries import Entry
from mesh.messages import (
    Accepted,
    AskLease,
    Bye,
    Cancel,
    Credit,
    Declare,
    Deliver,
    Drop,
    Function,
    GetFunction,
    Heartbeat,
    Hello,
    Message,
    Outcomes,
    Recall,
    Refuse,
    Released,
    Reply,
    SayHello,
    Settled,
    SettledAck,
    Shutdown,
    Unknown,
    WorkerInfo,
)
from mesh.model import Blob, Delivery, Ending, ErrorInfo, FunctionCode, Peer, Role, Settlement, TaskOptions
from mesh.schedules import Every
from mesh.settings import Settings
from tests.core.make import MONO, WALL, WELCOME, WORK, at, delivery, got, sent, settlement

R, OTHER = Peer(b"router"), Peer(b"other")
LIMITED = TaskOptions("work", time_limit_s=2.0)
SHIPPED = TaskOptions("work", function="digest", python="3.11")
CODE = FunctionCode("digest", "3.11", b"code")


class Driven:
    """A worker machine, its clock in seconds from 0, and its invariants checked after each step."""

    def __init__(self, *, slots: int = 1, settings: Settings | None = None, **options: Any) -> None:
        settings = settings or Settings(heartbeat_s=1_000.0)
        self.machine = WorkerMachine("node", "worker", settings, slots=slots, **options)
        self.seconds = 0.0
        self.begun = self.machine.start()

    def do(self, *events: Event, wait: float = 0.0) -> list[Command]:
        self.seconds += wait
        commands = self.machine.handle(events, at(self.seconds))
        self.machine.check()
        return commands

    def hear(self, *messages: Message, wait: float = 0.0) -> list[Command]:
        return self.do(*(got(R, message) for message in messages), wait=wait)

    def settle(self, executor: int, *ids: str, runtime_s: float = 1.0, wait: float = 0.0) -> list[Command]:
        words = [settlement(i, runtime_s=runtime_s) for i in ids]
        return self.do(ExecutorSettled(executor, words), wait=wait)


def worker(slots: int = 1, **options: Any) -> Driven:
    """With its executors started and a session open."""
    driven = Driven(slots=slots, **options)
    driven.do(*(ExecutorStarted(number + 1, ("work",)) for number in range(slots)), RouterFound(R))
    driven.hear(WELCOME)
    return driven


def with_other(slots: int = 1, **options: Any) -> Driven:
    """With a second router besides."""
    mesh = worker(slots, **options)
    mesh.do(RouterFound(OTHER))
    mesh.do(got(OTHER, WELCOME))
    return mesh


def deliver(*deliveries: Delivery | str, options: TaskOptions = WORK) -> Deliver:
    return Deliver({1: options}, [delivery(one) if isinstance(one, str) else one for one in deliveries])


def run(executor: int, *deliveries: Delivery | str, options: TaskOptions = WORK) -> RunChunk:
    message = deliver(*deliveries, options=options)
    return RunChunk(executor, message.options, message.tasks)


def hello(window: int = 2, held: Sequence[tuple[str, int]] = (), slots: int = 1) -> Hello:
    info = WorkerInfo(["default"], ["work"], slots, window, list(held))
    return Hello(Role.WORKER, "node", "worker", "", "0", info)


def in_one_chunk(mesh: Driven, *ids: str) -> None:
    """Have executor 1 hold these in one chunk: tasks of a name that is known to be short."""
    mesh.hear(deliver("first"))
    mesh.settle(1, "first", runtime_s=0.0)
    assert mesh.hear(deliver(*ids)) == [run(1, *ids)]


# sessions


def test_a_node_starts_its_executors_and_says_hello_once_it_knows_its_tasks() -> None:
    mesh = Driven(slots=2)
    assert mesh.begun == [StartExecutor(1), StartExecutor(2)]
    assert mesh.do(RouterFound(R)) == []
    assert mesh.do(ExecutorStarted(1, ("work",))) == [Send(R, hello(window=3, slots=2))]


def test_a_scheduler_loads_the_app_and_runs_nothing() -> None:
    mesh = Driven(slots=0, queues=(), scheduler=SchedulerMachine(Settings()))
    assert mesh.begun == [StartExecutor(1)]
    entry = Entry("e", Every(1.0), WORK)
    mesh.do(RouterFound(R))
    info = WorkerInfo([], ["work"], 0, 0)
    loaded = mesh.do(ExecutorStarted(1, ("work",), app="app", entries=[entry]))
    assert loaded == [StopExecutor(1), Send(R, Hello(Role.WORKER, "node", "worker", "", "0", info))]
    declared = Declare("app", WALL, [entry], at=WALL)
    assert mesh.hear(WELCOME) == [Send(R, declared), Send(R, AskLease())]
    assert mesh.do(ExecutorEnded(1, "stopped")) == [ReportEnded(1, "stopped")]
    assert mesh.do(StopRequested())[0] == Send(R, Bye("stopped"))


def test_a_scheduler_whose_app_could_not_be_loaded_yet_starts_another_executor() -> None:
    mesh = Driven(slots=0, queues=(), scheduler=SchedulerMachine(Settings()))
    mesh.do(ExecutorEnded(1, "SIGKILL"))
    assert mesh.do(wait=2 * RESTART_S) == [StartExecutor(2)]


def test_an_unanswered_hello_is_said_again() -> None:
    mesh = Driven()
    mesh.do(RouterFound(R), ExecutorStarted(1, ("work",)))
    assert mesh.do(wait=0.9) == []
    assert mesh.do(wait=0.1) == [Send(R, hello())]


def test_a_hello_names_what_waits_what_runs_and_what_was_not_acknowledged() -> None:
    mesh = worker()
    mesh.hear(deliver("done"))
    mesh.settle(1, "done")
    mesh.hear(deliver("runs", delivery("waits", 4)))
    assert mesh.hear(SayHello()) == [Send(R, hello(held=[("runs", 1), ("waits", 4), ("done", 1)]))]


def test_a_hello_names_what_was_settled_in_the_same_wake_up() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    word = settlement("a", runtime_s=1.0)
    assert sent(mesh.do(ExecutorSettled(1, [word]), got(R, SayHello()))) == [hello(held=[("a", 1)])]
    assert mesh.hear(WELCOME) == [Send(R, Settled(1, [word]))]


def test_a_router_that_is_silent_is_told_of() -> None:
    mesh = worker(settings=Settings(heartbeat_s=1.0))
    assert SessionEnded(R, "a router was not heard of for 3 s", silent=True) in mesh.do(wait=3.0)


def test_a_router_that_is_heard_of_in_part_is_not_silent() -> None:
    mesh = worker(settings=Settings(heartbeat_s=1.0))
    for _ in range(5):
        assert sent(mesh.do(PeerHeard(R), wait=1.0)) == [Heartbeat(WALL + mesh.seconds)]
    assert SessionEnded(R, "a router was not heard of for 3 s", silent=True) in mesh.do(wait=3.0)
    assert mesh.do(PeerHeard(OTHER)) == [], "a stranger"


def test_what_was_not_acknowledged_is_sent_again_in_the_next_session() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    word = settlement("a", runtime_s=1.0)
    assert Send(R, Settled(1, [word])) in mesh.settle(1, "a")
    mesh.do(PeerLost(R))
    assert sent(mesh.do(wait=1.0)) == [hello(held=[("a", 1)])]
    assert mesh.hear(WELCOME) == [Send(R, Settled(1, [word]))]
    mesh.hear(SettledAck([1]))
    assert mesh.hear(SayHello()) == [Send(R, hello())]
    assert mesh.hear(WELCOME) == []


def test_what_ends_while_no_router_is_there_is_told_to_the_next() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    mesh.do(PeerLost(R))
    assert sent(mesh.settle(1, "a")) == []
    assert sent(mesh.do(wait=1.0)) == [hello(held=[("a", 1)])]
    assert sent(mesh.hear(WELCOME)) == [Settled(1, [settlement("a", runtime_s=1.0)])]


def test_a_node_says_that_it_lives_when_it_says_nothing_else() -> None:
    mesh = worker(settings=Settings(heartbeat_s=2.0))
    assert mesh.do(wait=1.8) == [Send(R, Heartbeat(WALL + 1.8, 0))]


def test_a_refusal_is_made_public() -> None:
    mesh = Driven()
    mesh.do(RouterFound(R), ExecutorStarted(1, ()))
    assert mesh.hear(Refuse("role", "no")) == [PublishRefused("role", "no")]


def test_a_node_that_owes_too_many_settlements_asks_for_no_more_work() -> None:
    mesh = worker(settings=Settings(heartbeat_s=1e3, unacked_max=1))
    mesh.hear(deliver("a", "b"))
    mesh.settle(1, "a")
    assert sent(mesh.settle(1, "b"))[-1] == Credit(0)
    assert sent(mesh.hear(SettledAck([1, 2]))) == [Credit(mesh.machine.routers[R].window)]
    assert mesh.machine.routers[R].window > 1


MIB = 1 << 20


def large(task_id: str, size: int = 60 * MIB) -> Settlement:
    return msgspec.structs.replace(settlement(task_id), payload=Blob(task_id, [size]))


def batches(commands: list[Command]) -> list[tuple[int, list[str]]]:
    return [(m.batch, [s.id for s in m.settlements]) for m in sent(commands, R) if isinstance(m, Settled)]


def settled(*settlements: Settlement) -> list[Event]:
    return [ExecutorSettled(number, [one]) for number, one in enumerate(settlements, 1)]


def test_large_results_wait_until_earlier_ones_are_acknowledged_and_small_ones_pass() -> None:
    mesh = worker(slots=5)
    mesh.hear(deliver(*"abcde"))
    told = mesh.do(*settled(large("a"), large("b"), large("c"), settlement("d")))
    assert batches(told) == [(1, ["d"]), (2, ["a"]), (3, ["b"])]
    assert batches(mesh.settle(5, "e")) == [(5, ["e"])]
    assert batches(mesh.hear(SettledAck([1, 5]))) == []
    assert mesh.machine.blobs_owed() == {"a", "b", "c"}
    assert batches(mesh.hear(SettledAck([2]))) == [(4, ["c"])]


def test_a_result_larger_than_the_window_is_sent_alone() -> None:
    mesh = worker(slots=2)
    mesh.hear(deliver(*"abc"))
    assert batches(mesh.do(*settled(large("a"), large("b", 200 * MIB)))) == [(1, ["a"])]
    assert batches(mesh.hear(SettledAck([1]))) == [(2, ["b"])]
    assert batches(mesh.do(ExecutorSettled(1, [large("c", MIB)]))) == []
    assert batches(mesh.hear(SettledAck([2]))) == [(3, ["c"])]


def test_a_new_session_has_a_window_of_its_own_for_large_results() -> None:
    mesh = worker(slots=4)
    mesh.hear(deliver(*"abcd"))
    mesh.do(*settled(large("a"), large("b"), large("c"), settlement("d")))
    mesh.do(PeerLost(R))
    mesh.do(wait=1.0)
    assert batches(mesh.hear(WELCOME)) == [(1, ["d"]), (2, ["a"]), (3, ["b"])]
    assert batches(mesh.hear(SettledAck([3]))) == [(4, ["c"])]


def test_what_one_router_is_owed_does_not_keep_another_from_giving_work() -> None:
    mesh = with_other(settings=Settings(heartbeat_s=1e3, unacked_max=1))
    mesh.hear(deliver("a", "b"))
    mesh.do(PeerLost(R))
    mesh.settle(1, "a")
    assert Send(OTHER, Credit(0)) not in mesh.settle(1, "b")
    assert mesh.machine.routers[OTHER].window > 1
    assert sent(mesh.do(wait=1.0), R) == [hello(window=0, held=[("a", 1), ("b", 1)])]


def test_a_router_that_is_gone_for_good_takes_its_work_with_it_and_it_is_said_how_much() -> None:
    mesh = with_other()
    mesh.hear(deliver("told"))
    mesh.settle(1, "told")
    mesh.hear(deliver("runs", "waits"))
    mesh.hear(deliver("asks", options=SHIPPED))
    mesh.do(PeerLost(R))
    assert mesh.do(RouterForgotten(R, "ipc://r")) == [ReportForgotten("ipc://r", 1, 2, "work[runs]")]
    assert (list(mesh.machine.routers), mesh.machine.held, mesh.machine.unacked) == ([OTHER], {}, 0)
    mesh.do(got(OTHER, deliver("next")))
    assert mesh.settle(1, "runs") == [run(1, "next")], "it is told to nobody, and its executor goes on"
    assert mesh.settle(1, "next")[0] == Send(OTHER, Settled(1, [settlement("next", runtime_s=1.0)]))


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_runs_for_nobody_may_die_or_be_taken_back_and_harms_nobody(cancelled: bool) -> None:
    mesh = with_other()
    in_one_chunk(mesh, "a", "b", "c")
    if cancelled:
        mesh.hear(Cancel(["b", "c"]))
    mesh.do(RouterForgotten(R))
    mesh.do(ExecutorReclaimed(1, ["c"]))
    commands = mesh.do(ExecutorEnded(1, "SIGSEGV"))
    assert commands == [ReportEnded(1, "SIGSEGV", "took along work[a], work[b]"), StartExecutor(2)]


def test_a_router_to_which_nothing_is_owed_is_forgotten_in_silence() -> None:
    mesh = with_other()
    assert mesh.do(PeerLost(R), RouterForgotten(R)) == []
    assert mesh.do(RouterForgotten(R), PeerLost(R), got(R, WELCOME)) == []
    assert list(mesh.machine.routers) == [OTHER]


# running


def test_a_task_of_unknown_length_goes_alone_and_the_next_when_it_is_done() -> None:
    mesh = worker()
    assert mesh.hear(deliver("a", "b")) == [run(1, "a")]
    commands = mesh.settle(1, "a")
    assert commands[0] == run(1, "b")
    assert sent(commands)[0] == Settled(1, [settlement("a", runtime_s=1.0)])


def test_short_tasks_go_in_chunks_and_are_shared_among_the_executors() -> None:
    mesh = worker(slots=2)
    mesh.hear(deliver("first"))
    mesh.settle(1, "first", runtime_s=0.0)
    ids = [f"t{i}" for i in range(10)]
    commands = mesh.hear(deliver(*ids))
    assert all(isinstance(command, RunChunk) for command in commands)
    assert sorted(task.id for command in commands for task in command.tasks) == ids
    assert {command.executor for command in commands} == {1, 2}


def test_a_wider_window_is_asked_for_when_tasks_are_short() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    assert sent(mesh.settle(1, "a", runtime_s=0.0001))[-1] == Credit(181)


@pytest.mark.parametrize(("options", "fields"), [(LIMITED, {}), (WORK, {"deaths": 1})], ids=["time limit", "death"])
def test_a_task_with_a_time_limit_or_a_death_has_an_executor_to_itself(
    options: TaskOptions, fields: dict[str, Any]
) -> None:
    mesh = worker()
    mesh.hear(deliver("first"))
    mesh.settle(1, "first", runtime_s=0.0)
    tasks = [delivery("a", **fields), delivery("b", **fields)]
    assert mesh.hear(deliver(*tasks, options=options)) == [run(1, tasks[0], options=options)]
    assert mesh.settle(1, "a", runtime_s=0.0)[0] == run(1, tasks[1], options=options)


def test_a_task_whose_time_to_start_has_passed_is_not_run() -> None:
    mesh = worker()
    [message] = sent(mesh.hear(deliver(delivery("late", expires_at=WALL)), wait=1.0))
    assert message == Settled(1, [settlement("late", ending=Ending.EXPIRED)])


def test_an_executor_is_replaced_after_its_share_of_tasks() -> None:
    mesh = worker(max_tasks=2)
    mesh.hear(deliver("a"))
    mesh.settle(1, "a")
    assert mesh.hear(deliver("b", "c")) == [run(1, "b"), StopExecutor(1), StartExecutor(2)]
    assert mesh.settle(1, "b")[0] != run(1, "c")
    assert mesh.do(ExecutorEnded(1, "exit code 0")) == [ReportEnded(1, "exit code 0")]
    assert mesh.do(ExecutorStarted(2)) == [run(2, "c")]


def test_what_an_executor_gave_back_is_no_part_of_its_share() -> None:
    mesh = worker(max_tasks=4)
    mesh.hear(deliver("a"))
    mesh.settle(1, "a", runtime_s=1e-5)
    assert mesh.hear(deliver("b", "c")) == [run(1, "b", "c")]
    mesh.do(wait=STUCK_S)
    mesh.do(ExecutorReclaimed(1, ["c"]))
    assert mesh.settle(1, "b", runtime_s=1e-5)[:1] == [run(1, "c")]
    assert StopExecutor(1) not in mesh.settle(1, "c", runtime_s=1e-5)
    assert StopExecutor(1) in mesh.hear(deliver("d"))


# shipped functions


def test_a_shipped_function_is_asked_for_once_and_given_to_an_executor_once() -> None:
    mesh = worker()
    assert mesh.hear(deliver("a", "b", options=SHIPPED)) == [Send(R, GetFunction("digest"))]
    commands = mesh.hear(Function("digest", CODE))
    assert commands == [GiveFunction(1, CODE), run(1, "a", options=SHIPPED)]
    assert mesh.settle(1, "a")[0] == run(1, "b", options=SHIPPED)


def test_a_function_nobody_has_fails_the_tasks_that_need_it() -> None:
    mesh = worker()
    mesh.hear(deliver("a", options=SHIPPED))
    [message] = sent(mesh.hear(Function("digest")))
    assert isinstance(message, Settled)
    [word] = message.settlements
    assert word.ending is Ending.FAILED
    assert word.error is not None and word.error.type == "mesh.errors.NotRegistered"


def test_a_function_that_was_asked_for_in_a_lost_session_is_asked_for_again() -> None:
    mesh = worker()
    mesh.hear(deliver("a", options=SHIPPED))
    mesh.hear(SayHello())
    assert mesh.hear(WELCOME) == [Send(R, GetFunction("digest"))]


def test_each_router_is_asked_for_the_function_that_its_own_tasks_need() -> None:
    mesh = with_other()
    mesh.hear(deliver("a", options=SHIPPED))
    assert mesh.do(got(OTHER, deliver("b", options=SHIPPED))) == [Send(OTHER, GetFunction("digest"))]
    [message] = sent(mesh.hear(Function("digest")))
    assert isinstance(message, Settled)
    assert [word.id for word in message.settlements] == ["a"]
    assert mesh.do(got(OTHER, Function("digest", CODE))) == [GiveFunction(1, CODE), run(1, "b", options=SHIPPED)]


def test_a_function_that_one_router_gave_is_not_waited_for_from_another() -> None:
    mesh = with_other(slots=2)
    mesh.hear(deliver("a", options=SHIPPED))
    mesh.do(got(OTHER, deliver("b", options=SHIPPED)), PeerLost(R))
    commands = mesh.do(got(OTHER, Function("digest", CODE)))
    assert [c.tasks[0].id for c in commands if isinstance(c, RunChunk)] == ["a", "b"]
    mesh.hear(WELCOME, Function("digest", CODE))
    assert not mesh.machine.held.keys() - {"a", "b"}


# giving back


def test_a_recall_gives_back_the_newest_of_what_waits() -> None:
    mesh = worker()
    mesh.hear(deliver("runs", "a", "b", "c"))
    assert mesh.hear(Recall(2)) == [Send(R, Released([("c", 1), ("b", 1)], recall=True))]
    assert mesh.settle(1, "runs")[0] == run(1, "a")


def test_a_recall_is_answered_also_when_there_is_nothing_to_give() -> None:
    mesh = worker()
    mesh.hear(deliver("runs"))
    assert mesh.hear(Recall(2)) == [Send(R, Released([], recall=True))]


def test_what_waits_behind_a_long_task_is_taken_back_from_its_executor_and_nothing_is_put_there_again() -> None:
    mesh = worker()
    in_one_chunk(mesh, "long", "a", "b")
    assert mesh.machine.next_deadline() == pytest.approx(MONO + STUCK_S)
    assert mesh.do(wait=STUCK_S) == [ReclaimChunk(1)]
    assert mesh.do(ExecutorReclaimed(1, ["a", "b"]), wait=0.001) == []
    assert mesh.hear(deliver("c")) == []
    assert mesh.settle(1, "long", runtime_s=0.011)[0] == run(1, "a")


def test_what_was_taken_back_goes_to_an_idle_executor() -> None:
    mesh = worker(slots=2)
    mesh.hear(deliver("first"))
    mesh.settle(1, "first", runtime_s=0.0)
    mesh.hear(deliver("a", "b", "c", "d"))
    has = {number: list(executor.chunk) for number, executor in mesh.machine.executors.items()}
    assert sorted(map(len, has.values())) == [2, 2]
    mesh.settle(2, *has[2])
    assert mesh.do(wait=STUCK_S) == [ReclaimChunk(1)]
    assert mesh.do(ExecutorReclaimed(1, has[1][1:])) == [run(2, has[1][1])]


def test_a_dropped_delivery_is_not_started() -> None:
    mesh = worker()
    mesh.hear(deliver("runs", "a", "b"))
    mesh.hear(Drop([("a", 1), ("b", 2)]))
    assert mesh.settle(1, "runs")[0] == run(1, "b")


def test_a_later_attempt_waits_for_an_earlier_one_that_runs_here_though_it_was_given_up() -> None:
    mesh = worker()
    in_one_chunk(mesh, "a")
    mesh.hear(Drop([("a", 1)]))
    assert mesh.hear(deliver(delivery("a", 2), "b")) == []
    assert mesh.settle(1, "a")[0] == run(1, delivery("a", 2))


# cancelling


def test_a_cancelled_task_that_waits_is_settled_so() -> None:
    mesh = worker()
    mesh.hear(deliver("runs", "a"))
    assert mesh.hear(Cancel(["a", "gone"])) == [Send(R, Settled(1, [settlement("a", ending=Ending.CANCELLED)]))]


def test_a_cancelled_task_that_runs_goes_on_unless_it_is_to_be_terminated() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    assert mesh.hear(Cancel(["a"])) == []
    assert mesh.hear(Cancel(["a"], terminate=True, signal="SIGTERM")) == [KillExecutor(1, "SIGTERM")]
    commands = mesh.do(ExecutorEnded(1, "SIGTERM"), wait=0.5)
    assert commands[:2] == [ReportEnded(1, "SIGTERM", "killed for work[a], cancelled"), StartExecutor(2)]
    [message] = sent(commands)
    assert isinstance(message, Settled)
    assert [word.ending for word in message.settlements] == [Ending.CANCELLED]


def test_a_task_cancelled_inside_a_chunk_is_taken_back_first_and_its_neighbours_live() -> None:
    mesh = worker()
    in_one_chunk(mesh, "a", "b", "c")
    assert mesh.hear(Cancel(["b"], terminate=True)) == [ReclaimChunk(1)]
    commands = mesh.do(ExecutorReclaimed(1, ["b", "c"]))
    assert sent(commands)[0] == Settled(2, [settlement("b", ending=Ending.CANCELLED)])
    assert not any(isinstance(command, KillExecutor) for command in commands)
    assert [h.delivery.id for h in mesh.machine.held.values()] == ["a", "c"]


def test_a_cancel_ends_the_attempt_that_waits_and_the_one_given_up_that_still_runs() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    mesh.hear(Drop([("a", 1)]), deliver(delivery("a", 2)))
    commands = mesh.hear(Cancel(["a"], terminate=True))
    assert commands[0] == KillExecutor(1)
    assert sent(commands) == [Settled(1, [settlement("a", 2, Ending.CANCELLED)])]
    [message] = sent(mesh.do(ExecutorEnded(1, "SIGKILL")))
    assert isinstance(message, Settled)
    assert [(word.attempt, word.ending) for word in message.settlements] == [(1, Ending.CANCELLED)]
    assert mesh.do(ExecutorStarted(2)) == []


def test_a_cancel_reaches_both_attempts_where_both_run() -> None:
    mesh = worker(slots=2)
    mesh.hear(deliver("a"))
    assert mesh.hear(Drop([("a", 1)]), deliver(delivery("a", 2))) == [run(2, delivery("a", 2))]
    assert mesh.hear(Cancel(["a"], terminate=True)) == [KillExecutor(1), KillExecutor(2)]


# death


def test_a_task_over_its_time_limit_is_killed_and_failed() -> None:
    mesh = worker()
    mesh.hear(deliver("a", options=LIMITED))
    assert mesh.do(wait=1.9) == []
    assert mesh.do(wait=0.1) == [KillExecutor(1)]
    commands = mesh.do(ExecutorEnded(1, "SIGKILL"))
    assert commands[0] == ReportEnded(1, "SIGKILL", "killed for work[a], over its time limit of 2 s")
    [message] = sent(commands)
    assert isinstance(message, Settled)
    [word] = message.settlements
    assert word.ending is Ending.FAILED
    assert word.error == ErrorInfo("mesh.errors.TimeLimitExceeded", "it ran over its time limit of 2 s and was killed")


def test_the_nodes_time_limit_is_for_tasks_without_their_own() -> None:
    mesh = worker(time_limit_s=1.0)
    mesh.hear(deliver("a"))
    assert mesh.do(wait=1.0) == [KillExecutor(1)]


@pytest.mark.parametrize(
    ("called", "node", "limit"),
    [(WORK, None, 3.0), (WORK, 1.0, 3.0), (LIMITED, 1.0, 2.0), (TaskOptions("x"), 1.0, 1.0)],
)
def test_the_time_limit_of_a_call_counts_before_the_tasks_own_and_that_before_the_nodes(
    called: TaskOptions, node: float | None, limit: float
) -> None:
    mesh = Driven(time_limit_s=node)
    mesh.do(ExecutorStarted(1, ("work", "x"), {"work": 3.0}), RouterFound(R))
    mesh.hear(WELCOME)
    [chunk] = mesh.hear(deliver("a", options=called))
    assert isinstance(chunk, RunChunk)
    assert chunk.options == {1: msgspec.structs.replace(called, time_limit_s=limit)}
    assert mesh.do(wait=limit) == [KillExecutor(1)]


def test_a_node_tells_which_of_its_tasks_are_at_most_once() -> None:
    mesh = Driven()
    mesh.do(RouterFound(R))
    [message] = sent(mesh.do(ExecutorStarted(1, ("once", "work"), {}, ("once",))))
    assert isinstance(message, Hello) and message.worker is not None
    assert message.worker.at_most_once == ["once"]
    mesh.hear(WELCOME)
    [chunk] = mesh.hear(deliver("a", options=TaskOptions("once")))
    assert isinstance(chunk, RunChunk)
    assert chunk.options[1].at_most_once


def test_all_that_an_executor_had_is_told_lost_with_the_cause_when_it_dies() -> None:
    mesh = worker()
    in_one_chunk(mesh, "a", "b")
    commands = mesh.do(ExecutorEnded(1, "SIGSEGV"))
    assert commands[:2] == [ReportEnded(1, "SIGSEGV", "took along work[a], work[b]"), StartExecutor(2)]
    lost = ErrorInfo("WorkerLost", "executor of worker: SIGSEGV")
    assert sent(commands)[0] == Settled(2, [settlement(i, ending=Ending.LOST, error=lost) for i in ("a", "b")])


def test_a_task_that_may_run_once_only_is_lost_with_an_executor_that_was_killed_for_another() -> None:
    mesh = worker()
    mesh.hear(deliver("short"))
    mesh.settle(1, "short", runtime_s=0.0)
    mesh.hear(deliver("first", "killed", "given back", options=TaskOptions("work", at_most_once=True)))
    mesh.hear(Cancel(["killed"], terminate=True))
    assert KillExecutor(1) in mesh.do(ExecutorReclaimed(1, ["given back"]))
    commands = mesh.do(ExecutorEnded(1, "SIGKILL"))
    assert commands[0] == ReportEnded(1, "SIGKILL", "killed for work[killed], cancelled; took along work[first]")
    [message, *_] = sent(commands)
    assert isinstance(message, Settled)
    assert [(word.id, word.ending) for word in message.settlements] == [
        ("first", Ending.LOST),
        ("killed", Ending.CANCELLED),
    ]
    assert sorted(mesh.machine.held) == ["given back"]


def test_the_last_words_of_an_executor_count() -> None:
    mesh = worker()
    mesh.hear(deliver("a"))
    words = ExecutorSettled(1, [settlement("a")])
    commands = mesh.do(words, ExecutorEnded(1, "SIGKILL"))
    assert commands[0] == ReportEnded(1, "SIGKILL"), "it took nothing along"
    assert sent(commands)[0] == Settled(1, [settlement("a")])


def test_an_executor_killed_for_a_task_that_ended_meanwhile_is_told_so_all_the_same() -> None:
    mesh = worker()
    mesh.hear(deliver("a", options=LIMITED))
    mesh.do(wait=2.0)
    commands = mesh.do(ExecutorSettled(1, [settlement("a")]), ExecutorEnded(1, "SIGKILL"))
    assert commands[0] == ReportEnded(1, "SIGKILL", "killed for work[a], over its time limit of 2 s")


def test_what_is_told_of_an_ended_executor_is_bounded() -> None:
    mesh = worker()
    mesh.hear(deliver("first"))
    mesh.settle(1, "first", runtime_s=0.0)
    long = TaskOptions("w" * 100_000)
    mesh.hear(deliver("second", options=long))
    mesh.settle(1, "second", runtime_s=0.0)
    mesh.hear(deliver(*(f"{i}".zfill(255) for i in range(100)), options=long))
    report = mesh.do(ExecutorEnded(1, "SIGSEGV"))[0]
    assert isinstance(report, ReportEnded)
    assert report.details.endswith(" and 97 more")
    assert len(report.details) < 2_000


def test_an_executor_that_dies_while_starting_is_started_anew_after_longer_and_longer_pauses() -> None:
    mesh = Driven()
    pause = "it did nothing, so another is started in 0.4 s only"
    assert mesh.do(ExecutorEnded(1, "exit code 1")) == [ReportEnded(1, "exit code 1", pause)]
    assert mesh.do(wait=RESTART_S) == []
    assert mesh.do(wait=RESTART_S) == [StartExecutor(2)]
    mesh.do(ExecutorEnded(2, "exit code 1"))
    assert mesh.do(wait=3 * RESTART_S) == []
    assert mesh.do(wait=RESTART_S) == [StartExecutor(3)]


def pauses(mesh: Driven, first: int, count: int) -> list[float]:
    """How long it takes until another is started, each time that one ends as soon as it is ready."""
    passed = []
    for number in range(first, first + count):
        mesh.do(ExecutorStarted(number, ("work",)))
        commands, start = mesh.do(ExecutorEnded(number, "exit code 1")), mesh.seconds
        while StartExecutor(number + 1) not in commands:
            deadline = mesh.machine.next_deadline()
            assert deadline is not None
            commands = mesh.do(wait=deadline - MONO - mesh.seconds)
        passed.append(round(mesh.seconds - start, 6))
    return passed


def test_an_executor_that_dies_as_soon_as_it_is_ready_is_started_anew_after_longer_and_longer_pauses() -> None:
    mesh = Driven()
    assert pauses(mesh, 1, 4) == [2 * RESTART_S, 4 * RESTART_S, 8 * RESTART_S, 16 * RESTART_S]
    assert pauses(mesh, 5, 40)[-1] == RESTART_MAX_S


def test_an_executor_that_finished_a_task_ends_the_pauses() -> None:
    mesh = worker()
    pauses(mesh, 1, 4)
    mesh.do(ExecutorStarted(5, ("work",)))
    mesh.hear(deliver("a"))
    mesh.settle(5, "a")
    assert mesh.do(ExecutorEnded(5, "exit code 1"))[:2] == [ReportEnded(5, "exit code 1"), StartExecutor(6)]
    assert pauses(mesh, 6, 2) == [2 * RESTART_S, 4 * RESTART_S]


def test_an_executor_that_takes_a_task_along_is_replaced_at_once() -> None:
    mesh = worker()
    for number in (1, 2, 3):
        mesh.hear(deliver(f"t{number}"))
        assert mesh.do(ExecutorEnded(number, "SIGSEGV"))[1] == StartExecutor(number + 1)
        mesh.do(ExecutorStarted(number + 1, ("work",)))


def test_executors_that_die_together_count_once() -> None:
    mesh = Driven(slots=3)
    mesh.do(*(ExecutorStarted(number, ("work",)) for number in (1, 2, 3)))
    mesh.do(*(ExecutorEnded(number, "SIGKILL") for number in (1, 2, 3)))
    assert mesh.do(wait=2 * RESTART_S) == [StartExecutor(4), StartExecutor(5), StartExecutor(6)]


def test_a_node_whose_app_cannot_be_loaded_leaves_and_says_why() -> None:
    mesh = Driven()
    assert mesh.do(ExecutorFailed(1, "No module named 'tasks'")) == [Exit(1, "No module named 'tasks'")]


# leaving


@pytest.mark.parametrize("stop", [StopRequested(), got(R, Shutdown())])
def test_a_node_that_stops_gives_back_what_has_not_started_and_waits_for_what_runs(stop: Event) -> None:
    mesh = worker()
    mesh.hear(deliver("runs", "waits"))
    assert mesh.do(stop) == [Send(R, Released([("waits", 1)])), Send(R, Credit(0))]
    commands = mesh.settle(1, "runs")
    assert sent(commands) == [Settled(1, [settlement("runs", runtime_s=1.0)])]
    assert mesh.hear(SettledAck([1])) == [
        KillExecutor(1),
        Send(R, Bye("stopped")),
        DropPeer(R),
        Exit(0, "stopped"),
    ]


def test_a_drain_does_not_last_longer_than_its_setting() -> None:
    mesh = worker(settings=Settings(heartbeat_s=1e3, drain_s=30.0))
    mesh.hear(deliver("runs"))
    mesh.do(StopRequested())
    assert mesh.do(wait=29.9) == []
    assert mesh.do(wait=0.1)[-1] == Exit(0, "stopped with 1 running (work[runs]) and 0 unacknowledged")


def test_a_node_that_stops_waits_for_a_router_that_may_be_back_at_once_and_for_none_that_is_gone() -> None:
    mesh = with_other(settings=Settings(heartbeat_s=2.0, liveness=3))
    mesh.hear(deliver("a"))
    mesh.do(PeerLost(R))
    mesh.settle(1, "a")
    for _ in range(5):
        assert not any(isinstance(command, Exit) for command in mesh.do(StopRequested()))
        mesh.do(got(OTHER, Heartbeat()), wait=1.0)
    assert mesh.do(wait=1.0)[-1] == Exit(0, "stopped with 0 running and 1 unacknowledged")


def test_a_node_that_stops_hands_over_to_a_router_that_is_back() -> None:
    mesh = worker(settings=Settings(heartbeat_s=2.0, liveness=3))
    mesh.hear(deliver("a"))
    mesh.settle(1, "a")
    mesh.do(PeerLost(R))
    mesh.do(StopRequested(), wait=2.0)
    mesh.do(RouterFound(R))
    assert sent(mesh.hear(WELCOME)) == [Settled(1, [settlement("a", runtime_s=1.0)])]
    assert mesh.hear(SettledAck([1]))[-1] == Exit(0, "stopped")


def test_a_second_request_does_not_wait() -> None:
    mesh = worker()
    mesh.hear(deliver("runs"))
    mesh.do(StopRequested())
    assert mesh.do(StopRequested(at_once=True))[-1] == Exit(
        0, "stopped with 1 running (work[runs]) and 0 unacknowledged"
    )


# large payloads


def test_a_node_knows_which_large_payloads_it_still_needs() -> None:
    mesh = worker()
    argument, result = Blob("argument", [100_000]), Blob("result", [100_000])
    mesh.hear(deliver(Delivery("a", 1, 1, argument)))
    assert mesh.machine.blobs_held() == {"argument"}
    mesh.do(ExecutorSettled(1, [settlement("a", payload=result)]))
    assert mesh.machine.blobs_held() == set()
    assert mesh.machine.blobs_owed() == {"result"}
    mesh.hear(SettledAck([1]))
    assert mesh.machine.blobs_owed() == set()


def test_a_hello_leaves_out_what_waits_where_the_ids_do_not_fit_and_more_is_not_asked_for() -> None:
    ids = [f"{i:04d}" + "錯" * 250 for i in range(3_000)]
    mesh = worker()
    mesh.hear(deliver(*ids))
    [*_, hello_again] = sent(mesh.hear(SayHello()))
    assert isinstance(hello_again, Hello) and hello_again.worker is not None
    claimed = hello_again.worker.held
    assert claimed[0] == (ids[0], 1), "what runs is claimed first"
    assert 1 << 20 < sum(len(task_id.encode()) for task_id, _ in claimed) < 7 << 18
    assert mesh.machine.held.keys() == {task_id for task_id, _ in claimed}, "what is left out is not run here"


def test_many_long_ids_are_given_back_in_several_messages() -> None:
    ids = [f"{i:04d}" + "錯" * 250 for i in range(3_000)]
    mesh = worker()
    mesh.hear(deliver(*ids))
    parts = [message for message in sent(mesh.hear(Recall(3_000))) if isinstance(message, Released)]
    assert [task_id for part in parts for task_id, _ in part.attempts] == ids[:0:-1]
    assert len(parts) > 1 and all(part.recall and len(part.attempts) < 1_100 for part in parts)


def test_a_number_that_a_new_router_gave_to_other_options_is_not_taken_for_the_old_ones() -> None:
    mesh = worker()
    mesh.hear(deliver("old"))
    other = TaskOptions("other")
    mesh.hear(Deliver({1: WORK}, [delivery("held")]))
    mesh.hear(Deliver({1: other}, [delivery("new")]))
    first = mesh.settle(1, "old")[0]
    assert first == run(1, "held")
    assert run(1, "new", options=other) in mesh.settle(1, "held")


def test_a_module_that_cannot_be_imported_any_more_is_tried_again() -> None:
    mesh = worker(slots=2)
    mesh.do(ExecutorEnded(1, "SIGKILL"))
    mesh.do(wait=RESTART_S * 2)
    commands = mesh.do(ExecutorFailed(3, "tasks.py: a syntax error"))
    assert not [c for c in commands if isinstance(c, Exit)]
    assert StartExecutor(4) in mesh.do(wait=RESTART_S * 4)


def test_what_a_router_says_to_clients_means_nothing_to_a_worker() -> None:
    mesh = worker()
    for message in (Accepted([1]), Outcomes([]), Reply(1, b"{}"), Unknown(["a"])):
        assert mesh.hear(message) == []


# tasks that two routers deliver


def told(commands: list[Command], peer: Peer) -> list[tuple[str, int, Ending]]:
    """What a router was told of attempts that ended."""
    return [
        (one.id, one.attempt, one.ending)
        for message in sent(commands, peer)
        if isinstance(message, Settled)
        for one in message.settlements
    ]


def test_a_task_that_two_routers_deliver_runs_once_and_both_are_told() -> None:
    mesh = with_other()
    assert mesh.hear(deliver("a")) == [run(1, "a")]
    assert mesh.do(got(OTHER, deliver(delivery("a", attempt=4)))) == []
    commands = mesh.settle(1, "a")
    assert told(commands, R) == [("a", 1, Ending.SUCCEEDED)]
    assert told(commands, OTHER) == [("a", 4, Ending.SUCCEEDED)]
    assert not [command for command in mesh.do(wait=1.0) if isinstance(command, RunChunk)]


def test_what_has_finished_is_answered_to_another_router_and_run_again_for_its_own() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    mesh.settle(1, "a")
    assert told(mesh.do(got(OTHER, deliver(delivery("a", attempt=2)))), OTHER) == [("a", 2, Ending.SUCCEEDED)]
    again = deliver(delivery("a", attempt=2))
    assert mesh.hear(again) == [RunChunk(1, again.options, again.tasks)]


def test_no_more_results_are_remembered_than_the_settings_say() -> None:
    mesh = with_other(settings=Settings(heartbeat_s=1_000.0, finished_max=1))
    for task_id in ("a", "b"):
        mesh.hear(deliver(task_id))
        mesh.settle(1, task_id)
    assert told(mesh.do(got(OTHER, deliver("b"))), OTHER)
    assert mesh.do(got(OTHER, deliver("a"))) == [run(1, "a")]


def test_what_one_router_takes_back_is_run_for_the_other() -> None:
    mesh = with_other()
    mesh.hear(deliver("first", "a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3))))
    assert sent(mesh.hear(Drop([("a", 1)]))) == []
    commands = mesh.settle(1, "first")
    assert [[one.attempt for one in c.tasks] for c in commands if isinstance(c, RunChunk)] == [[3]]


def test_a_hello_claims_what_waits_for_another_routers_delivery() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3))))
    (again,) = [m for m in sent(mesh.do(got(OTHER, SayHello())), OTHER) if isinstance(m, Hello)]
    assert again.worker is not None and again.worker.held == [("a", 3)]


def test_the_large_payload_of_what_waits_for_another_routers_delivery_is_kept() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    mesh.do(got(OTHER, deliver(msgspec.structs.replace(delivery("a", attempt=3), payload=Blob("key", [4])))))
    assert mesh.machine.blobs_held() == {"key"}, "it may be run yet"


def test_what_ends_as_a_router_is_greeted_is_told_to_the_other_too() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=4))))
    commands = mesh.do(ExecutorSettled(1, [settlement("a")]), got(R, SayHello()))
    assert [type(message) for message in sent(commands, R)] == [Hello]
    assert told(commands, OTHER) == [("a", 4, Ending.SUCCEEDED)]


def test_a_router_that_is_forgotten_takes_along_what_it_delivered_only() -> None:
    mesh = with_other()
    mesh.hear(deliver("first", "a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3))))
    mesh.do(RouterForgotten(R))
    commands = mesh.settle(1, "first")
    assert [[one.attempt for one in c.tasks] for c in commands if isinstance(c, RunChunk)] == [[3]]


def test_what_runs_for_a_router_that_is_forgotten_is_not_run_a_second_time_for_the_other() -> None:
    mesh = with_other(slots=2)
    assert mesh.hear(deliver("a")) == [run(1, "a")]
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3))))
    assert not [c for c in mesh.do(RouterForgotten(R)) if isinstance(c, RunChunk)]
    assert told(mesh.settle(1, "a"), OTHER) == [("a", 3, Ending.SUCCEEDED)]


def test_what_still_runs_for_a_router_that_is_forgotten_is_not_run_beside_it_for_one_that_delivers_it_then() -> None:
    mesh = with_other(slots=2)
    mesh.hear(deliver("a"))
    mesh.do(RouterForgotten(R))
    assert mesh.do(got(OTHER, deliver(delivery("a", attempt=3)))) == []
    assert told(mesh.settle(1, "a"), OTHER) == [("a", 3, Ending.SUCCEEDED)]
    assert [type(c) for c in mesh.do(got(OTHER, deliver("b"))) if isinstance(c, RunChunk)] == [RunChunk]


def test_what_ended_for_a_router_that_is_forgotten_is_answered_to_the_other() -> None:
    mesh = with_other()
    mesh.hear(deliver("a"))
    mesh.do(RouterForgotten(R))
    mesh.settle(1, "a")
    mesh.do(RouterFound(R))
    assert told(mesh.do(got(OTHER, deliver("a"))), OTHER) == [("a", 1, Ending.SUCCEEDED)]


def test_a_worker_that_stops_does_not_leave_before_what_two_routers_delivered_has_ended_for_both() -> None:
    mesh = with_other(slots=2)
    mesh.hear(deliver("a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3))))
    mesh.do(StopRequested())
    mesh.do(RouterForgotten(R))
    commands = mesh.settle(1, "a")
    assert told(commands, OTHER) == [("a", 3, Ending.SUCCEEDED)]
    assert not [command for command in commands if isinstance(command, Exit)]
    assert mesh.do(got(OTHER, SettledAck([1])))[-1] == Exit(0, "stopped")


def stranded_by_a_drop(mesh: Driven) -> None:
    """Executor 1 has ``long`` and, behind it, ``t``, which the first router gives up and the other waits for."""
    in_one_chunk(mesh, "long", "t")
    mesh.do(got(OTHER, deliver(delivery("t", attempt=3))))
    mesh.hear(Drop([("t", 1)]))


def test_a_task_whose_first_delivery_is_given_up_in_an_executor_that_gives_it_back_is_run_for_the_other() -> None:
    mesh = with_other()
    stranded_by_a_drop(mesh)
    assert ReclaimChunk(1) in mesh.do(wait=STUCK_S)
    mesh.do(ExecutorReclaimed(1, ["t"]))
    assert run(1, delivery("t", attempt=3)) in mesh.settle(1, "long")
    commands = mesh.do(ExecutorSettled(1, [settlement("t", attempt=3)]))
    assert told(commands, OTHER) == [("t", 3, Ending.SUCCEEDED)]


def test_a_task_whose_first_delivery_is_given_up_in_an_executor_that_is_killed_is_run_for_the_other() -> None:
    mesh = with_other()
    stranded_by_a_drop(mesh)
    mesh.do(wait=STUCK_S)
    mesh.hear(Cancel(["long"], terminate=True))
    mesh.do(ExecutorReclaimed(1, []))
    mesh.do(ExecutorEnded(1, "SIGKILL"))
    assert run(2, delivery("t", attempt=3)) in mesh.do(ExecutorStarted(2, ("work",)))


def test_a_task_that_its_first_router_drops_and_the_other_delivers_anew_at_once_is_run_for_the_other() -> None:
    mesh = with_other()
    mesh.hear(deliver("busy", "a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3))))
    mesh.do(got(R, Drop([("a", 1)])), got(OTHER, deliver(delivery("a", attempt=4))))
    assert run(1, delivery("a", attempt=4)) in mesh.settle(1, "busy")


def test_a_worker_that_leaves_gives_each_router_back_what_it_has_not_begun() -> None:
    mesh = with_other()
    mesh.hear(deliver("busy", "a"))
    mesh.do(got(OTHER, deliver(delivery("a", attempt=3), delivery("busy", attempt=3))))
    commands = mesh.do(StopRequested())
    assert sent(commands, R) == [Released([("a", 1)]), Credit(0)]
    assert sent(commands, OTHER) == [Released([("a", 3)]), Credit(0)]


def test_what_does_not_fit_into_a_hello_is_run_for_the_other_router_that_delivered_it() -> None:
    mesh = with_other()
    ids = [f"{i:01000}" for i in range(2_000)]
    mesh.hear(deliver(*ids))
    mesh.do(got(OTHER, deliver(delivery(ids[-1], attempt=3))))
    (again,) = [m for m in sent(mesh.hear(SayHello()), R) if isinstance(m, Hello)]
    assert again.worker is not None and (ids[-1], 1) not in again.worker.held
    assert mesh.machine.held[ids[-1]].router == OTHER
