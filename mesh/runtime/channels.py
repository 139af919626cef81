"""Messages to and from routers: encoded, numbered and judged, over a transport."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from mesh.core.events import MessageReceived
from mesh.core.links import OUTSIDE, NodeLinks, Stamp
from mesh.errors import ProtocolError, Unavailable
from mesh.messages import Hello, Identify, Identity, Message, Welcome
from mesh.model import Blob, Buffer, Peer
from mesh.runtime.depot import Buffers, Depot, PayloadFile, depot_beside
from mesh.wire.codec import blobs_of, decode_from_router, encode
from mesh.wire.payload import GONE
from mesh.wire.payloads import with_payloads

log = logging.getLogger("mesh.connection")


class Transport(Protocol):
    """What a connection needs of ``mesh.net.dealer_transport``."""

    def send(self, peer: Peer, frames: Sequence[Any]) -> bool: ...

    def receive(self, timeout_s: float | None) -> Any: ...

    def disconnect(self, peer: Peer) -> None: ...

    def wake(self) -> None: ...

    def close(self, linger_s: float = 0.5) -> None: ...


class RouterChannels:
    """The sessions of one node with its routers.

    Belongs to the thread that owns the transport, but that any thread may look into ``depots``, ``offer`` and
    ``withdraw``: each is one step on a dictionary, and who takes an offer out of it is the only one to have it.
    """

    def __init__(self, transport: Transport, parts_of: Callable[[Blob], Sequence[Buffer] | None]) -> None:
        self._transport = transport
        self._parts_of = parts_of
        self._links = NodeLinks()
        self._connections: dict[Peer, Peer] = {}  # by router; one that is not in it is its connection itself
        self.depots: dict[Peer, Depot] = {}
        self._offers: dict[str, tuple[Depot, Blob]] = {}  # left in a depot and not spoken of yet, by key
        self.parts: dict[str, list[Buffer]] = {}
        """Large payloads that came in frames, by key."""
        self.files: dict[str, tuple[Depot, Blob]] = {}
        """Large payloads that lie in a depot, by key."""

    def ask_identity(self, connection: Peer) -> None:
        """Ask which router is at the other end."""
        self._transport.send(connection, encode(Identify(), 0, OUTSIDE))

    def receive_identity(self, frames: Sequence[Buffer]) -> str | None:
        """The id of the router that has sent this; None where it says something else."""
        try:
            message = decode_from_router(frames).message
        except ProtocolError as error:
            log.warning("a router sent what the protocol forbids, dropped: %s", error)
            return None
        return message.router_id if isinstance(message, Identity) else None

    def connect(self, peer: Peer, connection: Peer, endpoint: str) -> None:
        """There is a connection to a router, at ``endpoint``."""
        self._connections[peer] = connection
        depot = depot_beside(endpoint)
        if depot is not None:
            self.depots[peer] = depot
        else:
            self.depots.pop(peer, None)

    def send(self, peer: Peer, message: Message) -> None:
        """Send ``message``. Without a session it is lost: the next HELLO brings everything that matters again."""
        stamp = self._links.stamp(peer, message)
        if stamp is None:
            return
        if type(message) is Hello:
            message = replace(message, maps=peer in self.depots)
        elif self._offers:
            message = self._with_offers(peer, message)
        try:
            # The transport refuses where the connection is gone or cut, and reports that with the next ``receive``.
            sent = self._transport.send(self._connections.get(peer, peer), self._frames(message, stamp))
        except ProtocolError as error:
            # Its number is gone all the same, so the session is over; the silence makes the machine say HELLO again.
            log.error("a %s is too large to be sent and was dropped: %s", type(message).__name__, error)
            sent = False
        if not sent:
            self._links.close(peer)

    def _frames(self, message: Message, stamp: Stamp) -> list[Buffer]:
        try:
            return encode(message, *stamp, self._parts_of)
        except LookupError as error:
            log.error("a large payload cannot be sent any more, its task will fail: %s", error)
            message = with_payloads(message, lambda blob: blob if self._is_at_hand(blob) else GONE)
            return encode(message, *stamp, self._parts_of)

    def _is_at_hand(self, blob: Blob) -> bool:
        return blob.file is not None or self._parts_of(blob) is not None

    def offer(self, depot: Depot, left: Blob) -> None:
        """The next message with this payload says where it was left; a later one carries the bytes."""
        self._offers[left.key] = (depot, left)

    def withdraw(self, key: str) -> None:
        """Nothing will be sent of this payload any more."""
        offer = self._offers.pop(key, None)
        if offer is not None:
            depot, left = offer
            depot.remove(left)

    def _with_offers(self, peer: Peer, message: Message) -> Message:
        """``message`` with the names of files in place of what was left for this router."""
        names: dict[str, Blob] = {}
        for blob in blobs_of(message):
            depot, left = self._offers.pop(blob.key, (None, blob))
            if depot is None:
                continue
            if depot is self.depots.get(peer):
                names[blob.key] = left
            else:  # it was left for another router
                depot.remove(left)
        return with_payloads(message, lambda blob: names.get(blob.key, blob)) if names else message

    def take_buffers(self, blob: Blob) -> PayloadFile | Buffers:
        """The bytes of a large payload that came with this wake-up, or why they are not to be had."""
        parts = self.parts.pop(blob.key, None)
        if parts is not None:
            return parts
        depot, left = self.files.pop(blob.key, (None, blob))
        if depot is None:
            return Unavailable(f"the bytes of payload {blob.key} did not come with its message")
        return depot.open(left)

    def forget_arrived(self) -> None:
        """Forget the large payloads that nobody took."""
        self.parts.clear()
        self.files.clear()

    def close(self, peer: Peer) -> None:
        """The connection to ``peer`` is gone, and with it the session."""
        self._links.close(peer)  # its depot stays: what it delivered may still have to be read there

    def forget(self, peer: Peer) -> None:
        """The router is gone for good, and all it delivered is void: nothing is read in its depot any more."""
        self._links.close(peer)
        self._connections.pop(peer, None)
        depot = self.depots.pop(peer, None)
        if depot is not None:
            self.withdraw_all(depot)

    def withdraw_all(self, depot: Depot | None = None) -> None:
        """Withdraw all offers, or those in ``depot``."""
        for key in list(self._offers):
            offer = self._offers.get(key)
            if offer is not None and (depot is None or offer[0].directory == depot.directory):
                self.withdraw(key)

    def receive(self, peer: Peer, frames: Sequence[Buffer]) -> MessageReceived | None:
        """What a message that came means, if anything."""
        try:
            incoming = decode_from_router(frames)
        except ProtocolError as error:
            log.warning("a router sent what the protocol forbids, dropped: %s", error)
            return None
        event = self._links.take(peer, incoming.session, incoming.number, incoming.message)
        if event is not None:
            for blob, parts in incoming.blobs:
                if blob.file is None:
                    self.parts[blob.key] = parts
                elif (depot := self.depots.get(peer)) is not None:
                    self.files[blob.key] = (depot, blob)
            if type(event.message) is Welcome and peer in self.depots:
                self.depots[peer].sync = event.message.durability == "disk"
        return event
