"""A client's decisions: what to submit where, what to send again, what it still waits for.

No I/O, no clock, no randomness. A batch is kept until a router says that it is committed; after that the router
answers for it, and only the ids somebody waits for are remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import (
    Command,
    PublishDropped,
    PublishOutcomes,
    PublishRefused,
    PublishRejected,
    PublishReply,
    PublishUnknown,
    PublishUnwatched,
    Send,
    SessionEnded,
)
from mesh.core.events import (
    Event,
    MessageReceived,
    PeerLost,
    QueryAsked,
    QueryGivenUp,
    ResultsForgotten,
    ResultsWatched,
    RouterForgotten,
    RouterFound,
    StopRequested,
    TasksCancelled,
    TasksSubmitted,
)
from mesh.core.packing import has_long_options, pack, task_bytes_with, text_bytes
from mesh.core.sessions import Due, RouterSession
from mesh.messages import (
    Accepted,
    Bye,
    Cancel,
    Heartbeat,
    Hello,
    Message,
    Outcomes,
    PutFunction,
    Query,
    Refuse,
    Rejected,
    Reply,
    SayHello,
    Submit,
    Unknown,
    Unwatch,
    Watch,
    Welcome,
)
from mesh.model import FunctionCode, Peer, Role, TaskOptions, TaskSpec, payload_size
from mesh.settings import Settings

WISHES_MAX = 100_000  # ids to be cancelled or forgotten, and queries, kept while there is no router
FUNCTIONS_MAX = 512  # shipped functions kept for the next session; those that a batch needs stay beyond that, too


@dataclass(slots=True)
class OutBatch:
    """A submitted batch that no router has accepted yet."""

    number: int
    options: list[TaskOptions]
    tasks: list[TaskSpec]
    size: int
    give_up_at: float  # monotonic: after this an overloaded mesh makes it fail
    repeated: bool
    retry_at: float = 0.0  # monotonic; of a refused batch
    refusal: Rejected | None = None  # for load; it is sent again
    functions_asked: bool = False  # a router no longer had the functions it needs


class ClientMachine:
    """One client. ``waiting`` holds each id whose outcome somebody here wants, True where another submitted it."""

    def __init__(
        self,
        node_id: str,
        name: str,
        settings: Settings,
        *,
        python: str = "",
        version: str = "0",
        role: Role = Role.CLIENT,
    ) -> None:
        self.node_id = node_id
        self.name = name
        self.settings = settings
        self.python = python
        self.version = version
        self.role = role
        self.routers: dict[Peer, RouterSession] = {}
        self.home: Peer | None = None  # the router we submit to
        self.waiting: dict[str, bool] = {}
        self.batches: dict[int, OutBatch] = {}
        self._refused: dict[int, OutBatch] = {}  # those of them with a refusal
        self.suspects: list[int] = []  # batches that were out when a router refused a message: sent one by one
        self._refusals = 0  # of messages, since a batch was accepted
        self.unaccepted = 0
        self.unaccepted_bytes = 0
        self._functions: dict[str, FunctionCode] = {}  # the one that was used last comes last
        self._sent_functions: set[str] = set()
        self._wishes: list[tuple[int, Message]] = []  # with the number of the last batch before each
        self._wished = 0  # ids in them
        self._next_batch = 0
        self._out: list[Command] = []
        self._deadline: float | None = None
        self._handlers: dict[type, Callable[[Any, Now], None]] = {
            MessageReceived: self._on_message,
            RouterFound: self._on_router_found,
            RouterForgotten: self._on_router_forgotten,
            PeerLost: self._on_peer_lost,
            TasksSubmitted: self._on_tasks_submitted,
            ResultsWatched: self._on_results_watched,
            ResultsForgotten: self._on_results_forgotten,
            TasksCancelled: self._on_tasks_cancelled,
            QueryAsked: self._on_query_asked,
            QueryGivenUp: self._on_query_given_up,
            StopRequested: self._on_stop_requested,
        }
        self._verbs: dict[type, Callable[[RouterSession, Any, Now], None]] = {
            Welcome: self._on_welcome,
            Refuse: self._on_refuse,
            SayHello: self._on_say_hello,
            Heartbeat: lambda session, message, now: None,
            Accepted: self._on_accepted,
            Rejected: self._on_rejected,
            Outcomes: self._on_outcomes,
            Unknown: self._on_unknown,
            Reply: lambda session, message, now: self._out.append(PublishReply(message.request, message.body)),
        }

    # the machine

    def handle(self, events: Sequence[Event], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        for event in events:
            self._handlers[type(event)](event, now)
        self._deadline = self._earliest()
        if self._deadline is not None and now.mono >= self._deadline:
            self._do_what_is_due(now)
            self._deadline = self._earliest()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        return self._deadline

    def _earliest(self) -> float | None:
        deadlines = [session.deadline() for session in self.routers.values()]
        for batch in self._refused.values():
            deadlines.append(batch.give_up_at if self.home is None else min(batch.retry_at, batch.give_up_at))
        return min(deadlines, default=None)

    def _do_what_is_due(self, now: Now) -> None:
        for peer, session in self.routers.items():
            if (why := session.silence(now.mono)) is not None:
                self._out.append(SessionEnded(peer, why))
            due = session.due(now.mono)
            if self.home == peer and not session.open:
                self._lose(session, session.deadline())
            if due is Due.HELLO:
                self._send(peer, Hello(self.role, self.node_id, self.name, self.python, self.version))
            elif due is Due.HEARTBEAT:
                self._send(peer, Heartbeat(now.wall))
        for batch in list(self._refused.values()):
            self._try_again(batch, now)

    def _send(self, peer: Peer, message: Message) -> None:
        self._out.append(Send(peer, message))

    # routers

    def _on_router_found(self, event: RouterFound, now: Now) -> None:
        session = self.routers.get(event.peer)
        if session is None:
            self.routers[event.peer] = RouterSession(event.peer, self.settings, now.mono)
        else:
            self._lose(session, now.mono)

    def _on_router_forgotten(self, event: RouterForgotten, now: Now) -> None:
        """What it did not accept is kept, and is another's."""
        session = self.routers.pop(event.peer, None)
        if session is not None and self.home == event.peer:
            self._find_home()

    def _on_peer_lost(self, event: PeerLost, now: Now) -> None:
        session = self.routers.get(event.peer)
        if session is not None:
            self._lose(session, now.mono + self.settings.hello_retry_s)

    def _lose(self, session: RouterSession, hello_at: float) -> None:
        session.lose(hello_at)
        if self.home == session.peer:
            self._find_home()

    def _find_home(self) -> None:
        self.home = next((peer for peer, other in self.routers.items() if other.open), None)
        if self.home is not None:
            self._come_home(self.home)

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        session = self.routers.get(event.peer)
        handler = self._verbs.get(type(event.message))
        if session is not None and handler is not None:
            session.heard = now.mono
            handler(session, event.message, now)

    def _on_welcome(self, session: RouterSession, message: Welcome, now: Now) -> None:
        session.welcome(now.mono)
        if self.home is None or self.home == session.peer:
            self.home = session.peer
            self._come_home(session.peer)

    def _come_home(self, peer: Peer) -> None:
        """Tell a router what no router has confirmed, and what we wait for; while there are suspects, one of them."""
        self._sent_functions.clear()
        if self.suspects:
            self._submit_again(peer, self.batches[self.suspects[0]])
            return
        in_batches: set[str] = set()
        wishes, self._wishes, self._wished = deque(self._wishes), [], 0
        for batch in self.batches.values():
            while wishes and wishes[0][0] < batch.number:  # what came after a purge is not to be purged
                self._send(peer, wishes.popleft()[1])
            in_batches.update(task.id for task in batch.tasks)
            if batch.refusal is None:
                self._submit(peer, batch)
            batch.repeated = True
        own = [task_id for task_id, others in self.waiting.items() if not others and task_id not in in_batches]
        for part in pack(own, text_bytes):
            self._send(peer, Watch(list(part), own=True))
        for part in pack([task_id for task_id, others in self.waiting.items() if others], text_bytes):
            self._send(peer, Watch(list(part)))
        for _, wish in wishes:
            self._send(peer, wish)

    def _on_say_hello(self, session: RouterSession, message: SayHello, now: Now) -> None:
        if session.refused is None:  # else it answers what was under way when the refusal came
            self._lose(session, now.mono)

    def _on_refuse(self, session: RouterSession, message: Refuse, now: Now) -> None:
        if message.ids:
            ids = [task_id for task_id in message.ids if self.waiting.pop(task_id, None) is not None]
            self._out.append(PublishUnwatched(ids, message.reason))
            return
        self._out.append(PublishRefused(message.code, message.reason))
        if not session.open:
            session.refuse(message.reason, now.mono)
        elif message.code == "protocol":
            self._on_message_refused(session, message.reason, now)

    def _on_message_refused(self, session: RouterSession, reason: str, now: Now) -> None:
        """The router cannot read something we sent and has ended the session; it does not say what it was.

        So batches that were out are sent one by one: the next refusal then names the one to give up.
        """
        session.refuse(reason, now.mono, 2**self._refusals)
        self._out.append(SessionEnded(session.peer, "the session with a router is opened anew"))
        self._refusals += 1
        if self.home != session.peer:
            return
        self.home = None
        if self.suspects:
            number = self.suspects[0]
            self._give_up(self.batches[number], Rejected(number, "invalid", f"the router cannot read it: {reason}"))
        else:
            self.suspects = [batch.number for batch in self.batches.values() if batch.refusal is None]
        self._find_home()

    def _clear(self, number: int) -> None:
        """A suspect was answered, so the router could read it."""
        first = self.suspects[0] == number
        self.suspects.remove(number)
        if first and self.home is not None:
            self._come_home(self.home)

    # submitting

    def _on_tasks_submitted(self, event: TasksSubmitted, now: Now) -> None:
        for code in event.functions:
            self._functions.pop(code.digest, None)
            self._functions[code.digest] = code
        tasks, options = event.tasks, event.options
        if any(one.ignore_result for one in options):
            tasks = [spec for spec in tasks if not options[spec.option].ignore_result]
        self.waiting.update(dict.fromkeys(map(_id, tasks), False))
        give_up_at = now.mono + self.settings.submit_timeout_s
        most = self.settings.batch_tasks_max
        long_options = has_long_options(options)
        for part in pack(event.tasks, task_bytes_with(options)):
            for start in range(0, len(part), most):
                batch_options, batch_tasks = options, list(part[start : start + most])
                if long_options:
                    batch_options, batch_tasks = _only_used(options, batch_tasks)
                self._new_batch(event, batch_options, batch_tasks, give_up_at)
        if len(self._functions) > FUNCTIONS_MAX:
            self._forget_functions()

    def _forget_functions(self) -> None:
        needed = {options.function for batch in self.batches.values() for options in batch.options}
        for digest in [digest for digest in self._functions if digest not in needed]:
            if len(self._functions) <= FUNCTIONS_MAX:
                return
            del self._functions[digest]
            self._sent_functions.discard(digest)

    def _new_batch(
        self, event: TasksSubmitted, options: list[TaskOptions], tasks: list[TaskSpec], give_up_at: float
    ) -> None:
        self._next_batch += 1
        size = sum(payload_size(spec.payload) for spec in tasks)
        batch = OutBatch(self._next_batch, options, tasks, size, give_up_at, event.chosen)
        self.batches[batch.number] = batch
        self.unaccepted += len(tasks)
        self.unaccepted_bytes += size
        if self.home is not None and not self.suspects:
            self._submit_again(self.home, batch)

    def _submit_again(self, peer: Peer, batch: OutBatch) -> None:
        self._submit(peer, batch)
        batch.repeated = True

    def _submit(self, peer: Peer, batch: OutBatch) -> None:
        for options in batch.options:
            digest = options.function
            if digest is not None and digest not in self._sent_functions and digest in self._functions:
                self._sent_functions.add(digest)
                self._send(peer, PutFunction(self._functions[digest]))
        self._send(peer, Submit(batch.number, batch.options, batch.tasks, batch.repeated))

    def _settle_batch(self, number: int) -> OutBatch | None:
        batch = self.batches.pop(number, None)
        if batch is not None:
            self._refused.pop(number, None)
            self.unaccepted -= len(batch.tasks)
            self.unaccepted_bytes -= batch.size
            if number in self.suspects:
                self._clear(number)
        return batch

    def _on_accepted(self, session: RouterSession, message: Accepted, now: Now) -> None:
        self._refusals = 0
        for number in message.batches:
            self._settle_batch(number)

    def _on_rejected(self, session: RouterSession, message: Rejected, now: Now) -> None:
        batch = self.batches.get(message.batch)
        if batch is None:
            return
        if message.code == "function":
            self._sent_functions.difference_update(options.function or "" for options in batch.options)
            if not batch.functions_asked:
                batch.functions_asked = True
                if self.home == session.peer:
                    self._submit(session.peer, batch)
                return
        if message.code in ("overloaded", "function") and now.mono < batch.give_up_at:
            batch.retry_at = now.mono + message.retry_after_s
            batch.refusal = message
            self._refused[batch.number] = batch
            if batch.number in self.suspects:
                self._clear(batch.number)
        else:
            self._give_up(batch, message)

    def _give_up(self, batch: OutBatch, why: Rejected) -> None:
        self._settle_batch(batch.number)
        ids = [task.id for task in batch.tasks]
        for task_id in ids:
            self.waiting.pop(task_id, None)
        self._out.append(PublishRejected(ids, why.code, why.reason, why.retry_after_s))

    def _try_again(self, batch: OutBatch, now: Now) -> None:
        assert batch.refusal is not None
        if now.mono >= batch.give_up_at:
            self._give_up(batch, batch.refusal)
        elif now.mono >= batch.retry_at and self.home is not None:
            batch.refusal = None
            del self._refused[batch.number]
            self._submit(self.home, batch)

    # outcomes

    def _on_outcomes(self, session: RouterSession, message: Outcomes, now: Now) -> None:
        for number in message.accepted:
            self._settle_batch(number)
        waiting = self.waiting
        wanted = [outcome for outcome in message.outcomes if waiting.pop(outcome.id, None) is not None]
        if wanted:
            self._out.append(PublishOutcomes(wanted))

    def _on_unknown(self, session: RouterSession, message: Unknown, now: Now) -> None:
        unaccepted = {task.id for batch in self.batches.values() for task in batch.tasks}
        ids = [i for i in message.ids if i not in unaccepted and self.waiting.pop(i, None) is not None]
        if ids:
            self._out.append(PublishUnknown(ids))

    def _on_results_watched(self, event: ResultsWatched, now: Now) -> None:
        for task_id in event.ids:
            self.waiting.setdefault(task_id, True)
        if self.home is not None:
            for part in pack(event.ids, text_bytes):
                self._send(self.home, Watch(list(part)))

    def _on_results_forgotten(self, event: ResultsForgotten, now: Now) -> None:
        told = [task_id for task_id in event.ids if self.waiting.pop(task_id, None) or event.drop]
        for part in pack(told, text_bytes):
            if event.drop:
                self._wish(Unwatch(list(part), event.drop))
            elif self.home is not None:  # else the next session does not begin to watch them
                self._send(self.home, Unwatch(list(part)))

    # wishes

    def _on_tasks_cancelled(self, event: TasksCancelled, now: Now) -> None:
        for part in pack(event.ids, text_bytes):
            self._wish(Cancel(list(part), event.terminate, event.signal))

    def _on_query_asked(self, event: QueryAsked, now: Now) -> None:
        self._wish(Query(event.request, event.what, list(event.arguments)))

    def _on_query_given_up(self, event: QueryGivenUp, now: Now) -> None:
        kept = [(at, one) for at, one in self._wishes if not (isinstance(one, Query) and one.request == event.request)]
        self._wished -= len(self._wishes) - len(kept)
        self._wishes = kept

    def _wish(self, message: Cancel | Unwatch | Query) -> None:
        size = 1 if isinstance(message, Query) else len(message.ids)
        if self.home is not None:
            self._send(self.home, message)
        elif self._wished + size <= WISHES_MAX:
            self._wished += size
            self._wishes.append((self._next_batch, message))
        else:
            what = type(message).__name__.lower()
            why = f"{self._wished} ids are to be cancelled or forgotten once a router is there; this {what} is not kept"
            self._out.append(PublishDropped(why))

    def _on_stop_requested(self, event: StopRequested, now: Now) -> None:
        for session in self.routers.values():
            if session.open:
                self._send(session.peer, Bye("closed"))

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken. Called after every step of a test."""
        assert self.unaccepted == sum(len(batch.tasks) for batch in self.batches.values()), "unaccepted miscounted"
        assert self.unaccepted_bytes == sum(batch.size for batch in self.batches.values())
        refused = {number for number, batch in self.batches.items() if batch.refusal is not None}
        assert self._refused.keys() == refused, "batches to be sent again miscounted"
        assert set(self.suspects) <= self.batches.keys() - refused, "a suspect that is answered already"
        assert self.home is None or self.routers[self.home].open, "home is a router without a session"


_id = attrgetter("id")


def _only_used(options: list[TaskOptions], tasks: list[TaskSpec]) -> tuple[list[TaskOptions], list[TaskSpec]]:
    """The options these tasks refer to, and the tasks referring to those."""
    places = {option: place for place, option in enumerate(dict.fromkeys(task.option for task in tasks))}
    return [options[option] for option in places], [replace(task, option=places[task.option]) for task in tasks]
