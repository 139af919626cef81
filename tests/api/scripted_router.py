"""A transport with a router at its other end that does as it is told, also what routers should not do."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

from mesh import Mesh
from mesh.core.links import OUTSIDE, RouterLinks
from mesh.messages import Accepted, Hello, Message, Outcomes, Query, Refuse, Rejected, Submit, Welcome
from mesh.model import Outcome, Peer, TaskState
from mesh.net.arrivals import Arrivals
from mesh.net.find import Found, Search
from mesh.runtime.connection import Connection
from mesh.wire.codec import decode_from_node, encode

ROUTER = Peer(b"router")


def accept(router: ScriptedRouter, submit: Submit) -> list[Message]:
    """Accept a batch; its tasks never finish."""
    return [Accepted([submit.batch])]


def finish(router: ScriptedRouter, submit: Submit) -> list[Message]:
    """Accept a batch and say that its tasks succeeded."""
    done = [Outcome(task.id, TaskState.SUCCEEDED) for task in submit.tasks]
    return [Accepted([submit.batch]), Outcomes(done)]


def ignore(router: ScriptedRouter, submit: Submit) -> list[Message]:
    """Say nothing."""
    return []


def overload(router: ScriptedRouter, submit: Submit) -> list[Message]:
    """Refuse a batch for load."""
    return [Rejected(submit.batch, "overloaded", "the queue is full", 0.01)]


class ScriptedRouter:
    """``on_submit`` answers batches; ``submits`` are those that came. The connection's thread runs all of it."""

    def __init__(
        self,
        on_submit: Callable[[ScriptedRouter, Submit], list[Message]] = finish,
        endpoint: str = "scripted",
    ) -> None:
        self.endpoint = endpoint
        self.on_submit = on_submit
        self.on_query: Callable[[Query], list[Message]] = lambda query: []
        self.submits: list[Submit] = []
        self.messages: list[Message] = []
        self.refusal: str | None = None
        self.is_found = True
        self._links = RouterLinks("router")
        self._inbox: queue.SimpleQueue[Callable[[Arrivals], None]] = queue.SimpleQueue()

    def join(self, app: Mesh, *, found: bool = True) -> None:
        """Have ``app`` connect to this router; with ``found=False`` it looks in vain until ``is_found``."""
        self.is_found = found

        app.connector = lambda: Connection(app.new_machine(), app.settings, self, self)

    def find(self) -> Search:
        found = [Found((self.endpoint,), None, "the script")]
        return Search(found, "the script") if self.is_found else Search([], "the script and nothing else")

    def rest(self) -> None:
        pass

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        pass

    def lose(self) -> None:
        """Cut the connection."""
        self._links.close(ROUTER)
        self._inbox.put(lambda arrivals: arrivals.lost.append(ROUTER))

    def come_back(self) -> None:
        """Connect again."""
        self._inbox.put(lambda arrivals: arrivals.connected.append(ROUTER))

    def lose_a_message(self) -> None:
        """Send one that never arrives."""
        self._links.stamp(ROUTER)

    def say(self, message: Message) -> None:
        """Send a message of the session."""
        stamp = self._links.stamp(ROUTER)
        if stamp is not None:
            self._put(encode(message, *stamp))

    # the transport

    def connect(self, endpoint: str) -> Peer:
        self.come_back()
        return ROUTER

    def disconnect(self, peer: Peer) -> None:
        raise AssertionError("nobody moved")

    def send(self, peer: Peer, frames: list[Any]) -> bool:
        incoming = decode_from_node(frames)
        taken = self._links.take(peer, incoming.session, incoming.number, incoming.message, None, None)
        if isinstance(taken, Message):
            self._put(encode(taken, incoming.session, OUTSIDE))
        elif taken is not None:
            self._answer(incoming.session, incoming.message)
        return True

    def _answer(self, session: int, message: Message) -> None:
        self.messages.append(message)
        if isinstance(message, Hello) and self.refusal is not None:
            self._put(encode(Refuse("version", self.refusal), session, OUTSIDE))
        elif isinstance(message, Hello):
            self.say(Welcome("router", "router", "0", "memory"))
        elif isinstance(message, Submit):
            self.submits.append(message)
            for answer in self.on_submit(self, message):
                self.say(answer)
        elif isinstance(message, Query):
            for answer in self.on_query(message):
                self.say(answer)

    def _put(self, frames: list[Any]) -> None:
        self._inbox.put(lambda arrivals: arrivals.messages.append((ROUTER, frames, None)))

    def receive(self, timeout_s: float | None) -> Arrivals:
        arrivals = Arrivals()
        try:
            self._inbox.get(timeout=timeout_s)(arrivals)
            while not arrivals.lost and not arrivals.connected:
                self._inbox.get_nowait()(arrivals)
        except queue.Empty:
            pass
        return arrivals

    def wake(self) -> None:
        self._inbox.put(lambda arrivals: None)

    def close(self) -> None:
        """Nothing to let go of."""
