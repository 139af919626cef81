"""A client and routers that come, go, forget, refuse and answer late."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.core.awaited import Where
from mesh.core.client import ClientMachine
from mesh.core.commands import PublishOutcomes, PublishRejected, PublishUnknown, Send
from mesh.core.events import (
    Event,
    PeerLost,
    ResultsForgotten,
    ResultsWatched,
    RouterForgotten,
    RouterFound,
    TasksCancelled,
    TasksSubmitted,
)
from mesh.messages import (
    Accepted,
    Hello,
    Message,
    Outcomes,
    Refuse,
    Rejected,
    SayHello,
    Submit,
    Unknown,
    Watch,
    Welcome,
)
from mesh.model import Outcome, Peer, TaskOptions, TaskSpec, TaskState
from mesh.settings import Settings
from tests.core.make import WORK, at, got

WELCOME = Welcome("r", "router", "0", "disk")
ROUTERS = [Peer(b"r1"), Peer(b"r2")]
SETTINGS = Settings(batch_tasks_max=3, submit_timeout_s=5.0)

routers = st.sampled_from(ROUTERS)
numbers = st.integers(0, 30)


class ClientRules(RuleBasedStateMachine):
    """What was submitted is told of once, and until then some router will hear of it again."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = ClientMachine("node", "client", SETTINGS)
        self.seconds = 0.0
        self.submitted: list[str] = []
        self.ignored: set[str] = set()
        self.forgotten: set[str] = set()
        self.ended: set[str] = set()  # an outcome was published
        self.rejected: set[str] = set()
        self.batches: dict[int, list[str]] = {}  # as routers have seen them
        self.perhaps_at: dict[int, set[Peer]] = {}  # routers that were sent a batch and did not reject it
        self.in_session: set[Peer] = set()  # routers that would take a message now
        self.knows: dict[Peer, set[str]] = {router: set() for router in ROUTERS}  # told in this session

    def happen(self, *events: Event) -> None:
        self.seconds += 0.001
        for command in self.machine.handle(events, at(self.seconds)):
            if isinstance(command, Send):
                self.on_sent(command.peer, command.message)
            elif isinstance(command, PublishOutcomes):
                for outcome in command.outcomes:
                    self.on_end(outcome.id)
            elif isinstance(command, PublishRejected):
                assert not self.rejected & set(command.ids), "rejected twice"
                self.rejected.update(command.ids)  # of those that ended the user knows already: the first word counts
            elif isinstance(command, PublishUnknown):
                self.forgotten.update(command.ids)

    def on_end(self, task_id: str) -> None:
        assert task_id not in self.ended, "told twice"
        self.ended.add(task_id)

    def on_sent(self, peer: Peer, message: Message) -> None:
        if isinstance(message, Hello):
            self.in_session.discard(peer)
            self.knows[peer].clear()
        else:
            assert peer in self.in_session, "spoke to a router without a session"
        if isinstance(message, Submit):
            ids = [spec.id for spec in message.tasks]
            assert message.repeated or not self.perhaps_at.get(message.batch), "sent again as if it were new"
            self.perhaps_at.setdefault(message.batch, set()).add(peer)
            assert self.batches.setdefault(message.batch, ids) == ids
            self.knows[peer].update(ids)
        elif isinstance(message, Watch):
            self.knows[peer].update(message.ids)

    # the user

    @rule(count=st.integers(1, 7), ignore=st.booleans())
    def user_submits(self, count: int, ignore: bool) -> None:
        ids = [f"t{len(self.submitted) + i}" for i in range(count)]
        self.submitted += ids
        if ignore:
            self.ignored.update(ids)
        options = TaskOptions("work", ignore_result=True) if ignore else WORK
        self.happen(TasksSubmitted([options], [TaskSpec(i, 0, b"") for i in ids]))

    @rule(number=numbers, what=st.sampled_from(["forget", "watch", "cancel"]))
    def user_changes_their_mind(self, number: int, what: str) -> None:
        task_id = f"t{number}"
        if what == "forget":
            self.forgotten.add(task_id)
            self.happen(ResultsForgotten([task_id]))
        elif what == "cancel":
            self.happen(TasksCancelled([task_id]))
        elif task_id in self.submitted and task_id not in self.ended | self.rejected:
            self.forgotten.discard(task_id)
            self.happen(ResultsWatched([task_id]))

    # the routers

    @initialize(count=st.integers(0, 2))
    def begin(self, count: int) -> None:
        for router in ROUTERS[:count]:
            self.router_is_found(router)
            self.router_welcomes(router)

    @rule(router=routers)
    def router_is_found(self, router: Peer) -> None:
        self.in_session.discard(router)
        self.happen(RouterFound(router))

    @rule(router=routers)
    def router_welcomes(self, router: Peer) -> None:
        session = self.machine.routers.get(router)
        if session is not None and not session.open:
            self.seconds = max(self.seconds, session.deadline() - 1_000.0)
            self.happen()
            self.in_session.add(router)
            self.happen(got(router, WELCOME))

    @rule(router=routers, how=st.sampled_from(["lost", "gap", "refused", "garbage"]))
    def router_goes(self, router: Peer, how: str) -> None:
        if router in self.in_session:
            self.in_session.discard(router)
            answers = {
                "gap": got(router, SayHello()),
                "refused": got(router, Refuse("role", "no")),
                "garbage": got(router, Refuse("protocol", "malformed")),
            }
            if how == "refused":
                self.in_session.add(router)
            self.happen(answers.get(how) or PeerLost(router))

    @rule(router=routers)
    def router_is_forgotten(self, router: Peer) -> None:
        self.in_session.discard(router)
        self.happen(RouterForgotten(router))

    @precondition(lambda self: self.in_session and self.batches)
    @rule(data=st.data(), answer=st.sampled_from(["accept", "accept", "overloaded", "function", "invalid"]))
    def router_answers(self, data: st.DataObject, answer: str) -> None:
        router = data.draw(st.sampled_from(sorted(self.in_session)))
        number = data.draw(st.sampled_from(sorted(self.batches)))
        accepted = Accepted([number])
        batch = self.machine.batches.get(number)
        if answer != "accept" and batch is not None and batch.router == router:
            self.perhaps_at[number].discard(router)
        self.happen(got(router, accepted if answer == "accept" else Rejected(number, answer, "why", 0.5)))

    @precondition(lambda self: self.in_session)
    @rule(data=st.data(), number=numbers, known=st.booleans())
    def router_tells(self, data: st.DataObject, number: int, known: bool) -> None:
        router = data.draw(st.sampled_from(sorted(self.in_session)))
        outcomes = Outcomes([Outcome(f"t{number}", TaskState.SUCCEEDED)])
        self.happen(got(router, outcomes if known else Unknown([f"t{number}"])))

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.happen()

    # what holds

    @invariant()
    def the_machine_agrees_with_itself(self) -> None:
        self.machine.check()

    @invariant()
    def whatever_is_waited_for_was_told_to_the_router_that_is_to_say_it(self) -> None:
        machine = self.machine
        there = {peer for peer, session in machine.routers.items() if session.open}
        for router, numbers in machine.suspects.by_router.items():  # one goes at a time, and the rest after them
            if router in there:
                assert {spec.id for spec in machine.batches[numbers[0]].tasks} <= self.knows[router]
                there.remove(router)
        in_batches: set[str] = set()
        for batch in machine.batches.values():
            ids = {spec.id for spec in batch.tasks}
            in_batches |= ids
            if batch.router in there:
                assert ids <= self.knows[batch.router]
            assert batch.router is not None or batch.rejection is not None or machine.home not in there
        for task_id, place in machine.waiting.items():
            if place is Where.ANYWHERE:
                assert all(task_id in self.knows[peer] for peer in there)
            elif task_id not in in_batches:
                owner = machine.home if place is Where.AT_HOME else place
                assert owner not in there or task_id in self.knows[owner]

    @invariant()
    def there_is_a_home_while_a_router_is_there(self) -> None:
        assert (self.machine.home is None) == (not any(session.open for session in self.machine.routers.values()))

    def teardown(self) -> None:
        """All routers are there at last, and answer: then each batch is."""
        for router in ROUTERS:
            if router not in self.machine.routers:
                self.router_is_found(router)
        for _ in range(2 * (len(self.machine.batches) + 2)):
            self.time_passes(10.0 * SETTINGS.hello_retry_s)
            for router in ROUTERS:
                if router in self.machine.routers and not self.machine.routers[router].open:
                    self.router_welcomes(router)
                if self.machine.routers[router].open:
                    out = [number for number, batch in self.machine.batches.items() if batch.router == router]
                    self.happen(got(router, Accepted(out[:1])))
            self.machine.check()
        assert not self.machine.batches, "no router was told of it"

    @invariant()
    def nothing_is_dropped_silently(self) -> None:
        waiting = set(self.machine.waiting)
        assert set(self.submitted) <= waiting | self.ended | self.rejected | self.forgotten | self.ignored

    @invariant()
    def its_deadline_is_not_forever_in_the_past(self) -> None:
        self.happen()
        deadline = self.machine.next_deadline()
        assert deadline is None or deadline > 1_000.0 + self.seconds


TestClient = ClientRules.TestCase
TestClient.settings = settings(stateful_step_count=50)
