"""A worker node between two routers, which deliver the same tasks, and executors that do anything at any time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.clock import Now
from mesh.core.commands import Exit, KillExecutor, ReclaimChunk, RunChunk, Send, StartExecutor, StopExecutor
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
    PeerLost,
    RouterForgotten,
    RouterFound,
    StopRequested,
)
from mesh.core.worker import WorkerMachine
from mesh.messages import (
    Cancel,
    Deliver,
    Drop,
    Function,
    GetFunction,
    Hello,
    Message,
    Recall,
    Released,
    SayHello,
    Settled,
    SettledAck,
)
from mesh.model import Delivery, Ending, FunctionCode, Peer, Settlement, TaskOptions
from mesh.settings import Settings
from tests.core.make import MONO, WALL, WELCOME, got

ROUTERS = [Peer(b"router"), Peer(b"other")]
SETTINGS = Settings(unacked_max=20)
KINDS = {
    1: TaskOptions("work"),
    2: TaskOptions("limited", time_limit_s=1.0),
    3: TaskOptions("shipped", function="digest", python="3.11"),
}
options = st.sampled_from([1, 1, 2, 3])
endings = st.sampled_from([Ending.SUCCEEDED, Ending.FAILED, Ending.RETRY])
runtimes = st.sampled_from([0.0, 0.001, 1.0])
routers = st.sampled_from(ROUTERS)
ids = st.integers(0, 12).map("t{}".format)


class WorkerRules(RuleBasedStateMachine):
    """Each attempt is settled once, or given back and never run, or still held."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.inside: dict[int, list[Delivery]] = {}  # what each executor has, the first of them running
        self.starting: list[int] = []
        self.reclaims: list[int] = []
        self.ending: dict[int, str] = {}
        self.open: set[Peer] = set()
        self.asked: set[Peer] = set()
        self.exited = False
        self.attempts: dict[str, int] = {}  # of both routers: no two deliveries have the same
        self.delivered: dict[tuple[str, int], Peer] = {}
        self.released: set[tuple[str, int]] = set()
        self.settled: dict[tuple[str, int], int] = {}  # the batch it was settled in
        self.unacked: dict[Peer, set[int]] = {router: set() for router in ROUTERS}

    @initialize(slots=st.integers(1, 3), max_tasks=st.none() | st.integers(1, 5))
    def begin(self, slots: int, max_tasks: int | None) -> None:
        self.machine = WorkerMachine("n", "worker", SETTINGS, slots=slots, max_tasks=max_tasks)
        for command in self.machine.start():
            self.obey(command)
        self.happen(*map(RouterFound, ROUTERS), *(ExecutorStarted(number, ("work",)) for number in self.starting))
        self.starting.clear()
        for router in ROUTERS:
            self.router_welcomes(router)

    # the world around the machine

    def now(self) -> Now:
        return Now(WALL + self.seconds, MONO + self.seconds)

    def happen(self, *events: Event) -> None:
        self.seconds += 0.0005
        if not self.exited:
            for command in self.machine.handle(events, self.now()):
                self.obey(command)

    def hear(self, router: Peer, *messages: Message) -> None:
        self.happen(*(got(router, message) for message in messages))

    def obey(self, command: object) -> None:
        if isinstance(command, Send):
            self.on_sent(command.peer, command.message)
        elif isinstance(command, StartExecutor):
            self.inside[command.executor] = []
            self.starting.append(command.executor)
        elif isinstance(command, RunChunk):
            self.on_chunk(command)
        elif isinstance(command, ReclaimChunk):
            self.reclaims.append(command.executor)
        elif isinstance(command, (KillExecutor, StopExecutor)):
            self.ending[command.executor] = getattr(command, "signal", "exit code 0")
        elif isinstance(command, Exit):
            self.exited = True

    def on_chunk(self, command: RunChunk) -> None:
        inside = self.inside[command.executor]
        assert command.executor not in self.starting, "a chunk for an executor that is not up"
        for delivery in command.tasks:
            assert (delivery.id, delivery.attempt) not in self.released, "run after it was given back"
            alone = command.options[delivery.option].time_limit_s is not None or delivery.deaths
            assert not alone or (len(command.tasks) == 1 and not inside), "not alone"
        inside += command.tasks

    def on_sent(self, router: Peer, message: Message) -> None:
        if isinstance(message, Hello):
            self.open.discard(router)
        elif isinstance(message, Settled):
            self.unacked[router].add(message.batch)
            for word in message.settlements:
                key = (word.id, word.attempt)
                assert self.delivered.get(key) == router, "a word on what this router never delivered"
                assert key not in self.released, "settled after it was given back"
                assert self.settled.setdefault(key, message.batch) == message.batch, "settled twice"
        elif isinstance(message, Released):
            for key in message.attempts:
                assert self.delivered.get(key) == router and key not in self.settled and key not in self.released
                assert not any((d.id, d.attempt) == key for inside in self.inside.values() for d in inside)
                self.released.add(key)
        elif isinstance(message, GetFunction):
            self.asked.add(router)

    # the routers

    @rule(router=routers)
    def router_welcomes(self, router: Peer) -> None:
        if router not in self.open:
            self.seconds += 1.0
            self.happen()
            self.open.add(router)
            self.hear(router, WELCOME)

    @rule(
        router=routers,
        wanted=st.lists(ids, min_size=1, max_size=6, unique=True),
        option=options,
        late=st.booleans(),
    )
    def router_delivers(self, router: Peer, wanted: list[str], option: int, late: bool) -> None:
        if router not in self.open:
            return
        tasks = []
        for task_id in wanted:
            attempt = self.attempts[task_id] = self.attempts.get(task_id, 0) + 1
            self.delivered[task_id, attempt] = router
            expires = WALL + self.seconds + 0.01 if late else None
            tasks.append(Delivery(task_id, option, attempt, b"", deaths=attempt % 7 == 0, expires_at=expires))
        self.hear(router, Deliver({option: KINDS[option]}, tasks))

    @rule(router=routers, count=st.integers(1, 5))
    def router_recalls(self, router: Peer, count: int) -> None:
        if router in self.open:
            self.hear(router, Recall(count))

    @precondition(lambda self: self.open and self.delivered)
    @rule(data=st.data())
    def router_drops(self, data: st.DataObject) -> None:
        task_id, attempt = data.draw(st.sampled_from(sorted(self.delivered)))
        router = self.delivered[task_id, attempt]
        if router in self.open:
            self.hear(router, Drop([(task_id, attempt)]))

    @rule(router=routers, wanted=st.lists(ids, min_size=1, max_size=3), terminate=st.booleans())
    def router_cancels(self, router: Peer, wanted: list[str], terminate: bool) -> None:
        if router in self.open:
            self.hear(router, Cancel(wanted, terminate))

    @precondition(lambda self: self.open & self.asked)
    @rule(known=st.booleans())
    def router_gives_the_function(self, known: bool) -> None:
        router = min(self.open & self.asked)
        self.asked.discard(router)
        self.hear(router, Function("digest", FunctionCode("digest", "3.11", b"") if known else None))

    @rule(router=routers)
    def router_acknowledges(self, router: Peer) -> None:
        if router in self.open:
            batches = sorted(self.unacked[router])
            self.unacked[router].clear()
            self.hear(router, SettledAck(batches))

    @rule(router=routers, say=st.booleans())
    def session_is_lost(self, router: Peer, say: bool) -> None:
        self.open.discard(router)
        self.happen(got(router, SayHello()) if say else PeerLost(router))

    @rule(router=routers, really=st.sampled_from([False, False, True]))
    def router_is_forgotten_and_there_is_another(self, router: Peer, really: bool) -> None:
        if really:
            self.open.discard(router)
            self.asked.discard(router)
            self.unacked[router].clear()
            self.settled = {key: batch for key, batch in self.settled.items() if self.delivered[key] != router}
            self.happen(RouterForgotten(router))
            self.happen(RouterFound(router))

    # the executors

    @precondition(lambda self: self.starting)
    @rule()
    def executor_starts(self) -> None:
        self.happen(ExecutorStarted(self.starting.pop(0), ("work",)))

    @rule(
        data=st.data(),
        ending=st.sampled_from([Ending.SUCCEEDED, Ending.FAILED, Ending.RETRY]),
        runtime_s=st.sampled_from([0.0, 0.001, 1.0]),
    )
    def executor_settles(self, data: st.DataObject, ending: Ending, runtime_s: float) -> None:
        busy = [number for number, inside in self.inside.items() if inside]
        if not busy:
            return
        inside = self.inside[data.draw(st.sampled_from(busy))]
        number = next(n for n, has in self.inside.items() if has is inside)
        done = inside[: data.draw(st.integers(1, len(inside)))]
        del inside[: len(done)]
        self.happen(ExecutorSettled(number, [Settlement(d.id, d.attempt, ending, runtime_s=runtime_s) for d in done]))

    @precondition(lambda self: self.reclaims)
    @rule()
    def executor_gives_back(self) -> None:
        number = self.reclaims.pop(0)
        if (inside := self.inside.get(number)) is not None:
            back = [delivery.id for delivery in inside[1:]]
            del inside[1:]
            self.happen(ExecutorReclaimed(number, back))

    @rule(data=st.data())
    def executor_ends(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([*(self.ending or self.inside)] or [0]))
        if self.inside.pop(number, None) is not None:
            if number in self.starting:
                self.starting.remove(number)
            self.happen(ExecutorEnded(number, self.ending.pop(number, "SIGSEGV")))

    @rule(seconds=st.sampled_from([0.005, 0.02, 0.3, 1.1]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.happen()

    @rule(at_once=st.booleans(), really=st.sampled_from([False, False, False, True]))
    def stop_is_requested(self, at_once: bool, really: bool) -> None:
        if really:
            self.happen(StopRequested(at_once))

    # what holds

    @invariant()
    def the_machine_agrees_with_itself(self) -> None:
        if not self.exited:
            self.machine.check()

    @invariant()
    def it_knows_what_its_executors_have(self) -> None:
        if not self.exited:
            has = {n: [d.id for d in inside] for n, inside in self.inside.items()}
            assert {n: list(executor.chunk) for n, executor in self.machine.executors.items()} == has

    @invariant()
    def its_deadline_is_not_forever_in_the_past(self) -> None:
        if not self.exited:
            self.happen()
            deadline = self.machine.next_deadline()
            assert deadline is None or self.exited or deadline > MONO + self.seconds


TestWorker = WorkerRules.TestCase
TestWorker.settings = settings(stateful_step_count=50)
