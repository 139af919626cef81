"""Messages to and from routers: encoded, numbered and judged, over a transport."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mesh.core.events import MessageReceived
from mesh.core.links import NodeLinks
from mesh.errors import ProtocolError
from mesh.messages import Message
from mesh.model import Blob, Peer
from mesh.wire.codec import decode_from_router, encode

Buffer = bytes | bytearray | memoryview

log = logging.getLogger("mesh.connection")


class Transport(Protocol):
    """What a connection needs of ``mesh.net.dealer_transport``."""

    def send(self, peer: Peer, frames: Sequence[Any]) -> bool: ...

    def receive(self, timeout_s: float | None) -> Any: ...

    def disconnect(self, peer: Peer) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


class RouterChannels:
    """The sessions of one node with its routers. Belongs to the thread that owns the transport."""

    def __init__(self, transport: Transport, parts_of: Callable[[Blob], Sequence[Buffer] | None]) -> None:
        self._transport = transport
        self._parts_of = parts_of
        self._links = NodeLinks()
        self.parts: dict[str, list[Buffer]] = {}
        """Large payloads of the messages of this wake-up, by key."""

    def send(self, peer: Peer, message: Message) -> None:
        """Send ``message``. Without a session it is lost: the next HELLO brings everything that matters again."""
        stamp = self._links.stamp(peer, message)
        if stamp is None:
            return
        try:
            # The transport refuses where the connection is gone or cut, and reports that with the next ``receive``.
            sent = self._transport.send(peer, encode(message, *stamp, self._parts_of))
        except ProtocolError as error:
            # Its number is gone all the same, so the session is over; the silence makes the machine say HELLO again.
            log.error("a %s is too large to be sent and was dropped: %s", type(message).__name__, error)
            sent = False
        if not sent:
            self._links.close(peer)

    def close(self, peer: Peer) -> None:
        """The connection to ``peer`` is gone, and with it the session."""
        self._links.close(peer)

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
                self.parts[blob.key] = parts
        return event
