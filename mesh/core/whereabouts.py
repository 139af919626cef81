"""Which routers a client asks for the outcomes that it waits for, and when no router knows one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh.core.awaited import Awaited
from mesh.core.client_router import ClientRouter
from mesh.core.client_routers import ClientRouters
from mesh.core.commands import Command, PublishUnknown, Send
from mesh.core.out_batches import OutBatches
from mesh.core.packing import pack, text_bytes
from mesh.messages import Unknown, Watch
from mesh.model import Peer


class Whereabouts:
    """Of what is ``awaited`` and is in none of ``batches``, which no router has accepted."""

    def __init__(self, routers: ClientRouters, awaited: Awaited, batches: OutBatches, out: list[Command]) -> None:
        self._routers = routers
        self._awaited = awaited
        self._batches = batches
        self._out = out

    def watch(self, ids: Sequence[str]) -> None:
        """Ask whoever is there for these, of others."""
        new = self._awaited.watch(ids)
        for peer in self._routers.listening():
            self._watch(peer, new)

    def ask(self, peer: Peer) -> None:
        """Ask a router for all that it may have of what is awaited here."""
        own = self._awaited.of(peer, home=self._routers.home == peer, unaccepted=self._batches.ids())
        self._watch(peer, own, own=True)
        self._watch(peer, self._awaited.anywhere())

    def ask_again(self, peer: Peer) -> None:
        """It was asked too early."""
        if peer in self._routers.listening():
            self._awaited.forget(peer)
            self.ask(peer)

    def ask_others(self, accepted_by: Peer, ids: Sequence[str]) -> None:
        """Others than this router may have these of ours, too; those that are away are asked when they are back."""
        for peer in self._routers.listening():
            if peer != accepted_by:
                self._watch(peer, ids, own=True)

    def ask_all(self, peer: Peer, why: str) -> None:
        """What this router accepted may be anywhere."""
        if self._routers.owner == peer:
            self._awaited.leave(peer, self._batches.ids())
        stranded = self._awaited.strand(peer, why)
        for other in self._routers.listening():
            self._watch(other, stranded)
        self._publish_unknown(self._awaited.asked_fewer(self._routers.may_know()))

    def turn_from(self, adopted: Mapping[str, int]) -> None:
        """What these routers had is another's now: whoever is there is asked. What they accepted later is theirs."""
        for router_id, boot in adopted.items():
            peer = Peer(router_id.encode())
            lost = self._routers.by_peer.get(peer)
            if lost is None or lost.boot <= boot:
                self.ask_all(peer, "the router that accepted it was lost, and the one that adopted what it had, too")

    def on_unknown(self, router: ClientRouter, message: Unknown) -> None:
        """A router knows nothing of these; others may, or nobody."""
        unaccepted = self._batches.ids()
        denied = [task_id for task_id in message.ids if task_id not in unaccepted]
        home = router.peer == self._routers.owner
        if router.shared and (stranded := self._awaited.loosen(denied, router.peer, home=home)):
            for other in self._routers.listening():
                if other != router.peer:
                    self._watch(other, stranded)
        self._publish_unknown(self._awaited.deny(denied, router.peer, self._routers.may_know(), home=home))

    def _watch(self, peer: Peer, ids: Sequence[str], *, own: bool = False) -> None:
        for part in pack(ids, text_bytes):
            self._out.append(Send(peer, Watch(list(part), own=own)))

    def _publish_unknown(self, ids: list[str]) -> None:
        by_reason: dict[str, list[str]] = {}
        for task_id in ids:
            by_reason.setdefault(self._awaited.why_unknown(task_id), []).append(task_id)
        self._out += [PublishUnknown(those, reason) for reason, those in by_reason.items()]
