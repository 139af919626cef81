"""The other routers of the mesh, as this one sees them: it is their client.

It asks them what became of the tasks in its journal after a start, and learns where they are, for its own nodes to
be told. Runs in the router's loop: ``fd`` is readable when there is something to ``take``.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from math import inf

from msgspec.structs import replace

from mesh.clock import Now, SystemClock
from mesh.core.client import ClientMachine
from mesh.core.commands import AskOthers, Command, PublishGossip, PublishOutcomes, PublishUnknown, Send, SessionEnded
from mesh.core.elsewhere import Elsewhere
from mesh.core.events import Event, GossipHeard, MessageReceived
from mesh.core.status import OtherStatus
from mesh.errors import MeshError
from mesh.messages import Hello, SayHello
from mesh.model import Blob, Outcome, Peer, Role
from mesh.net.dealer_transport import DealerTransport
from mesh.net.find import in_turns
from mesh.net.interfaces import is_for_others
from mesh.runtime.channels import RouterChannels
from mesh.runtime.depot import PayloadFile
from mesh.runtime.dialing import Dialer
from mesh.runtime.router_events import RouterEvents
from mesh.runtime.routers import Routers
from mesh.runtime.routes import put_last
from mesh.settings import Settings
from mesh.store.base import Store

log = logging.getLogger("mesh.router")

ADDRESSES_MAX = 64  # that are passed on to nodes
HEARD_MAX = 64  # routers whose addresses are remembered
SEARCH_S = 2.0  # between two looks for routers that nobody has named


class Others:
    """Of one router: ``node_id`` is its id, a dot, and what is new in each of its lives; ``own``: where it listens.

    ``lan``: those of other hosts are looked for, too.
    """

    def __init__(
        self, settings: Settings, node_id: str, own: Callable[[], Sequence[str]], store: Store, *, lan: bool
    ) -> None:
        self._own = own
        self._store = store
        self._transport = DealerTransport(outbox_bytes_max=settings.outbox_bytes_max)
        name = f"router@{platform.node()}"
        self._machine = ClientMachine(node_id, name, settings, role=Role.ROUTER)
        self._dialer = Dialer(self._transport, settings.mesh, Role.ADMIN, browse=lan, here=not lan)
        clock = SystemClock()
        self._routers = Routers(
            settings, self._transport, self._dialer, clock, myself=_router_of(node_id), search_s=SEARCH_S
        )
        self._channels = RouterChannels(self._transport, lambda blob: None)
        self._from_routers = RouterEvents(self._routers, self._channels, clock)
        self._said_own = tuple(own())
        self._heard: dict[str, list[str]] = {}  # by router: where it listens, as it said in its HELLO
        self._new_blobs: list[Blob] = []
        self.fd = self._transport.fd
        self._restless = True  # the transport was used since it was looked at
        self._elsewhere = Elsewhere(settings)

    def start(self) -> None:
        """Look for other routers from now on."""
        self._routers.start()

    def close(self) -> None:
        """Leave them."""
        self._routers.close()
        self._transport.close(0.0)

    def ask(self, question: AskOthers) -> None:
        """Ask what became of these tasks."""
        self._elsewhere.ask(question.ids, wait=question.wait)

    def meet(self, hello: Hello) -> None:
        """Another router has said HELLO to this one, and where it listens."""
        put_last(self._heard, _router_of(hello.node_id), hello.addresses[:ADDRESSES_MAX], HEARD_MAX)
        self._routers.hear_of(hello.addresses[:ADDRESSES_MAX])

    def facts(self) -> dict[str, int]:
        """What strangers announce on the LAN, for people."""
        return {"announced_left_out": self._dialer.left_out, "announced_unproven": self._routers.unproven}

    def known(self) -> list[OtherStatus]:
        """Which there are, for people; also those that are away."""
        return [OtherStatus(one.id, one.endpoint, one.is_welcome) for one in self._routers.known()[:ADDRESSES_MAX]]

    def next_deadline(self) -> float:
        """The monotonic second at which ``take`` must be called even if nothing happens."""
        if self._restless or self._routers.has_news:
            return 0.0
        deadline = self._machine.next_deadline()
        return min(inf if deadline is None else deadline, self._elsewhere.next_deadline())

    def take_new_blobs(self) -> list[Blob]:
        """Large payloads that came with outcomes and were put into the store, since this was asked last."""
        new, self._new_blobs = self._new_blobs, []
        return new

    def take(self, now: Now) -> list[Event]:
        """What is new, for the router's machine."""
        arrivals = self._transport.receive(0.0)
        self._restless = bool(arrivals.messages or arrivals.connected or arrivals.lost)
        events = self._from_routers.take(arrivals)
        events += self._own_news()
        events += self._elsewhere.take_questions(now)
        told: list[Event] = []
        for command in self._machine.handle(events, now):
            told += self._obey(command)
        self._channels.forget_arrived()
        return told + self._elsewhere.see(*self._there(), now)

    def _obey(self, command: Command) -> list[Event]:
        if isinstance(command, Send):
            message = command.message
            if isinstance(message, Hello):
                message = replace(message, addresses=list(self._own()))
            self._restless = True
            self._channels.send(command.peer, message)
        elif isinstance(command, PublishOutcomes):
            return self._settled(command.outcomes)
        elif isinstance(command, PublishUnknown):
            self._elsewhere.deny(command.ids)
        elif isinstance(command, PublishGossip):
            return [GossipHeard(command.router.decode(), command.message)]
        elif isinstance(command, SessionEnded):
            self._from_routers.end_session(command)
        return []

    def _settled(self, outcomes: Sequence[Outcome]) -> list[Event]:
        kept, lost = [], []
        for outcome in outcomes:
            try:
                if isinstance(outcome.payload, Blob):
                    self._keep(outcome.payload)
                kept.append(outcome)
            except (MeshError, LookupError) as error:
                log.warning("task %s ended at another router, and its result is not to be had: %s", outcome.id, error)
                lost.append(outcome.id)
        return self._elsewhere.settle(kept, lost)

    def _keep(self, payload: Blob) -> None:
        """Put a large result into our own store. Raises ``MeshError``, ``LookupError``."""
        found = self._channels.take_buffers(payload)
        if isinstance(found, MeshError):
            raise found
        parts = found.read() if isinstance(found, PayloadFile) else found
        if self._store.put_blob(payload, list(map(bytes, parts))):
            self._new_blobs.append(payload)

    def _own_news(self) -> list[Event]:
        """Where this router listens is said in HELLO only: when that has changed, as if all had asked for it."""
        own = tuple(self._own())
        if own == self._said_own:
            return []
        self._said_own = own
        return [MessageReceived(peer, SayHello()) for peer, side in self._machine.routers.items() if side.open]

    def _there(self) -> tuple[dict[str, float], list[str]]:
        """Which routers are connected, when each was heard last, and where they are."""
        there = {peer: side.session.heard for peer, side in self._machine.routers.items() if side.open}
        addresses = in_turns([*self._found_at(peer), *self._heard.get(peer.decode(), ())] for peer in there)
        return {peer.decode(): heard for peer, heard in there.items()}, addresses[:ADDRESSES_MAX]

    def _found_at(self, router: Peer) -> list[str]:
        """Where it was reached; on this host all that it has there. Where others reach it, it says itself."""
        here = [at for at in self._routers.addresses_of(router) if not is_for_others(at)]
        return here or self._routers.addresses_of(router)[:1]


def _router_of(node_id: str) -> str:
    return node_id.partition(".")[0]
