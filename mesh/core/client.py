"""A client's decisions: what to submit where, what to send again, what it still waits for.

No I/O, no clock, no randomness. A batch is kept until a router says that it is committed; after that the router
answers for it, and only the ids somebody waits for are remembered.

Of several routers one is the client's home: this host's, else the least loaded. What is new goes there. A batch that
was sent and not answered stays with its router until that is gone: another would run it a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from math import inf
from operator import attrgetter
from typing import Any

from mesh.clock import Now
from mesh.core.awaited import Awaited, Place
from mesh.core.client_router import ClientRouter
from mesh.core.client_routers import ClientRouters
from mesh.core.clocks import any_from_now
from mesh.core.commands import (
    Command,
    PublishDropped,
    PublishGossip,
    PublishOutcomes,
    PublishRefused,
    PublishRejected,
    PublishReply,
    PublishUnwatched,
    Send,
    SessionEnded,
)
from mesh.core.events import (
    Event,
    MessageReceived,
    PeerHeard,
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
from mesh.core.out_batches import OutBatch, OutBatches
from mesh.core.packing import pack, text_bytes
from mesh.core.sessions import Due
from mesh.core.suspects import Suspects
from mesh.core.whereabouts import Whereabouts
from mesh.core.wishes import Wish, Wishes
from mesh.messages import (
    Accepted,
    Adopted,
    Bye,
    Cancel,
    Gossip,
    Heartbeat,
    Hello,
    Message,
    Outcomes,
    PutFunction,
    Refuse,
    Rejected,
    Reply,
    SayHello,
    Submit,
    Unknown,
    Unwatch,
    Welcome,
)
from mesh.model import Peer, Role
from mesh.settings import Settings


class ClientMachine:
    """One client of a mesh."""

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
        self._routers = ClientRouters()
        self._awaited = Awaited()
        self._batches = OutBatches(settings)
        self._wishes = Wishes()
        self._out: list[Command] = []
        self._whereabouts = Whereabouts(self._routers, self._awaited, self._batches, self._out)
        self._deadline: float | None = None
        self._now = Now(0.0, 0.0)  # of this wake-up
        self._handlers: dict[type, Callable[[Any, Now], None]] = {
            MessageReceived: self._on_message,
            RouterFound: self._on_router_found,
            RouterForgotten: self._on_router_forgotten,
            PeerLost: self._on_peer_lost,
            PeerHeard: self._on_peer_heard,
            TasksSubmitted: self._on_tasks_submitted,
            ResultsWatched: lambda event, now: self._whereabouts.watch(event.ids),
            ResultsForgotten: self._on_results_forgotten,
            TasksCancelled: self._on_tasks_cancelled,
            QueryAsked: self._on_query_asked,
            QueryGivenUp: self._on_query_given_up,
            StopRequested: self._on_stop_requested,
        }
        self._verbs: dict[type, Callable[[ClientRouter, Any, Now], None]] = {
            Welcome: self._on_welcome,
            Refuse: self._on_refuse,
            SayHello: self._on_say_hello,
            Heartbeat: self._on_heartbeat,
            Accepted: self._on_accepted,
            Rejected: self._on_rejected,
            Outcomes: self._on_outcomes,
            Unknown: lambda router, message, now: self._whereabouts.on_unknown(router, message),
            Adopted: self._on_adopted,
            Reply: lambda router, message, now: self._out.append(PublishReply(message.request, message.body)),
        }
        if role is Role.ROUTER:
            self._verbs[Gossip] = lambda router, message, now: self._out.append(PublishGossip(router.peer, message))

    @property
    def routers(self) -> dict[Peer, ClientRouter]:
        """The routers that are known."""
        return self._routers.by_peer

    @property
    def home(self) -> Peer | None:
        """The router we submit to."""
        return self._routers.home

    @property
    def suspects(self) -> Suspects:
        """The batches of which a router cannot read one."""
        return self._routers.suspects

    @property
    def waiting(self) -> Mapping[str, Place]:
        """Each id whose outcome somebody here wants, and where it is to come from."""
        return self._awaited.places

    @property
    def batches(self) -> Mapping[int, OutBatch]:
        """What no router has accepted yet, by number."""
        return self._batches.by_number

    @property
    def unaccepted(self) -> int:
        """Tasks that no router has accepted yet."""
        return self._batches.tasks

    @property
    def unaccepted_bytes(self) -> int:
        """Bytes of their payloads."""
        return self._batches.bytes

    @property
    def full(self) -> list[str]:
        """Why routers accept nothing that is new: a reason for each that said so."""
        return [router.full for router in list(self.routers.values()) if router.open and router.full]

    @property
    def rejection(self) -> Rejected | None:
        """Of the oldest batch that is sent again because of it."""
        return next((batch.rejection for batch in self._batches.rejected()), None)

    # the machine

    def handle(self, events: Sequence[Event], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        self._now = now
        for event in events:
            self._handlers[type(event)](event, now)
        self._deadline = self._earliest()
        if self._deadline is not None and now.mono >= self._deadline:
            self._do_what_is_due(now)
            self._deadline = self._earliest()
        out = self._out[:]
        self._out.clear()
        return out

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        return self._deadline

    def _earliest(self) -> float | None:
        deadlines = [router.deadline() for router in self.routers.values()]
        deadline = min(deadlines, default=inf)
        deadline = min(deadline, self._batches.next_deadline(self._router_for))
        return None if deadline == inf else deadline

    def _do_what_is_due(self, now: Now) -> None:
        for peer, router in self.routers.items():
            session = router.session
            if (why := session.silence(now.mono)) is not None:
                self._out.append(SessionEnded(peer, why, silent=True))
            due = session.due(now.mono)
            if self.home == peer and not session.open:
                self._lose(router, session.deadline())
            if due is Due.HELLO:
                self._send(peer, Hello(self.role, self.node_id, self.name, self.python, self.version))
            elif due is Due.HEARTBEAT:
                self._send(peer, Heartbeat(now.wall))
            if router.give_up(now.mono):
                self._give_up_router(router, "the router that accepted it is gone, and kept it in memory only")
        for batch in self._batches.rejected():
            self._try_again(batch, now)

    def _send(self, peer: Peer, message: Message) -> None:
        self._out.append(Send(peer, message))

    # routers

    def _on_router_found(self, event: RouterFound, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is None:
            router = self.routers[event.peer] = ClientRouter(event.peer, self.settings, now.mono)
        else:
            self._lose(router, now.mono)
        router.is_here = event.is_here

    def _on_router_forgotten(self, event: RouterForgotten, now: Now) -> None:
        """What it did not accept is kept, and is another's."""
        router = self.routers.pop(event.peer, None)
        if router is None:
            return
        if self.home == event.peer:
            self._find_home()
        router.keeps = False
        away = f"was away for {self.settings.router_ttl_s:g} s and is given up"
        self._give_up_router(router, f"the router that accepted it{_at(event.endpoint)} {away}")
        self.suspects.forget(event.peer)
        self._wishes.take(event.peer)
        self._awaited.forget(event.peer)

    def _on_peer_lost(self, event: PeerLost, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is not None:
            self._lose(router, now.mono + self.settings.hello_retry_s)

    def _on_peer_heard(self, event: PeerHeard, now: Now) -> None:
        router = self.routers.get(event.peer)
        if router is not None:
            router.session.heard = now.mono

    def _lose(self, router: ClientRouter, hello_at: float) -> None:
        router.session.lose(hello_at)
        if self.home == router.peer:
            self._find_home()

    def _give_up_router(self, router: ClientRouter, why: str) -> None:
        """It is gone, perhaps for long: what it did not accept is another's, and what it cannot have kept, too."""
        peer, ready = router.peer, self._routers.ready()
        self.suspects.acquit(peer)
        for batch in self.batches.values():
            if batch.router == peer and not batch.at_most_once:
                batch.leave()
                if ready is not None:
                    self._submit(ready, batch)
        if peer not in self.routers:
            for batch in [batch for batch in self.batches.values() if batch.at_most_once and batch.may_be_at(peer)]:
                reason = "its router is gone for good; whether it was accepted is not known, and it runs at most once"
                self._give_up(batch, Rejected(batch.number, "unavailable", reason))
        # They may be meant for what it did not accept.
        if ready is None:
            self._complain(self._wishes.pass_on(peer, for_good=peer not in self.routers))
        else:
            for _, _, wish in self._wishes.of(peer):
                self._send(ready, wish)
        if not router.keeps:
            self._whereabouts.ask_all(peer, why)

    # home

    def _find_home(self) -> None:
        """Home was lost: there may be another."""
        self._routers.home = None
        if (best := self._routers.best()) is not None:
            self._go_home(best.peer)
            self._tell_home(best.peer)

    def _go_home(self, peer: Peer) -> None:
        owner = self._routers.owner
        if owner is not None and owner != peer:
            self._awaited.leave(owner, self._batches.ids())
        self._routers.home = self._routers.owner = peer

    def _tell_home(self, peer: Peer) -> None:
        """Tell a router, which is home now and has been welcome before, what no router has been told."""
        if self._routers.ready() is not None:
            self._submit_all(peer, (None,), self._wishes.take(None))

    def _resume(self, peer: Peer) -> None:
        """A session begins: tell a router what it has not confirmed, and what we want of it.

        While it has suspects, it is told of one of them only.
        """
        self._awaited.forget(peer)
        if (suspect := self.suspects.first(peer)) is not None:
            self._submit(peer, self.batches[suspect])
            return
        is_home = self.home == peer
        routers = (peer, None) if is_home else (peer,)
        rest = self._submit_all(peer, routers, self._wishes.take(*routers))
        self._whereabouts.ask(peer)
        for _, _, wish in rest:
            self._send(peer, wish)

    def _submit_all(self, peer: Peer, routers: Sequence[Peer | None], wishes: Sequence[Wish]) -> deque[Wish]:
        """Submit the batches of these routers, each after the wishes that came before it; the wishes that are left."""
        left = deque(wishes)
        for batch in self.batches.values():
            if batch.rejection is None and batch.router in routers:
                while left and left[0][0] < batch.number:  # what came after a purge is not to be purged
                    self._send(peer, left.popleft()[-1])
                self._submit(peer, batch)
        if None in routers and peer not in routers:  # else the caller has something to say before
            for _, _, wish in left:
                self._send(peer, wish)
        return left

    # messages

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        router = self.routers.get(event.peer)
        handler = self._verbs.get(type(event.message))
        if router is not None and handler is not None:
            router.session.heard = now.mono
            handler(router, event.message, now)

    def _on_welcome(self, router: ClientRouter, message: Welcome, now: Now) -> None:
        router.welcome(now.mono, keeps=message.durability != "memory", boot=message.boot, shared=message.shared)
        if self.home == router.peer or self._routers.is_better(router):
            self._go_home(router.peer)
        self._resume(router.peer)
        self._whereabouts.turn_from(message.adopted)

    def _on_adopted(self, router: ClientRouter, message: Adopted, now: Now) -> None:
        self._whereabouts.turn_from(message.routers)
        self._whereabouts.ask_again(router.peer)

    def _on_heartbeat(self, router: ClientRouter, message: Heartbeat, now: Now) -> None:
        router.load = message.load
        router.full = message.full
        if self.home != router.peer and router.open and self._routers.is_better(router):
            self._go_home(router.peer)
            self._tell_home(router.peer)

    def _on_say_hello(self, router: ClientRouter, message: SayHello, now: Now) -> None:
        if router.session.refused is None:  # else it answers what was under way when the refusal came
            self._lose(router, now.mono)

    def _on_refuse(self, router: ClientRouter, message: Refuse, now: Now) -> None:
        if message.ids:
            ids = list(compress(message.ids, self._awaited.take(message.ids)))
            self._out.append(PublishUnwatched(ids, message.reason))
            return
        self._out.append(PublishRefused(message.code, message.reason))
        if not router.open:
            router.session.refuse(message.reason, now.mono)
        elif message.code == "protocol":
            self._on_message_refused(router, message.reason, now)

    def _on_message_refused(self, router: ClientRouter, reason: str, now: Now) -> None:
        """The router cannot read something we sent and has ended the session; it does not say what it was.

        So batches that were out are sent one by one: the next refusal then names the one to give up.
        """
        peer = router.peer
        router.session.open = False
        self._out.append(SessionEnded(peer, "the session with a router is opened anew"))
        if (number := self.suspects.first(peer)) is not None:
            self._give_up(self.batches[number], Rejected(number, "invalid", f"the router cannot read it: {reason}"))
            self.suspects.relent(peer)
            refusals = 0
        else:
            refusals = self.suspects.accuse(peer, [n for n, batch in self.batches.items() if batch.router == peer])
        router.session.refuse(reason, now.mono, 2**refusals)
        if self.home == peer:
            self._find_home()

    def _clear(self, batch: OutBatch) -> None:
        """It is answered: where it was suspect, its router could read it, or it is given up."""
        peer = batch.router
        if peer is not None and self.suspects.clear(peer, batch.number) and self.routers[peer].open:
            if (suspect := self.suspects.first(peer)) is not None:
                self._submit(peer, self.batches[suspect])
            else:
                self._resume(peer)

    # submitting

    def _on_tasks_submitted(self, event: TasksSubmitted, now: Now) -> None:
        tasks, options = event.tasks, event.options
        if any(one.ignore_result for one in options):
            tasks = [spec for spec in tasks if not options[spec.option].ignore_result]
        self._awaited.add(map(_id, tasks))
        for batch in self._batches.add(event, now):
            if (ready := self._routers.ready()) is not None:
                self._submit(ready, batch)
        for digest in self._batches.forget_functions():
            for router in self.routers.values():
                router.functions.discard(digest)

    def _submit(self, peer: Peer, batch: OutBatch) -> None:
        sent = self.routers[peer].functions
        for options in batch.options:
            digest = options.function
            if digest is not None and digest not in sent and digest in self._batches.functions:
                sent.add(digest)
                self._send(peer, PutFunction(self._batches.functions[digest]))
        batch.leave()
        batch.router = peer
        elsewhere = bool(batch.perhaps_at - {peer})
        at = 0.0
        if any_from_now(batch.tasks):
            at = self._now.wall
            batch.keep_to_clock(self._now)
        self._send(peer, Submit(batch.number, batch.options, batch.tasks, batch.repeated, elsewhere, at))
        batch.repeated = True

    def _remove_batch(self, number: int) -> None:
        batch = self._batches.remove(number)
        if batch is not None and self.suspects.by_router:
            self._clear(batch)

    def _on_accepted(self, router: ClientRouter, message: Accepted, now: Now) -> None:
        self.suspects.relent(router.peer)
        self._remove_accepted(router, message.batches)

    def _remove_accepted(self, router: ClientRouter, numbers: Sequence[int]) -> None:
        for number in numbers:
            batch = self.batches.get(number)
            if batch is not None and batch.router == router.peer:
                self._remove_batch(number)
                if router.peer != self._routers.owner:
                    self._awaited.put(map(_id, batch.tasks), router.peer)
                if batch.perhaps_at - {router.peer}:
                    self._whereabouts.ask_others(router.peer, self._awaited.double(map(_id, batch.tasks)))

    def _on_rejected(self, router: ClientRouter, message: Rejected, now: Now) -> None:
        batch = self.batches.get(message.batch)
        if batch is None or batch.router != router.peer:
            return
        if message.code == "function":
            router.functions.difference_update(options.function or "" for options in batch.options)
            if not batch.functions_asked:
                batch.functions_asked = True
                batch.router = None
                self._submit(router.peer, batch)
                return
        if message.code in ("overloaded", "function") and now.mono < batch.give_up_at:
            self._batches.reject(batch, message, now.mono)
            self._clear(batch)
            batch.router = None
        else:
            self._give_up(batch, message)

    def _give_up(self, batch: OutBatch, why: Rejected) -> None:
        self._remove_batch(batch.number)
        ids = [task.id for task in batch.tasks]
        self._awaited.take(ids)
        self._out.append(PublishRejected(ids, why.code, why.reason, why.retry_after_s))

    def _try_again(self, batch: OutBatch, now: Now) -> None:
        assert batch.rejection is not None
        if now.mono >= batch.give_up_at:
            self._give_up(batch, batch.rejection)
        elif now.mono >= batch.retry_at and (peer := self._router_for(batch)) is not None:
            self._batches.send_again(batch)
            self._submit(peer, batch)

    def _router_for(self, batch: OutBatch) -> Peer | None:
        """Where a batch that was rejected may be sent now: home, or, where it runs at most once, who may have it."""
        if batch.at_most_once and batch.perhaps_at:
            return next((peer for peer in self._routers.listening() if peer in batch.perhaps_at), None)
        return self._routers.ready()

    # outcomes

    def _on_outcomes(self, router: ClientRouter, message: Outcomes, now: Now) -> None:
        self._remove_accepted(router, message.accepted)
        wanted = list(compress(message.outcomes, self._awaited.take([outcome.id for outcome in message.outcomes])))
        if wanted:
            self._out.append(PublishOutcomes(wanted))

    def _on_results_forgotten(self, event: ResultsForgotten, now: Now) -> None:
        told = [task_id for task_id in event.ids if self._awaited.give_up(task_id) or event.drop]
        for part in pack(told, text_bytes):
            if event.drop:
                self._wish(Unwatch(list(part), event.drop))
            else:
                for peer in self._routers.listening():  # others do not begin to watch them
                    self._send(peer, Unwatch(list(part)))

    # wishes

    def _on_tasks_cancelled(self, event: TasksCancelled, now: Now) -> None:
        for part in pack(event.ids, text_bytes):
            self._wish(Cancel(list(part), event.terminate, event.signal))

    def _on_query_asked(self, event: QueryAsked, now: Now) -> None:
        if event.router is not None:
            if event.router in self._routers.listening():
                self._send(event.router, event.message)
        elif (ready := self._routers.ready()) is not None:
            self._send(ready, event.message)
        else:
            self._keep(None, event.message)

    def _on_query_given_up(self, event: QueryGivenUp, now: Now) -> None:
        self._wishes.give_up(event.request)

    def _wish(self, message: Cancel | Unwatch) -> None:
        """Tell all routers, for any may have the task; those that are away, when they are back."""
        known: list[Peer | None] = [peer for peer, one in self.routers.items() if one.keeps is not None]
        for peer in known or [None]:
            if peer is not None and self.routers[peer].open and self.suspects.first(peer) is None:
                self._send(peer, message)
            else:
                self._keep(peer, message)

    def _keep(self, peer: Peer | None, message: Message) -> None:
        self._complain(self._wishes.keep(peer, self._batches.last, message))

    def _complain(self, why: str | None) -> None:
        if why is not None:
            self._out.append(PublishDropped(why))

    def _on_stop_requested(self, event: StopRequested, now: Now) -> None:
        for peer in self._routers.open():
            self._send(peer, Bye("closed"))

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken. Called after every step of a test."""
        self._batches.check()
        self._wishes.check()
        self._awaited.check()
        self.suspects.check(self._batches.out())
        assert self.home is None or self.routers[self.home].open, "home is a router without a session"


_id = attrgetter("id")


def _at(endpoint: str) -> str:
    return f" at {endpoint}" if endpoint else ""
